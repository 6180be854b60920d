//! Making room for states: what was not needed for longest is forgotten first.
//!
//! A memory is pinned while a running lane reads it; all others may go, because their tokens stay and give the same
//! bits when they are read again. A state is never needed without those before it, so it is never older than they are;
//! among equals the longest goes first, so that trunks outlive their branches.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::state::State;

/// What was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evicted {
    pub(crate) states: u64,
    pub(crate) bytes: usize,
}

/// Forgets at least `bytes` of the states' memories; `None`, and nothing forgotten, where so much cannot go.
pub(crate) fn evict<'a>(states: impl Iterator<Item = &'a Arc<State>>, bytes: usize) -> Option<Evicted> {
    let mut candidates: Vec<(&Arc<State>, usize)> = states
        .map(|state| (state, state.evictable_bytes()))
        .filter(|(_, evictable)| 0 < *evictable)
        .collect();
    if candidates.iter().map(|(_, evictable)| evictable).sum::<usize>() < bytes {
        return None;
    }
    // A state may have several names, and then counts once.
    candidates.sort_by_key(|(state, _)| (state.used(), Reverse(state.length), Arc::as_ptr(state) as usize));
    candidates.dedup_by_key(|(state, _)| Arc::as_ptr(state));
    if candidates.iter().map(|(_, evictable)| evictable).sum::<usize>() < bytes {
        return None;
    }
    let mut evicted = Evicted::default();
    for (state, evictable) in candidates {
        if bytes <= evicted.bytes {
            break;
        }
        state.forget();
        evicted.states += 1;
        evicted.bytes += evictable;
    }
    Some(evicted)
}
