//! What the host keeps for one running search: services, budgets, nodes, trace and journal.
//!
//! One guest, one store, one state; all of it ends with the search. Neighbours: `calls/` implements the contract's
//! interfaces on [`SearchState`], `run.rs` makes it and takes it apart.
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cancel::CancelToken;
use crate::contract::{Error, Level, Node};
use crate::draft::Sources;
use crate::failure::{GuestFailure, MESSAGE_BYTES, printable};
use crate::fault::Fault;
use crate::limiter::MemoryLimiter;
use crate::limits::Limits;
use crate::places::SourcePlaces;
use crate::record::{CallError, Journal, PLAIN_CALL};
use crate::services::{
    GenerateSession, Judge, JudgeContext, Metered, Retrieve, ServiceError, Services, Usage,
};
use crate::trace::{BranchObserver, CallRecord, LogLine, TreeBuilder, one_line};

/// When a search has to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    cancel: CancelToken,
    deadline: Instant,
    grace: Duration,
    replay: bool,
}

/// Why time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Deadline,
    Cancelled,
}

impl Stop {
    pub(crate) fn new(limits: &Limits, cancel: CancelToken, replay: bool) -> Self {
        // A year stands for "never"; the addition cannot overflow then.
        let longest = Duration::from_secs(365 * 24 * 3600);
        let deadline = Instant::now() + Duration::from_millis(limits.deadline_ms).min(longest);
        Self { cancel, deadline, grace: Duration::from_millis(limits.grace_ms).min(longest), replay }
    }

    /// Resolves at the deadline or the cancellation, whichever comes first. At replay neither comes.
    pub(crate) async fn asked(&self) -> Ended {
        if self.replay {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ended::Cancelled,
            () = tokio::time::sleep_until(self.deadline) => Ended::Deadline,
        }
    }

    /// Resolves when the guest's grace is over, too.
    pub(crate) async fn forced(&self) -> Ended {
        let ended = self.asked().await;
        tokio::time::sleep(self.grace).await;
        ended
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        !self.replay && self.cancel.is_cancelled()
    }

    pub(crate) fn left_ms(&self) -> u64 {
        let left = self.deadline.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }

    /// `work`, unless the search has to end first; then `work` is dropped.
    async fn race<T>(&self, work: impl Future<Output = Result<T, ServiceError>>) -> Result<T, CallError> {
        tokio::select! {
            biased;
            ended = self.asked() => Err(match ended {
                Ended::Deadline => CallError::OutOfTime,
                Ended::Cancelled => CallError::Service(ServiceError::Cancelled),
            }),
            answer = work => answer.map_err(CallError::Service),
        }
    }
}

/// What was used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) retrievals: u64,
    pub(crate) usage: Usage,
    pub(crate) nodes: u64,
    pub(crate) host_calls: u64,
    pub(crate) log_lines: u64,
}

/// Which clock a call runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Retrieval,
    Model,
}

/// The data of a guest's store.
pub(crate) struct SearchState {
    pub(crate) limits: Limits,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) stop: Stop,
    pub(crate) retrieve: Option<Arc<dyn Retrieve>>,
    pub(crate) session: Option<Arc<dyn GenerateSession>>,
    pub(crate) judge: Arc<dyn Judge>,
    /// Applies to every query, whatever the guest asks.
    pub(crate) filter: Option<String>,
    pub(crate) spent: Spent,
    /// The session's node for each handle of the guest; handles count from 0 in every search.
    pub(crate) nodes: Vec<Node>,
    /// Ids that this search retrieved: what an answer may name.
    pub(crate) seen: BTreeSet<String>,
    pub(crate) tree: TreeBuilder,
    /// Who watches the tree grow.
    pub(crate) observer: Option<BranchObserver>,
    pub(crate) calls: Vec<CallRecord>,
    pub(crate) call_ms: Vec<f32>,
    /// When each of the calls began, counted from `began`.
    pub(crate) call_at_ms: Vec<f32>,
    began: Instant,
    pub(crate) log: Vec<LogLine>,
    /// What the guest logged at error level since it last logged anything else, lines kept.
    pub(crate) complaint: String,
    /// How the guest failed, once it has.
    pub(crate) failure: Option<GuestFailure>,
    pub(crate) retrieval_ms: f64,
    pub(crate) model_ms: f64,
    pub(crate) journal: Journal,
    /// What a draft reads at its start; empty for every other guest.
    pub(crate) sources: Arc<Sources>,
}

impl SearchState {
    /// A state for a search over `services`; without services (while a plugin describes itself) every service call
    /// answers `unavailable`.
    pub(crate) fn new(limits: Limits, services: Option<&Services>, stop: Stop) -> Self {
        let judge: Option<Arc<dyn Judge>> = services.and_then(|services| services.feedback.clone());
        let generate = services.and_then(|services| services.generate.as_ref());
        let session = generate.map(|generate| generate.session());
        let judge = judge.unwrap_or_else(|| {
            Arc::new(generate.map(|generate| generate.self_assessment()).unwrap_or_default())
        });
        Self {
            limiter: MemoryLimiter::new(limits.memory_bytes, limits.table_elements),
            limits,
            stop,
            retrieve: services.map(|services| services.retrieve.clone()),
            session: session.map(Arc::from),
            judge,
            filter: None,
            spent: Spent::default(),
            nodes: Vec::new(),
            seen: BTreeSet::new(),
            tree: TreeBuilder::default(),
            observer: None,
            calls: Vec::new(),
            call_ms: Vec::new(),
            call_at_ms: Vec::new(),
            began: Instant::now(),
            log: Vec::new(),
            complaint: String::new(),
            failure: None,
            retrieval_ms: 0.0,
            model_ms: 0.0,
            journal: Journal::Off,
            sources: Arc::default(),
        }
    }

