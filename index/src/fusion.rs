//! Two rankings into one: reciprocal rank fusion and min-max convex combination.

use crate::searcher::Hit;
use std::collections::BTreeMap;

/// How deep both rankings are taken; deeper changes nDCG@10 by nothing that can be measured.
pub const FUSION_DEPTH: usize = 1000;

/// A way to fuse a lexical and a dense ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Fusion {
    /// Sum of 1 / (k + rank), ranks from 1 (Cormack, Clarke and Büttcher, SIGIR 2009; they use 60).
    ReciprocalRank {
        /// Larger values make the first ranks matter less.
        k: f32,
    },
    /// `dense_weight` x dense + (1 - `dense_weight`) x lexical, each ranking's scores brought to [0, 1] by its own
    /// extremes (Bruch, Gai and Ingber, arXiv:2210.11934); a document missing from one ranking has 0 there.
    Convex {
        /// In [0, 1].
        dense_weight: f32,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::ReciprocalRank { k: 60.0 }
    }
}

/// The fused ranking, at most `k` long: score descending, then id ascending.
/// Both inputs are best first and hold no id twice.
pub fn fuse(lexical: &[Hit], dense: &[Hit], fusion: Fusion, k: usize) -> Vec<Hit> {
    let mut scores: BTreeMap<&str, f32> = BTreeMap::new();
    match fusion {
        Fusion::ReciprocalRank { k: offset } => {
            for ranking in [lexical, dense] {
                for (place, hit) in ranking.iter().enumerate() {
                    *scores.entry(&hit.id).or_default() += 1.0 / (offset + place as f32 + 1.0);
                }
            }
        }
        Fusion::Convex { dense_weight } => {
            for (ranking, weight) in [(lexical, 1.0 - dense_weight), (dense, dense_weight)] {
                let highest = ranking.first().map_or(0.0, |hit| hit.score);
                let lowest = ranking.last().map_or(0.0, |hit| hit.score);
                let range = highest - lowest;
                for hit in ranking {
                    // A ranking without spread says only that its documents were found.
                    let normal = if 0.0 < range { (hit.score - lowest) / range } else { 1.0 };
                    *scores.entry(&hit.id).or_default() += weight * normal;
                }
            }
        }
    }
    let mut fused: Vec<Hit> =
        scores.into_iter().map(|(id, score)| Hit { id: id.to_owned(), score }).collect();
    // The map yields ids in ascending order and the sort is stable.
    fused.sort_by(|left, right| right.score.total_cmp(&left.score));
    fused.truncate(k);
    fused
}
