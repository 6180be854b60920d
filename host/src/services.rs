//! The seams: what a host needs from outside, as traits that tests fake.
//!
//! Everything is batched, takes owned arguments and returns boxed futures, so that a service may be a local index, a
//! cluster or a recording. Dropping a future abandons the work. Neighbours: `embedded.rs` and `local_policy.rs`
//! implement these over orion-index and orion-policy, `self_assessment.rs` is the default judge.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::contract::{Candidate, Document, Error, Hit, JudgedText, Node, Query, Sampling, Segment, Turn};
use crate::self_assessment::SelfAssessment;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a service could not answer. A guest sees it as the contract's `error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The service, or the part that was asked for, is not there.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The arguments were not acceptable; says what was expected and what came.
    #[error("invalid input: {0}")]
    InvalidInput(String),
    /// The caller has gone.
    #[error("cancelled")]
    Cancelled,
    /// The service failed.
    #[error("{code}: {message}")]
    Fault {
        /// A stable code, such as `index-io`.
        code: String,
        /// What happened.
        message: String,
    },
}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Unavailable(what) => Self::Unavailable(what),
            ServiceError::InvalidInput(what) => Self::InvalidInput(what),
            ServiceError::Cancelled => Self::Cancelled,
            ServiceError::Fault { code, message } => Self::Other((code, message)),
        }
    }
}

/// Tokens that one call made the model read (`prefilled`) and write (`decoded`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens read: segments, and texts whose perplexity was asked for.
    pub prefilled_tokens: u64,
    /// Tokens sampled.
    pub decoded_tokens: u64,
}

impl Usage {
    /// Both kinds together: what a token budget counts.
    pub fn total(self) -> u64 {
        self.prefilled_tokens.saturating_add(self.decoded_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prefilled_tokens = self.prefilled_tokens.saturating_add(other.prefilled_tokens);
        self.decoded_tokens = self.decoded_tokens.saturating_add(other.decoded_tokens);
    }
}

/// A value and what the model spent on it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Metered<T> {
    /// The answer.
    pub value: T,
    /// What it cost.
    pub usage: Usage,
}

/// Looks documents up. The order of answers is the order of questions; each list has the length of its question list.
pub trait Retrieve: Send + Sync {
    /// One ranking for each query: best first, finite scores, no id twice, at most `k`.
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>>;

    /// The documents with these ids, `None` for an unknown id, texts cut at `max_chars` Unicode scalar values.
    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>>;

    /// Cosine in [-1, 1] of each pair of texts under the dense encoder; `Unavailable` without one.
    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>>;
}

/// Makes policy sessions, one for each search.
pub trait Generate: Send + Sync {
    /// A session without nodes. Dropping it cancels its work and frees its nodes.
    fn session(&self) -> Box<dyn GenerateSession>;

    /// How its perplexities become qualities, where no other judge is given.
    fn self_assessment(&self) -> SelfAssessment {
        SelfAssessment::default()
    }
}

/// The policy as one search sees it. Nodes are names that this session gave out; an unknown one is `InvalidInput`.
pub trait GenerateSession: Send + Sync {
    /// The node after the segments follow the parent; without a parent, a fresh trajectory.
    fn extend(
        &self,
        steps: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>>;

    /// `sampling.candidates` candidates for each node.
    fn propose(
        &self,
        nodes: Vec<Node>,
        sampling: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>>;

    /// For each node, the perplexity of each text read as a think span that follows it.
    fn perplexity(
        &self,
        requests: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>>;
}

/// What a judge may look at: the services of the search that asks.
#[derive(Clone)]
pub struct JudgeContext {
    /// The collection.
    pub retrieve: Arc<dyn Retrieve>,
    /// The policy's session; nodes in turns are its nodes.
    pub policy: Option<Arc<dyn GenerateSession>>,
}

/// Says how good a turn was, in [0, 1]. Serving assesses itself; a trainer may plug in judgements.
pub trait Judge: Send + Sync {
    /// One quality for each turn.
    fn quality(
        &self,
        turns: Vec<Turn>,
        context: JudgeContext,
    ) -> BoxFuture<'_, Result<Metered<Vec<f32>>, ServiceError>>;
}

/// What a search runs on. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The collection.
    pub retrieve: Arc<dyn Retrieve>,
    /// The policy; without one, `policy` calls answer `unavailable`.
    pub generate: Option<Arc<dyn Generate>>,
    /// The judge; without one, self-assessment with its default calibration.
    pub feedback: Option<Arc<dyn Judge>>,
}

impl Services {
    /// Retrieval alone: no policy, self-assessment by similarity.
    pub fn retrieval_only(retrieve: Arc<dyn Retrieve>) -> Self {
        Self { retrieve, generate: None, feedback: None }
    }
}

/// Services that are never asked: a replay has all answers already.
pub(crate) struct Nowhere;

impl Nowhere {
    fn answer<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, ServiceError>> {
        Box::pin(async { Err(ServiceError::Unavailable("this is a replay".to_owned())) })
    }
}

impl Retrieve for Nowhere {
    fn search(&self, _: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Self::answer()
    }

    fn documents(
        &self,
        _: Vec<String>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Self::answer()
    }

    fn similarity(&self, _: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Self::answer()
    }
}

impl Generate for Nowhere {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(Self)
    }
}

impl GenerateSession for Nowhere {
    fn extend(
        &self,
        _: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>> {
        Self::answer()
    }

    fn propose(
        &self,
        _: Vec<Node>,
        _: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>> {
        Self::answer()
    }

    fn perplexity(
        &self,
        _: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>> {
        Self::answer()
    }
}
