//! Everything that only a CUDA device can show, as one JSON record: golden numbers, the CPU against the device at full
//! size, invariance of the scheduler, and speed against the device's own copy bandwidth.
//!
//! `device_check --fixtures FOLDER [--device N] [--only fixtures] [--date TEXT] [--sanitizer TEXT]`; `tests/device/run`
//! calls it. It needs no network, no toolkit and no Rust, only the driver. Exit status 1 where a check failed.

#[path = "support/shapes.rs"]
mod shapes;
#[path = "support/waiting.rs"]
mod waiting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use orion_policy::{
    Candidate, Checkpoint, Device, JudgedText, NodeId, NumberFormat, Policy, PolicyOptions, Sampling,
    Segment, Session, Source, check_cases_on, copy_bandwidth, devices, random_checkpoint_in, tiny_policy,
};
use serde_json::{Value, json};

use waiting::block_on;

/// A failure of any kind, as text for the record.
type Outcome<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Largest deviations of golden logits; rounding the weights alone moves them by up to 0.024 in f16, by eight times that
/// in bf16.
const TOLERANCES: [(NumberFormat, Option<f64>); 3] =
    [(NumberFormat::F32, None), (NumberFormat::F16, Some(0.05)), (NumberFormat::Bf16, Some(0.4))];

fn golden(fixtures: &Path, device: Device, work: &Path) -> Outcome<Value> {
    let stored = Checkpoint::open(fixtures).map_err(text)?;
    let weights = stored.weights().map_err(text)?;
    let mut rows = Vec::new();
    for (numbers, tolerance) in TOLERANCES {
        let folder = work.join(format!("tiny-{numbers:?}"));
        std::fs::create_dir_all(&folder).map_err(text)?;
        weights.save(stored.config(), &folder, numbers).map_err(text)?;
        std::fs::write(folder.join("config.json"), stored.config().to_json()).map_err(text)?;
        let report =
            check_cases_on(device, &folder, &fixtures.join("cases.json"), tolerance).map_err(text)?;
        let most = |of: fn(&orion_policy::CaseReport) -> f64| report.cases.iter().map(of).fold(0.0, f64::max);
        rows.push(json!({
            "numbers": format!("{numbers:?}"), "tolerance": report.tolerance, "passed": report.passed,
            "prefill_deviation": most(|case| case.prefill_deviation),
            "chunked_deviation": most(|case| case.chunked_deviation),
            "log_probability_deviation": most(|case| case.log_probability_deviation),
        }));
    }
    let passed = rows.iter().all(|row| row["passed"] == true);
    Ok(json!({ "name": "golden numbers", "passed": passed, "rows": rows }))
}

/// A policy of random weights of a shape.
fn checkpoint(work: &Path, shape: &str, numbers: NumberFormat) -> Outcome<PathBuf> {
    let folder = work.join(format!("{shape}-{numbers:?}"));
    if !folder.join("model.safetensors").is_file() {
        std::fs::create_dir_all(&folder).map_err(text)?;
        tiny_policy(&folder, 1).map_err(text)?;
        let config = shapes::shape(shape).ok_or_else(|| shapes::NAMES.to_owned())?;
        random_checkpoint_in(numbers, &config, 1, &folder).map_err(text)?;
    }
    Ok(folder)
}

fn load(folder: &Path, options: PolicyOptions) -> Outcome<Policy> {
    Policy::load(&Source::Folder(folder.to_owned()), &options).map_err(text)
}

fn sampling(candidates: u32, think: u32, seed: u64) -> Sampling {
    Sampling { candidates, temperature: 1.0, top_p: 0.95, max_think_tokens: think, max_query_tokens: 8, seed }
}

/// What a search sees: candidates of two turns and judgements after them.
fn search(session: &Session, seed: u64) -> Outcome<(Vec<Candidate>, Vec<JudgedText>)> {
    block_on(async {
        let question = format!("question {seed} {}", "of some length ".repeat(20));
        let root = session.extend(vec![(None, vec![Segment::UserQuery(question)])]).await.map_err(text)?;
        let first = session.propose(root, sampling(3, 12, seed)).await.map_err(text)?.concat();
        let nodes: Vec<NodeId> = first.iter().map(|candidate| candidate.node).collect();
        let second = session.propose(nodes.clone(), sampling(2, 8, seed + 1)).await.map_err(text)?.concat();
        let texts = nodes.into_iter().map(|node| (node, vec!["the documents are relevant".to_owned()]));
        let judged = session.perplexity(texts.collect()).await.map_err(text)?.concat();
        Ok(([first, second].concat(), judged))
    })
}

