//! The dense weight of the convex fusion, chosen on queries with known answers.
//!
//! Both halves are searched once for each query; every weight of the grid then only fuses again. The measure comes in
//! as a function: this crate knows no judgements outside this call.

use crate::error::{IndexError, Result};
use crate::fusion::{FUSION_DEPTH, Fusion, fuse};
use crate::searcher::{Hit, Mode, Query, Searcher};
use std::collections::BTreeMap;

/// Judgements of one query: document id to grade.
pub type Relevance = BTreeMap<String, i32>;

/// What tuning found; all values are means of the measure over the queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The chosen weight: the smallest of those with the best value.
    pub dense_weight: f32,
    /// Its value.
    pub value: f64,
    /// The lexical half alone.
    pub lexical: f64,
    /// The dense half alone.
    pub dense: f64,
    /// Reciprocal rank fusion with its usual constant, 60.
    pub reciprocal_rank: f64,
    /// Every weight of the grid with its value.
    pub curve: Vec<(f32, f64)>,
    /// How many queries were judged, and so counted.
    pub queries: usize,
}

/// Steps of the grid between 0 and 1; finer ones choose by noise on dev splits of hundreds of queries.
const GRID_STEPS: u16 = 20;
/// Queries searched together: bounds memory at depth 1000.
const BATCH: usize = 64;

/// Chooses the weight for `queries` (id to text) that have judgements in `relevance` (query id to judgements).
/// `measure` gets one fused ranking and the query's judgements; it is called on the best `k`.
pub fn tune(
    searcher: &Searcher,
    queries: &BTreeMap<String, String>,
    relevance: &BTreeMap<String, Relevance>,
    k: usize,
    measure: &dyn Fn(&[Hit], &Relevance) -> f64,
) -> Result<Tuned> {
    let judged: Vec<(&str, &Relevance)> =
        queries.iter().filter_map(|(id, text)| Some((text.as_str(), relevance.get(id)?))).collect();
    if judged.is_empty() {
        return Err(IndexError::Invalid {
            what: "tuning queries",
            expected: "at least one query with judgements".to_owned(),
            got: format!("{} queries, none of them judged", queries.len()),
        });
    }
    let weights: Vec<f32> = (0..=GRID_STEPS).map(|step| f32::from(step) / f32::from(GRID_STEPS)).collect();
    let mut sums = vec![0.0; weights.len()];
    let (mut lexical_sum, mut dense_sum, mut rank_sum) = (0.0, 0.0, 0.0);
    for batch in judged.chunks(BATCH) {
        let ask = |mode| -> Result<Vec<Vec<Hit>>> {
            let queries: Vec<Query> =
                batch.iter().map(|(text, _)| Query { k: FUSION_DEPTH, ..Query::new(*text, mode) }).collect();
            searcher.search(&queries)
        };
        let (lexical, dense) = (ask(Mode::Lexical)?, ask(Mode::Dense)?);
        for ((&(_, judgements), lexical), dense) in batch.iter().zip(&lexical).zip(&dense) {
            lexical_sum += measure(&lexical[..k.min(lexical.len())], judgements);
            dense_sum += measure(&dense[..k.min(dense.len())], judgements);
            rank_sum += measure(&fuse(lexical, dense, Fusion::default(), k), judgements);
            for (sum, &dense_weight) in sums.iter_mut().zip(&weights) {
                *sum += measure(&fuse(lexical, dense, Fusion::Convex { dense_weight }, k), judgements);
            }
        }
    }
    let count = judged.len() as f64;
    let curve: Vec<(f32, f64)> = weights.into_iter().zip(sums.into_iter().map(|sum| sum / count)).collect();
    let mut best = curve[0];
    for &point in &curve {
        if best.1 < point.1 {
            best = point;
        }
    }
    Ok(Tuned {
        dense_weight: best.0,
        value: best.1,
        lexical: lexical_sum / count,
        dense: dense_sum / count,
        reciprocal_rank: rank_sum / count,
        curve,
        queries: judged.len(),
    })
}
