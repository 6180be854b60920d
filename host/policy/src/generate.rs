//! Constrained decoding of one candidate: a thought, then a search query, in the checkpoint's format.
//!
//! [`Generation`] is a small state machine: given the logits after all it has asked to be fed, it picks a token among
//! those that the format admits and says what to feed next. Start markers are forced; an end marker is sampled, or
//! forced at the cap. Log-probabilities are those of the unmodified model at the sampled tokens; forced tokens have
//! none. Where a checkpoint's queries are grounded, a query is whole words of what was read (see `grounding`).

use std::sync::Arc;

use crate::cuda::{AllowedOnDevice, Asked};
use crate::format::{Retriever, TrajectoryFormat};
use crate::grounding::{Walk, Words};
use crate::random::Random;
use crate::sampling::{Allowed, Choice, LogSoftmax, pick};
use crate::session::FedToken;

/// How candidates are generated; fields as in the contract.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Candidates for each node, 1 to 64.
    pub candidates: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus, in (0, 1].
    pub top_p: f32,
    /// Cap of a thought; 0 leaves it empty.
    pub max_think_tokens: u32,
    /// Cap of a query, at least 1.
    pub max_query_tokens: u32,
    /// Candidate j of node i depends on the seed, i and j alone.
    pub seed: u64,
}

/// Which tokens may stand where, for one tokenizer and format.
pub(crate) struct DecodingTables {
    /// By token id: may stand inside a thought or a query.
    pub(crate) content: Vec<bool>,
    /// By token id: may begin a query, which makes it not empty: the token holds a letter or digit.
    pub(crate) opening: Vec<bool>,
}

impl DecodingTables {
    /// `None` where no token could begin a query.
    pub(crate) fn new(format: &TrajectoryFormat, vocabulary_size: usize) -> Option<Self> {
        let tokenizer = format.tokenizer();
        let ends_by_line = format.search_query.start.is_empty();
        let mut content = vec![false; vocabulary_size];
        let mut opening = vec![false; vocabulary_size];
        for id in 0..vocabulary_size.min(tokenizer.size()) {
            if tokenizer.is_special(id as u32) {
                continue;
            }
            let text = tokenizer.decode(&[id as u32]);
            let breaks_line = ends_by_line && text.contains('\n');
            content[id] = !text.is_empty() && !breaks_line;
            opening[id] = content[id]
                && text.chars().any(char::is_alphanumeric)
                && !(format.markers_are_text() && text.contains('<'));
        }
        opening.contains(&true).then_some(Self { content, opening })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Think,
    Retriever,
    Query,
    Done,
}

/// One candidate in the making.
pub(crate) struct Generation {
    stage: Stage,
    choice: Choice,
    max_think: usize,
    max_query: usize,
    random: Random,
    think: Vec<u32>,
    query: Vec<u32>,
    pub(crate) retriever: Option<Retriever>,
    /// What a grounded query may be made of, and how far it is.
    walk: Option<Walk>,
    log_probability: f64,
    sampled: u32,
    trace: Vec<FedToken>,
}

impl Generation {
    /// Candidate `candidate` of node `node` of a call, and what to feed before the first logits are needed. Its query
    /// is made of `words`, where there are any.
    pub(crate) fn new(
        sampling: &Sampling,
        node: usize,
        candidate: u32,
        words: Option<Arc<Words>>,
        format: &TrajectoryFormat,
    ) -> (Self, Vec<u32>) {
        let mut generation = Self {
            stage: Stage::Think,
            choice: Choice { temperature: sampling.temperature, top_p: sampling.top_p },
            max_think: sampling.max_think_tokens as usize,
            max_query: sampling.max_query_tokens as usize,
            random: Random::split(sampling.seed, &[node as u64, u64::from(candidate)]),
            think: Vec::new(),
            query: Vec::new(),
            retriever: None,
            walk: words.map(Walk::new),
            log_probability: 0.0,
            sampled: 0,
            trace: Vec::new(),
        };
        let mut feed = Vec::new();
        if !format.thinks() {
            generation.begin_query(format, &mut feed);
        } else {
            feed.extend(&format.think.start);
            if generation.max_think == 0 {
                feed.extend(&format.think.end);
                generation.begin_query(format, &mut feed);
            }
        }
        generation.note_forced(&feed);
        (generation, feed)
    }

