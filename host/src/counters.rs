//! Counters of each plugin version: calls, how they ended, how long they took, what they used.
//!
//! Atomics and a fixed table, so that counting costs a search well under a microsecond and nobody waits. The host keeps
//! them by name and version, so that a plugin that is reloaded and comes back goes on where it was. Numbers of one
//! snapshot are read one after another, not at one instant. Neighbours: `run.rs` counts, `load.rs` hands them out.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::breaker::BreakerState;
use crate::load::Strategy;
use crate::outcome::{DegradedKind, Outcome};

/// Cells of an octave: a quantile is read within 1/8 = 13% of its true value.
const CELLS_PER_OCTAVE: usize = 8;
/// Octaves of microseconds: the last begins at 2^36 µs, 19 hours.
const OCTAVES: usize = 37;
/// Upper bounds in a snapshot: powers of four from 0.25 ms to a minute, which every scraper can hold.
const BOUNDS_OF_MICROSECONDS: [u32; 10] = [8, 10, 12, 14, 16, 18, 20, 22, 24, 26];

/// A histogram of durations.
struct Histogram {
    cells: [AtomicU64; CELLS_PER_OCTAVE * OCTAVES],
    sum_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Histogram {
    fn new() -> Self {
        Self {
            cells: [const { AtomicU64::new(0) }; CELLS_PER_OCTAVE * OCTAVES],
            sum_us: AtomicU64::new(0),
            longest_us: AtomicU64::new(0),
        }
    }

    fn note(&self, us: u64) {
        self.cells[cell(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
    }

    fn snapshot(&self) -> LatencySnapshot {
        let cells: Vec<u64> = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        let count: u64 = cells.iter().sum();
        let longest_us = self.longest_us.load(Ordering::Relaxed);
        let quantile = |share: f64| {
            let rank = (share * count as f64).ceil().max(1.0) as u64;
            let mut below = 0;
            let place = cells.iter().position(|held| {
                below += held;
                below >= rank
            });
            // A cell's upper end, but nothing took longer than the longest.
            place.map_or(0.0, |place| bound(place + 1).min(longest_us) as f64 / 1e3)
        };
        let buckets = BOUNDS_OF_MICROSECONDS.map(|octave| {
            let below = cells.iter().take(CELLS_PER_OCTAVE * octave as usize);
            ((1_u64 << octave) as f64 / 1e3, below.sum())
        });
        LatencySnapshot {
            count,
            sum_ms: self.sum_us.load(Ordering::Relaxed) as f64 / 1e3,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            longest_ms: longest_us as f64 / 1e3,
            buckets: buckets.to_vec(),
        }
    }
}

/// The cell of a duration: octave and eighth of it. The first octave holds 0 and 1 µs.
fn cell(us: u64) -> usize {
    let octave = us.max(1).ilog2() as usize;
    // What is below 8 µs fills only some eighths of its octave.
    let eighth = ((us.max(1) - (1 << octave)) * CELLS_PER_OCTAVE as u64) >> octave;
    (octave * CELLS_PER_OCTAVE + eighth as usize).min(CELLS_PER_OCTAVE * OCTAVES - 1)
}

/// Lower end of a cell in microseconds, rounded up; the upper end of the one before.
fn bound(place: usize) -> u64 {
    let (octave, eighth) = (place / CELLS_PER_OCTAVE, (place % CELLS_PER_OCTAVE) as u64);
    (1 << octave) + ((1_u64 << octave) * eighth).div_ceil(CELLS_PER_OCTAVE as u64)
}

/// What one version of a plugin did since the host started.
pub(crate) struct Counters {
    calls: AtomicU64,
    degraded: [AtomicU64; DegradedKind::ALL.len()],
    latency: Histogram,
    fuel: AtomicU64,
    most_fuel: AtomicU64,
    peak_memory_bytes: AtomicU64,
    retrievals: AtomicU64,
    tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            degraded: [const { AtomicU64::new(0) }; DegradedKind::ALL.len()],
            latency: Histogram::new(),
            fuel: AtomicU64::new(0),
            most_fuel: AtomicU64::new(0),
            peak_memory_bytes: AtomicU64::new(0),
            retrievals: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        }
    }

    /// Counts one search that ended.
    pub(crate) fn note(&self, outcome: &Outcome) {
        let cost = &outcome.cost;
        let add = |counter: &AtomicU64, number| counter.fetch_add(number, Ordering::Relaxed);
        add(&self.calls, 1);
        let kind = outcome.degraded.as_ref().map(|degraded| degraded.kind);
        if let Some(place) = kind.and_then(|kind| DegradedKind::ALL.iter().position(|known| *known == kind)) {
            add(&self.degraded[place], 1);
        }
        self.latency.note((cost.total_ms * 1e3) as u64);
        add(&self.fuel, cost.fuel);
        add(&self.retrievals, cost.retrievals);
        add(&self.tokens, cost.tokens_prefilled + cost.tokens_decoded);
        self.most_fuel.fetch_max(cost.fuel, Ordering::Relaxed);
        self.peak_memory_bytes.fetch_max(cost.peak_memory_bytes, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(
        &self,
        name: &str,
        version: &str,
        breaker: Option<BreakerState>,
    ) -> PluginStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let degraded: BTreeMap<DegradedKind, u64> = DegradedKind::ALL
            .iter()
            .zip(&self.degraded)
            .map(|(kind, count)| (*kind, read(count)))
            .filter(|(_, count)| *count > 0)
            .collect();
        PluginStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            calls: read(&self.calls),
            traps: degraded.get(&DegradedKind::Trap).copied().unwrap_or(0),
            degraded,
            latency: self.latency.snapshot(),
            fuel: read(&self.fuel),
            most_fuel: read(&self.most_fuel),
            peak_memory_bytes: read(&self.peak_memory_bytes),
            retrievals: read(&self.retrievals),
            tokens: read(&self.tokens),
            breaker,
        }
    }
}

/// Versions whose counters are kept, loaded ones apart: more than anybody looks at, little enough memory (3 kB each).
const KEPT: usize = 256;

/// The counters of all versions, in the order of their first loading.
#[derive(Default)]
pub(crate) struct CounterRegistry(Mutex<Vec<Counted>>);

struct Counted {
    name: String,
    version: String,
    counters: Arc<Counters>,
    loaded: Weak<Strategy>,
}

impl CounterRegistry {
    /// The counters of a version: those it had before, if it was loaded before.
    pub(crate) fn of(&self, name: &str, version: &str) -> Arc<Counters> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|known| known.name == name && known.version == version) {
            return known.counters.clone();
        }
        if all.len() >= KEPT {
            let oldest = all.iter().position(|known| known.loaded.strong_count() == 0);
            oldest.map(|oldest| all.remove(oldest));
        }
        let counters = Arc::new(Counters::new());
        let (name, version) = (name.to_owned(), version.to_owned());
        all.push(Counted { name, version, counters: counters.clone(), loaded: Weak::new() });
        counters
    }

    /// Says which loaded strategy counts for its version from now on: its breaker is the one to show.
    pub(crate) fn set_loaded(&self, strategy: &Arc<Strategy>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its = |known: &&mut Counted| known.name == strategy.name && known.version == strategy.version;
        if let Some(known) = all.iter_mut().find(is_its) {
            known.loaded = Arc::downgrade(strategy);
        }
    }

    /// A snapshot of each version.
    pub(crate) fn snapshots(&self, now: Instant) -> Vec<PluginStatistics> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = |known: &Counted| {
            let breaker = known.loaded.upgrade().map(|strategy| strategy.breaker.state(now));
            known.counters.snapshot(&known.name, &known.version, breaker)
        };
        all.iter().map(snapshot).collect()
    }
}

