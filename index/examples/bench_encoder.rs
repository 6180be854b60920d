//! Measures the encoder, by itself or taking turns with a peer process on the same texts.
//!
//! `bench_encoder --model DIR [--threads N] [--rounds N] [--peer COMMAND...]`
//!
//! The peer speaks the line protocol of `tests/bench/minilm/peer.py`. Rounds alternate between the two, so that
//! other load on the machine weighs on both; medians of rounds are printed as one JSON object on stdout.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use orion_index::{Encoder, EncoderOptions};
use orion_kernels::{Threads, cpu_level};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Texts of one kind and how they are sent.
struct Load {
    name: &'static str,
    texts: Vec<String>,
    /// Sent one at a time: the figure is milliseconds a text. Otherwise in one call: texts a second.
    one_by_one: bool,
}

fn main() -> Outcome<()> {
    let options = Options::parse()?;
    let threads = Threads::new(options.threads);
    let encoder =
        Encoder::load_with(&options.model, &EncoderOptions { cached_texts: 0, ..Default::default() })?;
    let mut peer = options.peer.as_deref().map(Peer::start).transpose()?;
    let mut report = json!({
        "threads": options.threads, "rounds": options.rounds, "cpu_level": cpu_level(),
        "peer": peer.as_ref().map(|p| p.about.clone()),
    });
    for load in loads() {
        let texts: Vec<&str> = load.texts.iter().map(String::as_str).collect();
        let call = if load.one_by_one { 1 } else { texts.len() };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first round warms both up and compares what they answer.
        let vectors = encoder.encode_on(&texts, &threads)?;
        let mut worst_cosine = None;
        if let Some(peer) = &mut peer {
            let (_, expected) = peer.encode(&texts, true)?;
            let lowest = vectors.iter().zip(&expected).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
            worst_cosine = Some(lowest);
        }
        for _ in 0..options.rounds {
            for part in texts.chunks(call) {
                let start = Instant::now();
                encoder.encode_on(part, &threads)?;
                ours.push(start.elapsed().as_secs_f64());
                if let Some(peer) = &mut peer {
                    theirs.push(peer.encode(part, false)?.0);
                }
            }
        }
        let figure = |seconds: &mut Vec<f64>| {
            let median = median(seconds);
            if load.one_by_one { median * 1e3 } else { call as f64 / median }
        };
        let (own, other) = (figure(&mut ours), (!theirs.is_empty()).then(|| figure(&mut theirs)));
        // Above 1 where we are faster.
        let ratio = other.map(|other| if load.one_by_one { other / own } else { own / other });
        report[load.name] = json!({
            "unit": if load.one_by_one { "milliseconds a text" } else { "texts a second" },
            "orion": own, "peer": other, "ratio": ratio, "worst_cosine": worst_cosine,
        });
    }
    println!("{report:#}");
    Ok(())
}

/// Full windows, passages of mixed length, and queries.
fn loads() -> Vec<Load> {
    const WORDS: [&str; 16] = [
        "river", "carries", "cold", "water", "from", "the", "northern", "hills", "to", "a", "wide", "grey",
        "sea", "and", "feeds", "towns",
    ];
    let text = |seed: usize, words: usize| -> String {
        (0..words).map(|i| WORDS[(seed * 7 + i * i + i) % WORDS.len()]).collect::<Vec<_>>().join(" ")
    };
    let long = (0..32).map(|i| text(i, 254)).collect();
    let mixed = (0..64).map(|i| text(i, 10 + i * 53 % 240)).collect();
    let queries = (0..20).map(|i| text(i, 5 + i % 8)).collect();
    vec![
        Load { name: "windows_of_256_tokens", texts: long, one_by_one: false },
        Load { name: "passages_of_12_to_252_tokens", texts: mixed, one_by_one: false },
        Load { name: "one_query_of_7_to_14_tokens", texts: queries, one_by_one: true },
    ]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

struct Options {
    model: PathBuf,
    threads: usize,
    rounds: usize,
    peer: Option<Vec<String>>,
}

impl Options {
    fn parse() -> Outcome<Self> {
        let mut options = Self { model: "models/all-MiniLM-L6-v2".into(), threads: 2, rounds: 5, peer: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("`{name}` expects a value"));
            match name.as_str() {
                "--model" => options.model = value()?.into(),
                "--threads" => options.threads = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--peer" => options.peer = Some(arguments.by_ref().collect()),
                _ => return Err(format!("`{name}` is not an option").into()),
            }
        }
        Ok(options)
    }
}

/// A running peer process.
struct Peer {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    about: Value,
}

impl Peer {
    fn start(command: &[String]) -> Outcome<Self> {
        let (program, arguments) = command.split_first().ok_or("`--peer` expects a command")?;
        let mut child =
            Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take().ok_or("the peer has no input")?;
        let replies = BufReader::new(child.stdout.take().ok_or("the peer has no output")?);
        let mut peer = Self { child, requests, replies, about: Value::Null };
        peer.about = peer.line()?;
        Ok(peer)
    }

    /// Seconds that the peer took, and its vectors where asked for.
    fn encode(&mut self, texts: &[&str], vectors: bool) -> Outcome<(f64, Vec<Vec<f32>>)> {
        writeln!(self.requests, "{}", json!({ "texts": texts, "vectors": vectors }))?;
        self.requests.flush()?;
        let reply = self.line()?;
        let seconds = reply["seconds"][0].as_f64().ok_or("the peer gave no time")?;
        let answer = if vectors { serde_json::from_value(reply["vectors"].clone())? } else { Vec::new() };
        Ok((seconds, answer))
    }

    fn line(&mut self) -> Outcome<Value> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Err("the peer ended".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
