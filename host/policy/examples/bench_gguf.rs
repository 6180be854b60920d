//! Speed of a policy from a GGUF file, beside another program with the same file.
//!
//! `cargo run --release -p orion-policy --example bench_gguf -- FILE.gguf [--threads N] [--turns N] [--beam N]
//! [--children N] [--tokens N] [--prefix N] [--response N] [--peer PROGRAM ARGUMENT ..]`
//!
//! Three loads: reading a prompt; one stream of tokens; and a tree search, in which every turn each of `beam` nodes
//! proposes `children` candidates of `tokens` tokens, each candidate reads a response, and `beam` of them survive. The
//! peer is called with the same numbers after ours has ended, and prints the same keys. Prints one JSON object.

#[path = "support/waiting.rs"]
mod waiting;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use orion_policy::{NodeId, Policy, PolicyOptions, Sampling, Segment, Session, Snippet, Source};

use waiting::block_on;

/// Numbers of the loads, under the names of their options.
struct Loads(Vec<(&'static str, u32)>);

impl Loads {
    fn new() -> Self {
        Self(vec![
            ("threads", 2),
            ("turns", 4),
            ("beam", 4),
            ("children", 4),
            ("tokens", 60),
            ("prefix", 500),
            ("response", 80),
        ])
    }

    fn get(&self, name: &str) -> u32 {
        self.0.iter().find(|(own, _)| *own == name).map_or(0, |(_, value)| *value)
    }

    fn set(&mut self, name: &str, value: u32) -> bool {
        self.0.iter_mut().filter(|(own, _)| *own == name).map(|(_, place)| *place = value).count() > 0
    }
}

/// A text of that many tokens: short words, each a pair of letters behind a space or not.
fn text_of(policy: &Policy, tokens: u32) -> String {
    let mut text = String::new();
    while policy.token_count(&text) < tokens as usize {
        text.push_str("ab cd ef gh ");
    }
    text
}

fn sampling(children: u32, tokens: u32, seed: u64) -> Sampling {
    Sampling {
        candidates: children,
        temperature: 1.0,
        // Random weights spread over the whole vocabulary, which a nucleus would sort at every token.
        top_p: 1.0,
        max_think_tokens: tokens - 1,
        max_query_tokens: 1,
        seed,
    }
}

fn extend(session: &Session, parent: Option<NodeId>, segment: Segment) -> Result<NodeId, String> {
    let nodes = block_on(session.extend(vec![(parent, vec![segment])])).map_err(|error| error.to_string())?;
    nodes.first().copied().ok_or_else(|| "no node".to_owned())
}

/// Resident megabytes of this process: without and with pages of mapped files.
fn resident_mb() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
    };
    (read("RssAnon:"), read("VmRSS:"))
}

fn measure(file: PathBuf, loads: &Loads) -> Result<Vec<(&'static str, f64)>, String> {
    let started = Instant::now();
    let options = PolicyOptions { threads: loads.get("threads") as usize, ..PolicyOptions::default() };
    let policy = Policy::load(&Source::Folder(file), &options).map_err(|error| error.to_string())?;
    let mut out = vec![("load_s", started.elapsed().as_secs_f64())];
    let (own_mb, all_mb) = resident_mb();
    out.extend([("resident_own_mb", own_mb), ("resident_mb", all_mb)]);

    let session = policy.session();
    let prompt = text_of(&policy, loads.get("prefix"));
    extend(&session, None, Segment::UserQuery("warm".to_owned()))?;
    let before = session.usage().prefilled_tokens;
    let started = Instant::now();
    let root = extend(&session, None, Segment::UserQuery(prompt))?;
    let read = session.usage().prefilled_tokens - before;
    out.push(("prefill_tokens_per_s", read as f64 / started.elapsed().as_secs_f64()));

    let tokens = loads.get("tokens");
    let started = Instant::now();
    let one =
        block_on(session.propose(vec![root], sampling(1, tokens, 1))).map_err(|error| error.to_string())?;
    let sampled: u32 = one.iter().flatten().map(|candidate| candidate.tokens).sum();
    out.push(("decode_tokens_per_s", f64::from(sampled) / started.elapsed().as_secs_f64()));

    let response = vec![Snippet { title: String::new(), text: text_of(&policy, loads.get("response")) }];
    let (steps_before, usage_before) = (policy.counters().steps, session.usage());
    let started = Instant::now();
    let mut nodes = vec![root];
    for turn in 0..loads.get("turns") {
        let settings = sampling(loads.get("children"), tokens, u64::from(turn) + 2);
        let proposed =
            block_on(session.propose(nodes.clone(), settings)).map_err(|error| error.to_string())?.concat();
        let steps = proposed
            .iter()
            .map(|candidate| (Some(candidate.node), vec![Segment::TopKResponse(response.clone())]))
            .collect();
        let read = block_on(session.extend(steps)).map_err(|error| error.to_string())?;
        nodes = read.into_iter().take(loads.get("beam") as usize).collect();
    }
    let usage = session.usage();
    out.extend([
        ("tree_s", started.elapsed().as_secs_f64()),
        ("tree_tokens_decoded", (usage.decoded_tokens - usage_before.decoded_tokens) as f64),
        ("tree_tokens_prefilled", (usage.prefilled_tokens - usage_before.prefilled_tokens) as f64),
        ("tree_steps", (policy.counters().steps - steps_before) as f64),
    ]);
    Ok(out)
}

fn run() -> Result<(), String> {
    let mut loads = Loads::new();
    let mut arguments = std::env::args().skip(1);
    let (mut file, mut peer) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        if argument == "--peer" {
            peer.extend(arguments.by_ref());
        } else if let Some(name) = argument.strip_prefix("--") {
            let value = arguments.next().and_then(|text| text.parse().ok()).filter(|value| 0 < *value);
            let known = value.is_some_and(|number| loads.set(name, number));
            if !known {
                return Err(format!("`{argument}`: expected a known option and a positive number"));
            }
        } else {
            file = Some(argument);
        }
    }
    let path = file.ok_or_else(|| "expected a .gguf file".to_owned())?;
    let mut report = serde_json::Map::new();
    for (name, value) in measure(PathBuf::from(&path), &loads)? {
        report.insert(name.to_owned(), serde_json::json!({ "orion": value }));
    }
    if let Some((program, rest)) = peer.split_first() {
        let mut command = Command::new(program);
        command.args(rest).arg("--model").arg(&path);
        for (name, value) in &loads.0 {
            command.arg(format!("--{name}")).arg(value.to_string());
        }
        let output = command.output().map_err(|error| format!("starting `{program}` failed: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|error| {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("reading what `{program}` printed failed: {error}\n{said}")
            })?;
        for (name, value) in numbers {
            let entry = report.entry(name).or_insert_with(|| serde_json::json!({}));
            entry["peer"] = value;
        }
    }
    println!("{}", serde_json::Value::Object(report));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
