//! What one lexical and one dense ranking of the same query say about it: signals for choosing a retriever's share and
//! for telling a weak answer from a good one, without any judgement.
//!
//! Post-retrieval predictors of the usual kind (see Carmel and Yom-Tov, "Estimating the Query Difficulty for Information
//! Retrieval", 2010): how high the best scores are, how fast they fall, how far two retrievers agree. `router` and `auto`
//! read them; `orion-train router` fits the coefficients of [`logistic`] models over them.

use crate::fusion::{Fusion, Weighted};
use crate::parameters::Coefficients;
use crate::text::words;
use crate::{Error, Hit, Host, Query, Request, Retriever};

/// How many signals there are, the constant one included.
pub const SIGNALS: usize = 13;

/// Names of the signals, in order.
pub const NAMES: [&str; SIGNALS] = [
    "constant",
    "words",
    "dense-top",
    "dense-lead",
    "dense-fall",
    "lexical-top-per-word",
    "lexical-lead",
    "lexical-fall",
    "overlap",
    "dense-first-in-lexical",
    "lexical-first-in-dense",
    "same-first",
    "lexical-matches",
];

/// The dense share of a query's hybrid ranking. Fitted by `orion-train router` on the training queries of scifact and the
/// dev split of fm2, whose licences permit shipping: `trainer/LOG.md` has the run.
pub const DENSE_SHARE: Coefficients<SIGNALS> = Coefficients {
    name: "share-model",
    default: [
        11.7678, -1.4351, 6.0199, -9.4643, 7.7743, -2.7124, 2.4103, -5.2194, 1.0872, -0.0636, -0.6881,
        0.3540, -8.4765,
    ],
    help: "model of the dense share, as `orion-train router` prints it",
};

/// How likely no judged document is among the first ten of the ranking with even shares. Fitted in the same run.
pub const WEAKNESS: Coefficients<SIGNALS> = Coefficients {
    name: "weakness-model",
    default: [
        3.8861, -0.4948, -0.8490, -2.7543, -6.2747, -1.0646, -0.2801, -2.4436, -1.2818, -0.7541, -0.6610,
        1.1157, -0.3233,
    ],
    help: "model of how likely the first ranking misses, as `orion-train router` prints it",
};

/// Depth of both rankings: that of the index's own fusion.
const DEPTH: u32 = 1000;

/// Ranks at which scores are compared and overlaps counted.
const CUT: usize = 10;

/// The user's own query, looked up lexically and densely, and fused.
#[derive(Clone, Debug)]
pub struct Routed {
    /// Best first, as deep as both rankings together.
    pub fused: Vec<Hit>,
    /// Best first.
    pub lexical: Vec<Hit>,
    /// Best first.
    pub dense: Vec<Hit>,
    /// In [0, 1].
    pub dense_share: f32,
    /// What both rankings say of the query.
    pub signals: [f32; SIGNALS],
}

/// Looks the user's query up by both retrievers and fuses as the index does for hybrid queries, by the share that
/// `choose` makes of the signals. Two retrievals.
///
/// # Errors
/// Those of [`Host::search`].
pub fn route(
    host: &mut impl Host,
    request: &Request,
    choose: impl FnOnce(&[f32; SIGNALS]) -> f32,
) -> Result<Routed, Error> {
    let depth = DEPTH.max(request.k);
    let query = |retriever| Query::new(&request.query, retriever, f32::NAN, depth);
    let mut rankings = host.search(&[query(Retriever::Lexical), query(Retriever::Dense)])?.into_iter();
    let lexical = rankings.next().unwrap_or_default();
    let dense = rankings.next().unwrap_or_default();
    let seen = signals(&request.query, &lexical, &dense);
    let dense_share = choose(&seen);
    let fused = Fusion::MinMax.fuse(&[
        Weighted { weight: 1.0 - dense_share, hits: &lexical },
        Weighted { weight: dense_share, hits: &dense },
    ]);
    Ok(Routed { fused, lexical, dense, dense_share, signals: seen })
}

