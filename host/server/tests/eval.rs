//! `orion eval` on the bundled corpus, lexical only: runs before judgements, resumable, same numbers in every form.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::Sandbox;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn corpus() -> String {
    repository().join("corpus").display().to_string()
}

fn table(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("Table A as JSON")
}

fn files(folder: &Path, ending: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .expect("the run folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a file"))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn text_and_json_hold_the_same_numbers() {
    let sandbox = Sandbox::new();
    let data = corpus();
    let arguments = [
        "eval",
        "--data",
        &data,
        "--split",
        "dev",
        "--strategy",
        "lexical,beam@none",
        "--limit-queries",
        "8",
        "--quiet",
    ];
    let text = sandbox.answered(&arguments);
    let json = table(&sandbox.answered(&[&arguments[..], &["--json"]].concat()));
    assert_eq!(json["judged_queries"], 8);
    for row in json["rows"].as_array().expect("rows") {
        let line = text
            .lines()
            .find(|line| line.starts_with(row["system"].as_str().expect("a name")))
            .expect("a row");
        for measure in ["ndcg_10", "success_10", "recall_100", "mrr"] {
            let shown = format!("{:.4}", row[measure].as_f64().expect("a number"));
            assert!(line.contains(&shown), "{measure} {shown}: {line}");
        }
    }
    assert_eq!(json["rows"][1]["degraded"], 8, "beam without a policy gives way every time");
    let per_query =
        fs::read_to_string(sandbox.path().join("data/runs/corpus-dev/per-query.tsv")).expect("a file");
    assert_eq!(per_query.lines().count(), 1 + 2 * 8);
}

/// Rankings made beside judgements that say the opposite are the same bytes: no judgement reaches a run.
#[test]
fn runs_do_not_depend_on_judgements() {
    let sandbox = Sandbox::new();
    for name in ["corpus.jsonl", "queries.jsonl"] {
        let text = fs::read_to_string(repository().join("corpus").join(name)).expect("the bundled corpus");
        sandbox.write(&format!("set/{name}"), &text);
    }
    let judged = fs::read_to_string(repository().join("corpus/qrels/dev.tsv")).expect("judgements");
    let queries: Vec<&str> = judged.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    let runs = |grades: &dyn Fn(&str) -> String, out: &str| {
        let lines: String = queries.iter().map(|query| grades(query)).collect();
        sandbox.write("set/qrels/dev.tsv", &format!("query-id\tcorpus-id\tscore\n{lines}"));
        let arguments = [
            "eval",
            "--data",
            "set",
            "--split",
            "dev",
            "--strategy",
            "lexical",
            "--run-only",
            "--limit-queries",
            "6",
            "--out",
            out,
        ];
        sandbox.answered(&arguments);
        files(&sandbox.path().join(out), "trec")
    };
    let one = runs(&|query| format!("{query}\tisles-overview\t2\n"), "one");
    let other = runs(&|query| format!("{query}\tno-such-document\t-3\n"), "other");
    assert_eq!(one.len(), 1);
    assert_eq!(one, other);
    assert!(!sandbox.path().join("one/table.json").exists(), "--run-only scores nothing");
}

#[test]
fn a_stopped_evaluation_goes_on() {
    let sandbox = Sandbox::new();
    let data = corpus();
    let run = |limit: &str| {
        let arguments = [
            "eval",
            "--data",
            &data,
            "--split",
            "dev",
            "--strategy",
            "lexical",
            "--out",
            "out",
            "--limit-queries",
            limit,
            "--json",
        ];
        table(&sandbox.answered(&arguments))
    };
    run("3");
    let journal = sandbox.path().join("out/lexical.seed1.jsonl");
    let first = fs::read_to_string(&journal).expect("a journal");
    assert_eq!(run("5")["judged_queries"], 5);
    let second = fs::read_to_string(&journal).expect("a journal");
    assert!(second.starts_with(&first), "answers that are there are kept");
    assert_eq!(second.lines().count(), 1 + 5);

    let other = sandbox.run(&[
        "eval",
        "--data",
        &data,
        "--split",
        "dev",
        "--strategy",
        "lexical",
        "--out",
        "out",
        "--k",
        "20",
    ]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("hint: --fresh answers all queries anew"), "{}", other.stderr);
}

