//! `orion data import`: sets of other layouts, what is refused, and that `orion eval` takes what comes out.

use std::fs;

use expect_test::expect;

use crate::common::Sandbox;

/// A task of BRIGHT whose first question must not be answered with its own page, and whose page is the best match.
fn bright(sandbox: &Sandbox) {
    sandbox.write(
        "BRIGHT/documents/islands.jsonl",
        concat!(
            r#"{"id": "own page.txt", "content": "What is the lens of the reef made of? I wonder what lens it is."}"#,
            "\n",
            r#"{"id": "ice.txt", "content": "The lens of the reef is made of ice."}"#,
            "\n",
            r#"{"id": "ray.txt", "content": "A ray goes through the gap at noon."}"#,
            "\n",
        ),
    );
    sandbox.write(
        "BRIGHT/examples/islands.jsonl",
        concat!(
            r#"{"id": "0", "query": "what is the lens of the reef made of", "gold_ids": ["ice.txt"], "#,
            r#""gold_ids_long": ["N/A"], "excluded_ids": ["own page.txt"], "gold_answer": "ice"}"#,
            "\n",
            r#"{"id": "1", "query": "when does the ray come", "gold_ids": ["ray.txt"], "excluded_ids": ["N/A"]}"#,
            "\n",
        ),
    );
}

const BRIGHT: [&str; 8] =
    ["data", "import", "bright", "BRIGHT", "--task", "islands", "--out", "sets/islands"];

