//! One search from request to outcome.
//!
//! The guest runs as one future beside its clock. Whatever becomes of it, what it did is taken out of its store
//! afterwards, and where it has no acceptable answer the plain ranking of the original query is looked up instead.
//! Neighbours: `state.rs` is what the guest's calls work on, `outcome.rs` checks its answer.
use std::sync::Arc;
use std::time::Instant;

use crate::bindings::Request as GuestRequest;
use crate::breaker::Pass;
use crate::cancel::CancelToken;
use crate::contract::{Error, Hit, Query, Retriever, Setting};
use crate::host::Host;
use crate::limits::Limits;
use crate::load::Strategy;
use crate::outcome::{Answered, Cost, Degraded, DegradedKind, MAX_RESULTS, Outcome, Request, check_answer};
use crate::record::{Divergence, Journal, PLAIN_CALL, RECORDING_VERSION, Recording};
use crate::services::{Generate, Metered, Nowhere, Services, Usage};
use crate::state::{Ended, SearchState, Stop, Work, error_text};
use crate::trace::{BranchObserver, SearchTrace, TRACE_VERSION};

/// Least time for the plain ranking, in milliseconds, however short the search's own deadline was.
const PLAIN_MS: u64 = 2_000;

/// Why a recording could not be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Made by another generation of the host.
    #[error("recording: expected version {RECORDING_VERSION}, got {0}")]
    Version(u32),
    /// Made with another component.
    #[error("recording: expected component {expected}, got {got}")]
    Component {
        /// The recorded component.
        expected: String,
        /// The given one.
        got: String,
    },
}

impl Host {
    /// Answers a request with a strategy. Never fails: a failed strategy gives the plain ranking and says why.
    ///
    /// Has to run inside a tokio runtime with its clock enabled. The answer depends on the strategy, the request, what
    /// the services answer and the limits (lowered where the strategy's manifest says so); on clocks only where a
    /// deadline or a cancellation cuts it short. An observer watches the tree grow and changes nothing.
    pub async fn search(
        &self,
        strategy: &Strategy,
        request: Request,
        services: &Services,
        limits: &Limits,
        cancel: CancelToken,
        observer: Option<BranchObserver>,
    ) -> Outcome {
        let (request, limits) = (strategy.complete(request), strategy.limits(limits));
        self.run(strategy, request, services, &limits, cancel, Journal::Off, observer).await.0
    }

    /// [`Host::search`] from a thread that may wait, with nobody watching.
    pub fn search_blocking(
        &self,
        strategy: &Strategy,
        request: Request,
        services: &Services,
        limits: &Limits,
        cancel: CancelToken,
    ) -> Outcome {
        self.block_on(self.search(strategy, request, services, limits, cancel, None))
    }

    /// [`Host::search`], and all that a replay needs.
    pub async fn search_recorded(
        &self,
        strategy: &Strategy,
        request: Request,
        services: &Services,
        limits: &Limits,
        cancel: CancelToken,
    ) -> (Outcome, Recording) {
        let (request, limits) = (strategy.complete(request), strategy.limits(limits));
        let asked = request.clone();
        let journal = Journal::Write(Vec::new());
        let (outcome, journal) = self.run(strategy, request, services, &limits, cancel, journal, None).await;
        let ended = outcome.degraded.clone().filter(|degraded| {
            use DegradedKind::{BreakerOpen, Cancelled, Deadline, Overloaded};
            matches!(degraded.kind, Deadline | Cancelled | Overloaded | BreakerOpen)
        });
        let recording = Recording {
            version: RECORDING_VERSION,
            component: strategy.component.clone(),
            request: asked,
            limits,
            has_policy: services.generate.is_some(),
            ended,
            calls: journal.finish().unwrap_or_default(),
        };
        (outcome, recording)
    }

