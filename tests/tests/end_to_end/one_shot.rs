//! Strategies that search once, and what holds for every bundled strategy.

use std::collections::BTreeSet;

use orion_eval::{Dataset, Measure, RankedDocument, Run};
use orion_host::Request;

use crate::world::World;

const QUERY: &str = "machine that predicts high water with brass pulleys";

#[test]
fn every_bundled_strategy_answers() {
    let Some(world) = World::get() else { return };
    let known: BTreeSet<String> = world.searcher.ids().into_iter().collect();
    for component in orion_bundle::components() {
        let outcome = world.search(component.name, Request::new(QUERY, 10));
        let name = component.name;
        assert_eq!(outcome.degraded, None, "{name}");
        assert_eq!(outcome.trace.strategy, name);
        assert!((1..=10).contains(&outcome.ranking.len()), "{name}: {} hits", outcome.ranking.len());
        let ids: BTreeSet<&String> = outcome.ranking.iter().map(|hit| &hit.id).collect();
        assert_eq!(ids.len(), outcome.ranking.len(), "{name} repeats a document");
        assert!(ids.iter().all(|id| known.contains(*id)), "{name} names a stranger");
        assert!(outcome.cost.retrievals >= 1, "{name} looked nothing up");
    }
}

#[test]
fn a_filter_holds_whatever_the_strategy_asks() {
    let Some(world) = World::get() else { return };
    let allowed: BTreeSet<String> =
        world.plain(QUERY, 1000, Some("island:Vell")).into_iter().map(|hit| hit.id).collect();
    assert!((1..100).contains(&allowed.len()), "{} passages are about Vell", allowed.len());
    for component in orion_bundle::components() {
        let request = Request { filter: Some("island:Vell".into()), ..Request::new(QUERY, 10) };
        let outcome = world.search(component.name, request);
        assert_eq!(outcome.degraded, None, "{}", component.name);
        let foreign: Vec<_> = outcome.ranking.iter().filter(|hit| !allowed.contains(&hit.id)).collect();
        assert!(foreign.is_empty(), "{}: {foreign:?}", component.name);
    }
}

#[test]
fn the_hybrid_component_adds_nothing_to_the_index() {
    let Some(world) = World::get() else { return };
    let options = vec![("fusion".to_owned(), "rrf".to_owned())];
    let outcome = world.search("hybrid", Request { options, ..Request::new(QUERY, 10) });
    assert_eq!(outcome.ranking, world.plain(QUERY, 10, None));
}

/// nDCG@10 of a strategy on all judged queries of one kind, through the same run and measure as `orion eval`.
fn ndcg(world: &World, strategy: &str, kind: &str) -> f64 {
    let dataset = Dataset::open(&orion_tests::corpus()).expect("the bundled corpus");
    let lines = std::fs::read_to_string(orion_tests::corpus().join("queries.jsonl")).expect("its queries");
    let of_kind: BTreeSet<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|query| query["metadata"]["kind"] == kind)
        .map(|query| query["_id"].as_str().expect("an id").to_owned())
        .collect();
    let mut judgements = dataset.judgements("test").expect("a test split");
    judgements.retain(|id, _| of_kind.contains(id));
    let queries = dataset.split_queries("test").expect("its queries");
    let run: Run = queries
        .into_iter()
        .filter(|query| of_kind.contains(&query.id))
        .map(|query| {
            let hits = world.search(strategy, Request::new(query.text, 10)).ranking;
            let ranked = hits.into_iter().map(|hit| RankedDocument { id: hit.id, score: hit.score });
            (query.id, ranked.collect())
        })
        .collect();
    let evaluation = orion_eval::measures::evaluate(&judgements, &run, &[Measure::NdcgCut(10)], 1);
    evaluation.means()[0]
}

#[test]
fn direct_queries_are_easy_and_misleading_ones_are_not() {
    let Some(world) = World::get() else { return };
    let (direct, misleading) = (ndcg(world, "lexical", "direct"), ndcg(world, "lexical", "misleading"));
    assert!(direct > 0.85, "direct: {direct:.3}");
    assert!(misleading < direct - 0.15, "misleading: {misleading:.3}, direct: {direct:.3}");
}
