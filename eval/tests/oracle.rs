//! Table B: where an oracle ends a search, and both normalisations of nDCG.

use std::collections::BTreeMap;

use expect_test::expect;
use orion_eval::{
    Look, OracleRow, TableB,
    oracle::{Stopped, stop},
};

fn ids(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn look(turn: u32, hits: &str) -> Look {
    Look { turn, hits: ids(hits) }
}

fn grades() -> BTreeMap<String, i32> {
    BTreeMap::from([("good".to_owned(), 1), ("fair".to_owned(), 1), ("bad".to_owned(), 0)])
}

#[test]
fn the_first_turn_with_a_judged_document_ends_a_search() {
    let looks = [look(0, "a bad"), look(1, "a b good"), look(1, "a good"), look(2, "good fair")];
    let stopped = stop(&looks, &ids("good fair"), &grades(), 1);
    // The better look of turn 1: one of two relevant documents, at rank 2.
    let gain = 1.0 / 3_f64.log2();
    let ideal = 1.0 + 1.0 / 3_f64.log2();
    assert!((stopped.ndcg_10 - gain / ideal).abs() < 1e-12, "{stopped:?}");
    assert!((stopped.ndcg_10_of_retrieved - gain).abs() < 1e-12, "{stopped:?}");
    assert_eq!((stopped.success_10, stopped.mrr), (1.0, 0.5));
    assert_eq!((stopped.turns, stopped.looks), (2.0, 3.0));
}

#[test]
fn a_search_that_never_succeeds_keeps_its_own_answer() {
    let looks = [look(0, "a b"), look(1, "c bad")];
    let stopped = stop(&looks, &ids("a b c bad"), &grades(), 1);
    assert_eq!((stopped.ndcg_10, stopped.ndcg_10_of_retrieved, stopped.success_10), (0.0, 0.0, 0.0));
    assert_eq!((stopped.turns, stopped.looks), (2.0, 2.0));
    // Fusion may bring up what no look had among its first ten.
    assert_eq!(stop(&looks, &ids("good a"), &grades(), 1).success_10, 1.0);
}

#[test]
fn the_eleventh_hit_ends_nothing() {
    let late = look(0, "1 2 3 4 5 6 7 8 9 10 good");
    let stopped = stop(&[late], &ids("1"), &grades(), 1);
    assert_eq!(stopped.success_10, 0.0);
    assert_eq!(stop(&[], &[], &grades(), 1).turns, 0.0);
}

#[test]
fn a_higher_threshold_asks_for_better_documents() {
    let graded = BTreeMap::from([("fair".to_owned(), 1), ("good".to_owned(), 2)]);
    let looks = [look(0, "fair"), look(1, "a good")];
    let stopped = stop(&looks, &ids("fair"), &graded, 2);
    assert_eq!((stopped.turns, stopped.mrr), (2.0, 0.5));
}

#[test]
fn says_what_it_is() {
    let row = OracleRow {
        system: "blind".to_owned(),
        means: Stopped {
            ndcg_10: 0.71,
            ndcg_10_of_retrieved: 0.74,
            success_10: 0.9,
            mrr: 0.68,
            turns: 1.4,
            looks: 2.1,
        },
        honest_ndcg_10: 0.65,
        seeds: vec![1],
        against_control: None,
    };
    let table = TableB {
        dataset: "scifact".to_owned(),
        split: "test".to_owned(),
        judged_queries: 300,
        relevance_threshold: 1,
        control: None,
        rows: vec![row],
    };
    expect![[r#"
        Table B, paper protocol (oracle stop): scifact, test split, 300 judged queries

        system  nDCG@10  nDCG@10 of retrieved  Success@10     MRR  turns  retrievals  nDCG@10 without oracle
        ──────  ───────  ────────────────────  ──────────  ──────  ─────  ──────────  ──────────────────────
        blind    0.7100                0.7400      0.9000  0.6800    1.4         2.1                  0.6500

        The judgements end each search at its first turn with a relevant document among ten: no user gets this. The first nDCG@10 takes its ideal from all judgements, the second from the ten alone.
    "#]]
    .assert_eq(&table.to_text());
    assert!(table.to_markdown().contains("| blind | 0.7100 | 0.7400 |"), "{}", table.to_markdown());
}