    /// [`Host::search_recorded`] from a thread that may wait.
    pub fn search_recorded_blocking(
        &self,
        strategy: &Strategy,
        request: Request,
        services: &Services,
        limits: &Limits,
        cancel: CancelToken,
    ) -> (Outcome, Recording) {
        self.block_on(self.search_recorded(strategy, request, services, limits, cancel))
    }

    /// The outcome of a recorded search, from its recording alone. A search that its clock ended is replayed to its
    /// last recorded call.
    pub async fn replay(&self, strategy: &Strategy, recording: &Recording) -> Result<Outcome, ReplayError> {
        if recording.component != strategy.component {
            let (expected, got) = (recording.component.clone(), strategy.component.clone());
            return Err(ReplayError::Component { expected, got });
        }
        Ok(self.replay_with(strategy, recording).await?.0)
    }

    /// [`Host::replay`] with any component, usually a changed one: what it makes of the recorded answers, and where it
    /// first did something else than the recorded one. After that point the outcome is the plain ranking's.
    pub async fn replay_with(
        &self,
        strategy: &Strategy,
        recording: &Recording,
    ) -> Result<(Outcome, Option<Divergence>), ReplayError> {
        if recording.version != RECORDING_VERSION {
            return Err(ReplayError::Version(recording.version));
        }
        let services = Services {
            retrieve: Arc::new(Nowhere),
            generate: recording.has_policy.then(|| Arc::new(Nowhere) as Arc<dyn Generate>),
            feedback: None,
        };
        let journal = Journal::read(recording);
        let (request, limits) = (recording.request.clone(), &recording.limits);
        let (mut outcome, journal) =
            self.run(strategy, request, &services, limits, CancelToken::new(), journal, None).await;
        outcome.degraded = outcome.degraded.or_else(|| recording.ended.clone());
        Ok((outcome, journal.divergence()))
    }

    /// [`Host::replay_with`] from a thread that may wait.
    pub fn replay_blocking(
        &self,
        strategy: &Strategy,
        recording: &Recording,
    ) -> Result<(Outcome, Option<Divergence>), ReplayError> {
        self.block_on(self.replay_with(strategy, recording))
    }

    #[expect(clippy::too_many_arguments, reason = "where all ways to search meet")]
    async fn run(
        &self,
        strategy: &Strategy,
        request: Request,
        services: &Services,
        limits: &Limits,
        cancel: CancelToken,
        journal: Journal,
        observer: Option<BranchObserver>,
    ) -> (Outcome, Journal) {
        let started = Instant::now();
        let stop = Stop::new(limits, cancel, journal.is_replay());
        let mut state = SearchState::new(limits.clone(), Some(services), stop);
        state.filter = request.filter.clone();
        state.journal = journal;
        state.observer = observer;
        state.sources = strategy.sources.clone();
        let mut fuel = 0;
        let (result, mut state) = match may_run(strategy, &request, &state, started) {
            Err(degraded) => (Err(degraded), state),
            Ok(pass) => {
                let (result, state, used) = self.run_guest(strategy, &request, state).await;
                fuel = used;
                note(pass, &result);
                (result, state)
            }
        };
        let (answered, degraded) = match result {
            Ok(answered) => answered,
            Err(degraded) => {
                let (ranking, degraded) = plain_ranking(&mut state, &request, degraded).await;
                (Answered { ranking, confidence: None, options: Vec::new() }, Some(degraded))
            }
        };
        if let Some(degraded) = &degraded {
            tracing::warn!(strategy = strategy.name, "search degraded: {degraded}");
        }
        let usage = state.spent.usage;
        let cost = Cost {
            retrievals: state.spent.retrievals,
            tokens_prefilled: usage.prefilled_tokens,
            tokens_decoded: usage.decoded_tokens,
            nodes: state.spent.nodes,
            host_calls: state.spent.host_calls,
            model_ms: state.model_ms,
            retrieval_ms: state.retrieval_ms,
            total_ms: started.elapsed().as_secs_f64() * 1e3,
            fuel,
            peak_memory_bytes: state.limiter.peak_bytes(),
        };
        let trace = SearchTrace {
            version: TRACE_VERSION,
            strategy: strategy.name.clone(),
            component: strategy.component.clone(),
            query: request.query,
            branches: state.tree.finish(),
            calls: state.calls,
            log: state.log,
        };
        let Answered { ranking, confidence, options } = answered;
        let (failure, call_ms, call_at_ms) = (state.failure, state.call_ms, state.call_at_ms);
        let outcome =
            Outcome { ranking, confidence, options, degraded, failure, cost, trace, call_ms, call_at_ms };
        if !state.journal.is_replay() {
            strategy.counters.note(&outcome);
        }
        (outcome, state.journal)
    }