    /// The most tokens that a candidate can add to its node.
    pub(crate) fn most_tokens(sampling: &Sampling, format: &TrajectoryFormat) -> usize {
        let markers =
            [&format.think, &format.search_query].map(|marker| marker.start.len() + marker.end.len());
        let think = if format.thinks() { sampling.max_think_tokens as usize } else { 0 };
        markers.iter().sum::<usize>() + think + sampling.max_query_tokens as usize + 1
    }

    /// Picks the next token; what it returns is to be fed, the picked token first. Without more to pick,
    /// [`Generation::is_done`] holds from here on.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        format: &TrajectoryFormat,
        tables: &DecodingTables,
        buffer: &mut Vec<f32>,
    ) -> Vec<u32> {
        let normaliser = LogSoftmax::of(logits);
        let token = self.pick(logits, format, tables, buffer);
        let log_probability = normaliser.log_probability(logits[token as usize]);
        self.accept(token, log_probability, format)
    }

    /// What to ask a device for instead of logits: it picks as [`Generation::advance`] would.
    pub(crate) fn ask(&mut self, format: &TrajectoryFormat) -> Asked {
        let single = |end: &[u32]| if let [only] = end { Some(*only) } else { None };
        let allowed = match self.stage {
            Stage::Retriever => AllowedOnDevice::Only(format.retrievers().unwrap_or_default()),
            Stage::Query if self.query.is_empty() => AllowedOnDevice::Opening,
            Stage::Query => AllowedOnDevice::Content(single(&format.search_query.end)),
            Stage::Think | Stage::Done => AllowedOnDevice::Content(single(&format.think.end)),
        };
        // The CPU draws where it samples, and only there.
        let unit = if self.choice.temperature <= 0.0 { 0.0 } else { self.random.unit() };
        Asked::Token { allowed, choice: self.choice, unit }
    }

    /// Takes the picked token, with its log-probability under the unmodified model; returns what is to be fed.
    pub(crate) fn accept(&mut self, token: u32, log_probability: f32, format: &TrajectoryFormat) -> Vec<u32> {
        self.log_probability += f64::from(log_probability);
        self.sampled += 1;
        self.trace.push(FedToken { id: token, log_probability: Some(log_probability) });
        let mut feed = vec![token];
        match self.stage {
            Stage::Think => {
                if format.think.end == [token] {
                    self.begin_query(format, &mut feed);
                } else {
                    self.think.push(token);
                    if self.wrote_marker(&self.think, format) {
                        self.begin_query(format, &mut feed);
                    } else if self.think.len() == self.max_think {
                        feed.extend(&format.think.end);
                        self.begin_query(format, &mut feed);
                    }
                }
            }
            Stage::Retriever => {
                let ids = format.retrievers().unwrap_or_default();
                self.retriever = ids.iter().position(|id| *id == token).map(|index| Retriever::ALL[index]);
                self.stage = Stage::Query;
            }
            Stage::Query => {
                if format.search_query.end == [token] {
                    self.stage = Stage::Done;
                } else {
                    if let Some(walk) = &mut self.walk {
                        walk.take(token, self.max_query - self.query.len());
                    }
                    self.query.push(token);
                    if self.wrote_marker(&self.query, format) {
                        self.stage = Stage::Done;
                    } else if self.query.len() == self.max_query {
                        feed.extend(&format.search_query.end);
                        self.stage = Stage::Done;
                    }
                }
            }
            Stage::Done => {}
        }
        self.note_forced(&feed[1..]);
        feed
    }

