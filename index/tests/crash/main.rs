//! Kill -9 at every phase of a write, and disks that run full, in processes of their own.
//!
//! This program runs itself as the child that is killed, so it has no ordinary test harness. A child works on an index
//! and says on its standard output what was acknowledged. It is killed at seeded instants: exactly at a phase (it
//! stops there and waits), or a seeded moment after it. Each time the index must open, hold exactly what was
//! acknowledged, in both halves, and go on from there.

mod full;
mod work;

use orion_index::{Hook, Index, Phase, VectorSource};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use work::{Model, Random};

/// Kills in each phase: half of them at the phase itself, half a moment later.
const KILLS_PER_PHASE: u64 = 10;
/// Base of all seeds here.
const SEED: u64 = 20_260_101;

const PHASES: [(Phase, &str, u64); 15] = [
    // The phase, its name, and up to how many times it is passed before the kill.
    (Phase::Add, "add", 40),
    (Phase::LogWrite, "log-write", 8),
    (Phase::LogSync, "log-sync", 8),
    (Phase::LogMark, "log-mark", 8),
    (Phase::VectorWrite, "vector-write", 40),
    (Phase::VectorSync, "vector-sync", 4),
    (Phase::CodesWrite, "codes-write", 40),
    (Phase::GraphWrite, "graph-write", 40),
    (Phase::Prepare, "prepare", 4),
    (Phase::Commit, "commit", 4),
    (Phase::Committed, "committed", 4),
    (Phase::LogTrim, "log-trim", 4),
    (Phase::MergeLexical, "merge-lexical", 2),
    (Phase::MergeVectors, "merge-vectors", 30),
    (Phase::Merged, "merged", 2),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["child", dir, seed, phase, times, stop] => {
            child(Path::new(dir), seed.parse().unwrap(), phase, times.parse().unwrap(), *stop == "stop");
        }
        ["fill", dir, way] => full::fill(Path::new(dir), way),
        ["freeze", dir] => work::freeze(Path::new(dir), &work::settings(), 9),
        ["freeze-graph", dir] => {
            work::freeze(Path::new(dir), &work::graph_settings(VectorSource::Encoder), 36);
        }
        ["freeze-client", dir] => {
            work::freeze(Path::new(dir), &work::graph_settings(VectorSource::Client), 36);
        }
        // A filter for another test of the workspace is none of ours.
        _ => {
            kills();
            full::full_disks();
        }
    }
}

/// Works until it is killed. At the `times`-th `phase` it says so, and waits for the end where `stop` is set.
fn child(dir: &Path, seed: u64, phase: &str, times: u64, stop: bool) {
    let wanted = PHASES.iter().find(|(_, name, _)| *name == phase).unwrap().0;
    let left = Mutex::new(times);
    let hook = Hook::new(move |reached| {
        if reached == wanted {
            let mut left = left.lock().unwrap();
            *left = left.wrapping_sub(1);
            if *left == 0 {
                say("at");
                if stop {
                    std::thread::sleep(Duration::MAX);
                }
            }
        }
    });
    // Texts are left unencoded, so that some of them wait when others are published.
    let options = orion_index::OpenOptions { hook, defer_encoding: true, ..work::options() };
    let index = Index::open(dir, options).unwrap();
    let mut writer = index.writer().unwrap();
    for (number, batch) in work::batches(seed).enumerate() {
        batch.iter().for_each(|change| work::apply(&mut writer, change));
        writer.sync().unwrap();
        say(&format!("ack {}", number + 1));
        if number % 3 != 2 {
            writer.encode_some(2).unwrap();
            writer.publish().unwrap();
        }
        if number % 3 == 2 {
            writer.commit().unwrap();
        }
        if number % 6 == 5 {
            writer.merge().unwrap();
        }
    }
    say("done");
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

fn kills() {
    let root = tempfile::tempdir().unwrap();
    // One whose vectors are encoded or brought, and one where documents bring them or have none; in turn.
    let mut indexes = [VectorSource::Encoder, VectorSource::Client].map(|source| {
        let dir = root.path().join(format!("{source:?}"));
        drop(Index::create(&dir, &work::graph_settings(source), work::options()).unwrap());
        (dir, Model::new())
    });
    for (order, (_, name, most)) in PHASES.iter().enumerate() {
        for kill in 0..KILLS_PER_PHASE {
            let (dir, model) = &mut indexes[(kill / 2 % 2) as usize];
            let seed = SEED + order as u64 * 1000 + kill;
            let mut random = Random(seed);
            let times = 1 + random.below(*most);
            let stop = kill % 2 == 0;
            let acknowledged = run_and_kill(dir, seed, name, times, stop, random.below(4000));
            *model = survivors(dir, std::mem::take(model), seed, acknowledged, stop, name);
        }
        let documents: usize = indexes.iter().map(|(_, model)| model.len()).sum();
        println!("crash: {KILLS_PER_PHASE} kills at {name}: nothing lost, {documents} documents");
    }
}

/// Runs a child, kills it at its phase or `delay_us` later, and returns how many batches it said were acknowledged.
fn run_and_kill(dir: &Path, seed: u64, phase: &str, times: u64, stop: bool, delay_us: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("child")
        .arg(dir)
        .args([
            seed.to_string().as_str(),
            phase,
            times.to_string().as_str(),
            if stop { "stop" } else { "go" },
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "at" {
            if !stop {
                std::thread::sleep(Duration::from_micros(delay_us));
            }
            // The rest of what it said is read below: it may have gone on.
            child.kill().unwrap();
            killed = true;
        } else if let Some(number) = line.strip_prefix("ack ") {
            acknowledged = number.parse().unwrap();
        } else {
            panic!("the child of {phase}, seed {seed}, passed the phase fewer than {times} times: {line}");
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child of {phase}, seed {seed}, ended by itself");
    acknowledged
}

/// Opens what is left and checks it against what was acknowledged; returns the state to go on from.
fn survivors(dir: &Path, before: Model, seed: u64, acknowledged: u64, stopped: bool, phase: &str) -> Model {
    let mut model = before;
    let mut batches = work::batches(seed);
    for _ in 0..acknowledged {
        work::change_model(&mut model, &batches.next().unwrap());
    }
    // A child that was killed on the run may have acknowledged one more batch and not lived to say so.
    let mut further = model.clone();
    work::change_model(&mut further, &batches.next().unwrap());
    let index = Index::open(dir, work::options()).unwrap();
    let held = work::contents(&index);
    let what = format!("{phase}, seed {seed}, {acknowledged} batches acknowledged");
    if held != model {
        assert!(!stopped, "{what}: expected {}, got {}", list(&model), list(&held));
        assert_eq!(held, further, "{what}: neither what was acknowledged nor one batch more");
        model = further;
    }
    work::check_halves(&index, &model, &what);
    model
}

fn list(model: &BTreeMap<String, String>) -> String {
    model.values().map(String::as_str).collect::<Vec<_>>().join(", ")
}