    /// Runs the guest to its end or to its time's end. A cancelled guest may still answer in its grace; the answer then
    /// comes with the mark of the cancellation.
    async fn run_guest(
        &self,
        strategy: &Strategy,
        request: &Request,
        state: SearchState,
    ) -> (Result<(Answered, Option<Degraded>), Degraded>, SearchState, u64) {
        let stop = state.stop.clone();
        let permit = tokio::select! {
            biased;
            permit = self.permits(strategy.class()).acquire() => permit,
            ended = stop.asked() => {
                let degraded = match ended {
                    Ended::Cancelled => Degraded::from_end(ended),
                    Ended::Deadline => Degraded::new(DegradedKind::Overloaded, "no room for a guest before the deadline"),
                };
                return (Err(degraded), state, 0);
            }
        };
        let limits = state.limits.clone();
        let mut store = match self.store(state) {
            Ok(store) => store,
            Err(degraded) => {
                let state = SearchState::new(limits, None, stop);
                return (Err(degraded), state, 0);
            }
        };
        let guest_request = to_guest(request);
        let ticks = self.ticker().guard();
        let guest = async {
            let instance = strategy.pre.instantiate_async(&mut store).await?;
            instance.call_search(&mut store, &guest_request).await
        };
        let ended = tokio::select! {
            biased;
            answered = guest => Ok(answered),
            ended = stop.forced() => Err(ended),
        };
        drop(ticks);
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let was_cancelled = stop.is_cancelled().then(|| Degraded::from_end(Ended::Cancelled));
        let result = match ended {
            Err(ended) => Err(Degraded::from_end(ended)),
            Ok(Err(trap)) => {
                store.data_mut().note_failure(Some(&trap), None, strategy.places.as_ref());
                Err(Degraded::from_trap(&trap, store.data().last_words()))
            }
            Ok(Ok(Err(error))) => {
                store.data_mut().note_failure(None, Some(&error), None);
                Err(Degraded::new(DegradedKind::Failed, error_text(&error)))
            }
            Ok(Ok(Ok(answer))) => check_answer(answer, request.k, &store.data().seen)
                .map(|answered| (answered, was_cancelled.clone())),
        };
        // A cancelled guest that then failed is not to blame.
        let result = match (result, was_cancelled) {
            (Err(_), Some(cancelled)) => Err(cancelled),
            (result, _) => result,
        };
        let state = store.into_data();
        // The guest's place in the pool is free only now.
        drop(permit);
        (result, state, fuel)
    }
}

/// Whether the guest is started at all; at replay no breaker is asked.
fn may_run<'s>(
    strategy: &'s Strategy,
    request: &Request,
    state: &SearchState,
    now: Instant,
) -> Result<Option<Pass<'s>>, Degraded> {
    check_request(request, &state.limits)?;
    if let Some(degraded) = state.journal.stopped() {
        return Err(degraded);
    }
    if state.journal.is_replay() {
        return Ok(None);
    }
    strategy
        .breaker
        .admit(now)
        .map(Some)
        .map_err(|_| Degraded::new(DegradedKind::BreakerOpen, "the strategy failed repeatedly and rests"))
}

