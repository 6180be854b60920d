//! What stands between a search and an engine that may be slow, flaky or gone: one deadline for a call with all its
//! retries, jittered pauses, a breaker, and a bound on calls at once.
//!
//! Pauses are random within bounds so that many processes do not come back in step; they follow from the engine's name
//! and the number of the call, and no result depends on them. Time comes in as an argument wherever something is decided.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::error::{EngineError, Fault};

/// The first pause is at most this long, each further one twice as long: a restarted node is back within a second.
const FIRST_PAUSE_MS: u64 = 25;
/// Doublings beyond this change nothing, since the deadline comes first.
const MOST_DOUBLINGS: u32 = 8;

/// What a guard has seen, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuardState {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that failed after all attempts, refusals included.
    pub failed: u64,
    /// Attempts beyond the first.
    pub retried: u64,
    /// Calls that were not made because the engine rested.
    pub rested: u64,
    /// Whether the engine is left alone now.
    pub is_resting: bool,
}

/// Counts failures in a row. Closed it lets everything through; after too many it lets nothing through for a while, then
/// one call at a time until one is answered.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Until when nothing goes through.
    until: Option<Instant>,
    /// Whether the one call is under way.
    is_probing: bool,
}

impl Breaker {
    fn may_pass(&mut self, now: Instant, most: u32) -> bool {
        if self.failures < most {
            return true;
        }
        if self.until.is_some_and(|until| now < until) || self.is_probing {
            return false;
        }
        self.is_probing = true;
        true
    }

    fn note(&mut self, is_answered: bool, now: Instant, most: u32, rest: Duration) {
        self.is_probing = false;
        if is_answered {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if most <= self.failures {
            self.until = Some(now + rest);
        }
    }
}

/// The guard of one engine.
pub(crate) struct Guard {
    engine: String,
    timeout: Duration,
    attempts: u32,
    breaker_failures: u32,
    breaker_rest: Duration,
    breaker: Mutex<Breaker>,
    free: Mutex<u32>,
    freed: Condvar,
    calls: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    rested: AtomicU64,
}

/// A place among the calls at once.
struct Place<'g>(&'g Guard);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl Guard {
    pub(crate) fn new(engine: &str, settings: &crate::Settings) -> Self {
        Self {
            engine: engine.to_owned(),
            timeout: settings.timeout,
            attempts: settings.attempts.max(1),
            breaker_failures: settings.breaker_failures.max(1),
            breaker_rest: settings.breaker_rest,
            breaker: Mutex::default(),
            free: Mutex::new(settings.connections.max(1)),
            freed: Condvar::new(),
            calls: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            rested: AtomicU64::new(0),
        }
    }

    /// What was seen so far.
    pub(crate) fn state(&self) -> GuardState {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        GuardState {
            answered: read(&self.answered),
            failed: read(&self.failed),
            retried: read(&self.retried),
            rested: read(&self.rested),
            is_resting: self.breaker_failures <= breaker.failures,
        }
    }

    /// Calls `work` with the time it has left, again while that may help. Everything that is called like this is
    /// idempotent: searches, reads, and changes that put a whole document under its id.
    pub(crate) fn call<T>(
        &self,
        attempted: &'static str,
        mut work: impl FnMut(Duration) -> Result<T, Fault>,
    ) -> Result<T, EngineError> {
        let started = Instant::now();
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.breaker().may_pass(started, self.breaker_failures) {
            self.rested.fetch_add(1, Ordering::Relaxed);
            let failures = self.breaker_failures;
            return Err(EngineError::Resting { engine: self.engine.clone(), attempted, failures });
        }
        let failed = |reason| EngineError::Failed { engine: self.engine.clone(), attempted, reason };
        let outcome = match self.place(started) {
            None => Err(failed(format!("no connection was free within {} ms", self.timeout.as_millis()))),
            Some(_place) => self.attempts(attempted, number, started, &mut work),
        };
        // A refusal is an answer: the engine is there.
        let is_answered = matches!(outcome, Ok(_) | Err(EngineError::Refused { .. }));
        self.breaker().note(is_answered, Instant::now(), self.breaker_failures, self.breaker_rest);
        let counter = if outcome.is_ok() { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self, started: Instant) -> Duration {
        self.timeout.saturating_sub(started.elapsed())
    }

    fn place(&self, started: Instant) -> Option<Place<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, waited) = self
            .freed
            .wait_timeout_while(free, self.left(started), |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && *free == 0 {
            return None;
        }
        *free -= 1;
        Some(Place(self))
    }

