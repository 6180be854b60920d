//! The author's commands on real components: scenarios, recordings, replays, timings.

#[path = "../common/mod.rs"]
mod common;
mod drafts;
mod first_minutes;
mod rewards;

use common::{Printed, Sandbox};
use expect_test::{Expect, expect};

/// A plugin's folder with the standard `beam` as its component, and one scenario without expectations.
fn authors_folder() -> Sandbox {
    let sandbox = Sandbox::new();
    let beam = orion_bundle::component("beam").expect("`beam` is bundled");
    std::fs::write(sandbox.path().join("beam.wasm"), beam.bytes).expect("a component");
    sandbox.write("tests/pump.toml", SCENARIO);
    sandbox
}

const SCENARIO: &str = r#"# What the policy says first is worth following.
about = "the better of two proposals survives"

[request]
query = "why does the outdoor unit stop"
k = 2
options = { turns = 1, beam = 1, width = 2 }

[[document]]
id = "defrost"
title = "Defrost cycle"
text = "In frost the outdoor unit of a heat pump stops and melts its ice."

[[document]]
id = "tariff"
title = "Winter tariff"
text = "Why power does cost more in winter."

[[proposal]]
think = "ice on a heat pump stops it"
query = "heat pump ice"

[[proposal]]
think = "power may be dear"
query = "winter tariff"

[[perplexity]]
after = "heat pump ice"
value = 2.0
"#;

fn check(printed: &Printed, code: i32, stdout: Expect) {
    assert_eq!(printed.code, code, "{printed:?}");
    stdout.assert_eq(&printed.stdout);
}