/// Tells the breaker what an admitted search says of its strategy; nothing, where something else ended it.
fn note(pass: Option<Pass<'_>>, result: &Result<(Answered, Option<Degraded>), Degraded>) {
    let is_failure = match result {
        Ok(_) => false,
        Err(degraded) if degraded.kind.is_strategys_fault() => true,
        Err(_) => return,
    };
    if let Some(pass) = pass {
        pass.note(is_failure, Instant::now());
    }
}

fn check_request(request: &Request, limits: &Limits) -> Result<(), Degraded> {
    let refuse = |reason: String| Err(Degraded::new(DegradedKind::BadRequest, reason));
    if request.k < 1 || request.k > MAX_RESULTS {
        return refuse(format!("k: expected 1 to {MAX_RESULTS}, got {}", request.k));
    }
    let longest = limits.string_bytes as usize;
    let texts = [("query", request.query.len()), ("filter", request.filter.as_ref().map_or(0, String::len))];
    for (what, got) in texts {
        if got > longest {
            return refuse(format!("{what}: expected at most {longest} bytes, got {got}"));
        }
    }
    let options_bytes: usize = request.options.iter().map(|(name, value)| name.len() + value.len()).sum();
    if options_bytes > longest {
        return refuse(format!("options: expected at most {longest} bytes, got {options_bytes}"));
    }
    Ok(())
}

fn to_guest(request: &Request) -> GuestRequest {
    let options = request.options.iter().cloned().map(|(name, value)| Setting { name, value });
    GuestRequest {
        query: request.query.clone(),
        k: request.k,
        filter: request.filter.clone(),
        seed: request.seed,
        options: options.collect(),
    }
}

/// The hybrid ranking of the original query, or the lexical one without an encoder. What stands in the way is added to
/// the reason; the ranking is empty then.
async fn plain_ranking(
    state: &mut SearchState,
    request: &Request,
    mut degraded: Degraded,
) -> (Vec<Hit>, Degraded) {
    if degraded.kind == DegradedKind::BadRequest {
        return (Vec::new(), degraded);
    }
    let deadline_ms = state.limits.deadline_ms.max(PLAIN_MS);
    state.stop = Stop::new(
        &Limits { deadline_ms, ..state.limits.clone() },
        CancelToken::new(),
        state.journal.is_replay(),
    );
    let mut last_error = Error::Unavailable("no collection".to_owned());
    for retriever in [Retriever::Hybrid, Retriever::Lexical] {
        match look_up(state, request, retriever).await {
            Ok(ranking) => return (ranking, degraded),
            Err(error) => last_error = error,
        }
        if !matches!(last_error, Error::Unavailable(_)) {
            break;
        }
    }
    degraded.reason =
        format!("{}; nor is there a plain ranking: {}", degraded.reason, error_text(&last_error));
    (Vec::new(), degraded)
}

async fn look_up(
    state: &mut SearchState,
    request: &Request,
    retriever: Retriever,
) -> Result<Vec<Hit>, Error> {
    let Some(retrieve) = state.retrieve.clone() else {
        return Err(Error::Unavailable("no collection".to_owned()));
    };
    let query = Query {
        text: request.query.clone(),
        retriever,
        dense_weight: f32::NAN,
        k: request.k,
        filter: request.filter.clone(),
        options: Vec::new(),
    };
    let asked = vec![query.clone()];
    let work = async move {
        let value = retrieve.search(asked).await?;
        Ok(Metered { value, usage: Usage::default() })
    };
    state.spent.retrievals += 1;
    let served = state.serve(PLAIN_CALL, Work::Retrieval, 1, &query, work).await;
    let rankings = served.map_err(|fault| Error::Other(("host-fault".to_owned(), fault.to_string())))??;
    Ok(rankings.into_iter().next().unwrap_or_default())
}