    fn note_forced(&mut self, tokens: &[u32]) {
        self.trace.extend(tokens.iter().map(|id| FedToken { id: *id, log_probability: None }));
    }

    fn pick(
        &mut self,
        logits: &[f32],
        format: &TrajectoryFormat,
        tables: &DecodingTables,
        buffer: &mut Vec<f32>,
    ) -> u32 {
        // Where an end marker is several tokens of text, those are content until they add up to the marker.
        let only = |end: &[u32]| if let [id] = end { Some(*id) } else { None };
        let retrievers = format.retrievers().unwrap_or_default();
        let grounded;
        let allowed = match self.stage {
            Stage::Retriever => Allowed::Only(&retrievers),
            Stage::Query if let Some(walk) = &self.walk => {
                let end = only(&format.search_query.end).filter(|_| walk.may_end());
                let mut tokens = walk.allowed(self.max_query - self.query.len());
                tokens.extend(end);
                grounded = tokens;
                Allowed::Only(&grounded)
            }
            Stage::Query if self.query.is_empty() => Allowed::Table(&tables.opening, None),
            Stage::Query => Allowed::Table(&tables.content, only(&format.search_query.end)),
            Stage::Think | Stage::Done => Allowed::Table(&tables.content, only(&format.think.end)),
        };
        pick(logits, allowed, self.choice, &mut self.random, buffer)
    }

    fn begin_query(&mut self, format: &TrajectoryFormat, feed: &mut Vec<u32>) {
        feed.extend(&format.search_query.start);
        self.stage = if format.retrievers().is_some() { Stage::Retriever } else { Stage::Query };
    }

    /// Whether a content that is written in ordinary text has come to a marker, its own end or another.
    fn wrote_marker(&self, content: &[u32], format: &TrajectoryFormat) -> bool {
        format.markers_are_text() && text_before_marker(&format.tokenizer().decode(content)).is_some()
    }

    /// Whether the next token needs logits here, for a device knows nothing of words.
    pub(crate) fn needs_words(&self) -> bool {
        self.stage == Stage::Query && self.walk.is_some()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The thought in words.
    pub(crate) fn think_text(&self, format: &TrajectoryFormat) -> String {
        plain_text(&format.tokenizer().decode(&self.think), format)
    }

    /// The query in words; never empty.
    pub(crate) fn query_text(&self, format: &TrajectoryFormat) -> String {
        plain_text(&format.tokenizer().decode(&self.query), format)
    }

    /// Sum of the natural log-probabilities of the sampled tokens.
    pub(crate) fn log_probability(&self) -> f32 {
        self.log_probability as f32
    }

    /// All tokens that were fed for it, in order.
    pub(crate) fn into_trace(self) -> Vec<FedToken> {
        self.trace
    }

    /// Number of sampled tokens.
    pub(crate) fn sampled(&self) -> u32 {
        self.sampled
    }
}

/// One line without bytes that were no UTF-8, cut at a marker where markers are text.
fn plain_text(decoded: &str, format: &TrajectoryFormat) -> String {
    let text = match text_before_marker(decoded) {
        Some(before) if format.markers_are_text() => before,
        _ => decoded,
    };
    text.split(|c: char| c.is_whitespace() || c.is_control() || c == char::REPLACEMENT_CHARACTER)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What stands before the first marker, if there is one.
fn text_before_marker(text: &str) -> Option<&str> {
    let names = ["user_query", "think", "search_query", "top_k_response"];
    let is_marker = |rest: &str| {
        let inner = rest.strip_prefix('/').unwrap_or(rest);
        names.iter().any(|name| inner.strip_prefix(name).is_some_and(|after| after.starts_with('>')))
    };
    text.match_indices('<').find(|(at, _)| is_marker(&text[at + 1..])).map(|(at, _)| &text[..at])
}