    fn attempts<T>(
        &self,
        attempted: &'static str,
        number: u64,
        started: Instant,
        work: &mut impl FnMut(Duration) -> Result<T, Fault>,
    ) -> Result<T, EngineError> {
        let mut attempt = 0;
        loop {
            let (reason, after) = match work(self.left(started)) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Refused(reason)) => {
                    return Err(EngineError::Refused { engine: self.engine.clone(), attempted, reason });
                }
                Err(Fault::Failed { reason, after }) => (reason, after),
            };
            attempt += 1;
            let pause = after.unwrap_or_default().max(pause(&self.engine, number, attempt));
            // A pause that outlasts the deadline would only make the caller wait for the same answer.
            if self.attempts <= attempt || self.left(started) <= pause {
                let reason = match attempt {
                    1 => reason,
                    tries => format!("{reason} (after {tries} attempts)"),
                };
                return Err(EngineError::Failed { engine: self.engine.clone(), attempted, reason });
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
        }
    }
}

/// Between nothing and [`FIRST_PAUSE_MS`] x 2^(attempt - 1): "full jitter".
fn pause(engine: &str, call: u64, attempt: u32) -> Duration {
    let longest = FIRST_PAUSE_MS << (attempt - 1).min(MOST_DOUBLINGS);
    let seed = engine.bytes().fold(call, |seed, byte| mixed(seed ^ u64::from(byte)));
    Duration::from_millis(mixed(seed ^ u64::from(attempt)) % (longest + 1))
}

/// SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014): a number that looks random.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineKind, Settings};

    fn guard(attempts: u32) -> Guard {
        let settings = Settings {
            attempts,
            breaker_failures: 2,
            breaker_rest: Duration::from_secs(3_600),
            timeout: Duration::from_secs(60),
            ..Settings::new(EngineKind::OpenSearch, "http://127.0.0.1:1", "notes")
        };
        Guard::new("cluster", &settings)
    }

    #[test]
    fn what_may_help_is_tried_again_and_nothing_else() {
        let guard = guard(3);
        let mut tries = 0;
        let answer = guard.call("searching", |_| {
            tries += 1;
            if tries < 3 { Err(Fault::failed("gone")) } else { Ok(tries) }
        });
        assert_eq!(answer, Ok(3));
        let mut tries = 0;
        let refused = guard.call("searching", |_| -> Result<(), Fault> {
            tries += 1;
            Err(Fault::Refused("no such index".to_owned()))
        });
        assert_eq!(
            (tries, refused.unwrap_err().to_string().as_str()),
            (1, "engine `cluster`: searching: refused: no such index")
        );
        let failed = guard.call("searching", |_| -> Result<(), Fault> { Err(Fault::failed("gone")) });
        assert_eq!(failed.unwrap_err().to_string(), "engine `cluster`: searching: gone (after 3 attempts)");
        let state = guard.state();
        assert_eq!((state.answered, state.failed, state.retried, state.rested), (1, 2, 4, 0));
    }

    #[test]
    fn a_pause_beyond_the_deadline_is_not_waited_for() {
        let guard = guard(3);
        let mut tries = 0;
        let failed = guard.call("searching", |_| -> Result<(), Fault> {
            tries += 1;
            Err(Fault::Failed { reason: "busy".to_owned(), after: Some(Duration::from_secs(3_600)) })
        });
        assert!(tries == 1 && matches!(failed, Err(EngineError::Failed { .. })));
    }

    #[test]
    fn an_engine_that_keeps_failing_is_left_alone() {
        let guard = guard(1);
        for _ in 0..2 {
            assert!(
                guard.call("searching", |_| -> Result<(), Fault> { Err(Fault::failed("gone")) }).is_err()
            );
        }
        let rested = guard.call("searching", |_| -> Result<(), Fault> { panic!("called while resting") });
        assert_eq!(
            rested.unwrap_err().to_string(),
            "engine `cluster`: searching: left alone for a while, after 2 failures in a row"
        );
        assert!(guard.state().is_resting);
    }

    #[test]
    fn after_its_rest_one_call_finds_out() {
        let start = Instant::now();
        let rest = Duration::from_secs(10);
        let mut breaker = Breaker::default();
        breaker.note(false, start, 1, rest);
        assert!(!breaker.may_pass(start + Duration::from_secs(9), 1));
        let later = start + Duration::from_secs(10);
        assert!(breaker.may_pass(later, 1));
        assert!(!breaker.may_pass(later, 1), "one at a time");
        breaker.note(false, later, 1, rest);
        assert!(!breaker.may_pass(later + Duration::from_secs(9), 1));
        assert!(breaker.may_pass(later + rest, 1));
        breaker.note(true, later + rest, 1, rest);
        assert!(breaker.may_pass(later + rest, 1) && breaker.may_pass(later + rest, 1));
    }

    #[test]
    fn pauses_grow_within_their_bounds_and_differ_between_engines() {
        for attempt in 1..20 {
            let longest = Duration::from_millis(FIRST_PAUSE_MS << (attempt - 1).min(MOST_DOUBLINGS));
            assert!((0..100).all(|call| pause("a", call, attempt) <= longest));
        }
        let of = |engine: &str| (0..20).map(|call| pause(engine, call, 4)).collect::<Vec<_>>();
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}
