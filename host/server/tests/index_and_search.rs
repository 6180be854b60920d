//! The life of an index on the command line, without an encoder: everything lexical, and said so.

mod common;

use common::Sandbox;
use expect_test::expect;

const DOCUMENTS: &str = r#"{"_id": "d1", "title": "Salt", "text": "Salt is won from the sea in shallow pans.", "metadata": {"year": 2001}}
{"_id": "d2", "title": "Pans", "text": "Frying pans want a little salt.", "metadata": {"year": 2015}}
{"_id": "d3", "title": "Tides", "text": "The sea rises twice a day."}
"#;

fn filled() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("notes.jsonl", DOCUMENTS);
    sandbox.answered(&["index", "add", "notes", "notes.jsonl"]);
    sandbox
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn add_search_delete_drop() {
    let sandbox = Sandbox::new();
    sandbox.write("notes.jsonl", DOCUMENTS);
    let added = sandbox.run(&["index", "add", "notes", "notes.jsonl"]);
    assert_eq!((added.code, added.stdout.as_str()), (0, ""));
    expect![[r#"
        warning: there is no dense encoder in `TMP/models/all-MiniLM-L6-v2`: searches are lexical only; `orion models fetch` gets it; --models-dir or ORION_MODELS_DIR names another folder
        adding to notes
        notes: 3 documents added, 3 documents are searchable
    "#]]
    .assert_eq(&added.stderr);

    assert_eq!(sandbox.answered(&["index", "list"]), "notes\n");
    let search = ["search", "salt from the sea", "--index", "notes", "--strategy", "lexical", "--quiet"];
    // The first line keeps the indentation of the rest: a snapshot loses what all its lines share.
    expect![[r#"
        ranking
          1    1.9755  d1  Salt
                       Salt is won from the sea in shallow pans.
          2    0.5044  d3  Tides
                       The sea rises twice a day.
          3    0.4700  d2  Pans
                       Frying pans want a little salt.
    "#]]
    .assert_eq(&format!("ranking\n{}", sandbox.answered(&search)));

    sandbox.answered(&["index", "delete", "notes", "d1", "d9"]);
    let stats = json(&sandbox.answered(&["index", "stats", "notes", "--json"]));
    assert_eq!((stats["documents"].as_u64(), stats["pending_changes"].as_u64()), (Some(2), Some(0)));

    let unasked = sandbox.run(&["index", "drop", "notes"]);
    assert_eq!(unasked.code, 2);
    assert!(unasked.stderr.contains("hint: --yes removes it without asking"), "{}", unasked.stderr);
    sandbox.answered(&["index", "drop", "notes", "--yes"]);
    assert_eq!(sandbox.answered(&["index", "list"]), "");
}

#[test]
fn no_answer_is_exit_code_1() {
    let printed =
        filled().run(&["search", "xylophone", "--index", "notes", "--strategy", "lexical", "--quiet"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (1, "no document answers this query\n"));
}

#[test]
fn filters_narrow_and_bad_filters_are_explained() {
    let sandbox = filled();
    let found = json(&sandbox.answered(&[
        "search",
        "salt",
        "--index",
        "notes",
        "--strategy",
        "lexical",
        "--filter",
        "year >= 2010",
        "--json",
    ]));
    assert_eq!(found["ranking"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["ranking"][0]["id"], "d2");
    assert_eq!(found["cost"]["retrievals"], 1);
    let bad = sandbox.run(&["search", "salt", "--index", "notes", "--filter", "year >="]);
    assert_eq!(bad.code, 2);
    assert!(bad.stderr.contains("hint: a filter looks like"), "{}", bad.stderr);
}

#[test]
fn a_strategy_without_its_policy_gives_way_to_the_plain_ranking() {
    let sandbox = filled();
    let printed = sandbox.run(&["search", "salt", "--index", "notes", "--strategy", "beam@none", "--json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let found = json(&printed.stdout);
    assert_eq!(found["ranking"].as_array().map(Vec::len), Some(2));
    assert!(found["degraded"]["reason"].as_str().is_some_and(|reason| reason.contains("policy")), "{found}");
    assert!(printed.stderr.contains("warning: the strategy failed"), "{}", printed.stderr);
}

#[test]
fn same_seed_same_tree() {
    let sandbox = filled();
    let search = |seed: &str, file: &str| {
        sandbox.answered(&[
            "search",
            "salt",
            "--index",
            "notes",
            "--strategy",
            "beam@untrained",
            "--seed",
            seed,
            "--turns",
            "2",
            "--trace",
            file,
            "--quiet",
        ]);
        let text = std::fs::read_to_string(sandbox.path().join(file)).expect("a trace");
        json(&text)["outcome"]["trace"].clone()
    };
    let first = search("7", "a.json");
    assert!(first["branches"].as_array().is_some_and(|branches| 1 < branches.len()), "{first}");
    assert_eq!(first, search("7", "b.json"));
    assert_ne!(first, search("8", "c.json"));
}

#[test]
fn a_tree_is_drawn() {
    let printed = filled().answered(&[
        "search",
        "how salt is won from the sea",
        "--index",
        "notes",
        "--strategy",
        "beam@untrained",
        "--turns",
        "1",
        "--trace",
        "--quiet",
    ]);
    for part in ["how salt is won from the sea · beam · ", "├─ ", "└─ ", "asks", "finds", "turn 1"]
    {
        assert!(printed.contains(part), "{part}:\n{printed}");
    }
}

#[test]
fn a_bad_line_keeps_what_came_before_it() {
    let sandbox = Sandbox::new();
    sandbox.write("bad.jsonl", "{\"_id\": \"d1\", \"text\": \"one\"}\n{\"_id\": 3.5, \"text\": \"two\"}\n");
    let printed = sandbox.run(&["index", "add", "notes", "bad.jsonl", "--quiet"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("line 2"), "{}", printed.stderr);
    assert!(printed.stderr.contains("hint: documents before this one are kept"), "{}", printed.stderr);
    let stats = json(&sandbox.answered(&["index", "stats", "notes", "--json"]));
    assert_eq!(stats["documents"], 1);
}

#[test]
fn uncommitted_documents_wait_in_the_log() {
    let sandbox = Sandbox::new();
    sandbox.write("notes.jsonl", DOCUMENTS);
    let added = json(&sandbox.answered(&["index", "add", "notes", "notes.jsonl", "--no-commit", "--json"]));
    assert_eq!(
        (&added["committed"], &added["documents"]),
        (&serde_json::json!(false), &serde_json::json!(0))
    );
    let committed = json(&sandbox.answered(&["index", "commit", "notes", "--json"]));
    assert_eq!(committed["documents"], 3);
}

/// Vectors that documents bring: kept, counted, searched by words from the command line, and told.
#[test]
fn an_index_of_its_documents_vectors() {
    let sandbox = Sandbox::new();
    let lines = concat!(
        "{\"_id\": \"d1\", \"text\": \"salt from the sea\", \"vector\": [1, 0.5, 2]}\n",
        "{\"_id\": \"d2\", \"embedding\": [0, 3, 4]}\n",
        "{\"_id\": \"d3\", \"text\": \"the sea rises\"}\n",
    );
    sandbox.write("notes.jsonl", lines);
    sandbox.answered(&["index", "create", "notes", "--vectors", "3"]);
    sandbox.answered(&["index", "add", "notes", "notes.jsonl"]);
    let stats = json(&sandbox.answered(&["index", "stats", "notes", "--json"]));
    let shown =
        ["documents", "vectors", "dimensions", "vector_source", "space", "encoder"].map(|name| &stats[name]);
    assert_eq!(serde_json::json!(shown), serde_json::json!([3, 2, 3, "client", "cosine", null]));
    let text = sandbox.answered(&["index", "stats", "notes"]);
    let line = "vectors    2, 0 dead; of 3 dimensions, brought by documents, compared by cosine\n";
    assert!(text.contains(line), "{text}");

    let found = sandbox.run(&["search", "sea", "--index", "notes", "--strategy", "hybrid", "--json"]);
    assert_eq!(json(&found.stdout)["ranking"].as_array().map(Vec::len), Some(2));
    let warning = "warning: documents of this index bring their own vectors, which no text can be compared with: searches \
                   are lexical only";
    assert!(found.stderr.contains(warning) && !found.stderr.contains("models fetch"), "{}", found.stderr);

    sandbox.write("short.jsonl", "{\"_id\": \"d4\", \"text\": \"x\", \"vector\": [1, 2]}\n");
    let refused = sandbox.run(&["index", "add", "notes", "short.jsonl"]);
    let reason = "document `d4`: expected a vector of 3 finite values that are not all zero, got 2 values";
    assert!(refused.code == 2 && refused.stderr.contains(reason), "{}", refused.stderr);
    let refused = sandbox.run(&["index", "add", "others", "short.jsonl"]);
    assert!(
        refused.stderr.contains("hint: `orion index create NAME --vectors DIMENSION`"),
        "{}",
        refused.stderr
    );
    for dimension in ["0", "16001", "many"] {
        assert_eq!(sandbox.run(&["index", "create", "wrong", "--vectors", dimension]).code, 2);
    }
    let both = sandbox.run(&["index", "create", "wrong", "--vectors", "3", "--lexical-only"]);
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}
