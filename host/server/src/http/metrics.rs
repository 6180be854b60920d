//! Counters in Prometheus's text format.
//!
//! A hundred lines rather than a crate: what is counted is few and fixed, and the host's own numbers are snapshots that
//! would have to be copied into one anyway.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::StatusCode;
use orion_host::{Outcome, PluginStatistics, policy::PolicyCounters};

use super::{
    app::App,
    reply::{Answer, Reply, with_type},
};

/// Upper bounds of the latency histogram in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Histogram {
    fn note(&mut self, seconds: f64) {
        self.count += 1;
        self.sum_seconds += seconds;
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}

/// What is counted while the server runs.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    searches: Mutex<BTreeMap<(String, String), u64>>,
    latencies: Mutex<BTreeMap<String, Histogram>>,
    turns: AtomicU64,
    tokens_read: AtomicU64,
    tokens_written: AtomicU64,
    retrievals: AtomicU64,
    tools: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Requests at work.
    pub running: AtomicU64,
    /// Calls of tools at work.
    pub mcp_running: AtomicU64,
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `GET /_metrics`.
pub async fn answer(app: &Arc<App>) -> Answer {
    let shared = Arc::clone(app);
    let text = app.blocking(move || Ok(shared.metrics.text(&shared))).await?;
    Ok(Reply::Whole(with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)))
}

impl Metrics {
    /// Counts a request that was answered; `group` is one of a few names.
    pub fn request(&self, group: &'static str, status: u16, seconds: f64) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((group, status)).or_default() +=
            1;
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).entry(group).or_default().note(seconds);
    }

    /// Counts a call of a tool.
    pub fn mcp_call(&self, tool: &'static str, outcome: &'static str) {
        *self.tools.lock().unwrap_or_else(PoisonError::into_inner).entry((tool, outcome)).or_default() += 1;
    }

    /// Counts an adaptive search.
    pub fn search(&self, outcome: &Outcome) {
        let result =
            outcome.degraded.as_ref().map_or_else(|| "ok".to_owned(), |degraded| degraded.kind.to_string());
        let strategy = outcome.trace.strategy.clone();
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.entry(strategy.clone()).or_default().note(outcome.cost.total_ms / 1e3);
        drop(latencies);
        *self
            .searches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((strategy, result))
            .or_default() += 1;
        let turns = outcome.trace.branches.iter().map(|branch| branch.turn).max().unwrap_or(0);
        self.turns.fetch_add(u64::from(turns), Ordering::Relaxed);
        self.tokens_read.fetch_add(outcome.cost.tokens_prefilled, Ordering::Relaxed);
        self.tokens_written.fetch_add(outcome.cost.tokens_decoded, Ordering::Relaxed);
        self.retrievals.fetch_add(outcome.cost.retrievals, Ordering::Relaxed);
    }

    /// Everything, as text.
    pub fn text(&self, app: &App) -> String {
        let mut text = String::new();
        head(&mut text, "orion_http_requests_total", "counter", "Requests by kind and status.");
        for ((group, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            line(
                &mut text,
                "orion_http_requests_total",
                &format!("kind=\"{group}\",status=\"{status}\""),
                *count as f64,
            );
        }
        head(&mut text, "orion_http_request_seconds", "histogram", "Time to the answer, by kind.");
        for (group, histogram) in self.durations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            push_histogram(&mut text, "orion_http_request_seconds", &format!("kind=\"{group}\""), histogram);
        }
        head(&mut text, "orion_searches_total", "counter", "Adaptive searches by strategy and outcome.");
        for ((strategy, result), count) in self.searches.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let labels = format!("strategy=\"{}\",outcome=\"{result}\"", quoted(strategy));
            line(&mut text, "orion_searches_total", &labels, *count as f64);
        }
        head(&mut text, "orion_search_seconds", "histogram", "Time of adaptive searches, by strategy.");
        for (strategy, histogram) in self.latencies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            push_histogram(
                &mut text,
                "orion_search_seconds",
                &format!("strategy=\"{}\"", quoted(strategy)),
                histogram,
            );
        }
        head(&mut text, "orion_mcp_calls_total", "counter", "Calls of tools by name and outcome.");
        for ((tool, outcome), count) in self.tools.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = format!("tool=\"{tool}\",outcome=\"{outcome}\"");
            line(&mut text, "orion_mcp_calls_total", &labels, *count as f64);
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        for (name, help, value) in [
            ("orion_search_turns_total", "Turns of adaptive searches.", read(&self.turns)),
            ("orion_policy_tokens_read_total", "Tokens that policies read.", read(&self.tokens_read)),
            ("orion_policy_tokens_written_total", "Tokens that policies wrote.", read(&self.tokens_written)),
            ("orion_retrievals_total", "Lookups of adaptive searches.", read(&self.retrievals)),
        ] {
            head(&mut text, name, "counter", help);
            line(&mut text, name, "", value);
        }
        self.push_gauges(&mut text, app);
        push_model(&mut text, app);
        push_caches(&mut text, app);
        push_backends(&mut text, app);
        push_plugins(&mut text, app);
        text
    }

    fn push_gauges(&self, text: &mut String, app: &App) {
        head(text, "orion_requests_running", "gauge", "Requests at work.");
        line(text, "orion_requests_running", "", self.running.load(Ordering::Relaxed) as f64);
        head(text, "orion_mcp_calls_running", "gauge", "Calls of tools at work.");
        line(text, "orion_mcp_calls_running", "", self.mcp_running.load(Ordering::Relaxed) as f64);
        let (running, waiting) = app.adaptive_load();
        head(text, "orion_adaptive_running", "gauge", "Adaptive searches at work.");
        line(text, "orion_adaptive_running", "", running as f64);
        head(text, "orion_adaptive_waiting", "gauge", "Adaptive searches that wait for a place.");
        line(text, "orion_adaptive_waiting", "", waiting as f64);
        head(text, "orion_cursors", "gauge", "Scrolls and points in time that are held.");
        line(text, "orion_cursors", "", app.cursors.len() as f64);
        let collections = app.all_collections();
        head(text, "orion_index_documents", "gauge", "Searchable documents.");
        for one in &collections {
            line(
                text,
                "orion_index_documents",
                &format!("index=\"{}\"", one.name),
                one.searcher().len() as f64,
            );
        }
        head(text, "orion_index_waiting_documents", "gauge", "Documents acknowledged and not embedded yet.");
        for one in &collections {
            let waiting = one.waiting.load(Ordering::Relaxed) as f64;
            line(text, "orion_index_waiting_documents", &format!("index=\"{}\"", one.name), waiting);
        }
        head(text, "orion_index_queued_requests", "gauge", "Requests in the writer's queue.");
        for one in &collections {
            let queued = one.queued.load(Ordering::Relaxed) as f64;
            line(text, "orion_index_queued_requests", &format!("index=\"{}\"", one.name), queued);
        }
    }
}

