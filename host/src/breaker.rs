//! A breaker for each strategy: one that keeps failing is left alone for a while.
//!
//! It protects the host's time, not its results: a search that meets an open breaker gets the plain ranking at once.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Consecutive failures, and until when the strategy rests.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures_to_open: u32,
    rest: Duration,
    state: Mutex<(u32, Option<Instant>)>,
}

impl Breaker {
    /// Opens for `rest` after that many failures in a row; 0 never opens.
    pub(crate) fn new(failures_to_open: u32, rest: Duration) -> Self {
        Self { failures_to_open, rest, state: Mutex::new((0, None)) }
    }

    /// Whether the strategy rests. After its rest one search tries it; a failure opens again at once.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.1 {
            Some(until) if now < until => true,
            Some(_) => {
                *state = (self.failures_to_open.saturating_sub(1), None);
                false
            }
            None => false,
        }
    }

    pub(crate) fn note(&self, is_failure: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = if is_failure { state.0.saturating_add(1) } else { 0 };
        if self.failures_to_open > 0 && state.0 >= self.failures_to_open {
            state.1 = Some(now + self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_tries_again() {
        let breaker = Breaker::new(2, Duration::from_secs(10));
        let start = Instant::now();
        breaker.note(true, start);
        breaker.note(false, start);
        breaker.note(true, start);
        assert!(!breaker.is_open(start));
        breaker.note(true, start);
        assert!(breaker.is_open(start));
        let later = start + Duration::from_secs(11);
        assert!(!breaker.is_open(later));
        breaker.note(true, later);
        assert!(breaker.is_open(later));
    }
}
