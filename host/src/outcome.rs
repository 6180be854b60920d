//! What a search gives back, and how an answer is checked.
//!
//! A failed strategy is data here: the caller always gets a ranking, and [`Degraded`] says why it is the plain one.
//! Neighbour: `run.rs` produces these.
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bindings::Outcome as GuestOutcome;
use crate::contract::{Hit, Setting};
use crate::failure::GuestFailure;
use crate::fault::Fault;
use crate::state::Ended;
use crate::trace::SearchTrace;

/// Most documents that a request may ask for: the contract's bound.
pub const MAX_RESULTS: u32 = 1_000;

/// Named values that an answer may carry, and their bytes: room for remarks, not for results.
const MAX_OPTIONS: usize = 100;
const MAX_OPTIONS_BYTES: usize = 64 << 10;

/// One search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The user's words.
    pub query: String,
    /// Documents wanted, 1 to [`MAX_RESULTS`].
    pub k: u32,
    /// Filter in the index's syntax; holds for every retrieval of the search, whatever the strategy asks.
    pub filter: Option<String>,
    /// All that is random in the search follows from it.
    pub seed: u64,
    /// Values of the strategy's parameters, by name; see [`crate::Strategy::check_options`].
    pub options: Vec<(String, String)>,
}

impl Request {
    /// `k` documents for `query`: no filter, seed 0, the strategy's defaults.
    pub fn new(query: impl Into<String>, k: u32) -> Self {
        Self { query: query.into(), k, filter: None, seed: 0, options: Vec::new() }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Best first; at most `k`; the plain hybrid ranking where [`Outcome::degraded`] says so.
    pub ranking: Vec<Hit>,
    /// The strategy's confidence in [0, 1], where it can say.
    pub confidence: Option<f32>,
    /// What else the strategy said.
    pub options: Vec<Setting>,
    /// Why this is not the strategy's answer.
    pub degraded: Option<Degraded>,
    /// What its author should know of the failure; only where the guest itself failed and left something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<GuestFailure>,
    /// What the search used.
    pub cost: Cost,
    /// The search tree.
    pub trace: SearchTrace,
    /// Milliseconds of each of [`SearchTrace::calls`]; apart from the trace because no two runs share them.
    pub call_ms: Vec<f32>,
    /// When each of them began, in milliseconds after the search did.
    #[serde(default)]
    pub call_at_ms: Vec<f32>,
}

/// Why a search was answered by the plain ranking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct Degraded {
    /// The kind, stable for machines.
    pub kind: DegradedKind,
    /// What happened, for people.
    pub reason: String,
}

/// Kinds of [`Degraded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DegradedKind {
    /// The guest trapped: a panic, an unreachable instruction, a stack overflow.
    Trap,
    /// It used up its instructions.
    Fuel,
    /// It wanted more memory or larger tables than it may have.
    Memory,
    /// It was still running when deadline and grace were over.
    Deadline,
    /// The caller cancelled. The ranking is the strategy's if it still gave one in its grace.
    Cancelled,
    /// It flooded the host: calls, trace events, log lines or bytes.
    Flood,
    /// It named a node or branch that it does not have.
    BadHandle,
    /// It answered with an error of its own.
    Failed,
    /// Its answer breaks the contract: foreign or double ids, numbers that are none, rising scores.
    BadAnswer,
    /// No room for another guest before the deadline.
    Overloaded,
    /// It failed so often lately that it is not run for a while.
    BreakerOpen,
    /// The request itself is not acceptable; there is no ranking at all.
    BadRequest,
    /// A fault of the host.
    HostFault,
}

impl DegradedKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Trap,
        Self::Fuel,
        Self::Memory,
        Self::Deadline,
        Self::Cancelled,
        Self::Flood,
        Self::BadHandle,
        Self::Failed,
        Self::BadAnswer,
        Self::Overloaded,
        Self::BreakerOpen,
        Self::BadRequest,
        Self::HostFault,
    ];

    /// Whether the strategy itself is to blame: what a breaker counts. An error that it returned on purpose is not,
    /// since a missing service gives every strategy a reason for one.
    pub(crate) fn is_strategys_fault(self) -> bool {
        use DegradedKind::{BadAnswer, BadHandle, Deadline, Flood, Fuel, Memory, Trap};
        matches!(self, Trap | Fuel | Memory | Deadline | Flood | BadHandle | BadAnswer)
    }
}

impl std::fmt::Display for DegradedKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Flood => "flood",
            Self::BadHandle => "bad-handle",
            Self::Failed => "failed",
            Self::BadAnswer => "bad-answer",
            Self::Overloaded => "overloaded",
            Self::BreakerOpen => "breaker-open",
            Self::BadRequest => "bad-request",
            Self::HostFault => "host-fault",
        })
    }
}