/// What one version of a plugin did since the host started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginStatistics {
    /// The plugin.
    pub name: String,
    /// [`crate::Strategy::version`].
    pub version: String,
    /// Searches, whatever became of them.
    pub calls: u64,
    /// Those that were answered by the plain ranking or under a cancellation, by reason; reasons that never came are
    /// left out.
    pub degraded: BTreeMap<DegradedKind, u64>,
    /// Traps among them: panics, unreachable instructions, stack overflows.
    pub traps: u64,
    /// Whole searches, the plain ranking's time included.
    pub latency: LatencySnapshot,
    /// Instructions of all searches.
    pub fuel: u64,
    /// Instructions of the greediest search.
    pub most_fuel: u64,
    /// The largest linear memory of any search.
    pub peak_memory_bytes: u64,
    /// Queries looked up.
    pub retrievals: u64,
    /// Tokens that the policy read and wrote.
    pub tokens: u64,
    /// What its breaker lets through; `None` for a version that is not loaded any more.
    pub breaker: Option<BreakerState>,
}

/// Durations of searches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySnapshot {
    /// How many.
    pub count: u64,
    /// All of them together, in milliseconds.
    pub sum_ms: f64,
    /// Half took at most this long; within an eighth.
    pub p50_ms: f64,
    /// All but a hundredth took at most this long; within an eighth.
    pub p99_ms: f64,
    /// The longest.
    pub longest_ms: f64,
    /// How many took less than so many milliseconds, for a fixed row of bounds: a histogram as Prometheus counts it.
    pub buckets: Vec<(f64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_cell() {
        let durations = (0..4_096).chain((0..44).map(|power| (1 << power) + 12_345));
        for us in durations {
            let place = cell(us);
            let is_last = place + 1 == CELLS_PER_OCTAVE * OCTAVES;
            assert!(bound(place) <= us.max(1), "{us}");
            assert!(is_last || us < bound(place + 1), "{us}");
        }
    }

    /// The slow twin sorts.
    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut durations: Vec<u64> = (1..2_000_u64).map(|number| number * number % 1_000_003 + 50).collect();
        let histogram = Histogram::new();
        durations.iter().for_each(|us| histogram.note(*us));
        durations.sort_unstable();
        let snapshot = histogram.snapshot();
        for (share, got_ms) in [(0.5, snapshot.p50_ms), (0.99, snapshot.p99_ms)] {
            let rank = (share * durations.len() as f64).ceil() as usize;
            let true_ms = durations[rank - 1] as f64 / 1e3;
            assert!(true_ms <= got_ms && got_ms <= true_ms * 1.125 + 0.001, "{true_ms} {got_ms}");
        }
        assert_eq!(snapshot.longest_ms, durations[durations.len() - 1] as f64 / 1e3);
        for (bound_ms, count) in snapshot.buckets {
            let expected = durations.iter().filter(|us| (**us as f64 / 1e3) < bound_ms).count();
            assert_eq!(count, expected as u64, "{bound_ms}");
        }
    }

    #[test]
    fn an_unused_plugin_has_zeros() {
        let snapshot = Counters::new().snapshot("echo", "v", None);
        assert_eq!((snapshot.calls, snapshot.latency.p99_ms), (0, 0.0));
        assert!(snapshot.degraded.is_empty());
    }
}
