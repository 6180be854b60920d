//! Table A as text, Markdown and JSON.

use expect_test::expect;
use orion_eval::{TableA, TableRow, behaviour::Behaviour, significance::Comparison};

fn row(system: &str, ndcg_10: f64) -> TableRow {
    TableRow {
        system: system.to_owned(),
        is_control: true,
        ndcg_10,
        ndcg_10_spread: 0.0,
        success_10: 0.9,
        recall_100: 0.95,
        mrr: 0.7,
        retrievals: 1.0,
        tokens_prefilled: 0.0,
        tokens_decoded: 0.0,
        milliseconds: 1.25,
        queries: 300,
        degraded: 0,
        seeds: vec![1],
        against_control: None,
        behaviour: None,
    }
}

fn table() -> TableA {
    let beam = TableRow {
        is_control: false,
        ndcg_10_spread: 0.004,
        retrievals: 13.0,
        tokens_prefilled: 2410.4,
        tokens_decoded: 187.0,
        milliseconds: 912.0,
        degraded: 2,
        seeds: vec![1, 2, 3],
        against_control: Some(Comparison { difference: 0.02, p: 0.001, p_holm: 0.002 }),
        behaviour: Some(Behaviour {
            turn_wise_success: vec![0.75, 0.15, 0.1],
            rank_stagnation: 0.333,
            backtracking: 0.05,
            mean_query_words: 6.25,
            median_query_words: 6.0,
            query_words_quartiles: [2.0, 4.0, 6.0, 8.0, 12.0],
            confidence_auc: Some(0.697),
            confidence_fit: None,
            episodes: 300,
        }),
        ..row("beam", 0.751)
    };
    let lexical = TableRow {
        against_control: Some(Comparison { difference: -0.05, p: 0.004, p_holm: 0.004 }),
        ..row("lexical", 0.679)
    };
    TableA {
        dataset: "scifact".to_owned(),
        split: "test".to_owned(),
        judged_queries: 300,
        relevance_threshold: 1,
        control: Some("hybrid".to_owned()),
        rows: vec![lexical, row("hybrid", 0.731), beam],
        notes: vec!["Timed with one search at a time.".to_owned()],
    }
}

#[test]
fn text() {
    expect![[r#"
        Table A: scifact, test split, 300 judged queries

        system                      nDCG@10  Success@10  Recall@100     MRR  retrievals  tokens read  tokens written  ms/query
        ─────────────────  ────────────────  ──────────  ──────────  ──────  ──────────  ───────────  ──────────────  ────────
        lexical                    0.6790 ▼      0.9000      0.9500  0.7000         1.0            0               0       1.2
        hybrid                       0.7310      0.9000      0.9500  0.7000         1.0            0               0       1.2
        beam (2 degraded)  0.7510 ±0.0020 ▲      0.9000      0.9500  0.7000        13.0         2410             187     912.0

        ▲ ▼: nDCG@10 differs from hybrid, paired randomisation with Holm's correction, p < 0.05.
        ±: half the range over seeds.
        beam: successes first at turn 1, 2, … 75 / 15 / 10 %; rank stagnation 33 %; backtracking 5 %; 6.2 words a query (median 6); confidence tells success with AUC 0.70.
        Timed with one search at a time.
    "#]]
    .assert_eq(&table().to_text());
}

#[test]
fn markdown() {
    let markdown = table().to_markdown();
    expect![[r#"
        | system | nDCG@10 | Success@10 | Recall@100 | MRR | retrievals | tokens read | tokens written | ms/query |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
        | lexical | 0.6790 ▼ | 0.9000 | 0.9500 | 0.7000 | 1.0 | 0 | 0 | 1.2 |
    "#]]
    .assert_eq(&markdown.lines().skip(2).take(3).map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn json_holds_the_same_numbers() {
    let json = serde_json::to_string(&table()).unwrap();
    assert_eq!(serde_json::from_str::<TableA>(&json).unwrap(), table());
}
