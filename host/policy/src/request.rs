//! What sessions ask of the policy's thread, and who waits for the answer.

use std::sync::Arc;

use futures_channel::oneshot;

use crate::error::PolicyError;
use crate::generate::Sampling;
use crate::lane::Outcome;
use crate::session::{Candidate, JudgedText, NodeId, UsageCounters};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, PolicyError>>;

/// What a session asks of the thread.
pub(crate) enum Request {
    Extend {
        session: u64,
        usage: Arc<UsageCounters>,
        steps: Vec<(Option<NodeId>, Vec<u32>)>,
        reply: Reply<Vec<NodeId>>,
    },
    Propose {
        session: u64,
        usage: Arc<UsageCounters>,
        nodes: Vec<NodeId>,
        sampling: Sampling,
        reply: Reply<Vec<Vec<Candidate>>>,
    },
    Perplexity {
        session: u64,
        usage: Arc<UsageCounters>,
        requests: Vec<(NodeId, Vec<Vec<u32>>)>,
        reply: Reply<Vec<Vec<JudgedText>>>,
    },
    Tokens {
        session: u64,
        node: NodeId,
        reply: Reply<Vec<u32>>,
    },
    Close {
        session: u64,
    },
}

/// A call under way: who waits for it, and the results of its lanes so far.
pub(crate) struct Job {
    pub(crate) session: u64,
    pub(crate) waiter: Waiter,
    pub(crate) outcomes: Vec<Option<Outcome>>,
    pub(crate) missing: usize,
}

pub(crate) enum Waiter {
    Extend(Reply<Vec<NodeId>>, Vec<NodeId>),
    /// With the number of candidates for each node.
    Propose(Reply<Vec<Vec<Candidate>>>, usize),
    /// With the number of texts for each node.
    Perplexity(Reply<Vec<Vec<JudgedText>>>, Vec<usize>),
}

impl Waiter {
    /// Tells whoever waits that it failed.
    pub(crate) fn refuse(self, error: PolicyError) {
        match self {
            Self::Extend(reply, _) => drop(reply.send(Err(error))),
            Self::Propose(reply, _) => drop(reply.send(Err(error))),
            Self::Perplexity(reply, _) => drop(reply.send(Err(error))),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Extend(reply, _) => reply.is_canceled(),
            Self::Propose(reply, _) => reply.is_canceled(),
            Self::Perplexity(reply, _) => reply.is_canceled(),
        }
    }
}