    /// Counts one host call. Errors: a flood of them.
    pub(crate) fn count_call(&mut self) -> Result<(), Fault> {
        self.spent.host_calls += 1;
        if self.spent.host_calls > self.limits.host_calls {
            return Err(Fault::Flood { what: "host calls", limit: self.limits.host_calls });
        }
        Ok(())
    }

    /// Runs one service call against the clock and through the journal, and notes it in the trace.
    pub(crate) async fn serve<A, T>(
        &mut self,
        call: &'static str,
        work_kind: Work,
        items: usize,
        arguments: &A,
        work: impl Future<Output = Result<Metered<T>, ServiceError>>,
    ) -> Result<Result<T, Error>, Fault>
    where
        A: Serialize,
        T: Serialize + DeserializeOwned,
    {
        let started = Instant::now();
        let stop = self.stop.clone();
        let answer = self.journal.run(call, arguments, stop.race(work)).await?;
        let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
        match work_kind {
            Work::Retrieval => self.retrieval_ms += elapsed_ms,
            Work::Model => self.model_ms += elapsed_ms,
        }
        let mut usage = Usage::default();
        let answer = match answer {
            Ok(metered) => {
                usage = metered.usage;
                self.spent.usage += usage;
                Ok(metered.value)
            }
            Err(CallError::OutOfTime) => Err(Error::BudgetExhausted("milliseconds".to_owned())),
            Err(CallError::Service(error)) => Err(error.into()),
        };
        let error = answer.as_ref().err().map(error_text);
        self.calls.push(CallRecord { call: call.to_owned(), items: items as u64, usage, error });
        self.call_ms.push(elapsed_ms as f32);
        self.call_at_ms.push((started.duration_since(self.began).as_secs_f64() * 1e3) as f32);
        if call != PLAIN_CALL {
            self.check_replay()?;
        }
        Ok(answer)
    }

    /// Stops a replayed guest where the recorded one was stopped.
    pub(crate) fn check_replay(&self) -> Result<(), Fault> {
        self.journal.stopped().map_or(Ok(()), |degraded| Err(Fault::ReplayStopped(degraded)))
    }

    /// The guest's last logged error: where it panicked with a log, the panic's message.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.log.iter().rev().find(|line| line.level == Level::Error).map(|line| line.message.as_str())
    }

    /// Keeps what a guest logs for the case that it fails right afterwards.
    pub(crate) fn note_complaint(&mut self, level: Level, message: &str) {
        if level != Level::Error {
            self.complaint.clear();
            return;
        }
        let room = MESSAGE_BYTES.saturating_sub(self.complaint.len());
        if room > 0 {
            self.complaint.push_str(&printable(message, room));
            self.complaint.push('\n');
        }
    }

    /// Keeps what the author of a failed guest should know: its last words, or the error that it answered.
    pub(crate) fn note_failure(
        &mut self,
        error: Option<&wasmtime::Error>,
        answered: Option<&Error>,
        places: Option<&SourcePlaces>,
    ) {
        let answered = answered.and_then(|error| match error {
            Error::Other((_, message)) => Some(printable(message, MESSAGE_BYTES)),
            _ => None,
        });
        let complaint = self.complaint.trim_end();
        let message = if complaint.is_empty() { answered.as_deref() } else { Some(complaint) };
        self.failure = GuestFailure::new(message, error, places);
    }

    /// The session's nodes for a guest's handles. Errors: a handle that this search never gave out.
    pub(crate) fn resolve(&self, call: &'static str, handle: Node) -> Result<Node, Fault> {
        let known = usize::try_from(handle).ok().and_then(|index| self.nodes.get(index));
        known.copied().ok_or(Fault::UnknownNode { call, handle, made: self.nodes.len() })
    }

    /// A handle for a session's node.
    pub(crate) fn name_node(&mut self, node: Node) -> Node {
        self.nodes.push(node);
        self.nodes.len() as Node - 1
    }

    pub(crate) fn judge_context(&self) -> Option<JudgeContext> {
        let retrieve = self.retrieve.clone()?;
        Some(JudgeContext { retrieve, policy: self.session.clone() })
    }
}

/// Bytes of an error's text that are kept.
const ERROR_BYTES: u32 = 2_048;

/// An error as traces and reasons show it: one bounded line, whoever wrote it.
pub(crate) fn error_text(error: &Error) -> String {
    let text = match error {
        Error::BudgetExhausted(budget) => format!("budget exhausted: {budget}"),
        Error::Cancelled => "cancelled".to_owned(),
        Error::InvalidInput(what) => format!("invalid input: {what}"),
        Error::Unavailable(what) => format!("unavailable: {what}"),
        Error::Other((code, message)) => format!("{code}: {message}"),
    };
    one_line(&text, ERROR_BYTES)
}
