//! What the policy's thread has done so far, and how much waits: numbers for operators.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts since the policy was loaded, and the state of its thread after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PolicyCounters {
    /// Steps of the model: passes over its weights.
    pub steps: u64,
    /// Tokens fed in all steps together.
    pub rows: u64,
    /// Of these, tokens that were given: segments, markers, judged texts.
    pub prefilled_tokens: u64,
    /// Tokens that were sampled; nearly all of them are fed in turn.
    pub decoded_tokens: u64,
    /// Tokens of evicted states that were read again.
    pub recomputed_tokens: u64,
    /// States whose memory was given up to make room.
    pub evicted_states: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Sequences that wait for a place or for memory.
    pub waiting_sequences: usize,
    /// Sequences that are worked on.
    pub active_sequences: usize,
    /// Bytes that states hold.
    pub state_bytes: usize,
}

/// The counters as the thread keeps them.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) steps: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) prefilled_tokens: AtomicU64,
    pub(crate) decoded_tokens: AtomicU64,
    pub(crate) recomputed_tokens: AtomicU64,
    pub(crate) evicted_states: AtomicU64,
    pub(crate) evicted_bytes: AtomicU64,
    pub(crate) waiting_sequences: AtomicUsize,
    pub(crate) active_sequences: AtomicUsize,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, state_bytes: usize) -> PolicyCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PolicyCounters {
            steps: read(&self.steps),
            rows: read(&self.rows),
            prefilled_tokens: read(&self.prefilled_tokens),
            decoded_tokens: read(&self.decoded_tokens),
            recomputed_tokens: read(&self.recomputed_tokens),
            evicted_states: read(&self.evicted_states),
            evicted_bytes: read(&self.evicted_bytes),
            waiting_sequences: self.waiting_sequences.load(Ordering::Relaxed),
            active_sequences: self.active_sequences.load(Ordering::Relaxed),
            state_bytes,
        }
    }
}
