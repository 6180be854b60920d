//! Sees when training destroys what it should improve, and says so before more is lost.
//!
//! A policy under reinforcement can fall into a rut that its reward does not show at once: queries that shrink to a
//! word or swell to the cap, sampling that has no spread left, candidates that all say the same, weights that leave
//! the reference behind. Each is measured every step and held against its own running value from healthy steps. One
//! odd step is noise; several in a row are a collapse.
//!
//! The thresholds are ours: wide enough that a run which learns (shorter queries, less spread) passes, and chosen
//! before any run was looked at.

use crate::error::{Result, TrainError};
use serde::{Deserialize, Serialize};

/// When a run counts as collapsed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollapseSettings {
    /// Whether to stop at all; measures are logged either way.
    pub stop: bool,
    /// Steps that form the running values before anything can be out of range.
    pub warmup_steps: u64,
    /// Steps in a row out of range that make a collapse.
    pub patience_steps: u64,
    /// Weight of the past in a running value, per step, in [0, 1).
    pub memory: f64,
    /// Query length and entropy below this share of their running value are out of range, in (0, 1).
    pub low: f64,
    /// The same above this multiple, above 1.
    pub high: f64,
    /// Divergence from the reference is out of range beyond this many nats a token …
    pub divergence: f64,
    /// … if it is also beyond this multiple of its running value.
    pub divergence_factor: f64,
    /// The share of repeated queries is out of range this far above its running value.
    pub repeats: f64,
}

impl Default for CollapseSettings {
    fn default() -> Self {
        Self {
            stop: true,
            warmup_steps: 10,
            patience_steps: 5,
            memory: 0.95,
            low: 0.35,
            high: 3.0,
            divergence: 0.5,
            divergence_factor: 5.0,
            repeats: 0.5,
        }
    }
}

impl CollapseSettings {
    pub(super) fn check(&self) -> Result<()> {
        let ranges = [
            ("collapse.memory", self.memory, 0.0..1.0, "0 or more and below 1"),
            ("collapse.low", self.low, f64::MIN_POSITIVE..1.0, "above 0 and below 1"),
            ("collapse.high", self.high, 1.0..f64::MAX, "1 or more"),
            ("collapse.divergence", self.divergence, 0.0..f64::MAX, "0 or more"),
            ("collapse.divergence_factor", self.divergence_factor, 0.0..f64::MAX, "0 or more"),
            ("collapse.repeats", self.repeats, 0.0..f64::MAX, "0 or more"),
        ];
        for (name, value, range, expected) in ranges {
            if !range.contains(&value) {
                return Err(TrainError::Setting { name, expected: expected.into(), got: value.to_string() });
            }
        }
        if self.patience_steps == 0 || self.warmup_steps == 0 {
            let (expected, got) = ("at least 1".into(), "0".into());
            return Err(TrainError::Setting {
                name: "collapse.patience_steps, .warmup_steps",
                expected,
                got,
            });
        }
        Ok(())
    }
}

/// What is measured of a step's candidates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Mean words of a query.
    pub query_words: f64,
    /// Mean surprise of a sampled token in nats: an estimate of the entropy of sampling.
    pub entropy: f64,
    /// Divergence from the reference, in nats a token.
    pub divergence: f64,
    /// Share of candidates whose query occurs before in their episode or group.
    pub repeats: f64,
}

/// A measure that has been out of range for too long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Collapse {
    /// Which.
    pub what: &'static str,
    /// Its running value.
    pub baseline: f64,
    /// Its value now.
    pub got: f64,
    /// Steps in a row.
    pub steps: u64,
}

/// Running values and how long each measure has been out of range; part of every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Monitor {
    healthy_steps: u64,
    baseline: Option<Signals>,
    /// The running values at the end of the warm-up.
    first: Option<Signals>,
    /// Steps in a row: query length, entropy, divergence, repeats.
    strikes: [u64; 4],
}

const NAMES: [&str; 4] = ["query length", "sampling entropy", "divergence", "the share of repeated queries"];

impl Signals {
    fn values(&self) -> [f64; 4] {
        [self.query_words, self.entropy, self.divergence, self.repeats]
    }

    fn of(values: [f64; 4]) -> Self {
        let [query_words, entropy, divergence, repeats] = values;
        Self { query_words, entropy, divergence, repeats }
    }
}

/// For each measure that is out of range, the value that it should be near.
fn out_of_range(
    now: &Signals,
    usual: &Signals,
    first: &Signals,
    settings: &CollapseSettings,
) -> [Option<f64>; 4] {
    // A value that is no number is in no range. A slide too slow to leave the running value behind leaves the first
    // one, from which it may go as far again.
    let far = |now: f64, usual: f64, first: f64| {
        let CollapseSettings { low, high, .. } = *settings;
        if !(low * usual..=high * usual).contains(&now) {
            return Some(usual);
        }
        (!(low * low * first..=high * high * first).contains(&now)).then_some(first)
    };
    let divergence_limit = settings.divergence.max(settings.divergence_factor * usual.divergence);
    let above = |now: f64, limit: f64, usual: f64| (!(..=limit).contains(&now)).then_some(usual);
    [
        far(now.query_words, usual.query_words, first.query_words),
        far(now.entropy, usual.entropy, first.entropy),
        above(now.divergence, divergence_limit, usual.divergence),
        above(now.repeats, usual.repeats + settings.repeats, usual.repeats),
    ]
}

impl Monitor {
    /// Notes one step; `Some` when a measure has been out of range for the whole of the patience. Steps that are out
    /// of range leave the running values alone, or a slow collapse would carry them along.
    pub fn observe(&mut self, now: &Signals, settings: &CollapseSettings) -> Option<Collapse> {
        let Some(usual) = self.baseline else {
            self.baseline = Some(*now);
            self.healthy_steps = 1;
            return None;
        };
        let out = if self.healthy_steps < settings.warmup_steps {
            [None; 4]
        } else {
            out_of_range(now, &usual, self.first.get_or_insert(usual), settings)
        };
        for (strikes, out) in self.strikes.iter_mut().zip(out) {
            *strikes = if out.is_some() { *strikes + 1 } else { 0 };
        }
        if out.iter().all(Option::is_none) {
            self.healthy_steps += 1;
            // A plain mean at first, then a forgetting one.
            let keep = settings.memory.min(1.0 - 1.0 / self.healthy_steps as f64);
            let (old, new) = (usual.values(), now.values());
            self.baseline =
                Some(Signals::of(std::array::from_fn(|place| keep * old[place] + (1.0 - keep) * new[place])));
        }
        let place = self.strikes.iter().position(|strikes| settings.patience_steps <= *strikes)?;
        let (baseline, got) = (out[place].unwrap_or(usual.values()[place]), now.values()[place]);
        Some(Collapse { what: NAMES[place], baseline, got, steps: self.strikes[place] })
    }

    /// Whether nothing is out of range at the moment: only then is a checkpoint worth keeping.
    pub fn is_healthy(&self) -> bool {
        self.strikes == [0; 4]
    }
}
