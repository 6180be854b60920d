//! How calls of tools come in: as lines on standard input, or as HTTP requests.
//!
//! Over HTTP every request stands alone, as the protocol has it since 2026-07-28: there are no sessions to keep, and a
//! client that goes away cancels its call. Clients of earlier revisions are served in the same way.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService, async_rw::AsyncRwTransport,
    streamable_http_server::session::never::NeverSessionManager,
};

use super::Tools;
use crate::{
    failure::{Explain, Failure},
    http::{
        app::App,
        call::Call,
        error::ApiError,
        keys::Key,
        reply::{Answer, Reply},
    },
};

/// Who asks, as the tools find it among a request's extensions.
#[derive(Clone)]
pub struct Caller(pub Option<Arc<Key>>);

/// Names under which a server without keys is reached: a page of another name that a browser was led here with is not
/// answered.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// `POST /mcp`.
pub async fn answer(app: &Arc<App>, call: Call) -> Answer {
    let config = app.config();
    let mut settings = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_max_request_body_bytes(usize::try_from(config.bounds.body_bytes).unwrap_or(usize::MAX));
    settings = if config.keys.is_empty() && !config.open {
        let origins = ["http", "https"].into_iter().flat_map(|scheme| {
            OWN_NAMES.map(|name| {
                let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
                format!("{scheme}://{host}:*")
            })
        });
        settings.with_allowed_hosts(OWN_NAMES).with_allowed_origins(origins).enforce_origin_validation()
    } else {
        settings.disable_allowed_hosts().disable_allowed_origins()
    };
    let shared = Arc::clone(app);
    let service = StreamableHttpService::new(
        move || Ok(Tools::new(Arc::clone(&shared))),
        Arc::new(NeverSessionManager::default()),
        settings,
    );
    let mut request = Request::new(Body::from(call.body));
    *request.method_mut() =
        call.method.parse().map_err(|_| ApiError::illegal(format!("unexpected method [{}]", call.method)))?;
    *request.headers_mut() = call.headers;
    request.extensions_mut().insert(Caller(call.key));
    Ok(Reply::Whole(service.handle(request).await.map(Body::new)))
}

/// Whether a client asks for a stream of its own, which it is then told does not exist here.
pub fn wants_events(call: &Call) -> bool {
    let accepted = call.headers.get("accept").and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/event-stream"))
}

/// Answers on standard input and output until the input ends.
pub async fn stdio(app: &Arc<App>) -> Result<(), Failure> {
    let longest = usize::try_from(app.config().bounds.body_bytes).unwrap_or(usize::MAX);
    let (input, output) = rmcp::transport::stdio();
    let lines = AsyncRwTransport::new_server(input, output).with_max_line_length(longest);
    let serving = match rmcp::serve_server(Tools::new(Arc::clone(app)), lines).await {
        Ok(serving) => serving,
        // A client that went before it said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).attempt("greeting a client"),
    };
    serving.waiting().await.attempt("serving tools").map(drop)
}
