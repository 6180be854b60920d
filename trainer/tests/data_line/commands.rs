//! The commands as a user types them: a pool, trajectories of it, and what goes wrong in words.

use crate::server::{Reply, Server};
use crate::world::World;
use std::path::Path;
use std::process::{Command, Output};

fn orion_train(world: &World, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orion-train"));
    command.current_dir(world.folder.path()).args(line.split_whitespace());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a command that must succeed.
fn answer(world: &World, line: &str) -> String {
    let output = orion_train(world, line);
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Standard error of a command that must end with status 2 and without data.
fn complaint(world: &World, line: &str) -> String {
    let output = orion_train(world, line);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{line}");
    text(&output.stderr)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A trajectory of one turn.
const WALK: &str = concat!(
    r#"{"id": "w1", "set": "bundled", "query_id": "q1", "part": "train", "segments": ["#,
    r#"{"user-query": "where is the reef"}, {"think": "start with the reef."}, "#,
    r#"{"search-query": {"query": "reef gap", "retriever": "hybrid"}}, "#,
    r#"{"top-k-response": [{"title": "Reef", "text": "The gap."}]}], "#,
    r#""turns": [{"rule": "keep", "rank": 1, "shown": true}]}"#,
    "\n"
);

const MAKE: &str = "pool make pool.jsonl --sets bundled --retriever lexical --depth 12 --data data --run run";

#[test]
fn a_pool_becomes_trajectories() {
    let world = World::new();
    let made = json(&answer(&world, &format!("{MAKE} --source rules --draws 2 --json")));
    assert_eq!((&made["source"], &made["collected"]["added"]), (&"rules".into(), &18.into()));
    let again = answer(&world, &format!("{MAKE} --source rules --draws 2"));
    assert_eq!(
        again,
        "rules: 0 traces added, 18 were there, 0 empty, 0 bad answers, 0 left for the next run\n"
    );

    let server =
        Server::start(|number, _| Reply::Text(format!("Thought: ask on.\nQuery: bear plants {number}")));
    let endpoint =
        format!("{MAKE} --source endpoint --endpoint-url {} --endpoint-model m --json", server.url);
    let made = json(&answer(&world, &endpoint));
    assert_eq!((&made["collected"]["added"], &made["endpoint"]["answers"]), (&9.into(), &45.into()));

    let counted = json(&answer(&world, "pool stats pool.jsonl --json"));
    assert_eq!((&counted["traces"], &counted["sources"]["endpoint m"]["turns"]), (&27.into(), &45.into()));
    assert!(answer(&world, "pool stats pool.jsonl").contains("27 traces of 9 queries (bundled 27)"));
    let shown = json(&answer(&world, "pool show pool.jsonl --query-id q2 --source rules --json"));
    assert_eq!(shown.as_array().map(Vec::len), Some(2));
    assert!(
        answer(&world, "pool show pool.jsonl --count 1").starts_with("bundled q1 by rules (0): why does ice")
    );

    // The compiled archetypes of the other tests, where there are some already.
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("components");
    std::fs::create_dir_all(&shared).unwrap();
    std::os::unix::fs::symlink(shared, world.folder.path().join("run/compiled")).unwrap();
    let line = "synth pool.jsonl --out t.jsonl --turns 3 --least-turns 1 --data data --run run";
    let report = json(&answer(&world, &format!("{line} --json")));
    let records = report["statistics"]["all"]["records"].as_u64().unwrap();
    assert!(records >= 22 && records.is_multiple_of(11), "{report}");
    assert_eq!(report["checked_against"], serde_json::json!(["corpus/test"]));
    let written = std::fs::read(world.folder.path().join("t.jsonl")).unwrap();
    let readable = answer(&world, &format!("{line} --preview 1"));
    assert!(readable.contains("greedy-hill-climber") && readable.contains("  think   "), "{readable}");
    assert_eq!(std::fs::read(world.folder.path().join("t.jsonl")).unwrap(), written);
}

#[test]
fn what_goes_wrong_is_said_with_a_hint() {
    let world = World::new();
    let missing = complaint(&world, "pool stats nowhere.jsonl");
    assert!(missing.starts_with("error: could not read `nowhere.jsonl`: "), "{missing}");
    let no_url = complaint(&world, &format!("{MAKE} --source endpoint"));
    let expected = "error: could not use setting `endpoint-url`: expected an address that begins with";
    assert!(no_url.contains(expected), "{no_url}");
    let server = Server::start(|_, _| Reply::Status(403, "", "go away".into()));
    let line = format!("{MAKE} --source endpoint --draws 2 --endpoint-url {}", server.url);
    let refused = complaint(&world, &line);
    assert!(
        refused.contains("12 failures in a row") && refused.contains("\nhint: the same command"),
        "{refused}"
    );
    let no_encoder = complaint(&world, &format!("{} --source rules", MAKE.replace("lexical", "dense")));
    assert!(no_encoder.contains("error: "), "{no_encoder}");
    let selected = complaint(&world, "select nowhere.jsonl --out b.jsonl --records 3 --complexity 2");
    assert!(selected.contains("setting `complexity`: expected 0 to 1, got 2"), "{selected}");
    complaint(&world, "pool make a.jsonl --source rules --sets nfcorpus");
}

#[test]
fn every_command_has_help_with_an_example_and_takes_json() {
    let world = World::new();
    let commands = [
        "pool make",
        "pool stats",
        "pool show",
        "synth",
        "select",
        "nano",
        "tokenizer",
        "trajectories",
        "sft",
        "check",
        "soup",
        "export",
        "grpo",
        "router",
        "mask preview",
        "report",
    ];
    for command in commands {
        let help = answer(&world, &format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("orion-train {command}")), "{help}");
        assert!(help.contains("--json"), "{help}");
    }
    let known: usize =
        ["pool", "mask"].into_iter().map(|group| listed(&answer(&world, &format!("{group} --help")))).sum();
    // The two groups are commands of the first list.
    assert_eq!(commands.len(), listed(&answer(&world, "--help")) - 2 + known);
}

/// Commands that a help text lists.
fn listed(help: &str) -> usize {
    let after = help.split("Commands:\n").nth(1).unwrap();
    let lines = after.lines().take_while(|line| !line.is_empty());
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   ") && !line.starts_with("  help "))
        .count()
}

/// Words for people, or with `--json` one value, of commands that learn, merge and write.
#[test]
fn outcomes_are_words_or_one_json_value() {
    let world = World::new();
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/policy/nano");
    let nano = nano.display();
    let line = Path::new(env!("CARGO_MANIFEST_DIR")).join("nano.toml");
    let walks = format!("trajectories --config {} --set bundled --data data --run run", line.display());
    std::fs::create_dir_all(world.folder.path().join("run")).unwrap();
    std::fs::write(world.folder.path().join("run/walks-bundled.jsonl"), WALK).unwrap();
    let report = json(&answer(&world, &format!("{walks} --json")));
    assert_eq!((&report["statistics"]["turns"]["1"], &report["preview"][0]["id"]), (&1.into(), &"w1".into()));
    let words = answer(&world, &walks);
    assert!(words.contains("bundled train 1") && words.contains("where is the reef"), "{words}");
    let other = complaint(&world, &walks.replace("bundled", "wikiqa"));
    assert!(other.contains("bundled, scifact, fm2"), "{other}");

    let data = "run/walks-bundled.jsonl";
    let shown = json(&answer(&world, &format!("mask preview --model {nano} --data {data} --json")));
    assert!(shown[0]["learned"].as_u64() > Some(0), "{shown}");
    let sft = format!("sft --model {nano} --data {data} --steps 1 --workers 1");
    let outcome = json(&answer(&world, &format!("{sft} --out a --json")));
    assert_eq!(outcome["steps"], 1);
    let words = answer(&world, &format!("{sft} --out b"));
    assert!(words.starts_with("b/final\n1 steps, "), "{words}");

    let soup = "soup --method linear --model a/final --model b/final --out";
    assert_eq!(json(&answer(&world, &format!("{soup} c --json")))["out"], "c");
    let words = answer(&world, &format!("{soup} d"));
    assert!(words.starts_with("d\n2 models of "), "{words}");
    assert_eq!(answer(&world, "export --model a/final --gguf e.gguf"), "e.gguf\n");
    let written = json(&answer(&world, "export --model a/final --folder f --json"));
    assert_eq!((&written["folder"], &written["model"]), (&"f".into(), &"a/final".into()));
}
