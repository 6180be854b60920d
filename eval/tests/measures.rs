//! Measures equal trec_eval's on recorded cases, and a naive twin's on small random ones.

mod common;

use std::collections::BTreeMap;

use orion_eval::{
    Judgements, Measure, RankedDocument, Run,
    measures::{best_rank, evaluate, trec_order},
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    qrels: Judgements,
    run: BTreeMap<String, BTreeMap<String, f64>>,
    per_query: BTreeMap<String, BTreeMap<String, f64>>,
}

fn ranking(scores: &[(&str, f32)]) -> Vec<RankedDocument> {
    scores.iter().map(|(id, score)| RankedDocument { id: (*id).to_owned(), score: *score }).collect()
}

fn as_run(run: &BTreeMap<String, BTreeMap<String, f64>>) -> Run {
    run.iter()
        .map(|(query, documents)| {
            let ranked = documents
                .iter()
                .map(|(id, score)| RankedDocument { id: id.clone(), score: *score as f32 })
                .collect();
            (query.clone(), ranked)
        })
        .collect()
}

#[test]
fn equal_to_pytrec_eval() {
    let Some(path) = common::shared("fixtures/metrics/cases.json") else { return };
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(!fixture.cases.is_empty());
    let mut compared = 0;
    for case in &fixture.cases {
        assert!(!case.per_query.is_empty(), "{} judges nothing", case.name);
        for (query, expected) in &case.per_query {
            let measures: Vec<Measure> = expected.keys().map(|name| name.parse().unwrap()).collect();
            let evaluation = evaluate(&case.qrels, &as_run(&case.run), &measures, 1);
            for (got, (name, want)) in evaluation.per_query[query].iter().zip(expected) {
                assert!(
                    (got - want).abs() < 1e-6,
                    "{} {query} {name}: expected {want}, got {got}",
                    case.name
                );
                compared += 1;
            }
        }
    }
    assert!(100 <= compared, "{compared} values compared");
}

#[test]
fn a_query_that_the_run_lacks_counts_zero_in_the_mean() {
    let judgements = Judgements::from([
        ("answered".to_owned(), BTreeMap::from([("d".to_owned(), 1)])),
        ("lacking".to_owned(), BTreeMap::from([("d".to_owned(), 1)])),
    ]);
    let run = Run::from([
        ("answered".to_owned(), ranking(&[("d", 1.0)])),
        ("not judged".to_owned(), ranking(&[("d", 1.0)])),
    ]);
    let evaluation = evaluate(&judgements, &run, &[Measure::NdcgCut(10), Measure::Success(10)], 1);
    assert_eq!(evaluation.means(), [0.5, 0.5]);
}

#[test]
fn equal_scores_order_by_id_descending_after_rounding_to_f32() {
    let close = ranking(&[("a", 0.1 + 1e-9), ("b", 0.1), ("c", -0.0), ("d", 0.0)]);
    assert_eq!(trec_order(&close), ["b", "a", "d", "c"]);
}

#[test]
fn the_threshold_moves_binary_measures_and_leaves_gains() {
    let judgements = Judgements::from([(
        "q".to_owned(),
        BTreeMap::from([("related".to_owned(), 1), ("perfect".to_owned(), 3)]),
    )]);
    let run = Run::from([("q".to_owned(), ranking(&[("related", 2.0), ("perfect", 1.0)]))]);
    let measures = [Measure::ReciprocalRank, Measure::Recall(1), Measure::NdcgCut(10)];
    let lenient = evaluate(&judgements, &run, &measures, 1).means();
    let strict = evaluate(&judgements, &run, &measures, 2).means();
    assert_eq!((lenient[0], lenient[1]), (1.0, 0.5));
    assert_eq!((strict[0], strict[1]), (0.5, 0.0));
    assert_eq!(lenient[2], strict[2]);
    assert_eq!(best_rank(&run["q"], &judgements["q"], 2), Some(2));
}

#[test]
fn names_round_trip_and_nonsense_is_refused() {
    for name in ["map", "recip_rank", "P_10", "recall_100", "ndcg", "ndcg_cut_10", "success_10"] {
        assert_eq!(name.parse::<Measure>().unwrap().to_string(), name);
    }
    for name in ["", "MAP", "P_0", "P_", "ndcg_10", "success_-1"] {
        let error = name.parse::<Measure>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("parsing measure `{name}`: expected map")), "{error}");
    }
}

/// Straight from the definitions, no cleverness: sorts pairs by repeated search for the greatest.
fn naive_ndcg(ranking: &[RankedDocument], grades: &BTreeMap<String, i32>, cut: usize) -> f64 {
    let mut left = ranking.to_vec();
    let mut dcg = 0.0;
    for rank in 1..=cut.min(ranking.len()) {
        let mut best = 0;
        for candidate in 1..left.len() {
            let (a, b) = (&left[candidate], &left[best]);
            if b.score < a.score || (a.score == b.score && b.id < a.id) {
                best = candidate;
            }
        }
        let grade = grades.get(&left.remove(best).id).copied().unwrap_or(0).max(0);
        dcg += f64::from(grade) / (rank as f64 + 1.0).log2();
    }
    let mut ideal: Vec<i32> = grades.values().map(|grade| (*grade).max(0)).collect();
    ideal.sort_unstable();
    ideal.reverse();
    let best: f64 =
        (1..=cut.min(ideal.len())).map(|r| f64::from(ideal[r - 1]) / (r as f64 + 1.0).log2()).sum();
    if best == 0.0 { 0.0 } else { dcg / best }
}

proptest! {
    #[test]
    fn ndcg_equals_its_naive_twin(
        scores in prop::collection::btree_map("[a-h]", 0_u8..4, 0..8),
        grades in prop::collection::btree_map("[a-h]", -1_i32..4, 0..8),
        cut in 1_u32..10,
    ) {
        let ranked: Vec<RankedDocument> =
            scores.iter().map(|(id, score)| RankedDocument { id: id.clone(), score: f32::from(*score) }).collect();
        let judgements = Judgements::from([("q".to_owned(), grades.clone())]);
        let run = Run::from([("q".to_owned(), ranked.clone())]);
        let got = evaluate(&judgements, &run, &[Measure::NdcgCut(cut)], 1).means()[0];
        prop_assert!((got - naive_ndcg(&ranked, &grades, cut as usize)).abs() < 1e-12);
        prop_assert!((0.0..=1.0 + 1e-12).contains(&got));
    }
}
