//! A breaker for each loaded plugin: one that keeps failing is left alone, each time for longer.
//!
//! It protects the host's time, not its results: a search that meets an open breaker gets the plain ranking at once.
//! It belongs to one loaded version, so a reload begins with a closed one. Time is an argument, so that tests need no
//! clock. Neighbour: `run.rs` asks before each search and tells it the end.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerSettings {
    /// Failures in a row that open it; 0 never opens it.
    pub(crate) failures_to_open: u32,
    /// Its first rest; each further one without a success between is twice as long.
    pub(crate) first_rest: Duration,
    /// No rest is longer.
    pub(crate) longest_rest: Duration,
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Every search.
    Closed,
    /// None, until its rest is over.
    Open,
    /// One, whose end decides.
    HalfOpen,
}

/// Failures in a row, and how the strategy rests because of them.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    /// Rests since the last success.
    rests: u32,
    /// End of the rest; `None` while closed.
    until: Option<Instant>,
    /// Whether the one search after a rest is under way.
    is_trying: bool,
}

/// One admitted search. Dropped without a word (cancelled, or the host's own fault), it says nothing of the strategy.
#[derive(Debug)]
pub(crate) struct Pass<'b> {
    breaker: &'b Breaker,
    is_try: bool,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a search through, or says how long the rest still is. After a rest one search at a time tries.
    pub(crate) fn admit(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut inner = self.inner();
        let is_try = match inner.until {
            None => false,
            Some(until) if now < until || inner.is_trying => return Err(until.saturating_duration_since(now)),
            Some(_) => true,
        };
        inner.is_trying |= is_try;
        Ok(Pass { breaker: self, is_try })
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.inner().until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// The rest after so many rests in a row, 1-based.
    fn rest(&self, rests: u32) -> Duration {
        let doublings = rests.saturating_sub(1).min(31);
        self.settings.first_rest.saturating_mul(1 << doublings).min(self.settings.longest_rest)
    }
}

impl Pass<'_> {
    /// The search ended, by the strategy's own doing.
    pub(crate) fn note(self, is_failure: bool, now: Instant) {
        let mut inner = self.breaker.inner();
        // A search that began before the breaker opened says nothing new.
        if inner.until.is_some() && !self.is_try {
            return;
        }
        if !is_failure {
            *inner = Inner::default();
            return;
        }
        inner.failures = inner.failures.saturating_add(1);
        let threshold = self.breaker.settings.failures_to_open;
        if self.is_try || (threshold > 0 && inner.failures >= threshold) {
            inner.rests = inner.rests.saturating_add(1);
            inner.until = Some(now + self.breaker.rest(inner.rests));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_try {
            self.breaker.inner().is_trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(failures_to_open: u32) -> Breaker {
        Breaker::new(BreakerSettings { failures_to_open, first_rest: 10 * SECOND, longest_rest: 35 * SECOND })
    }

    fn run(breaker: &Breaker, is_failure: bool, now: Instant) {
        breaker.admit(now).expect("it is not open").note(is_failure, now);
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (breaker(2), Instant::now());
        for is_failure in [true, false, true] {
            run(&breaker, is_failure, now);
            assert_eq!(breaker.state(now), BreakerState::Closed);
        }
        run(&breaker, true, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!(breaker.admit(now + 4 * SECOND).err(), Some(6 * SECOND));
    }

    #[test]
    fn each_rest_is_twice_as_long_up_to_the_longest_and_a_success_forgets() {
        let (breaker, start) = (breaker(1), Instant::now());
        let mut now = start;
        run(&breaker, true, now);
        for rest in [10, 20, 35, 35] {
            assert_eq!(breaker.admit(now).err(), Some(rest * SECOND));
            now += rest * SECOND;
            assert_eq!(breaker.state(now), BreakerState::HalfOpen);
            run(&breaker, true, now);
        }
        now += 35 * SECOND;
        run(&breaker, false, now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        run(&breaker, true, now);
        assert_eq!(breaker.admit(now).err(), Some(10 * SECOND));
    }

    #[test]
    fn after_a_rest_one_search_at_a_time_tries() {
        let (breaker, start) = (breaker(1), Instant::now());
        run(&breaker, true, start);
        let later = start + 10 * SECOND;
        let first = breaker.admit(later).expect("the rest is over");
        assert_eq!(breaker.admit(later).err(), Some(Duration::ZERO));
        // Cancelled: nothing was learned, so the next one tries.
        drop(first);
        run(&breaker, false, later);
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn searches_from_before_the_opening_change_nothing() {
        let (breaker, now) = (breaker(1), Instant::now());
        let early = [breaker.admit(now).expect("closed"), breaker.admit(now).expect("closed")];
        run(&breaker, true, now);
        let [success, failure] = early;
        success.note(false, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        failure.note(true, now + 5 * SECOND);
        assert_eq!(breaker.admit(now + 5 * SECOND).err(), Some(5 * SECOND));
    }

    #[test]
    fn zero_never_opens_it() {
        let (breaker, now) = (breaker(0), Instant::now());
        (0..100).for_each(|_| run(&breaker, true, now));
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }
}
