//! Timing what a strategy costs the host before it does anything. Neighbour: `orion plugin bench` shows it.
use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::host::Host;
use crate::limits::Limits;
use crate::load::Strategy;
use crate::outcome::{Degraded, DegradedKind};
use crate::state::{SearchState, Stop};

impl Host {
    /// How long each of `repetitions` fresh instances took, from an empty store to a callable guest. Blocks.
    ///
    /// Errors: the first failure to start.
    pub fn time_instantiations(
        &self,
        strategy: &Strategy,
        repetitions: usize,
    ) -> Result<Vec<Duration>, Degraded> {
        self.block_on(async {
            let limits = Limits::unhurried();
            let mut times = Vec::with_capacity(repetitions);
            for _ in 0..repetitions {
                let _permit = self.permits(strategy.class()).acquire().await;
                let stop = Stop::new(&limits, CancelToken::new(), false);
                let state = SearchState::new(limits.clone(), None, stop);
                let started = Instant::now();
                let mut store = self.store(state)?;
                let instance = strategy.pre.instantiate_async(&mut store).await;
                times.push(started.elapsed());
                instance.map_err(|error| Degraded::new(DegradedKind::Trap, format!("{error:#}")))?;
            }
            Ok(times)
        })
    }
}