/// Judgements of given texts do not depend on what was sampled: what the CPU and the device are compared by.
fn judge(policy: &Policy) -> Outcome<Vec<f32>> {
    let session = policy.session();
    block_on(async {
        let question = Segment::UserQuery("where does the light go at night ".repeat(12));
        let root = session.extend(vec![(None, vec![question])]).await.map_err(text)?;
        let node = session.extend(vec![(Some(root[0]), vec![Segment::Think("so it goes".to_owned())])]);
        let node = node.await.map_err(text)?[0];
        let texts = vec!["a text that is judged after all of that".to_owned(), "no".to_owned()];
        let judged = session.perplexity(vec![(root[0], texts.clone()), (node, texts)]).await.map_err(text)?;
        Ok(judged.concat().into_iter().flat_map(|one| one.log_probabilities).collect())
    })
}

fn against_the_cpu(work: &Path, device: Device) -> Outcome<Value> {
    let mut rows = Vec::new();
    // Rounding alone: log-probabilities of random weights are near -ln(65536).
    for (numbers, tolerance) in
        [(NumberFormat::F32, 1e-3), (NumberFormat::F16, 0.02), (NumberFormat::Bf16, 0.1)]
    {
        let folder = checkpoint(work, "350M", numbers)?;
        let exact = judge(&load(&folder, PolicyOptions::default())?)?;
        let got = judge(&load(&folder, PolicyOptions { device, ..PolicyOptions::default() })?)?;
        let deviation = exact.iter().zip(&got).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let passed = exact.len() == got.len() && deviation <= tolerance;
        rows.push(json!({
            "numbers": format!("{numbers:?}"), "shape": "350M", "tokens": got.len(),
            "deviation": deviation, "tolerance": tolerance, "passed": passed,
        }));
    }
    let passed = rows.iter().all(|row| row["passed"] == true);
    Ok(json!({ "name": "CPU and device", "passed": passed, "rows": rows }))
}

/// Sampled words of a small model in f32, where both sides have the same logits to the last bits but few.
fn sampled_as_on_the_cpu(work: &Path, device: Device) -> Outcome<Value> {
    let folder = work.join("sampled");
    std::fs::create_dir_all(&folder).map_err(text)?;
    tiny_policy(&folder, 5).map_err(text)?;
    let (cpu, other) = (
        load(&folder, PolicyOptions::default())?,
        load(&folder, PolicyOptions { device, ..PolicyOptions::default() })?,
    );
    let (mut all, mut same) = (0, 0);
    for seed in 0..20 {
        let words = |candidates: Vec<Candidate>| -> Vec<Vec<u32>> {
            candidates.iter().map(|one| one.trace.iter().map(|fed| fed.id).collect()).collect()
        };
        let (a, b) = (words(search(&cpu.session(), seed)?.0), words(search(&other.session(), seed)?.0));
        all += a.len();
        same += a.iter().zip(&b).filter(|(one, two)| one == two).count();
    }
    // A draw may fall between two roundings once in many thousand tokens.
    Ok(
        json!({ "name": "sampled words", "passed": 0.98 * all as f64 <= same as f64, "candidates": all, "same": same }),
    )
}

fn bits(seen: &(Vec<Candidate>, Vec<JudgedText>)) -> Vec<u32> {
    let traces = seen.0.iter().flat_map(|one| one.trace.iter().map(|fed| fed.id));
    let sums = seen.0.iter().map(|one| one.log_probability.to_bits());
    let judged = seen.1.iter().flat_map(|one| one.log_probabilities.iter().map(|value| value.to_bits()));
    traces.chain(sums).chain(judged).collect()
}

fn invariance(work: &Path, device: Device) -> Outcome<Value> {
    let folder = checkpoint(work, "350M", NumberFormat::Bf16)?;
    let options = PolicyOptions { device, ..PolicyOptions::default() };
    let policy = load(&folder, options.clone())?;
    let searches = 6u64;
    let alone = (0..searches).map(|seed| search(&policy.session(), seed)).collect::<Outcome<Vec<_>>>()?;
    let expected: Vec<Vec<u32>> = alone.iter().map(bits).collect();
    let together = |policy: &Policy| -> Outcome<Vec<Vec<u32>>> {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..searches)
                .map(|seed| {
                    let session = policy.session();
                    scope.spawn(move || search(&session, seed).map(|seen| bits(&seen)))
                })
                .collect();
            running.into_iter().map(|one| one.join().map_err(|_| "a thread panicked".to_owned())?).collect()
        })
    };
    let in_company = together(&policy)? == expected;
    drop(policy);
    let plain = load(&folder, PolicyOptions { record_steps: false, ..options.clone() })?;
    let without_graphs = together(&plain)? == expected;
    drop(plain);
    let state_bytes = 24 << 20;
    let tight =
        load(&folder, PolicyOptions { max_state_bytes: state_bytes, max_step_tokens: 37, ..options })?;
    let under_pressure = together(&tight)? == expected;
    let evicted = tight.counters().evicted_states;
    Ok(json!({
        "name": "invariance", "passed": in_company && without_graphs && under_pressure,
        "in_company": in_company, "without_graphs": without_graphs, "under_pressure": under_pressure,
        "evicted_states": evicted,
    }))
}

