//! One call of a guest that has no services: describing itself, scoring.
//!
//! The guest sees the contract's types and the log; fuel, memory, log lines and the clock bound it. Neighbours: `load.rs`
//! and `reward.rs` call this; `run.rs` runs searches, which have services, budgets and a plain ranking to fall back on.
use wasmtime::Store;

use crate::cancel::CancelToken;
use crate::class::GuestClass;
use crate::host::Host;
use crate::limits::Limits;
use crate::outcome::{Degraded, DegradedKind};
use crate::services::BoxFuture;
use crate::state::{Ended, SearchState, Stop};

/// What a call gave, and what it used.
pub(crate) struct Called<T> {
    pub(crate) value: T,
    /// Instructions, the instance's start included.
    pub(crate) fuel: u64,
    /// Linear memory at its largest.
    pub(crate) peak_memory_bytes: u64,
}

impl Host {
    /// Runs `call`, which instantiates a guest in the store that it gets and calls it, to its end or to its limits' end.
    pub(crate) async fn call_bounded<T>(
        &self,
        class: GuestClass,
        limits: Limits,
        call: impl for<'s> FnOnce(&'s mut Store<SearchState>) -> BoxFuture<'s, wasmtime::Result<T>>,
    ) -> Result<Called<T>, Degraded> {
        let fuel_limit = limits.fuel;
        let stop = Stop::new(&limits, CancelToken::new(), false);
        let permit = tokio::select! {
            biased;
            permit = self.permits(class).acquire() => permit,
            _ = stop.asked() => {
                let reason = "no room for a guest before the deadline";
                return Err(Degraded::new(DegradedKind::Overloaded, reason));
            }
        };
        let mut store = self.store(SearchState::new(limits, None, stop.clone()))?;
        let ticks = self.ticker().guard();
        let ended = tokio::select! {
            biased;
            answered = call(&mut store) => Ok(answered),
            ended = stop.forced() => Err::<_, Ended>(ended),
        };
        drop(ticks);
        let result = match ended {
            Err(ended) => Err(Degraded::from_end(ended)),
            Ok(Err(trap)) => Err(Degraded::from_trap(&trap, store.data().last_words())),
            Ok(Ok(value)) => Ok(Called {
                value,
                fuel: fuel_limit.saturating_sub(store.get_fuel().unwrap_or(0)),
                peak_memory_bytes: store.data().limiter.peak_bytes(),
            }),
        };
        drop(store);
        // The guest's place in the pool is free only now.
        drop(permit);
        result
    }
}
