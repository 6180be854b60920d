//! Runs the benchmarks of `tests/bench/definitions.toml`, ours and the peer in turn, and writes one dated record.
//!
//! A command prints JSON objects of metric and number; this runner only calls, takes medians and writes down.
//! `tests/bench/README.md` says how to read a record. The date is an argument: no clock is read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

const USAGE: &str = "usage: bench --date YYYY-MM-DD [--only NAME[,NAME]] [--rounds N] [--note TEXT]";

#[derive(Deserialize)]
struct Definitions {
    /// Commands that build what the benchmarks run; their output is not read.
    prepare: Vec<String>,
    benchmark: Vec<Benchmark>,
}

#[derive(Deserialize)]
struct Benchmark {
    name: String,
    /// What is measured, on what, for the reader of the record.
    says: String,
    ours: String,
    /// Absent where `ours` measures its peer itself, by turns, or where there is nothing to compare with.
    peer: Option<String>,
    peer_name: Option<String>,
    metrics: Vec<Metric>,
}

#[derive(Deserialize, Serialize, Clone)]
struct Metric {
    key: String,
    /// What the peer calls it, where that differs.
    peer_key: Option<String>,
    unit: String,
    /// `higher` or `lower`.
    better: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    date: String,
    note: String,
    machine: Machine,
    rounds: usize,
    results: Vec<Measured>,
}

#[derive(Serialize, Deserialize)]
struct Machine {
    cores: usize,
    cpu: String,
    /// The vector instructions that decide the speed here.
    vector_flags: Vec<String>,
    memory_gib: u64,
    load_before: String,
    load_after: String,
}

#[derive(Serialize, Deserialize)]
struct Measured {
    name: String,
    says: String,
    metric: String,
    unit: String,
    better: String,
    /// Median over the rounds, then every round.
    ours: f64,
    ours_rounds: Vec<f64>,
    peer_name: Option<String>,
    peer: Option<f64>,
    peer_rounds: Vec<f64>,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Arguments {
    date: String,
    only: Vec<String>,
    rounds: usize,
    note: String,
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments { date: String::new(), only: Vec::new(), rounds: 3, note: String::new() };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--date" => parsed.date = value,
            "--only" => parsed.only = value.split(',').map(str::to_owned).collect(),
            "--rounds" => parsed.rounds = value.parse()?,
            "--note" => parsed.note = value,
            _ => return Err(USAGE.into()),
        }
    }
    let is_date = parsed.date.len() == 10 && parsed.date.chars().all(|c| c.is_ascii_digit() || c == '-');
    if is_date && parsed.rounds > 0 { Ok(parsed) } else { Err(USAGE.into()) }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<()> {
    let arguments = arguments()?;
    let folder = orion_tests::root().join("tests/bench");
    let definitions: Definitions = toml::from_str(&fs::read_to_string(folder.join("definitions.toml"))?)?;
    for command in &definitions.prepare {
        shell(command)?;
    }
    let load_before = load_average();
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    for benchmark in &definitions.benchmark {
        if arguments.only.is_empty() || arguments.only.contains(&benchmark.name) {
            // What the others measured is not lost for one that fails.
            match measure(benchmark, arguments.rounds) {
                Ok(measured) => results.extend(measured),
                Err(error) => failed.push(format!("{}: {error}", benchmark.name)),
            }
        }
    }
    let machine = describe_machine(load_before);
    let record =
        Record { date: arguments.date, note: arguments.note, machine, rounds: arguments.rounds, results };
    let path = record_path(&folder, &record.date);
    fs::create_dir_all(folder.join("records"))?;
    fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")?;
    print!("{}", table(&record));
    eprintln!("wrote `{}`", path.display());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// The first free name of that day: `DATE.json`, `DATE-2.json`, …
fn record_path(folder: &std::path::Path, date: &str) -> PathBuf {
    let records = folder.join("records");
    let names = std::iter::once(format!("{date}.json")).chain((2..).map(|n| format!("{date}-{n}.json")));
    names.map(|name| records.join(name)).find(|path| !path.exists()).expect("numbers do not run out")
}

/// Ours and the peer in turn, so that whatever else the machine does falls on both.
fn measure(benchmark: &Benchmark, rounds: usize) -> Result<Vec<Measured>> {
    let mut ours = Vec::new();
    let mut peer = Vec::new();
    for round in 1..=rounds {
        eprintln!("{} round {round} of {rounds}", benchmark.name);
        ours.push(numbers(&benchmark.ours)?);
        if let Some(command) = &benchmark.peer {
            peer.push(numbers(command)?);
        }
    }
    let column = |rows: &[BTreeMap<String, f64>], key: &str| -> Vec<f64> {
        rows.iter().filter_map(|row| row.get(key).copied()).collect()
    };
    benchmark
        .metrics
        .iter()
        .map(|metric| {
            let ours_rounds = column(&ours, &metric.key);
            let peer_key = metric.peer_key.as_ref().unwrap_or(&metric.key);
            let peer_rounds = match (&benchmark.peer, &metric.peer_key) {
                (None, Some(key)) => column(&ours, key),
                _ => column(&peer, peer_key),
            };
            let missing = || format!("`{}` printed no `{}`", benchmark.name, metric.key);
            Ok(Measured {
                name: benchmark.name.clone(),
                says: benchmark.says.clone(),
                metric: metric.key.clone(),
                unit: metric.unit.clone(),
                better: metric.better.clone(),
                ours: median(&ours_rounds).ok_or_else(missing)?,
                ours_rounds,
                peer_name: benchmark.peer_name.clone().filter(|_| !peer_rounds.is_empty()),
                peer: median(&peer_rounds),
                peer_rounds,
            })
        })
        .collect()
}

/// Runs a command in the repository root. It finds built examples in `$EXAMPLES`, and a folder of its own in `$SCRATCH`.
fn shell(command: &str) -> Result<String> {
    let program = std::env::current_exe()?;
    let built = program.parent().ok_or("a program lies in a folder")?;
    let scratch = built.join("bench-scratch");
    fs::create_dir_all(&scratch)?;
    let output = Command::new("bash")
        .args(["-c", command])
        .env("EXAMPLES", built.join("examples"))
        .env("SCRATCH", scratch)
        .current_dir(orion_tests::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("`{command}`: {}", output.status).into())
    }
}