/// One number of a policy's counters.
type PolicyNumber = fn(&PolicyCounters) -> f64;

/// What the policies' threads and the encoder do: the sizes of their batches, and what waits.
fn push_model(text: &mut String, app: &App) {
    let policies: Vec<(String, PolicyCounters)> = app
        .engine
        .policy_counters()
        .into_iter()
        .map(|(choice, counters)| (format!("policy=\"{}\"", quoted(&app.policy_name(&choice))), counters))
        .collect();
    let name = "orion_policy_batch_tokens";
    head(text, name, "summary", "Tokens that a policy's model takes at once, of all searches together.");
    for (labels, counters) in &policies {
        line(text, &format!("{name}_sum"), labels, counters.rows as f64);
        line(text, &format!("{name}_count"), labels, counters.steps as f64);
    }
    let numbers: [(&str, &str, &str, PolicyNumber); 5] = [
        ("orion_policy_sequences_running", "gauge", "Sequences that a policy works on.", |one| {
            one.active_sequences as f64
        }),
        (
            "orion_policy_sequences_waiting",
            "gauge",
            "Sequences that wait for a place or for memory.",
            |one| one.waiting_sequences as f64,
        ),
        ("orion_policy_state_bytes", "gauge", "What a policy remembers of the searches that run.", |one| {
            one.state_bytes as f64
        }),
        ("orion_policy_evicted_states_total", "counter", "States that were given up for room.", |one| {
            one.evicted_states as f64
        }),
        ("orion_policy_tokens_read_again_total", "counter", "Tokens of given up states.", |one| {
            one.recomputed_tokens as f64
        }),
    ];
    for (name, kind, help, number) in numbers {
        head(text, name, kind, help);
        for (labels, counters) in &policies {
            line(text, name, labels, number(counters));
        }
    }
    let counts = app.embed_counts();
    let name = "orion_encoder_batch_texts";
    head(text, name, "summary", "Texts that the sentence encoder is given at once.");
    line(text, &format!("{name}_sum"), "", counts.texts as f64);
    line(text, &format!("{name}_count"), "", counts.batches as f64);
}

