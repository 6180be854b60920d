//! The two seams of a strategy: [`Strategy`], which it implements, and [`Host`], which it calls.
//!
//! `Host` exists so that strategies can be tested natively: in a component it is the contract's imports (`guest.rs`),
//! in tests the scripted world of `mock.rs`. It is taken as `impl Host`, not `dyn Host`, so that a component imports
//! only what its strategy really calls: a lexical plugin asks for no model.

use crate::{
    Candidate, Description, Document, Error, Event, Hit, JudgedText, Level, Node, Outcome, Parameter, Query,
    Remaining, Request, Retriever, Sampling, Segment, Setting, Turn,
};

/// A search strategy: says what it is, and answers requests.
pub trait Strategy {
    /// Name, one line of help, parameters. Called when the component is loaded; must not depend on anything.
    fn describe() -> Description;

    /// Answers one request. The same request against the same host answers must give the same outcome.
    ///
    /// # Errors
    /// Any [`Error`]: the caller then gets the plain hybrid ranking, marked as degraded, with this reason.
    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error>;
}

/// What the host offers during a search. All calls carry whole batches: one call with ten queries is faster than ten.
///
/// Wrong handles, over-long strings and flooding do not return errors: they end the search.
pub trait Host {
    /// One ranking for each query, best first. Costs one retrieval for each query.
    ///
    /// # Errors
    /// `budget-exhausted("retrievals")` (then nothing was retrieved), `unavailable`, `invalid-input` (a bad filter).
    fn search(&mut self, queries: &[Query]) -> Result<Vec<Vec<Hit>>, Error>;

    /// The documents with these ids in the order asked, `None` for an unknown id; `max_chars` cuts each text.
    ///
    /// # Errors
    /// `cancelled` or `other`.
    fn documents(&mut self, ids: &[String], max_chars: u32) -> Result<Vec<Option<Document>>, Error>;

    /// Cosine similarity in [-1, 1] of each pair under the dense encoder.
    ///
    /// # Errors
    /// `unavailable` without an encoder.
    fn similarity(&mut self, pairs: &[(String, String)]) -> Result<Vec<f32>, Error>;

    /// The policy's state after `segments` follow each parent; `None` starts a fresh trajectory.
    ///
    /// # Errors
    /// `unavailable` without a model, `budget-exhausted`.
    fn extend(&mut self, steps: &[(Option<Node>, Vec<Segment>)]) -> Result<Vec<Node>, Error>;

    /// `sampling.candidates` proposed actions for each node.
    ///
    /// # Errors
    /// `unavailable` without a model, `budget-exhausted`, `invalid-input` (settings out of range).
    fn propose(&mut self, nodes: &[Node], sampling: &Sampling) -> Result<Vec<Vec<Candidate>>, Error>;

    /// Perplexity of each text, read as a reflection after its node.
    ///
    /// # Errors
    /// `unavailable` without a model, `budget-exhausted`.
    fn perplexity(&mut self, requests: &[(Node, Vec<String>)]) -> Result<Vec<Vec<JudgedText>>, Error>;

    /// How good each turn was, in [0, 1].
    ///
    /// # Errors
    /// `unavailable` where nobody judges.
    fn quality(&mut self, turns: &[Turn]) -> Result<Vec<f32>, Error>;

    /// What is left to spend.
    fn budget(&mut self) -> Remaining;

    /// Adds to the search tree that the host keeps for traces.
    fn trace(&mut self, events: &[Event]);

    /// Writes one line to the host's log.
    fn log(&mut self, level: Level, message: &str);
}

/// A named value.
pub fn setting(name: &str, value: impl ToString) -> Setting {
    Setting { name: name.to_owned(), value: value.to_string() }
}

/// The retriever's name as parameters and traces write it.
pub fn retriever_name(retriever: Retriever) -> &'static str {
    match retriever {
        Retriever::Lexical => "lexical",
        Retriever::Dense => "dense",
        Retriever::Hybrid => "hybrid",
    }
}

impl Query {
    /// A query for `k` hits. Hybrid rankings take `dense_weight` (NaN: reciprocal rank fusion). No filter of its own:
    /// the host applies the request's to every query.
    pub fn new(text: &str, retriever: Retriever, dense_weight: f32, k: u32) -> Self {
        Self { text: text.to_owned(), retriever, dense_weight, k, filter: None, options: Vec::new() }
    }
}

impl Request {
    /// A request without filter and options, for tests and tools.
    pub fn new(query: &str, k: u32, seed: u64) -> Self {
        Self { query: query.to_owned(), k, filter: None, seed, options: Vec::new() }
    }

    /// Adds a value for one of the strategy's parameters.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.options.push(setting(name, value));
        self
    }
}

impl Outcome {
    /// The first `k` hits of a ranking; `confidence` in [0, 1], or NaN where the strategy cannot say.
    pub fn ranked(mut ranking: Vec<Hit>, k: u32, confidence: f32) -> Self {
        ranking.truncate(k as usize);
        Self { ranking, confidence, options: Vec::new() }
    }

    /// Adds a named value that traces and tools show.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.options.push(setting(name, value));
        self
    }
}

impl Description {
    /// What a plugin says of itself: `name` in lower case with hyphens, `help` one line.
    pub fn new(name: &str, help: &str, parameters: Vec<Parameter>) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), parameters, options: Vec::new() }
    }
}