#[test]
fn floors_decide_the_exit_code() {
    let sandbox = Sandbox::new();
    let data = corpus();
    let base = [
        "eval",
        "--data",
        &data,
        "--split",
        "dev",
        "--strategy",
        "lexical",
        "--limit-queries",
        "6",
        "--quiet",
    ];
    assert_eq!(sandbox.run(&[&base[..], &["--floor", "success_10=0"]].concat()).code, 0);
    assert_eq!(sandbox.run(&[&base[..], &["--floor", "P_10=1", "--score-only"]].concat()).code, 1);
    assert_eq!(sandbox.run(&[&base[..], &["--floor", "beauty=1"]].concat()).code, 2);
}

#[test]
fn the_control_is_marked_and_may_come_from_another_split() {
    let sandbox = Sandbox::new();
    let data = corpus();
    let rows = "lexical,hybrid";
    sandbox.answered(&[
        "eval",
        "--data",
        &data,
        "--split",
        "dev",
        "--strategy",
        rows,
        "--limit-queries",
        "6",
        "--out",
        "dev",
    ]);
    let test = table(&sandbox.answered(&[
        "eval",
        "--data",
        &data,
        "--split",
        "test",
        "--strategy",
        rows,
        "--limit-queries",
        "6",
        "--control-from",
        "dev",
        "--json",
    ]));
    assert_eq!(test["control"], "lexical", "of equal controls the first");
    assert!(test["rows"][0]["against_control"].is_null());
    assert_eq!(test["rows"][1]["against_control"]["p_holm"], 1.0);
    let absent = sandbox.run(&["eval", "--data", &data, "--strategy", "lexical", "--control", "dense"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("hint: add it: --strategy dense,lexical"), "{}", absent.stderr);
}

/// One look a query: the oracle stops at it or keeps it, so both tables agree; and the searches are the same bytes.
#[test]
fn the_papers_protocol_is_read_off_the_same_searches() {
    let sandbox = Sandbox::new();
    let data = corpus();
    let common = [
        "eval",
        "--data",
        &data,
        "--split",
        "dev",
        "--strategy",
        "lexical",
        "--limit-queries",
        "8",
        "--json",
    ];
    let honest = table(&sandbox.answered(&[&common[..], &["--out", "honest"]].concat()));
    let stopped = table(&sandbox.answered(&[&common[..], &["--out", "paper", "--paper-protocol"]].concat()));
    let (honest_row, row) = (&honest["rows"][0], &stopped["rows"][0]);
    assert_eq!(row["ndcg_10"], honest_row["ndcg_10"]);
    assert_eq!(row["honest_ndcg_10"], honest_row["ndcg_10"]);
    assert_eq!(row["success_10"], honest_row["success_10"]);
    assert_eq!((row["turns"].as_f64(), row["looks"].as_f64()), (Some(1.0), Some(1.0)));
    assert!(row["ndcg_10_of_retrieved"].as_f64() >= row["ndcg_10"].as_f64());
    let (honest_runs, paper_runs) =
        (files(&sandbox.path().join("honest"), "trec"), files(&sandbox.path().join("paper"), "trec"));
    assert_eq!(honest_runs, paper_runs);
    assert!(sandbox.path().join("paper/table-b.md").exists());

    let refused = sandbox.run(
        &[&common[..9], &["--strategy", "blind", "--param", "retriever=hybrid", "--paper-protocol"]].concat(),
    );
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("expected `dense`, got `hybrid`"), "{}", refused.stderr);
}