/// What a search used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Queries that were looked up, the plain ranking's included.
    pub retrievals: u64,
    /// Tokens the policy read.
    pub tokens_prefilled: u64,
    /// Tokens the policy wrote.
    pub tokens_decoded: u64,
    /// Policy nodes made.
    pub nodes: u64,
    /// Calls of any host function.
    #[serde(default)]
    pub host_calls: u64,
    /// Milliseconds in the policy.
    pub model_ms: f64,
    /// Milliseconds in retrieval.
    pub retrieval_ms: f64,
    /// Milliseconds of the whole search.
    pub total_ms: f64,
    /// Instructions of the guest.
    pub fuel: u64,
    /// The guest's linear memory at its largest.
    pub peak_memory_bytes: u64,
}

impl Degraded {
    pub(crate) fn new(kind: DegradedKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(crate) fn from_end(ended: Ended) -> Self {
        match ended {
            Ended::Deadline => Self::new(DegradedKind::Deadline, "still running after deadline and grace"),
            Ended::Cancelled => Self::new(DegradedKind::Cancelled, "the caller cancelled"),
        }
    }

    /// What stopped a guest. `last_words` is its last logged error: a panic's message, where it has a log.
    pub(crate) fn from_trap(error: &wasmtime::Error, last_words: Option<&str>) -> Self {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            let kind = match fault {
                Fault::ReplayStopped(degraded) => return degraded.clone(),
                Fault::Flood { .. } => DegradedKind::Flood,
                Fault::UnknownNode { .. } | Fault::TraceOrder(_) => DegradedKind::BadHandle,
                Fault::Memory { .. } | Fault::Table { .. } => DegradedKind::Memory,
                Fault::ReplayDiverged { .. } | Fault::ReplayEnded { .. } | Fault::Recording(_) => {
                    DegradedKind::HostFault
                }
            };
            return Self::new(kind, fault.to_string());
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::new(DegradedKind::Overloaded, error.to_string());
        }
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::OutOfFuel) => Self::new(DegradedKind::Fuel, "all instructions used up"),
            Some(trap) => {
                let words = last_words.map(|words| format!("; it last logged: {words}")).unwrap_or_default();
                Self::new(DegradedKind::Trap, format!("{trap}{words}"))
            }
            None => {
                let cause = error.root_cause().to_string();
                // Wasmtime has no type for this one; the hostile guest `huge_call` notices if its words change.
                if cause.starts_with("too much data is being copied") {
                    return Self::new(DegradedKind::Flood, "flood: too many bytes in one call");
                }
                Self::new(DegradedKind::Trap, cause)
            }
        }
    }
}

/// A guest's acceptable answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) ranking: Vec<Hit>,
    pub(crate) confidence: Option<f32>,
    pub(crate) options: Vec<Setting>,
}

/// The guest's answer, if it keeps the contract, cut at `k`.
pub(crate) fn check_answer(
    answer: GuestOutcome,
    k: u32,
    seen: &BTreeSet<String>,
) -> Result<Answered, Degraded> {
    let refuse = |reason: String| Err(Degraded::new(DegradedKind::BadAnswer, reason));
    let mut ids = BTreeSet::new();
    let mut previous = f32::INFINITY;
    for (place, hit) in answer.ranking.iter().enumerate() {
        let rank = place + 1;
        if !hit.score.is_finite() {
            return refuse(format!("rank {rank}: expected a finite score, got {}", hit.score));
        }
        if hit.score > previous {
            return refuse(format!("rank {rank}: score {} is higher than {previous} before it", hit.score));
        }
        if !seen.contains(&hit.id) {
            let id = crate::trace::one_line(&hit.id, 100);
            return refuse(format!("rank {rank}: id `{id}` was never retrieved in this search"));
        }
        if !ids.insert(hit.id.as_str()) {
            return refuse(format!("rank {rank}: id `{}` stands there twice", hit.id));
        }
        previous = hit.score;
    }
    let confidence = Some(answer.confidence).filter(|confidence| !confidence.is_nan());
    if confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
        return refuse(format!("confidence: expected 0 to 1 or NaN, got {}", answer.confidence));
    }
    let options_bytes: usize =
        answer.options.iter().map(|option| option.name.len() + option.value.len()).sum();
    if answer.options.len() > MAX_OPTIONS || options_bytes > MAX_OPTIONS_BYTES {
        let (count, limit) = (answer.options.len(), MAX_OPTIONS);
        return refuse(format!(
            "options: expected at most {limit} of {MAX_OPTIONS_BYTES} bytes, got {count} of {options_bytes}"
        ));
    }
    let mut ranking = answer.ranking;
    ranking.truncate(k as usize);
    Ok(Answered { ranking, confidence, options: answer.options })
}