/// All numbers in the JSON objects that a command prints, inner names joined by dots; an object with a `name` puts it
/// before its own.
fn numbers(command: &str) -> Result<BTreeMap<String, f64>> {
    let output = shell(command)?;
    let mut found = BTreeMap::new();
    let mut rest = output.as_str();
    while let Some(start) = rest.find("{") {
        let mut values = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else {
            rest = &rest[start + 1..];
            continue;
        };
        flatten("", &value, &mut found);
        rest = &rest[start + values.byte_offset()..];
    }
    if found.is_empty() { Err(format!("`{command}` printed no number").into()) } else { Ok(found) }
}

fn flatten(prefix: &str, value: &Value, found: &mut BTreeMap<String, f64>) {
    match value {
        Value::Number(number) => {
            found.insert(prefix.to_owned(), number.as_f64().unwrap_or(f64::NAN));
        }
        Value::Object(fields) => {
            let named = fields.get("name").and_then(Value::as_str).unwrap_or(prefix);
            for (key, inner) in fields {
                let path = if named.is_empty() { key.clone() } else { format!("{named}.{key}") };
                flatten(&path, inner, found);
            }
        }
        _ => {}
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn describe_machine(load_before: String) -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let flags = field("flags");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu: field("model name"),
        vector_flags: ["avx2", "fma", "avx512f", "avx512_vnni", "amx_bf16"]
            .into_iter()
            .filter(|flag| flags.split(' ').any(|have| have == *flag))
            .map(str::to_owned)
            .collect(),
        memory_gib: kib >> 20,
        load_before,
        load_after: load_average(),
    }
}

fn table(record: &Record) -> String {
    let mut lines = String::from("| benchmark | metric | ours | peer | ratio |\n|---|---|---:|---:|---:|\n");
    for result in &record.results {
        let (peer, ratio) = match (result.peer, &result.peer_name) {
            (Some(peer), Some(name)) => {
                let ratio = if result.better == "lower" { peer / result.ours } else { result.ours / peer };
                (format!("{peer:.3} ({name})"), format!("{ratio:.2}"))
            }
            _ => ("–".into(), "–".into()),
        };
        let metric = format!("{} ({}, {} is better)", result.metric, result.unit, result.better);
        lines += &format!("| {} | {metric} | {:.3} | {peer} | {ratio} |\n", result.name, result.ours);
    }
    lines
}
