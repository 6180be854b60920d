//! Percentiles and throughput by kind of search and number of clients, and what happens when there are far too many.

use std::path::Path;
use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::server::{Server, queries};

const CLIENTS: [usize; 5] = [1, 2, 4, 8, 16];
const KINDS: [&str; 4] = ["lexical", "hybrid", "adaptive", "auto"];
/// Where the bundled corpus is searched.
pub(crate) const PATH: &str = "/isles/_search";
/// Clients of the last phase, for 4 places and 4 that wait.
const TOO_MANY: usize = 48;

/// The body of one search.
pub(crate) fn body(kind: &str, query: &str) -> String {
    let plain = json!({ "match": { "text": query } });
    match kind {
        "lexical" => json!({ "query": plain }),
        "hybrid" => {
            json!({ "query": plain, "ext": { "adaptive": { "strategy": "hybrid", "policy": "none" } } })
        }
        "auto" => json!({ "query": plain, "ext": { "adaptive": { "mode": "auto" } } }),
        _ => json!({ "query": plain, "ext": { "adaptive": { "strategy": "beam" } } }),
    }
    .to_string()
}

/// What became of all requests of one phase.
#[derive(Default)]
struct Seen {
    milliseconds: Vec<f64>,
    degraded: u64,
    refused: u64,
    wrong: Vec<String>,
}

/// Throughput and percentiles of the times of one phase, which are sorted.
pub(crate) fn percentiles(milliseconds: &mut [f64], seconds: f64) -> Value {
    milliseconds.sort_by(f64::total_cmp);
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let percentile = |share: f64| {
        let last = milliseconds.len().saturating_sub(1) as f64;
        milliseconds.get((last * share).round() as usize).copied().map(rounded)
    };
    json!({
        "answered": milliseconds.len(),
        "per_second": rounded(milliseconds.len() as f64 / seconds),
        "p50_ms": percentile(0.5),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
    })
}

/// What `clients`, spread over the servers, see of searches of one kind at a path.
pub(crate) fn phase(
    servers: &[Server],
    path: &str,
    kind: &str,
    clients: usize,
    duration: Duration,
    texts: &[String],
) -> Result<Value> {
    let (next, start) = (&AtomicUsize::new(0), Instant::now());
    let work = move |server: &Server| {
        let mut client = server.client()?;
        let mut seen = Seen::default();
        while start.elapsed() < duration {
            let text = &texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()];
            let asked = Instant::now();
            let (status, answer) = client.ask("POST", path, &body(kind, text))?;
            match status {
                200 => {
                    seen.milliseconds.push(asked.elapsed().as_secs_f64() * 1e3);
                    let reply: Value = serde_json::from_str(&answer)?;
                    seen.degraded += u64::from(!reply["ext"]["adaptive"]["degraded"].is_null());
                }
                429 => {
                    seen.refused += 1;
                    // As a polite client would; a second would leave nothing to measure.
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => seen.wrong.push(format!("{status} {answer}")),
            }
        }
        Ok(seen)
    };
    let all: Vec<Result<Seen>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            servers.iter().cycle().take(clients).map(|server| scope.spawn(move || work(server))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut sum = Seen::default();
    for seen in all {
        let mut seen = seen?;
        sum.milliseconds.append(&mut seen.milliseconds);
        sum.degraded += seen.degraded;
        sum.refused += seen.refused;
        sum.wrong.append(&mut seen.wrong);
    }
    let mut shown = percentiles(&mut sum.milliseconds, seconds);
    let counts = json!({
        "kind": kind,
        "clients": clients,
        "degraded": sum.degraded,
        "refused": sum.refused,
        "wrong": sum.wrong.len(),
        "first_wrong": sum.wrong.first(),
    });
    if let (Some(shown), Value::Object(counts)) = (shown.as_object_mut(), counts) {
        shown.extend(counts);
    }
    Ok(shown)
}

pub(crate) fn run(program: &Path, models: Option<&Path>, duration: Duration) -> Result<(Value, bool)> {
    let texts = queries()?;
    let server = Server::start(program, models, "[adaptive]\nms = 5000")?;
    let mut phases = Vec::new();
    for kind in KINDS {
        // What is compiled or loaded with the first use is not measured.
        let (status, answer) = server.client()?.ask("POST", PATH, &body(kind, &texts[0]))?;
        if status != 200 {
            return Err(format!("the first {kind} search: {status} {answer}").into());
        }
        for clients in CLIENTS {
            let phase = phase(from_ref(&server), PATH, kind, clients, duration, &texts)?;
            eprintln!("{phase}");
            phases.push(phase);
        }
    }
    drop(server);
    let server = Server::start(program, models, "[bounds]\nadaptive_searches = 4\n[adaptive]\nms = 1000")?;
    let overload = phase(from_ref(&server), PATH, "adaptive", TOO_MANY, duration, &texts)?;
    eprintln!("{overload}");
    let is_sound = phases.iter().chain([&overload]).all(|phase| phase["wrong"] == 0)
        && phases.iter().all(|phase| phase["answered"] != 0)
        // Of so many there must have been some that were told to come back.
        && overload["refused"] != 0
        && overload["answered"] != 0;
    Ok((json!({ "seconds_a_phase": duration.as_secs(), "phases": phases, "overload": overload }), is_sound))
}
