//! Fusing several rankings into one.
//!
//! Two rules, the ones the index uses within a hybrid query, here across queries: weighted reciprocal rank and weighted
//! sum of min-max normalised scores. Both are deterministic: sums are taken in `f64` in the order of the rankings, ties
//! are ordered by id.

use std::collections::BTreeMap;

use crate::Hit;

/// Ranks are damped by this constant in reciprocal rank fusion: the value of Cormack, Clarke and Büttcher (SIGIR 2009).
pub const RECIPROCAL_RANK_CONSTANT: f32 = 60.0;

/// How rankings become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// score(d) = sum over rankings of weight / (constant + rank of d), ranks from 1 (Cormack et al., SIGIR 2009).
    ReciprocalRank {
        /// Damping; larger flattens the top.
        constant: f32,
    },
    /// score(d) = sum over rankings of weight * (s - min) / (max - min), absent counts 0 (Bruch et al.,
    /// arXiv:2210.11934). A ranking whose scores are all equal gives each of its hits 1.
    MinMax,
}

/// One ranking, best first, and its weight in the fusion (finite; 0 or less contributes nothing).
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// Share of this ranking.
    pub weight: f32,
    /// Best first, no id twice; scores finite.
    pub hits: &'a [Hit],
}

impl Fusion {
    /// The fused ranking of everything that occurs in any ranking of positive weight: score descending, then id
    /// ascending. O(n log n) in the number of hits.
    pub fn fuse(self, rankings: &[Weighted<'_>]) -> Vec<Hit> {
        let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
        for ranking in rankings.iter().filter(|ranking| ranking.weight > 0.0) {
            let (low, high) = score_range(ranking.hits);
            for (index, hit) in ranking.hits.iter().enumerate() {
                let part = match self {
                    Self::ReciprocalRank { constant } => 1.0 / (f64::from(constant) + index as f64 + 1.0),
                    Self::MinMax if high > low => (f64::from(hit.score) - low) / (high - low),
                    Self::MinMax => 1.0,
                };
                *scores.entry(&hit.id).or_default() += f64::from(ranking.weight) * part;
            }
        }
        let mut fused: Vec<(&str, f64)> = scores.into_iter().collect();
        fused.sort_unstable_by(|(left_id, left), (right_id, right)| {
            right.total_cmp(left).then_with(|| left_id.cmp(right_id))
        });
        fused.into_iter().map(|(id, score)| Hit { id: id.to_owned(), score: score as f32 }).collect()
    }
}

fn score_range(hits: &[Hit]) -> (f64, f64) {
    hits.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), hit| {
        (low.min(f64::from(hit.score)), high.max(f64::from(hit.score)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(scored: &[(&str, f32)]) -> Vec<Hit> {
        scored.iter().map(|&(id, score)| Hit { id: id.to_owned(), score }).collect()
    }

    fn ids(ranking: &[Hit]) -> Vec<&str> {
        ranking.iter().map(|hit| hit.id.as_str()).collect()
    }

    #[test]
    fn agreement_beats_a_single_first_place() {
        let first = hits(&[("a", 9.0), ("b", 8.0)]);
        let second = hits(&[("c", 0.9), ("b", 0.8)]);
        let rankings = [Weighted { weight: 1.0, hits: &first }, Weighted { weight: 1.0, hits: &second }];
        let fused = Fusion::ReciprocalRank { constant: 60.0 }.fuse(&rankings);
        assert_eq!(ids(&fused), ["b", "a", "c"]);
    }

    #[test]
    fn weights_decide_between_disjoint_rankings() {
        let (first, second) = (hits(&[("a", 1.0)]), hits(&[("b", 1.0)]));
        let rankings = [Weighted { weight: 0.2, hits: &first }, Weighted { weight: 0.8, hits: &second }];
        assert_eq!(ids(&Fusion::MinMax.fuse(&rankings)), ["b", "a"]);
    }

    #[test]
    fn a_weight_of_zero_contributes_nothing_at_all() {
        let (first, second) = (hits(&[("a", 1.0)]), hits(&[("b", 1.0)]));
        let rankings = [Weighted { weight: 1.0, hits: &first }, Weighted { weight: 0.0, hits: &second }];
        assert_eq!(ids(&Fusion::MinMax.fuse(&rankings)), ["a"]);
    }

    /// The slow twin: the definition, document by document.
    fn naive(fusion: Fusion, rankings: &[(f32, Vec<Hit>)]) -> Vec<(String, f64)> {
        let mut all: Vec<String> =
            rankings.iter().flat_map(|(_, hits)| hits).map(|hit| hit.id.clone()).collect();
        all.sort();
        all.dedup();
        let mut scored: Vec<(String, f64)> = all
            .into_iter()
            .map(|id| {
                let mut total = 0.0;
                for (weight, hits) in rankings {
                    let Some(rank) = hits.iter().position(|hit| hit.id == id) else { continue };
                    let scores: Vec<f64> = hits.iter().map(|hit| f64::from(hit.score)).collect();
                    let high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
                    total += f64::from(*weight)
                        * match fusion {
                            Fusion::ReciprocalRank { constant } => {
                                1.0 / (f64::from(constant) + (rank + 1) as f64)
                            }
                            Fusion::MinMax if high == low => 1.0,
                            Fusion::MinMax => (scores[rank] - low) / (high - low),
                        };
                }
                (id, total)
            })
            .collect();
        scored.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        scored
    }

    fn ranking() -> impl Strategy<Value = Vec<Hit>> {
        proptest::collection::btree_map("[a-f]", 0_u8..4, 0..6).prop_map(|scored| {
            let mut list: Vec<Hit> =
                scored.into_iter().map(|(id, score)| Hit { id, score: f32::from(score) }).collect();
            list.sort_by(|left, right| right.score.total_cmp(&left.score));
            list
        })
    }

    proptest! {
        #[test]
        fn equals_the_definition(rankings in proptest::collection::vec((1_u8..5, ranking()), 0..5)) {
            let owned: Vec<(f32, Vec<Hit>)> =
                rankings.into_iter().map(|(weight, hits)| (f32::from(weight) / 4.0, hits)).collect();
            let borrowed: Vec<Weighted<'_>> =
                owned.iter().map(|(weight, hits)| Weighted { weight: *weight, hits }).collect();
            for fusion in [Fusion::ReciprocalRank { constant: 60.0 }, Fusion::MinMax] {
                let fast: Vec<(String, f32)> =
                    fusion.fuse(&borrowed).into_iter().map(|hit| (hit.id, hit.score)).collect();
                let slow: Vec<(String, f32)> =
                    naive(fusion, &owned).into_iter().map(|(id, score)| (id, score as f32)).collect();
                prop_assert_eq!(fast, slow);
            }
        }
    }
}
