//! Spans of searches, sent to a collector as OTLP over HTTP, where the configuration names one.
//!
//! A search is written down when it has ended, from what the host measured anyway: the search as such, the plugin's run in
//! it, each turn, and in each turn the calls of index and policy, with what they used. Nothing of what was asked or found
//! is sent, only numbers and names. Sending is the SDK's: in batches, on a thread of its own, from a bounded queue that
//! drops what does not fit. A `traceparent` header makes the search part of its caller's trace.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Request, Response},
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use orion_endpoint::Agent;
use orion_host::{Branch, BranchObserver, Outcome};

use crate::failure::{Explain, Failure};

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last batch may take when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Most calls of one search that become spans; what a strategy does beyond them is in the sums.
const MOST_CALLS: usize = 500;
/// A collector's answer is not looked at beyond this.
const ANSWER_BYTES: u64 = 64 << 10;

/// Where spans go.
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The HTTP client that is in the tree already.
#[derive(Debug)]
struct Client(Agent);

impl HttpClient for Client {
    // Written out: the trait is `async` by a macro. The SDK calls it on a thread of its own, which may wait.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(self.send(request)))
    }
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.0.run(request.map(|body| body.to_vec()));
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!("spans were not sent: {error}");
                return Err(Box::new(error));
            }
        };
        let status = response.status();
        if !status.is_success() {
            tracing::warn!("spans were not taken: status {}", status.as_u16());
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec()?;
        Ok(Response::builder().status(status).body(Bytes::from(body))?)
    }
}

/// Headers as the propagator reads them.
struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

/// The span that a request says it is part of.
pub fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

impl Spans {
    /// Spans for the collector at `address`.
    pub fn start(address: &str) -> Result<Self, Failure> {
        let agent = orion_endpoint::agent(PATIENCE, concat!("orion/", env!("CARGO_PKG_VERSION")));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(agent))
            .with_endpoint(address)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()
            .attempt(format!("sending spans to `{address}`"))?;
        let resource = Resource::builder_empty()
            .with_service_name("orion")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("orion");
        Ok(Self { provider, tracer })
    }

    /// Sends what is left.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }

    /// Begins to write down one search.
    pub fn begin(&self, parent: Context, strategy: &str) -> Recorder {
        Recorder {
            tracer: self.tracer.clone(),
            parent,
            strategy: strategy.to_owned(),
            wall: opentelemetry::time::now(),
            began: Instant::now(),
            run: None,
            turns: Arc::default(),
            is_written: false,
        }
    }
}

/// One search while it runs. Dropped before it is finished, it was given up, and is written down as that.
pub struct Recorder {
    tracer: SdkTracer,
    parent: Context,
    strategy: String,
    wall: SystemTime,
    began: Instant,
    /// When the plugin was started.
    run: Option<Duration>,
    /// When something was last heard of each turn.
    turns: Arc<Mutex<BTreeMap<u32, Duration>>>,
    is_written: bool,
}

impl Recorder {
    /// The plugin is started now; what it tells of its tree goes to `inner` as well.
    pub fn run(&mut self, inner: Option<BranchObserver>) -> BranchObserver {
        self.run = Some(self.began.elapsed());
        let (turns, began) = (Arc::clone(&self.turns), self.began);
        Arc::new(move |branch: &Branch| {
            turns.lock().unwrap_or_else(PoisonError::into_inner).insert(branch.turn, began.elapsed());
            if let Some(inner) = &inner {
                inner(branch);
            }
        })
    }

    fn at(&self, since: Duration) -> SystemTime {
        self.wall + since
    }

    /// Starts one span that began and ended; the caller ends it.
    fn span(
        &self,
        name: String,
        kind: SpanKind,
        began: Duration,
        attributes: Vec<KeyValue>,
        parent: &Context,
    ) -> Context {
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(self.at(began))
            .with_attributes(attributes);
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }

    fn root(&self, attributes: Vec<KeyValue>) -> Context {
        let mut all = vec![KeyValue::new("orion.strategy", self.strategy.clone())];
        all.extend(attributes);
        self.span("search".to_owned(), SpanKind::Server, Duration::ZERO, all, &self.parent)
    }

