//! Speed of a policy from a GGUF file or a folder, by turns with another program on the same weights.
//!
//! `cargo run --release -p orion-policy --example bench_gguf -- FILE.gguf [--weights FORMAT] [--threads N] [--turns N]
//! [--beam N] [--children N] [--tokens N] [--prefix N] [--response N] [--rounds N] [--peer PROGRAM ARGUMENT ..]`
//!
//! Three loads: reading a prompt; one stream of tokens; and a tree search, in which every turn each of `beam` nodes
//! proposes `children` candidates of `tokens` tokens, each candidate reads a response, and `beam` of them survive. The
//! peer is started once with the same numbers and does each load right after ours (see `tests/bench/policy/turns.py`);
//! prompt and stream are repeated `rounds` times. Prints one JSON object: medians, and as `ratio` the median of the
//! turns' own ratios, above 1 where ours is faster.

#[path = "support/waiting.rs"]
mod waiting;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use orion_policy::{
    NodeId, Policy, PolicyOptions, Sampling, Segment, Session, Snippet, Source, WeightFormat,
};
use serde_json::{Value, json};

use waiting::block_on;

/// Streams of each round: they are short beside a prompt.
const DECODES_A_ROUND: u32 = 4;

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

/// A policy and what its loads begin at.
struct Bench<'a> {
    policy: Policy,
    session: Session,
    root: NodeId,
    prompt: String,
    response: Vec<Snippet>,
    loads: &'a Loads,
    load_s: f64,
    /// Right after loading: without and with pages of mapped files.
    resident: (f64, f64),
}

fn load(file: PathBuf, weights: WeightFormat, loads: &Loads) -> Result<Bench<'_>, String> {
    let options =
        PolicyOptions { threads: loads.get("threads") as usize, weights, ..PolicyOptions::default() };
    let started = Instant::now();
    let policy = Policy::load(&Source::Folder(file), &options).map_err(|error| error.to_string())?;
    let (load_s, resident) = (started.elapsed().as_secs_f64(), resident_mb());
    let session = policy.session();
    let prompt = text_of(&policy, loads.get("prefix"));
    let root = extend(&session, None, Segment::UserQuery(prompt.clone()))?;
    let response = vec![Snippet { title: String::new(), text: text_of(&policy, loads.get("response")) }];
    Ok(Bench { policy, session, root, prompt, response, loads, load_s, resident })
}

impl Bench<'_> {
    /// Tokens a second of reading the prompt.
    fn prefill(&self) -> Result<f64, String> {
        let before = self.session.usage().prefilled_tokens;
        let started = Instant::now();
        extend(&self.session, None, Segment::UserQuery(self.prompt.clone()))?;
        let seconds = started.elapsed().as_secs_f64();
        Ok((self.session.usage().prefilled_tokens - before) as f64 / seconds)
    }

    /// Tokens a second of one stream.
    fn decode(&self, seed: u64) -> Result<f64, String> {
        let settings = sampling(1, self.loads.get("tokens"), seed);
        let started = Instant::now();
        let one = block_on(self.session.propose(vec![self.root], settings));
        let seconds = started.elapsed().as_secs_f64();
        let proposed = one.map_err(|error| error.to_string())?;
        let sampled: u32 = proposed.iter().flatten().map(|candidate| candidate.tokens).sum();
        Ok(f64::from(sampled) / seconds)
    }

    /// One turn of the tree: the nodes that survive.
    fn tree_turn(&self, nodes: Vec<NodeId>, seed: u64) -> Result<Vec<NodeId>, String> {
        let settings = sampling(self.loads.get("children"), self.loads.get("tokens"), seed);
        let proposed = block_on(self.session.propose(nodes, settings)).map_err(|error| error.to_string())?;
        let steps = proposed
            .concat()
            .iter()
            .map(|candidate| (Some(candidate.node), vec![Segment::TopKResponse(self.response.clone())]))
            .collect();
        let read = block_on(self.session.extend(steps)).map_err(|error| error.to_string())?;
        Ok(read.into_iter().take(self.loads.get("beam") as usize).collect())
    }
}

/// The other program, which does a load when it is told to.
struct Peer {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    load_s: f64,
}

