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
fn every_command_has_help_with_an_example() {
    let world = World::new();
    for command in ["pool make", "pool stats", "pool show", "synth", "select"] {
        let help = answer(&world, &format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("orion-train {command}")), "{help}");
    }
}
