//! Charts of a small table: which files there are, what they show, that nothing in a name can break them.

use orion_eval::behaviour::Behaviour;
use orion_eval::plots::draw;
use orion_eval::table::{TableA, TableRow};

fn row(system: &str, ndcg_10: f64, behaviour: Option<Behaviour>) -> TableRow {
    TableRow {
        system: system.to_owned(),
        is_control: behaviour.is_none(),
        ndcg_10,
        ndcg_10_spread: 0.0,
        success_10: 0.5,
        recall_100: 0.5,
        mrr: 0.5,
        retrievals: 1.0,
        tokens_prefilled: 0.0,
        tokens_decoded: 0.0,
        milliseconds: 1.0,
        queries: 2,
        degraded: 0,
        seeds: vec![1],
        against_control: None,
        behaviour,
    }
}

fn table(dataset: &str, rows: Vec<TableRow>) -> TableA {
    TableA {
        dataset: dataset.to_owned(),
        split: "dev".to_owned(),
        judged_queries: 2,
        relevance_threshold: 1,
        control: None,
        rows,
        notes: Vec::new(),
    }
}

fn moved() -> Behaviour {
    Behaviour {
        turn_wise_success: vec![0.75, 0.25],
        rank_stagnation: 0.5,
        backtracking: 0.125,
        mean_query_words: 5.0,
        median_query_words: 6.0,
        query_words_quartiles: [2.0, 4.0, 6.0, 8.0, 12.0],
        confidence_auc: None,
        confidence_fit: None,
        episodes: 2,
    }
}

#[test]
fn every_chart_shows_its_numbers_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let one = table("toy", vec![row("hybrid", 0.7301, None), row("beam@<a&b>", 0.7306, Some(moved()))]);
    let files = draw(&[one], folder.path()).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "quality.svg",
            "turn-wise-success.svg",
            "rank-stagnation.svg",
            "backtracking.svg",
            "query-length.svg"
        ]
    );
    let read = |place: usize| std::fs::read_to_string(&files[place]).unwrap();
    assert!(read(0).contains("0.7301") && read(0).contains("hybrid"));
    assert!(read(0).contains("beam@&lt;a&amp;b&gt;"), "names are escaped");
    assert!(read(1).contains("75 %") && !read(1).contains("hybrid"));
    assert!(read(2).contains("50 %"));
    assert!(read(3).contains("12 %") || read(3).contains("13 %"));
    assert!(read(4).contains('6'));
}

#[test]
fn one_shot_tables_have_quality_alone_and_sets_are_named_where_there_are_several() {
    let folder = tempfile::tempdir().unwrap();
    let tables = [table("a", vec![row("hybrid", 0.5, None)]), table("b", vec![row("hybrid", 0.25, None)])];
    let files = draw(&tables, folder.path()).unwrap();
    assert_eq!(files.len(), 1);
    let shown = std::fs::read_to_string(&files[0]).unwrap();
    assert!(shown.contains("a · hybrid") && shown.contains("b · hybrid"));
}