/// The best of a few runs, in seconds.
fn best(mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        run()?;
        least = least.min(started.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn speed(work: &Path, device: Device, bandwidth: f64) -> Outcome<Vec<Value>> {
    let folder = checkpoint(work, "350M", NumberFormat::Bf16)?;
    let mut rows = Vec::new();
    for record_steps in [true, false] {
        let policy = load(&folder, PolicyOptions { device, record_steps, ..PolicyOptions::default() })?;
        let weight_bytes = policy.describe().weight_bytes as f64;
        let root = |session: &Session, bytes: usize| {
            let segment = Segment::UserQuery("x".repeat(bytes));
            block_on(session.extend(vec![(None, vec![segment])])).map(|nodes| nodes[0]).map_err(text)
        };
        for tokens in [256usize, 1024, 4096] {
            let seconds = best(|| root(&policy.session(), tokens - 3).map(drop))?;
            rows.push(json!({
                "what": "prefill", "shape": "350M", "numbers": "Bf16", "tokens": tokens, "graphs": record_steps,
                "tokens_a_second": tokens as f64 / seconds,
            }));
        }
        for batch in [1u32, 2, 4, 8, 16, 32, 64] {
            let session = policy.session();
            let node = root(&session, 300)?;
            let mut steps = 0;
            let seconds = best(|| {
                let before = policy.counters().steps;
                block_on(session.propose(vec![node], sampling(batch, 64, 3))).map_err(text)?;
                steps = policy.counters().steps - before;
                Ok(())
            })?;
            let step_seconds = seconds / steps.max(1) as f64;
            rows.push(json!({
                "what": "decode", "shape": "350M", "numbers": "Bf16", "sequences": batch, "graphs": record_steps,
                "step_ms": step_seconds * 1e3, "tokens_a_second": f64::from(batch) / step_seconds,
                "weight_bytes_a_second": weight_bytes / step_seconds,
                "of_copy_bandwidth": weight_bytes / step_seconds / bandwidth,
            }));
        }
    }
    Ok(rows)
}

/// Bytes of the copy that bandwidth is measured with: far beyond any cache.
const COPIED_BYTES: usize = 1 << 30;

fn checks(fixtures: &Path, index: usize, only_fixtures: bool, work: &Path) -> (Vec<Value>, Vec<Value>) {
    let device = Device::Cuda(index);
    let check = |name: &str, outcome: Outcome<Value>| {
        let row = outcome.unwrap_or_else(|error| json!({ "name": name, "passed": false, "error": error }));
        eprintln!("{name}: {}", if row["passed"] == true { "passed" } else { "failed" });
        row
    };
    let mut rows = vec![check("golden numbers", golden(fixtures, device, work))];
    if only_fixtures {
        return (rows, Vec::new());
    }
    rows.push(check("sampled words", sampled_as_on_the_cpu(work, device)));
    rows.push(check("CPU and device", against_the_cpu(work, device)));
    rows.push(check("invariance", invariance(work, device)));
    let measured = copy_bandwidth(index, COPIED_BYTES).map_err(text).and_then(|bandwidth| {
        let mut rows = vec![json!({ "what": "copy", "bytes_a_second": bandwidth })];
        rows.extend(speed(work, device, bandwidth)?);
        Ok(rows)
    });
    match measured {
        Ok(speeds) => (rows, speeds),
        Err(error) => {
            rows.push(json!({ "name": "speed", "passed": false, "error": error }));
            (rows, Vec::new())
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let Some(fixtures) = value("--fixtures").map(PathBuf::from) else {
        eprintln!("error: expected `--fixtures FOLDER`, the folder lfm2-tiny, got none");
        return ExitCode::from(2);
    };
    let index = value("--device").and_then(|text| text.parse().ok()).unwrap_or(0);
    let found = match devices() {
        Ok(found) => found,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let work = std::env::temp_dir().join(format!("orion-device-check-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&work) {
        eprintln!("error: making `{}` failed: {error}", work.display());
        return ExitCode::from(2);
    }
    let only_fixtures = value("--only").is_some_and(|what| what == "fixtures");
    let started = Instant::now();
    let (rows, speeds) = checks(&fixtures, index, only_fixtures, &work);
    // What could not be removed is in the folder for such things.
    let _ = std::fs::remove_dir_all(&work);
    let passed = rows.iter().all(|row| row["passed"] == true);
    let record = json!({
        "date": value("--date"), "orion": env!("CARGO_PKG_VERSION"), "sanitizer": value("--sanitizer"),
        "devices": found.iter().map(ToString::to_string).collect::<Vec<_>>(), "device": index,
        "seconds": started.elapsed().as_secs_f64(), "passed": passed, "checks": rows, "speed": speeds,
    });
    println!("{record:#}");
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
