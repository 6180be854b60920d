//! Where every request comes in: request id, bounds, keys, body, the answer, one log line, counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode},
};
use tracing::Instrument;

use super::{
    app::App,
    call::{Call, split_uri},
    error::ApiError,
    keys, routes,
};

/// Header that ties a request, its answer and its log lines together.
const REQUEST_ID: &str = "x-request-id";
/// Longest id that is taken from a client.
const LONGEST_ID: usize = 128;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Of a body that is too large, this much is read before the answer, for at most so long.
const DISCARDED_BYTES: usize = 1 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(1);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Counts requests at work, however they end.
struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one handler of the router.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let given =
        request.headers().get(REQUEST_ID).filter(|id| id.len() <= LONGEST_ID && id.to_str().is_ok()).cloned();
    let id = given.unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = format!("{:x}-{number:x}", std::process::id());
        HeaderValue::from_str(&made).unwrap_or_else(|_| HeaderValue::from_static("none"))
    });
    let shown = id.to_str().unwrap_or_default().to_owned();
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", request_id = %shown);
    async {
        let group = split_uri(&path, None).map_or("other", |(parts, _)| routes::group(&parts));
        let mut response = admitted(&app, request).await;
        let status = response.status().as_u16();
        let seconds = started.elapsed().as_secs_f64();
        app.metrics.request(group, status, seconds);
        let milliseconds = seconds * 1e3;
        tracing::info!(method, path, status, ms = milliseconds, "answered");
        response.headers_mut().insert(REQUEST_ID, id);
        if method == "HEAD" {
            *response.body_mut() = Body::empty();
        }
        response
    }
    .instrument(span)
    .await
}

async fn admitted(app: &Arc<App>, request: Request) -> Response<Body> {
    let most = app.config().bounds.requests;
    let running = app.metrics.running.fetch_add(1, Ordering::Relaxed);
    let _running = Running(&app.metrics.running);
    let is_health = request.uri().path().starts_with("/_health/");
    if most <= running && !is_health {
        return ApiError::overloaded(format!("rejected execution: {most} requests are at work")).response();
    }
    match read(app, request).await {
        Ok(call) => {
            let pretty = call.parameters.get("pretty").is_some_and(|value| value != "false");
            match routes::answer(app, call).await {
                Ok(reply) => reply.response(pretty),
                Err(error) => {
                    if error.status.is_server_error() {
                        tracing::error!(kind = error.kind, "{}", error.reason);
                    }
                    error.response()
                }
            }
        }
        Err(error) => error.response(),
    }
}

async fn read(app: &Arc<App>, request: Request) -> Result<Call, ApiError> {
    let uri = request.uri().clone();
    let (path, parameters) = split_uri(uri.path(), uri.query())
        .ok_or_else(|| ApiError::illegal(format!("malformed escape in uri [{uri}]")))?;
    let method = request.method().to_string();
    let key = match routes::scope(&method, &path) {
        None => None,
        Some(scope) => keys::admit(&app.keys(), request.headers(), scope)?,
    };
    let most = usize::try_from(app.config().bounds.body_bytes).unwrap_or(usize::MAX);
    let too_large = || {
        let reason = format!("the body is larger than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_long_exception", reason)
    };
    let headers = request.headers().clone();
    let length =
        request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| most < length) {
        // A client that is still sending would not read the answer: some of the body is taken and thrown away.
        let rest = axum::body::to_bytes(request.into_body(), DISCARDED_BYTES);
        let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
        return Err(too_large());
    }
    // Without a length there is no body, or one that may become as large as any.
    let is_chunked = request.headers().contains_key("transfer-encoding");
    let bytes = length.unwrap_or(if is_chunked { most } else { 0 }) as u64;
    // What has no body needs no room: whoever holds all of it stops no health check.
    let room = if bytes == 0 { None } else { Some(app.body_room(bytes)?) };
    let arriving = axum::body::to_bytes(request.into_body(), most);
    let body: Bytes = match tokio::time::timeout(BODY_TIME, arriving).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            if cause.to_string().contains("length limit") {
                return Err(too_large());
            }
            return Err(ApiError::illegal(format!("the body did not arrive: {cause}")));
        }
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout_exception",
                "the body did not arrive in time",
            ));
        }
    };
    let mut call = Call { method, uri: uri.path().to_owned(), path, headers, parameters, body, room, key };
    if let Some(source) = call.parameters.remove("source") {
        call.parameters.remove("source_content_type");
        if call.body.is_empty() {
            call.body = Bytes::from(source);
        }
    }
    Ok(call)
}