/// The signals of a query under its lexical and dense rankings, each best first; all finite. Rankings should have the
/// same depth for every query of one model (the standard ones use 1000). O(hits).
pub fn signals(query: &str, lexical: &[Hit], dense: &[Hit]) -> [f32; SIGNALS] {
    let query_words = words(query).len() as f32;
    let (lexical_first, lexical_second, lexical_tenth) = landmarks(lexical);
    let (dense_first, dense_second, dense_tenth) = landmarks(dense);
    let relative = |fall: f32| if lexical_first > 0.0 { fall / lexical_first } else { 0.0 };
    let head = |hits: &[Hit]| hits.len().min(CUT);
    let overlap = lexical[..head(lexical)]
        .iter()
        .filter(|hit| dense[..head(dense)].iter().any(|other| other.id == hit.id));
    let same_first =
        matches!((lexical.first(), dense.first()), (Some(left), Some(right)) if left.id == right.id);
    [
        1.0,
        query_words.ln_1p(),
        dense_first,
        dense_first - dense_second,
        dense_first - dense_tenth,
        lexical_first / query_words.max(1.0) / 3.0,
        relative(lexical_first - lexical_second),
        relative(lexical_first - lexical_tenth),
        overlap.count() as f32 / CUT as f32,
        nearness(dense.first(), lexical),
        nearness(lexical.first(), dense),
        f32::from(u8::from(same_first)),
        (lexical.len() as f32).ln_1p() / 7.0,
    ]
}

/// Scores at the first, second and tenth rank; a ranking that ends earlier has its last score there, an empty one 0.
fn landmarks(hits: &[Hit]) -> (f32, f32, f32) {
    let at = |rank: usize| hits.get(rank.min(hits.len().saturating_sub(1))).map_or(0.0, |hit| hit.score);
    (at(0), at(1), at(CUT - 1))
}

/// 1 / log2(1 + rank) of a document in a ranking, ranks from 1; 0 where it is not there.
fn nearness(hit: Option<&Hit>, ranking: &[Hit]) -> f32 {
    let place = hit.and_then(|hit| ranking.iter().position(|other| other.id == hit.id));
    place.map_or(0.0, |place| 1.0 / (place as f32 + 2.0).log2())
}

/// A logistic model over the signals: 1 / (1 + exp(-w x)), in (0, 1).
pub fn logistic(coefficients: &[f32; SIGNALS], signals: &[f32; SIGNALS]) -> f32 {
    let sum: f32 = coefficients.iter().zip(signals).map(|(weight, signal)| weight * signal).sum();
    1.0 / (1.0 + (-sum).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(scores: &[(&str, f32)]) -> Vec<Hit> {
        scores.iter().map(|(id, score)| Hit { id: (*id).to_owned(), score: *score }).collect()
    }

    #[test]
    fn signals_are_what_their_names_say() {
        let lexical = ranking(&[("a", 8.0), ("b", 6.0), ("c", 2.0)]);
        let dense = ranking(&[("b", 0.75), ("a", 0.5), ("d", 0.25)]);
        let seen = signals("two words", &lexical, &dense);
        let log3 = 3.0_f32.ln();
        let second = 1.0 / 3.0_f32.log2();
        let expected =
            [1.0, log3, 0.75, 0.25, 0.5, 8.0 / 6.0, 0.25, 0.75, 0.2, second, second, 0.0, 4.0_f32.ln() / 7.0];
        for ((name, seen), expected) in NAMES.iter().zip(seen).zip(expected) {
            assert!((seen - expected).abs() < 1e-6, "{name}: {seen} is not {expected}");
        }
    }

    #[test]
    fn empty_rankings_and_queries_give_finite_signals() {
        assert!(signals("", &[], &[]).iter().all(|signal| signal.is_finite()));
        let zero = ranking(&[("a", 0.0)]);
        assert!(signals("?", &zero, &zero).iter().all(|signal| signal.is_finite()));
    }

    #[test]
    fn the_logistic_model_is_even_at_zero_and_follows_its_weights() {
        let mut coefficients = [0.0; SIGNALS];
        let seen = signals("a", &[], &[]);
        assert!((logistic(&coefficients, &seen) - 0.5).abs() < f32::EPSILON);
        coefficients[0] = 2.0;
        assert!(0.88 < logistic(&coefficients, &seen) && logistic(&coefficients, &seen) < 0.89);
    }
}