    /// Writes the search down, with all that its outcome says.
    pub fn finish(mut self, outcome: &Outcome) {
        self.is_written = true;
        let ended = self.began.elapsed();
        let run = self.run.unwrap_or_default();
        let cost = &outcome.cost;
        let root = self.root(vec![
            KeyValue::new("orion.retrievals", whole(cost.retrievals)),
            KeyValue::new("orion.tokens_read", whole(cost.tokens_prefilled)),
            KeyValue::new("orion.tokens_written", whole(cost.tokens_decoded)),
            KeyValue::new("orion.documents", whole(outcome.ranking.len() as u64)),
        ]);
        if let Some(confidence) = outcome.confidence {
            root.span().set_attribute(KeyValue::new("orion.confidence", f64::from(confidence)));
        }
        let plugin = self.span(
            format!("plugin {}", outcome.trace.strategy),
            SpanKind::Internal,
            run,
            vec![
                KeyValue::new("orion.component", outcome.trace.component.clone()),
                KeyValue::new("orion.host_calls", whole(cost.host_calls)),
                KeyValue::new("orion.fuel", whole(cost.fuel)),
                KeyValue::new("orion.peak_memory_bytes", whole(cost.peak_memory_bytes)),
            ],
            &root,
        );
        if let Some(degraded) = &outcome.degraded {
            let kind = degraded.kind.to_string();
            root.span().set_attribute(KeyValue::new("orion.degraded", kind.clone()));
            plugin.span().set_status(Status::error(kind));
        }
        let run_ended = (run + milliseconds(cost.total_ms)).min(ended);
        self.write_turns(outcome, run, run_ended, &plugin);
        plugin.span().end_with_timestamp(self.at(run_ended));
        root.span().end_with_timestamp(self.at(ended));
    }

    /// Turns follow one another: each ends when the last was heard of it, and the next begins there.
    fn write_turns(&self, outcome: &Outcome, run: Duration, run_ended: Duration, plugin: &Context) {
        let mut turns: Vec<(Duration, Duration, Context)> = Vec::new();
        let mut before = run;
        for (turn, heard) in self.turns.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let ended = (*heard).clamp(before, run_ended.max(before));
            let attributes = vec![KeyValue::new("orion.turn", i64::from(*turn))];
            let span = self.span(format!("turn {turn}"), SpanKind::Internal, before, attributes, plugin);
            turns.push((before, ended, span));
            before = ended;
        }
        let calls = outcome.trace.calls.iter().zip(&outcome.call_ms).zip(&outcome.call_at_ms);
        for ((call, took_ms), at_ms) in calls.take(MOST_CALLS) {
            let began = run + milliseconds(f64::from(*at_ms));
            let of = turns.iter().find(|(from, to, _)| *from <= began && began < *to);
            let attributes = vec![
                KeyValue::new("orion.items", whole(call.items)),
                KeyValue::new("orion.tokens_read", whole(call.usage.prefilled_tokens)),
                KeyValue::new("orion.tokens_written", whole(call.usage.decoded_tokens)),
            ];
            let parent = of.map_or(plugin, |(_, _, span)| span);
            let span = self.span(call.call.clone(), SpanKind::Client, began, attributes, parent);
            if let Some(error) = &call.error {
                // The kind of error; the rest may quote what was asked.
                let kind = error.split(':').next().unwrap_or_default().to_owned();
                span.span().set_status(Status::error(kind));
            }
            span.span().end_with_timestamp(self.at(began + milliseconds(f64::from(*took_ms))));
        }
        for (_, ended, span) in turns {
            span.span().end_with_timestamp(self.at(ended));
        }
    }

    /// Writes down a search that no plugin had a part in.
    pub fn finish_plain(mut self, is_error: bool) {
        self.is_written = true;
        let root = self.root(Vec::new());
        if is_error {
            root.span().set_status(Status::error("refused"));
        }
        root.span().end_with_timestamp(self.at(self.began.elapsed()));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.is_written {
            return;
        }
        let root = self.root(Vec::new());
        root.span().set_status(Status::error("given up or refused"));
        root.span().end_with_timestamp(self.at(self.began.elapsed()));
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1e3).unwrap_or_default()
}
