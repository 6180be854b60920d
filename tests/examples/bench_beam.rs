//! `beam` end to end, beside a floor: what its encodings and its tokens must cost on this machine.
//!
//! `bench_beam MINILM [SEARCHES]`: indexes the bundled corpus in a temporary folder, then runs one search after the other
//! with the embedded policy at 4 turns, beam 2 x 2, no two of the same query. The floor of a search is
//! 1. its search queries encoded alone, in the groups in which its turns sent them, plus
//! 2. its prefilled tokens times the policy's weights without the head, at the machine's peak of multiply-adds (the
//!    project's own kernel on a product that stays in cache), plus
//! 3. its decoded tokens times all weights at the same peak.
//!
//! Nothing else is in the floor: no attention, no lookups, no sandbox. The peak is measured before and after each
//! search, and the mean of both is its own: other tenants of a machine change its speed by the second. Prints one JSON
//! object of medians.

mod common;
#[path = "common/settings.rs"]
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use orion_host::index::{Encoder, EncoderOptions};
use orion_host::policy::{EmbeddedCheckpoint, Policy, PolicyOptions, Source};
use orion_host::{CancelToken, EmbeddedRetriever, Host, HostOptions, Limits, Outcome, Request, Services};
use orion_kernels::{Packed, Threads, linear};

use common::{Result, index_corpus, two_hop_queries};
use settings::beam_options;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let minilm = arguments.next().ok_or("usage: bench_beam MINILM [SEARCHES]")?;
    let searches: usize = arguments.next().map_or(Ok(20), |count| count.parse())?;

    // Nothing is remembered between searches, so that each pays for its encodings.
    let options = EncoderOptions { cached_texts: 0, ..EncoderOptions::default() };
    let encoder = Arc::new(Encoder::load_with(Path::new(&minilm), &options)?);
    let place = tempfile::tempdir()?;
    let index = index_corpus(place.path(), Some(encoder.clone()))?;
    let policy = Policy::load(&Source::Embedded(EmbeddedCheckpoint::nano()?), &PolicyOptions::default())?;
    let (body, all) = weights(&policy)?;
    let host = Host::new(HostOptions::default())?;
    let beam = orion_bundle::component("beam").ok_or("`beam` is not bundled")?;
    let beam = host.load_bytes("beam", beam.bytes)?;
    let retrieve = Arc::new(EmbeddedRetriever(index.searcher()));
    let policy = Arc::new(policy);
    let services = Services { generate: Some(policy.clone()), ..Services::retrieval_only(retrieve) };

    let mut peak_before = peak_multiply_adds_per_s();
    let mut columns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (number, query) in two_hop_queries(searches + 1)?.into_iter().enumerate() {
        let request = Request { options: beam_options(), ..Request::new(query, 10) };
        let steps_before = policy.counters().steps;
        let started = Instant::now();
        let outcome =
            host.search_blocking(&beam, request, &services, &Limits::unhurried(), CancelToken::new());
        let search_ms = started.elapsed().as_secs_f64() * 1e3;
        if let Some(degraded) = &outcome.degraded {
            return Err(format!("a search degraded: {degraded}").into());
        }
        let peak_after = peak_multiply_adds_per_s();
        let peak = f64::midpoint(peak_before, peak_after);
        let encoding_ms = encode_alone(&encoder, &outcome)?;
        peak_before = peak_multiply_adds_per_s();
        let cost = &outcome.cost;
        let operations = cost.tokens_prefilled as f64 * body + cost.tokens_decoded as f64 * all;
        let floor_ms = encoding_ms + operations / peak * 1e3;
        // The first search warms up.
        if number > 0 {
            for (name, value) in [
                ("search", search_ms),
                ("floor_ms", floor_ms),
                ("over_floor", search_ms / floor_ms),
                ("encoding_ms", encoding_ms),
                ("model_ms", cost.model_ms),
                ("model_steps", (policy.counters().steps - steps_before) as f64),
                ("retrieval_ms", cost.retrieval_ms),
                ("tokens_prefilled", cost.tokens_prefilled as f64),
                ("tokens_decoded", cost.tokens_decoded as f64),
                ("retrievals", cost.retrievals as f64),
                ("peak_giga_multiply_adds_per_s", peak / 1e9),
            ] {
                columns.entry(name).or_default().push(value);
            }
        }
    }
    let mut report = serde_json::Map::new();
    for (name, mut values) in columns {
        values.sort_by(f64::total_cmp);
        if name == "search" {
            report.insert("search_p90_ms".into(), values[values.len() * 9 / 10].into());
        }
        let key = if name == "search" { "search_p50_ms" } else { name };
        report.insert(key.into(), values[values.len() / 2].into());
    }
    println!("{}", serde_json::Value::Object(report));
    Ok(())
}

/// Multiply-adds a token costs in matrix products: without the head (reading), and with it (writing).
fn weights(policy: &Policy) -> Result<(f64, f64)> {
    let config: serde_json::Value = serde_json::from_slice(EmbeddedCheckpoint::nano()?.files()[0].1)?;
    let size = |name: &str| config[name].as_f64().ok_or_else(|| format!("config.json has no `{name}`"));
    let head = size("vocab_size")? * size("hidden_size")?;
    let all = policy.describe().parameters as f64;
    Ok((all - head, all))
}

/// Milliseconds to encode what the turns of a search encoded, in the same groups, with nothing else going on.
fn encode_alone(encoder: &Encoder, outcome: &Outcome) -> Result<f64> {
    let mut groups: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for branch in &outcome.trace.branches {
        if !matches!(branch.retriever, orion_host::contract::Retriever::Lexical) {
            groups.entry(branch.turn).or_default().push(&branch.query);
        }
    }
    let started = Instant::now();
    for group in groups.values() {
        encoder.encode(group)?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// Peak of this machine on all cores: the best of five runs of a product whose operands stay in cache.
fn peak_multiply_adds_per_s() -> f64 {
    const SIZE: usize = 256;
    const PRODUCTS: usize = 50;
    let weight = Packed::pack(&vec![0.5; SIZE * SIZE], SIZE, SIZE);
    let rows = vec![0.25; SIZE * SIZE];
    let mut out = vec![0.0; SIZE * SIZE];
    let best = (0..5)
        .map(|_| {
            let started = Instant::now();
            (0..PRODUCTS).for_each(|_| linear(&rows, SIZE, &weight, None, &mut out, Threads::global()));
            started.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (PRODUCTS * SIZE * SIZE * SIZE) as f64 / best
}