impl Peer {
    fn start(command: &[String], model: &str, loads: &Loads) -> Result<Option<Self>, String> {
        let Some((program, rest)) = command.split_first() else { return Ok(None) };
        let mut line = Command::new(program);
        line.args(rest).arg("--model").arg(model);
        for (name, value) in &loads.0 {
            line.arg(format!("--{name}")).arg(value.to_string());
        }
        let started = line.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("starting `{program}` failed: {error}"))?;
        let (Some(requests), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("starting `{program}`: expected its input and output, got none"));
        };
        let mut peer = Self { child, requests, replies: BufReader::new(replies), load_s: 0.0 };
        peer.load_s = peer.number("load_s")?;
        Ok(Some(peer))
    }

    /// Seconds of one load.
    fn run(&mut self, load: &str) -> Result<f64, String> {
        let sent = writeln!(self.requests, "{load}").and_then(|()| self.requests.flush());
        sent.map_err(|error| format!("asking the peer for `{load}` failed: {error}"))?;
        self.number("seconds")
    }

    fn number(&mut self, key: &str) -> Result<f64, String> {
        let mut line = String::new();
        let read = self.replies.read_line(&mut line);
        let value = read.ok().and_then(|_| serde_json::from_str::<Value>(&line).ok());
        let number = value.and_then(|object| object[key].as_f64());
        number.ok_or_else(|| format!("reading the peer's answer: expected `{key}`, got `{}`", line.trim()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Figures of one load, turn by turn: ours and, where there is one, the peer's.
#[derive(Default)]
struct Turns(Vec<(f64, Option<f64>)>);

impl Turns {
    /// Medians; `faster` is the ratio of a turn.
    fn report(&self, faster: impl Fn(f64, f64) -> f64) -> Value {
        let ours = median(self.0.iter().map(|(own, _)| *own).collect());
        let theirs = median(self.0.iter().filter_map(|(_, other)| *other).collect());
        let ratios = self.0.iter().filter_map(|(own, other)| other.map(|value| faster(*own, value)));
        json!({ "orion": ours, "peer": theirs, "ratio": median(ratios.collect()) })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn measure(
    file: &str,
    weights: WeightFormat,
    loads: &Loads,
    rounds: u32,
    command: &[String],
) -> Result<Value, String> {
    let bench = load(PathBuf::from(file), weights, loads)?;
    let mut peer = Peer::start(command, file, loads)?;
    let (mut prefill, mut decode, mut tree) = (Turns::default(), Turns::default(), Turns::default());
    let (prefix, tokens) = (f64::from(loads.get("prefix")), f64::from(loads.get("tokens")));
    for round in 0..rounds {
        let own = bench.prefill()?;
        let other = peer.as_mut().map(|one| one.run("prefill")).transpose()?;
        prefill.0.push((own, other.map(|seconds| prefix / seconds)));
        for part in 0..DECODES_A_ROUND {
            let streamed = bench.decode(u64::from(round * DECODES_A_ROUND + part) + 100)?;
            let streamed_there = peer.as_mut().map(|one| one.run("decode")).transpose()?;
            decode.0.push((streamed, streamed_there.map(|seconds| tokens / seconds)));
        }
    }
    let (steps_before, usage_before) = (bench.policy.counters().steps, bench.session.usage());
    let mut nodes = vec![bench.root];
    for turn in 0..loads.get("turns") {
        let turn_started = Instant::now();
        nodes = bench.tree_turn(nodes, u64::from(turn) + 2)?;
        let own = turn_started.elapsed().as_secs_f64();
        tree.0.push((own, peer.as_mut().map(|one| one.run(&format!("tree {turn}"))).transpose()?));
    }
    let usage = bench.session.usage();
    let ours: f64 = tree.0.iter().map(|(own, _)| own).sum();
    let theirs: Option<f64> = tree.0.iter().map(|(_, other)| *other).sum();
    Ok(json!({
        "load_s": { "orion": bench.load_s, "peer": peer.as_ref().map(|one| one.load_s) },
        "resident_own_mb": { "orion": bench.resident.0 },
        "resident_mb": { "orion": bench.resident.1 },
        "prefill_tokens_per_s": prefill.report(|own, other| own / other),
        "decode_tokens_per_s": decode.report(|own, other| own / other),
        "tree_s": { "orion": ours, "peer": theirs, "ratio": theirs.map(|seconds| seconds / ours) },
        "tree_tokens_decoded": { "orion": usage.decoded_tokens - usage_before.decoded_tokens },
        "tree_tokens_prefilled": { "orion": usage.prefilled_tokens - usage_before.prefilled_tokens },
        "tree_steps": { "orion": bench.policy.counters().steps - steps_before },
    }))
}

fn run() -> Result<(), String> {
    let mut loads = Loads::new();
    let mut arguments = std::env::args().skip(1);
    let (mut file, mut peer, mut rounds, mut weights) = (None, Vec::new(), 3, WeightFormat::AsStored);
    while let Some(argument) = arguments.next() {
        let Some(name) = argument.strip_prefix("--") else {
            file = Some(argument);
            continue;
        };
        if name == "peer" {
            peer.extend(arguments.by_ref());
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        if name == "weights" {
            weights = value.parse().map_err(|error: orion_policy::UnknownWeightFormat| error.to_string())?;
            continue;
        }
        let number = value.parse().ok().filter(|number| 0 < *number);
        let known = number.is_some_and(|count| {
            if name == "rounds" {
                rounds = count;
                return true;
            }
            loads.set(name, count)
        });
        if !known {
            return Err(format!(
                "`{argument}`: expected a known option and a positive number, got `{value}`"
            ));
        }
    }
    let path = file.ok_or_else(|| "expected a .gguf file or a folder".to_owned())?;
    println!("{}", measure(&path, weights, &loads, rounds, &peer)?);
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