/// `embeddings`: vectors of texts, on disk. `recent`: of the latest queries, in memory. `components`: compiled strategies.
fn push_caches(text: &mut String, app: &App) {
    let counts = app.embed_counts();
    let (compiled, not_compiled) = app.engine.host().compiled_hits_and_misses();
    let caches = [
        ("embeddings", counts.cached, counts.not_cached),
        ("recent", counts.remembered, counts.not_remembered),
        ("components", compiled, not_compiled),
    ];
    head(text, "orion_cache_hits_total", "counter", "What was found in a cache.");
    for (cache, hits, _) in caches {
        line(text, "orion_cache_hits_total", &format!("cache=\"{cache}\""), hits as f64);
    }
    head(text, "orion_cache_misses_total", "counter", "What was looked for in a cache and not found.");
    for (cache, _, misses) in caches {
        line(text, "orion_cache_misses_total", &format!("cache=\"{cache}\""), misses as f64);
    }
}

fn push_backends(text: &mut String, app: &App) {
    let all: Vec<_> = app.backends.engines().map(|engine| (engine.name(), engine.state())).collect();
    if all.is_empty() {
        return;
    }
    head(
        text,
        "orion_backend_calls_total",
        "counter",
        "Calls of other engines by outcome; retried counts attempts.",
    );
    for (name, state) in &all {
        let outcomes = [
            ("answered", state.answered),
            ("failed", state.failed),
            ("retried", state.retried),
            ("rested", state.rested),
        ];
        for (outcome, count) in outcomes {
            let labels = format!("backend=\"{}\",outcome=\"{outcome}\"", quoted(name));
            line(text, "orion_backend_calls_total", &labels, count as f64);
        }
    }
    head(text, "orion_backend_resting", "gauge", "Whether an engine is left alone after failures.");
    for (name, state) in &all {
        line(
            text,
            "orion_backend_resting",
            &format!("backend=\"{}\"", quoted(name)),
            f64::from(u8::from(state.is_resting)),
        );
    }
}

/// One number of a plugin's statistics.
type Number = fn(&PluginStatistics) -> f64;

fn push_plugins(text: &mut String, app: &App) {
    let all = app.engine.host().statistics();
    let numbers: [(&str, &str, Number); 6] = [
        ("orion_plugin_calls_total", "Searches of a plugin's version.", |one| one.calls as f64),
        ("orion_plugin_traps_total", "Traps of a plugin's version.", |one| one.traps as f64),
        ("orion_plugin_degraded_total", "Searches answered by the plain ranking.", |one| {
            one.degraded.values().sum::<u64>() as f64
        }),
        ("orion_plugin_fuel_total", "Instructions of a plugin's version.", |one| one.fuel as f64),
        ("orion_plugin_retrievals_total", "Lookups of a plugin's version.", |one| one.retrievals as f64),
        ("orion_plugin_tokens_total", "Tokens of a plugin's version.", |one| one.tokens as f64),
    ];
    for (name, help, number) in numbers {
        head(text, name, "counter", help);
        for one in &all {
            let labels = format!("plugin=\"{}\",version=\"{}\"", quoted(&one.name), quoted(&one.version));
            line(text, name, &labels, number(one));
        }
    }
    let gauges: [(&str, &str, Number); 2] = [
        ("orion_plugin_fuel_most", "Instructions of the greediest search.", |one| one.most_fuel as f64),
        ("orion_plugin_peak_memory_bytes", "The largest linear memory of any search.", |one| {
            one.peak_memory_bytes as f64
        }),
    ];
    for (name, help, number) in gauges {
        head(text, name, "gauge", help);
        for one in &all {
            let labels = format!("plugin=\"{}\",version=\"{}\"", quoted(&one.name), quoted(&one.version));
            line(text, name, &labels, number(one));
        }
    }
    let name = "orion_plugin_search_seconds";
    head(text, name, "summary", "Whole searches of a plugin's version.");
    for one in &all {
        let labels = format!("plugin=\"{}\",version=\"{}\"", quoted(&one.name), quoted(&one.version));
        let latency = &one.latency;
        for (quantile, ms) in [("0.5", latency.p50_ms), ("0.99", latency.p99_ms), ("1", latency.longest_ms)] {
            line(text, name, &format!("{labels},quantile=\"{quantile}\""), ms / 1e3);
        }
        line(text, &format!("{name}_sum"), &labels, latency.sum_ms / 1e3);
        line(text, &format!("{name}_count"), &labels, latency.count as f64);
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn push_histogram(text: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    for (bound, count) in BOUNDS.iter().zip(histogram.buckets) {
        line(text, &format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), count as f64);
    }
    line(text, &format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), histogram.count as f64);
    line(text, &format!("{name}_sum"), labels, histogram.sum_seconds);
    line(text, &format!("{name}_count"), labels, histogram.count as f64);
}
