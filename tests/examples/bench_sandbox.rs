//! What the sandbox costs a whole search: `beam` as a component beside the same `beam` compiled into this program.
//!
//! `bench_sandbox MINILM [SEARCHES]`: two-hop queries over the bundled corpus with the embedded policy, 4 turns, beam
//! 2 x 2. Each query is searched natively and in the sandbox by turns, with the real index and model; then both again,
//! many times, over the noted answers of index and model, which leaves the strategy's own time and the sandbox's. All
//! four must give the same ranking. Prints one JSON object of medians.

mod common;
#[path = "common/native.rs"]
mod native;
#[path = "common/settings.rs"]
mod settings;
#[path = "common/tape.rs"]
mod tape;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use orion_host::index::{Encoder, EncoderOptions};
use orion_host::policy::{EmbeddedCheckpoint, Policy, PolicyOptions, Source};
use orion_host::{CancelToken, EmbeddedRetriever, Host, HostOptions, Limits, Request, Services, Strategy};
use orion_sdk::Strategy as _;

use common::{Result, index_corpus, two_hop_queries};
use native::NativeHost;
use settings::beam_options;
use tape::Tape;

/// Searches over noted answers for each query: they take a fraction of a millisecond each.
const REPEATS: usize = 200;
/// Documents of each answer.
const K: u32 = 10;

/// The ids of a ranking, and how many seconds it took.
type Timed = (Vec<String>, f64);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let minilm = arguments.next().ok_or("usage: bench_sandbox MINILM [SEARCHES]")?;
    let searches: usize = arguments.next().map_or(Ok(20), |count| count.parse())?;

    // Nothing is remembered between searches, so that each pays for its encodings.
    let options = EncoderOptions { cached_texts: 0, ..EncoderOptions::default() };
    let encoder = Arc::new(Encoder::load_with(Path::new(&minilm), &options)?);
    let place = tempfile::tempdir()?;
    let index = index_corpus(place.path(), Some(encoder))?;
    let policy = Policy::load(&Source::Embedded(EmbeddedCheckpoint::nano()?), &PolicyOptions::default())?;
    let retrieve = Arc::new(EmbeddedRetriever(index.searcher()));
    let services = Services { generate: Some(Arc::new(policy)), ..Services::retrieval_only(retrieve) };
    let host = Host::new(HostOptions::default())?;
    let component = orion_bundle::component("beam").ok_or("`beam` is not bundled")?;
    let beam = host.load_bytes("beam", component.bytes)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut real = Column::default();
    let mut taped = Column::default();
    let mut calls = Vec::new();
    for (number, query) in two_hop_queries(searches + 1)?.into_iter().enumerate() {
        let tape = Tape::default();
        let (expected, native_s) = natively(&runtime, &query, &tape.recorder(&services))?;
        let (ranking, sandbox_s) = sandboxed(&host, &beam, &query, &services)?;
        agree(&query, &expected, &ranking)?;
        // The first search warms up.
        if number == 0 {
            continue;
        }
        real.push(native_s, sandbox_s);
        calls.push(tape.calls() as f64);
        let mut repeated = Column::default();
        for _ in 0..REPEATS {
            let (ranking, native_s) = natively(&runtime, &query, &tape.player())?;
            agree(&query, &expected, &ranking)?;
            let (ranking, sandbox_s) = sandboxed(&host, &beam, &query, &tape.player())?;
            agree(&query, &expected, &ranking)?;
            repeated.push(native_s, sandbox_s);
        }
        taped.push(median(&mut repeated.native), median(&mut repeated.sandbox));
    }
    let (native_ms, sandbox_ms) = (median(&mut real.native) * 1e3, median(&mut real.sandbox) * 1e3);
    let (own_native_us, own_sandbox_us) = (median(&mut taped.native) * 1e6, median(&mut taped.sandbox) * 1e6);
    let report = serde_json::json!({
        "search_native_p50_ms": native_ms,
        "search_sandbox_p50_ms": sandbox_ms,
        "without_services_native_p50_us": own_native_us,
        "without_services_sandbox_p50_us": own_sandbox_us,
        "overhead_percent_of_a_search": (own_sandbox_us - own_native_us) / 1e3 / native_ms * 100.0,
        "service_calls": median(&mut calls),
    });
    println!("{report}");
    Ok(())
}

/// Seconds of both ways.
#[derive(Default)]
struct Column {
    native: Vec<f64>,
    sandbox: Vec<f64>,
}

impl Column {
    fn push(&mut self, native: f64, sandbox: f64) {
        self.native.push(native);
        self.sandbox.push(sandbox);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn natively(runtime: &tokio::runtime::Runtime, query: &str, services: &Services) -> Result<Timed> {
    let mut request = orion_sdk::Request::new(query, K, 0);
    for (name, value) in beam_options() {
        request = request.with(&name, value);
    }
    let started = Instant::now();
    let mut host = NativeHost::new(services, runtime);
    let outcome = orion_beam::Beam::search(&mut host, &request)
        .map_err(|error| format!("`{query}` natively: expected an answer, got {error:?}"))?;
    let seconds = started.elapsed().as_secs_f64();
    Ok((outcome.ranking.into_iter().map(|hit| hit.id).collect(), seconds))
}

fn sandboxed(host: &Host, beam: &Arc<Strategy>, query: &str, services: &Services) -> Result<Timed> {
    let request = Request { options: beam_options(), ..Request::new(query, K) };
    let started = Instant::now();
    let outcome = host.search_blocking(beam, request, services, &Limits::unhurried(), CancelToken::new());
    let seconds = started.elapsed().as_secs_f64();
    if let Some(degraded) = &outcome.degraded {
        return Err(format!("`{query}` in the sandbox: expected an answer, got {degraded}").into());
    }
    Ok((outcome.ranking.into_iter().map(|hit| hit.id).collect(), seconds))
}

fn agree(query: &str, expected: &[String], got: &[String]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(format!("`{query}`: expected the same ranking both ways, got {expected:?} and {got:?}").into())
}
