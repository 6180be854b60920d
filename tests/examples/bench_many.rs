//! Very many searches at once, each with a deadline: everybody is answered in time, and memory stays bounded.
//!
//! `bench_many STRATEGY SEARCHES DEADLINE_MS [MINILM]`: starts all searches over the bundled corpus at the same instant.
//! With MINILM the dense half and the embedded policy take part; without, both are left out. Prints one JSON object:
//! milliseconds until each was answered, how many were degraded and why, and how far resident memory rose.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use orion_host::index::{Encoder, EncoderOptions};
use orion_host::policy::{EmbeddedCheckpoint, Policy, PolicyOptions, Source};
use orion_host::{CancelToken, EmbeddedRetriever, Host, HostOptions, Limits, Request, Services};

use common::{Result, index_corpus, two_hop_queries};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, searches, deadline_ms, minilm) = match arguments.as_slice() {
        [name, searches, deadline] => (name, searches.parse()?, deadline.parse()?, None),
        [name, searches, deadline, minilm] => (name, searches.parse()?, deadline.parse()?, Some(minilm)),
        _ => return Err("usage: bench_many STRATEGY SEARCHES DEADLINE_MS [MINILM]".into()),
    };
    let encoder = match minilm {
        Some(folder) => Some(Arc::new(Encoder::load_with(Path::new(folder), &EncoderOptions::default())?)),
        None => None,
    };
    let place = tempfile::tempdir()?;
    let index = index_corpus(place.path(), encoder)?;
    let retrieve = Arc::new(EmbeddedRetriever(index.searcher()));
    let mut services = Services::retrieval_only(retrieve);
    if minilm.is_some() {
        let source = Source::Embedded(EmbeddedCheckpoint::nano()?);
        services.generate = Some(Arc::new(Policy::load(&source, &PolicyOptions::default())?));
    }
    let host = Arc::new(Host::new(HostOptions::default())?);
    let component = orion_bundle::component(name).ok_or_else(|| format!("`{name}` is not bundled"))?;
    let strategy = host.load_bytes(name, component.bytes)?;
    let limits = Limits { deadline_ms, ..Limits::default() };
    let queries = two_hop_queries(usize::MAX)?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let before_bytes = memory_bytes("VmRSS")?;
    let started = Instant::now();
    let answered = runtime.block_on(async {
        let tasks: Vec<_> = (0..searches)
            .map(|number: usize| {
                let (host, strategy) = (host.clone(), strategy.clone());
                let (services, limits) = (services.clone(), limits.clone());
                let query = queries[number % queries.len()].clone();
                tokio::spawn(async move {
                    let request = Request { seed: number as u64, ..Request::new(query, 10) };
                    let outcome =
                        host.search(&strategy, request, &services, &limits, CancelToken::new(), None);
                    let outcome = outcome.await;
                    (started.elapsed().as_secs_f64() * 1e3, outcome)
                })
            })
            .collect();
        let mut answered = Vec::with_capacity(searches);
        for task in tasks {
            answered.push(task.await?);
        }
        Ok::<_, tokio::task::JoinError>(answered)
    })?;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut empty = 0;
    let mut times = Vec::with_capacity(answered.len());
    for (elapsed_ms, outcome) in &answered {
        times.push(*elapsed_ms);
        empty += usize::from(outcome.ranking.is_empty());
        let reason = outcome.degraded.as_ref().map_or("none".to_owned(), ToString::to_string);
        *reasons.entry(reason).or_default() += 1;
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let report = serde_json::json!({
        "strategy": name,
        "searches": searches,
        "deadline_ms": deadline_ms,
        "answered_p50_ms": at(0.5),
        "answered_last_ms": at(1.0),
        "degraded": reasons,
        "without_a_ranking": empty,
        "memory_rose_mb": (memory_bytes("VmHWM")? - before_bytes) / 1e6,
    });
    println!("{report}");
    Ok(())
}

/// A field of this process's status, which Linux gives in kB.
fn memory_bytes(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such field in /proc")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).ok_or("a field without a value")?.parse()?;
    Ok(kilobytes * 1024.0)
}