#[test]
fn a_scenario_is_written_then_holds_then_fails_readably() {
    let sandbox = authors_folder();
    check(
        &sandbox.run(&["plugin", "test", "--update"]),
        0,
        expect![[r#"
        new  pump  the better of two proposals survives
        1 scenario: all hold
    "#]],
    );
    let written = std::fs::read_to_string(sandbox.path().join("tests/pump.toml")).expect("a scenario");
    assert!(written.starts_with(SCENARIO), "{written}");
    expect![[r#"

        [expect]
        ranking = ["defrost", "tariff"]
        searches = [
          { query = "why does the outdoor unit stop", retriever = "hybrid" },
          { query = "heat pump ice", retriever = "hybrid" },
          { query = "winter tariff", retriever = "hybrid" },
        ]

        [[expect.branch]]
        parent = "none"
        turn = 0
        query = "why does the outdoor unit stop"
        retriever = "hybrid"
        finds = ["defrost", "tariff"]
        fate = "chosen"

        [[expect.branch]]
        parent = 0
        turn = 1
        thinks = "ice on a heat pump stops it"
        query = "heat pump ice"
        retriever = "hybrid"
        finds = ["defrost"]
        fate = "chosen"

        [[expect.branch]]
        parent = 0
        turn = 1
        thinks = "power may be dear"
        query = "winter tariff"
        retriever = "hybrid"
        finds = ["tariff"]
        fate = "pruned"
    "#]]
    .assert_eq(&written[SCENARIO.len()..]);
    check(
        &sandbox.run(&["plugin", "test", "."]),
        0,
        expect![[r#"
        ok   pump  the better of two proposals survives
        1 scenario: all hold
    "#]],
    );
    let changed = written.replacen("query = \"winter tariff\"", "query = \"summer tariff\"", 1).replacen(
        "ranking = [\"defrost\"",
        "ranking = [\"frost\"",
        1,
    );
    sandbox.write("tests/pump.toml", &changed);
    check(
        &sandbox.run(&["plugin", "test"]),
        1,
        expect![[r#"
        FAIL pump  the better of two proposals survives
             ranking (- expected, + came)
             - frost
             + defrost
               tariff
             searches (- expected, + came)
               why does the outdoor unit stop · hybrid
               heat pump ice · hybrid
             - winter tariff · hybrid
             + summer tariff · hybrid
             branch (- expected, + came)
                 finds defrost
               branch 2 · after 0 · turn 1 · hybrid · pruned
                 thinks power may be dear
             -   asks winter tariff
             +   asks summer tariff
                 finds tariff
        1 scenario: 1 failed
    "#]],
    );
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.run(&["plugin", "test", "--json"]).stdout).expect("JSON");
    assert_eq!(json[0]["holds"], false);
    assert_eq!(json[0]["differences"][0]["what"], "ranking");
}

#[test]
fn marks_fail_until_they_are_written() {
    let sandbox = authors_folder();
    sandbox.write("tests/pump.toml", &format!("{SCENARIO}\n[expect]\nranking = \"?\"\n"));
    check(
        &sandbox.run(&["plugin", "test"]),
        1,
        expect![[r#"
        FAIL pump  the better of two proposals survives
             ranking is not written yet: --update writes it
        1 scenario: 1 failed
    "#]],
    );
    assert_eq!(sandbox.run(&["plugin", "test", "--update"]).code, 0);
    let written = std::fs::read_to_string(sandbox.path().join("tests/pump.toml")).expect("a scenario");
    assert!(!written.contains("searches") && written.contains("ranking = [\"defrost\""), "{written}");
    assert_eq!(sandbox.run(&["plugin", "test"]).code, 0);
}

#[test]
fn scenarios_with_unknown_fields_or_ids_are_refused_by_name() {
    let sandbox = authors_folder();
    let refused = |text: &str, part: &str| {
        sandbox.write("tests/pump.toml", text);
        let printed = sandbox.run(&["plugin", "test"]);
        assert_eq!(printed.code, 2, "{printed:?}");
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    };
    refused(&format!("{SCENARIO}\n[expect]\nrankng = []\n"), "unknown field `rankng`");
    refused(&format!("{SCENARIO}\n[limits]\nretrieval = 3\n"), "unknown field `retrieval`");
    refused(
        &format!("{SCENARIO}\n[[ranking]]\nquery = \"x\"\nhits = [\"ice\"]\n"),
        "ranking of `x`: expected ids of documents, each once, got `ice`",
    );
    refused(&SCENARIO.replace("turns = 1", "turn = 1"), "has no parameter `turn`");
}

#[test]
fn a_failing_strategy_fails_its_scenario_unless_that_is_expected() {
    let sandbox = authors_folder();
    sandbox.write(
        "tests/pump.toml",
        &format!("policy = false\n{}", &SCENARIO[..SCENARIO.find("[[proposal]]").expect("a proposal")]),
    );
    check(
        &sandbox.run(&["plugin", "test"]),
        1,
        expect![[r#"
        FAIL pump  the better of two proposals survives
             degraded (- expected, + came)
             - the strategy answers
             + failed: unavailable: policy: no model is loaded
        1 scenario: 1 failed
    "#]],
    );
    let text = std::fs::read_to_string(sandbox.path().join("tests/pump.toml")).expect("a scenario");
    sandbox
        .write("tests/pump.toml", &format!("{text}\n[expect]\ndegraded = \"failed\"\nreason = \"policy\"\n"));
    assert_eq!(sandbox.run(&["plugin", "test"]).code, 0);
}

#[test]
fn recorded_searches_replay_and_changed_components_are_caught() {
    let sandbox = authors_folder();
    sandbox.answered(&["plugin", "test", "--update", "--traces", "traces"]);
    let trace = "traces/pump.trace.json";
    let same = sandbox.run(&["plugin", "replay", trace]);
    assert_eq!(same.code, 0, "{same:?}");
    let end = same.stdout.find("component").expect("a verdict");
    expect![[r#"
        component  the recorded one
        answer     identical
        trace      identical
        calls      identical
        cost       identical
    "#]]
    .assert_eq(&same.stdout[end..]);
    let lexical = orion_bundle::component("lexical").expect("`lexical` is bundled");
    std::fs::write(sandbox.path().join("other.wasm"), lexical.bytes).expect("a component");
    let other = sandbox.run(&["plugin", "replay", trace, "--component", "other.wasm"]);
    assert_eq!(other.code, 1, "{other:?}");
    let end = other.stdout.find("component").expect("a verdict");
    expect![[r#"
        component  another one
        answer     differs
        trace      differs
        calls      differs

        first difference at call 1 of 7 recorded calls
             call (- expected, + came)
             - policy.extend
             + retrieval.search
                 [
             -     [
             -       null,
             -       [
             -         {
             -           "UserQuery": "why does the outdoor unit stop"
             -         }
             -       ]
             -     ]
             +     {
             +       "dense_weight": null,
             +       "filter": null,
             +       "k": 2,
             +       "options": [],
             +       "retriever": "Lexical",
             +       "text": "why does the outdoor unit stop"
             +     }
                 ]
    "#]]
    .assert_eq(&other.stdout[end..]);
    let path = sandbox.path().join(trace);
    let text = std::fs::read_to_string(&path).expect("a trace");
    std::fs::write(&path, &text[..text.len() / 3]).expect("a file");
    let broken = sandbox.run(&["plugin", "replay", trace]);
    assert_eq!(broken.code, 2);
    assert!(broken.stderr.contains("is truncated") && broken.stderr.contains("hint: "), "{}", broken.stderr);
}

#[test]
fn a_search_of_an_index_is_recorded_and_replays_without_it() {
    let sandbox = authors_folder();
    sandbox.write(
        "notes.jsonl",
        "{\"_id\": \"d1\", \"title\": \"Salt\", \"text\": \"Salt is won from the sea.\"}\n",
    );
    sandbox.answered(&["index", "add", "notes", "notes.jsonl", "--quiet"]);
    let policy = ["--policy", "untrained", "--turns", "1", "--quiet"];
    let run = ["plugin", "run", "beam.wasm", "--query", "salt", "--index", "notes", "--trace", "a.json"];
    sandbox.answered(&[&run[..], &policy[..]].concat());
    let search = ["search", "salt", "--index", "notes", "--trace", "b.json"];
    sandbox.answered(&[&search[..], &policy[..]].concat());
    sandbox.answered(&["index", "drop", "notes", "--yes"]);
    for file in ["a.json", "b.json"] {
        let printed = sandbox.answered(&["plugin", "replay", file, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!((&json["identical"], &json["cost_identical"]), (&true.into(), &true.into()), "{printed}");
    }
}

#[test]
fn a_bench_names_what_it_measured() {
    let sandbox = authors_folder();
    let bench = ["plugin", "bench", "beam.wasm", "--scenario", "tests/pump.toml"];
    let few = ["--searches", "3", "--instances", "5"];
    let text = sandbox.answered(&[&bench[..], &few[..]].concat());
    for part in ["beam on scenario pump", "fresh instance", "whole search", "fuel, at most", "KiB"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let printed = sandbox.answered(&[&bench[..], &few[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(json["instantiate"]["samples"], 5);
    assert!(json["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "{printed}");
    assert_eq!(json["degraded"], 0);
}