#[test]
fn a_task_of_bright_is_evaluated_without_what_it_excludes() {
    let sandbox = Sandbox::new();
    bright(&sandbox);
    let printed = sandbox.run(&BRIGHT);
    assert_eq!(printed.code, 0, "{printed:?}");
    expect![[r#"
        sets/islands  3 documents, 2 judged queries, 2 judgements, 1 exclusion
    "#]]
    .assert_eq(&printed.stdout);
    expect![[r#"
        importing islands
        orion eval --data sets/islands measures on it
    "#]]
    .assert_eq(&printed.stderr);
    let read = |name: &str| fs::read_to_string(sandbox.path().join("sets/islands").join(name)).unwrap();
    assert_eq!(read("excluded/test.tsv"), "query-id\tcorpus-id\n0\town_page.txt\n");

    let eval =
        ["eval", "--data", "sets/islands", "--strategy", "lexical", "--out", "run", "--k", "1", "--json"];
    let table: serde_json::Value = serde_json::from_str(&sandbox.answered(&eval)).unwrap();
    assert_eq!(table["rows"][0]["success_10"], 1.0, "{table}");
    let notes = table["notes"].to_string();
    assert!(notes.contains("left out of the rankings of 1 queries"), "{notes}");
    // The ranking of the first question was as much longer, and its best document is the one that does not count.
    let run = fs::read_to_string(sandbox.path().join("run/lexical.seed1.trec")).unwrap();
    let ranked: Vec<(&str, &str)> = run
        .lines()
        .filter_map(|line| line.split_once(" Q0 "))
        .map(|(query, rest)| (query, rest.split(' ').next().unwrap()))
        .collect();
    assert_eq!(ranked, [("0", "own_page.txt"), ("0", "ice.txt"), ("1", "ray.txt")]);
    fs::remove_file(sandbox.path().join("sets/islands/excluded/test.tsv")).unwrap();
    let without = [&eval[..], &["--score-only"]].concat();
    let table: serde_json::Value = serde_json::from_str(&sandbox.answered(&without)).unwrap();
    assert_eq!(table["rows"][0]["mrr"], 0.75, "counted, the page stands before the answer");
}

#[test]
fn topics_and_judgements_become_a_set() {
    let sandbox = Sandbox::new();
    sandbox.write("topics", "<top>\n<num> Number: 301\n<title> reef lens\n</top>\n");
    sandbox.write("qrels", "301 0 d1 1\n301 0 d9 1\n302 0 d1 1\n");
    sandbox.write("corpus", "{\"id\": \"d1\", \"contents\": \"The lens of the reef.\"}\n");
    let import = ["data", "import", "trec", "--topics", "topics", "--qrels", "qrels", "--corpus", "corpus"];
    let to = |out: &'static str| [&import[..], &["--split", "dev", "--out", out]].concat();
    let printed = sandbox.run(&to("sets/reef"));
    assert_eq!(printed.code, 0, "{printed:?}");
    expect![[r#"
        sets/reef  1 document, 1 judged query, 2 judgements
    "#]]
    .assert_eq(&printed.stdout);
    expect![[r#"
        importing corpus
        warning: 1 judged query has no topic: left out, such as `302`
        warning: 1 judged document is not in the collection and will count as missed
        orion eval --data sets/reef --split dev measures on it
    "#]]
    .assert_eq(&printed.stderr);
    let eval =
        ["eval", "--data", "sets/reef", "--split", "dev", "--strategy", "lexical", "--out", "run", "--json"];
    let table: serde_json::Value = serde_json::from_str(&sandbox.answered(&eval)).unwrap();
    assert_eq!(
        (&table["rows"][0]["success_10"], &table["rows"][0]["recall_100"]),
        (&1.0.into(), &0.5.into())
    );

    let json = sandbox.answered(&[&to("sets/again")[..], &["--json"]].concat());
    expect![[r#"
        {
          "absent_documents": 1,
          "documents": 1,
          "excluded": 0,
          "folder": "sets/again",
          "judged_queries": 1,
          "judgements": 2,
          "queries": 1,
          "queries_without_topic": [
            "302"
          ],
          "split": "dev"
        }
    "#]]
    .assert_eq(&json);
}

#[test]
fn what_cannot_be_imported_is_refused_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    bright(&sandbox);
    let refused = |arguments: &[&str]| {
        let printed = sandbox.run(arguments);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(
            !sandbox.path().join("sets/islands").exists()
                && !sandbox.path().join("sets/islands.partial").exists()
        );
        printed.stderr
    };
    let with = |option: &'static str, value: &'static str| {
        let mut arguments = BRIGHT.to_vec();
        arguments.retain(|argument| option != "--task" || !["--task", "islands"].contains(argument));
        arguments.extend([option, value]);
        arguments
    };
    expect![[r#"
        importing island
        error: looking for the table of `island` in `BRIGHT/documents`: expected one of `islands`, got no such file
    "#]]
    .assert_eq(&refused(&with("--task", "island")));
    expect![[r#"
        importing islands
        error: listing `BRIGHT/long_documents`
          caused by: No such file or directory (os error 2)
    "#]]
    .assert_eq(&refused(&with("--documents", "pages")));
    expect![[r#"
        importing islands
        error: listing `BRIGHT/gpt4_reason`
          caused by: No such file or directory (os error 2)
    "#]]
    .assert_eq(&refused(&with("--examples", "gpt4_reason")));
    expect![[r#"
        error: invalid value '../test' for '--split <NAME>': expected a name of letters, digits and `-_.`

        For more information, try '--help'.
    "#]]
    .assert_eq(&refused(&with("--split", "../test")));
    sandbox.write("mine/notes.txt", "kept");
    let mut over = BRIGHT;
    over[7] = "mine";
    expect![[r#"
        error: writing the set `mine`: expected a folder that is not there yet, got one that holds something

        hint: remove it, or name another folder
    "#]]
    .assert_eq(&refused(&over));
    assert!(sandbox.path().join("mine/notes.txt").is_file());
    let whole = ["data", "import", "bright", "BRIGHT", "--out", "sets/islands"];
    expect![[r#"
        importing BRIGHT
        error: looking for the table of `documents` in `BRIGHT`: expected one of (none), got no such file

        hint: --task names a task, where the folder is that of the whole benchmark
    "#]]
    .assert_eq(&refused(&whole));
    let trec = ["data", "import", "trec", "--topics", "topics", "--qrels", "qrels", "--corpus", "corpus"];
    sandbox.write("topics", "7\tlens\n");
    sandbox.write("qrels", "q7 0 d1 1\n");
    expect![[r#"
        error: importing TREC topics and judgements
          caused by: reading `qrels`: expected judgements of the topics, whose first is `7`, got those of others, whose first is `q7`
    "#]].assert_eq(&refused(&[&trec[..], &["--out", "sets/islands"]].concat()));
}
