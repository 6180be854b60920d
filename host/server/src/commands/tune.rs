//! `orion index tune`: the weight of the dense half that does best on judged queries of a dev split.
//!
//! A test split is refused: a weight chosen on it would make every number measured on it worthless.

use std::{collections::BTreeMap, path::Path};

use orion_eval::{Dataset, Judgements, Measure, RankedDocument, Run, measures::evaluate};
use orion_host::index::{Hit, Relevance, Tuned, tune};

use super::Session;
use crate::{
    Verdict,
    engine::Engine,
    failure::{Explain, Failure},
    lexical_only::OWN_VECTORS,
    places::IndexName,
    terminal::Ink,
};

/// Depth of the rankings that are measured: nDCG@10 looks no deeper.
const K: usize = 10;

pub(super) fn run(name: &IndexName, data: &Path, split: &str, session: &Session) -> Result<Verdict, Failure> {
    if split.contains("test") {
        return Err(Failure::new(format!(
            "tuning on split `{split}`: expected a dev or train split, got a test split"
        ))
        .hint("numbers measured on a split that was tuned on mean nothing; --split dev is the default"));
    }
    let dataset = Dataset::open(data)?;
    let queries: BTreeMap<String, String> =
        dataset.split_queries(split)?.into_iter().map(|query| (query.id, query.text)).collect();
    let judgements = dataset.judgements(split)?;
    let threshold = dataset.relevance_threshold();
    let engine = Engine::new(session, &[])?;
    let index = engine.open_index(name)?;
    let searcher = index.searcher();
    if !searcher.can_encode() {
        let got = searcher.client_half().map_or("lexical only", |_| OWN_VECTORS);
        return Err(Failure::new(format!("tuning index `{name}`: expected both halves, got: {got}"))
            .hint("without vectors and an encoder there is nothing to weigh"));
    }
    session.terminal.say(&format!("searching both halves for {} queries", queries.len()));
    let measure = |ranking: &[Hit], relevance: &Relevance| ndcg_10(ranking, relevance, threshold);
    let tuned =
        tune(&searcher, &queries, &judgements, K, &measure).attempt(format!("tuning index `{name}`"))?;
    print(&tuned, session)?;
    session.terminal.say(&format!(
        "orion search … --index {name} --strategy hybrid --param dense-weight={:.2} uses it",
        tuned.dense_weight
    ));
    Ok(Verdict::Answered)
}

fn ndcg_10(ranking: &[Hit], relevance: &Relevance, threshold: i32) -> f64 {
    let only = String::new();
    let ranked = ranking.iter().map(|hit| RankedDocument { id: hit.id.clone(), score: hit.score }).collect();
    let run = Run::from([(only.clone(), ranked)]);
    let judgements = Judgements::from([(only, relevance.clone())]);
    evaluate(&judgements, &run, &[Measure::NdcgCut(10)], threshold).means()[0]
}

fn print(tuned: &Tuned, session: &Session) -> Result<(), Failure> {
    if session.terminal.json {
        let curve: Vec<serde_json::Value> = tuned
            .curve
            .iter()
            .map(|(weight, value)| serde_json::json!({ "dense_weight": weight, "ndcg_cut_10": value }))
            .collect();
        session.terminal.print_json(&serde_json::json!({
            "dense_weight": tuned.dense_weight,
            "ndcg_cut_10": tuned.value,
            "lexical": tuned.lexical,
            "dense": tuned.dense,
            "reciprocal_rank": tuned.reciprocal_rank,
            "queries": tuned.queries,
            "curve": curve,
        }))?;
        return Ok(());
    }
    let mut text = format!("{:<16} nDCG@10 over {} queries\n", "fusion", tuned.queries);
    let alone =
        [("lexical", tuned.lexical), ("dense", tuned.dense), ("reciprocal rank", tuned.reciprocal_rank)];
    for (label, value) in alone {
        text.push_str(&format!("{label:<16} {value:.4}\n"));
    }
    for (weight, value) in &tuned.curve {
        let line = format!("{:<16} {value:.4}", format!("convex {weight:.2}"));
        if *weight == tuned.dense_weight {
            text.push_str(&format!("{}  best\n", session.terminal.ink(Ink::Good, &line)));
        } else {
            text.push_str(&format!("{line}\n"));
        }
    }
    session.terminal.print(&text)
}
