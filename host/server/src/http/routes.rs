//! Which handler answers what: one table of methods and paths.
//!
//! Everything that depends on a route is in its row of `route_table.rs`: the scope that a request needs, the parameters that
//! it may have, the body that it takes, and the handler. `openapi.rs` writes the description of the interface from the same
//! rows, so that nothing can be served without being described or the other way round.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use axum::http::StatusCode;

use super::{app::App, call::Call, config::Scope, error::ApiError, reply::Answer, route_table::ROUTES};

/// An answer to be.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
/// What answers a route: the request, and what stands for the names in its path, in their order.
pub(super) type Handler = for<'a> fn(&'a Arc<App>, Call, Vec<String>) -> Answering<'a>;

/// The body that a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// None.
    Nothing,
    /// An object, which may be left out; its schema's name.
    Optional(&'static str),
    /// An object; its schema's name.
    Needed(&'static str),
    /// Lines of JSON; what they are.
    Lines(&'static str),
}

/// One way in.
pub struct Route {
    /// Methods, in capitals.
    pub methods: &'static [&'static str],
    /// The path, with names in braces.
    pub path: &'static str,
    /// What a request needs to be let in; `None` for everybody.
    pub scope: Option<Scope>,
    /// What it does, in a line.
    pub help: &'static str,
    /// Parameters that it may have, beside those of every request.
    pub parameters: &'static [&'static str],
    /// Its body.
    pub body: Body,
    /// The content type of its answer.
    pub gives: &'static str,
    pub(super) handler: Handler,
}

/// JSON, as almost everything.
pub const JSON: &str = "application/json";
/// Events, one after the other.
pub const EVENTS: &str = "text/event-stream";
/// Text.
pub const TEXT: &str = "text/plain";

impl Route {
    pub(super) const fn takes(mut self, parameters: &'static [&'static str]) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) const fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub(super) const fn gives(mut self, content_type: &'static str) -> Self {
        self.gives = content_type;
        self
    }

    /// What stands for the names of the path, where it fits.
    fn names(&self, path: &[String]) -> Option<Vec<String>> {
        let parts: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() != path.len() {
            return None;
        }
        let mut names = Vec::new();
        for (part, given) in parts.into_iter().zip(path) {
            match part {
                // What begins with `_` is no index.
                "{index}" if given.starts_with('_') && given != "_all" => return None,
                _ if part.starts_with('{') => names.push(given.clone()),
                _ if part == given => {}
                _ => return None,
            }
        }
        Some(names)
    }
}

/// The row that answers, and what stands for the names of its path.
pub fn find(method: &str, path: &[String]) -> Option<(&'static Route, Vec<String>)> {
    ROUTES
        .iter()
        .filter(|route| route.methods.contains(&method))
        .find_map(|route| Some((route, route.names(path)?)))
}

/// What a request needs to be let in; `None` for everybody. What is not served needs what its kind would.
pub fn scope(method: &str, path: &[String]) -> Option<Scope> {
    match find(method, path) {
        Some((route, _)) => route.scope,
        None if matches!(method, "GET" | "HEAD") => Some(Scope::Read),
        None => Some(Scope::Admin),
    }
}

/// A name for counting: few, whatever clients ask.
pub fn group(path: &[String]) -> &'static str {
    let named = |part: &String| match part.as_str() {
        "_search" => Some("search"),
        "_msearch" => Some("msearch"),
        "_bulk" => Some("bulk"),
        "_doc" | "_create" | "_update" | "_mget" | "_source" => Some("document"),
        "_count" => Some("count"),
        "_refresh" | "_flush" => Some("refresh"),
        "_health" | "_metrics" => Some("operations"),
        "mcp" => Some("tools"),
        _ => None,
    };
    path.iter().take(2).find_map(named).unwrap_or("other")
}

/// Answers one request.
pub async fn answer(app: &Arc<App>, call: Call) -> Answer {
    let found = find(&call.method, &call.path);
    let is_health = found.as_ref().is_some_and(|(route, _)| route.scope.is_none());
    if !is_health && !app.ready.load(Ordering::Acquire) {
        let mut error = ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "cluster_block_exception",
            "the server is not ready",
        );
        error.retry_after = Some(1);
        return Err(error);
    }
    let Some((route, names)) = found else { return Err(no_handler(&call)) };
    if app.only_tools && !is_health && call.path != ["mcp"] {
        return Err(no_handler(&call));
    }
    call.known(route.parameters)?;
    (route.handler)(app, call, names).await
}

fn no_handler(call: &Call) -> ApiError {
    ApiError::illegal(format!("no handler found for uri [{}] and method [{}]", call.uri, call.method))
}
