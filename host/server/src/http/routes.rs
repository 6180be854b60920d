//! Which handler answers what: one table by method and path, and the scope that each needs.

use std::sync::{Arc, atomic::Ordering};

use axum::http::StatusCode;

use super::{
    app::App,
    bulk,
    call::Call,
    config::Scope,
    cursors, documents,
    error::ApiError,
    health, indices, pipelines,
    reply::{Answer, Reply, with_type},
    search, stream,
};

/// What a request needs to be let in; `None` for health checks.
pub fn scope(method: &str, path: &[String]) -> Option<Scope> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_read = matches!(method, "GET" | "HEAD");
    Some(match parts.as_slice() {
        ["_health", ..] => return None,
        ["_search", "pipeline", ..] if !is_read => Scope::Admin,
        ["_msearch" | "_mget" | "_count" | "_search", ..]
        | [_, "_msearch" | "_mget" | "_count" | "_search", ..] => Scope::Read,
        ["_bulk" | "_refresh" | "_flush"] => Scope::Write,
        [_, "_doc" | "_create" | "_update" | "_bulk" | "_refresh" | "_flush" | "_source", ..] => {
            if is_read && parts.get(1).is_some_and(|part| matches!(*part, "_doc" | "_source")) {
                Scope::Read
            } else {
                Scope::Write
            }
        }
        _ if is_read => Scope::Read,
        _ => Scope::Admin,
    })
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
        _ => None,
    };
    path.iter().take(2).find_map(named).unwrap_or("other")
}

/// Answers one request.
pub async fn answer(app: &Arc<App>, call: Call) -> Answer {
    let path = call.path.clone();
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let method = call.method.clone();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["_health", "live"]) => return health::live(),
        ("GET", ["_health", "ready"]) => return health::ready(app),
        _ if !app.ready.load(Ordering::Acquire) => {
            let mut error = ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "cluster_block_exception",
                "the server is not ready",
            );
            error.retry_after = Some(1);
            return Err(error);
        }
        _ => {}
    }
    match (method.as_str(), parts.as_slice()) {
        ("GET" | "HEAD", []) => health::root(&call),
        ("GET", ["_metrics"]) => {
            let shared = Arc::clone(app);
            let text = app.blocking(move || Ok(shared.metrics.text(&shared))).await?;
            Ok(Reply::Whole(with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)))
        }
        ("GET", ["_orion", "version"]) => health::version(&call),
        ("GET", ["_orion", "strategies"]) => health::strategies(app, &call).await,
        ("GET", ["_cluster", "health"]) => health::cluster(app, &call, None),
        ("GET", ["_cluster", "health", names]) => health::cluster(app, &call, Some(names)),
        ("GET", ["_cat", "indices"]) => indices::cat(app, &call, "_all").await,
        ("GET", ["_cat", "indices", names]) => indices::cat(app, &call, names).await,
        ("POST" | "PUT", ["_bulk"]) => bulk::bulk(app, &call, None).await,
        ("POST" | "PUT", [index, "_bulk"]) => bulk::bulk(app, &call, Some(index)).await,
        ("GET" | "POST", ["_mget"]) => documents::mget(app, &call, None).await,
        ("GET" | "POST", [index, "_mget"]) => documents::mget(app, &call, Some(index)).await,
        ("GET" | "POST", ["_count"]) => search::count(app, &call, None).await,
        ("GET" | "POST", [index, "_count"]) => search::count(app, &call, Some(index)).await,
        ("GET" | "POST", ["_refresh" | "_flush"]) => indices::refresh(app, &call, "_all").await,
        ("GET" | "POST", [names, "_refresh" | "_flush"]) => indices::refresh(app, &call, names).await,
        ("GET" | "POST", ["_search"]) => search::search(app, &call, None).await,
        ("GET" | "POST", ["_msearch"]) => search::msearch(app, &call, None).await,
        ("GET" | "POST", [index, "_msearch"]) => search::msearch(app, &call, Some(index)).await,
        ("GET" | "POST", ["_search", "scroll"]) => cursors::scroll(app, &call, None).await,
        ("GET" | "POST", ["_search", "scroll", id]) => cursors::scroll(app, &call, Some(id)).await,
        ("DELETE", ["_search", "scroll"]) => cursors::clear_scroll(app, &call, None),
        ("DELETE", ["_search", "scroll", ids]) => cursors::clear_scroll(app, &call, Some(ids)),
        ("DELETE", ["_search", "point_in_time"]) => cursors::close_pit(app, &call, false),
        ("DELETE", ["_search", "point_in_time", "_all"]) => cursors::close_pit(app, &call, true),
        ("GET", ["_search", "pipeline"]) => pipelines::get(app, &call, None),
        ("GET", ["_search", "pipeline", name]) => pipelines::get(app, &call, Some(name)),
        ("PUT", ["_search", "pipeline", name]) => pipelines::put(app, &call, name).await,
        ("DELETE", ["_search", "pipeline", name]) => pipelines::delete(app, &call, name).await,
        ("POST", [index, "_search", "point_in_time"]) => cursors::open_pit(app, &call, index),
        ("POST", [index, "_search", "stream"]) => stream::search(app, call, index).await,
        ("GET" | "POST", [index, "_search"]) => search::search(app, &call, Some(index)).await,
        ("POST", [index, "_doc"]) => documents::put(app, &call, index, None, false).await,
        ("PUT" | "POST", [index, "_doc", id]) => documents::put(app, &call, index, Some(id), false).await,
        ("PUT" | "POST", [index, "_create", id]) => documents::put(app, &call, index, Some(id), true).await,
        ("POST", [index, "_update", id]) => documents::update(app, &call, index, id).await,
        ("DELETE", [index, "_doc", id]) => documents::delete(app, &call, index, id).await,
        ("GET" | "HEAD", [index, "_doc", id]) => documents::get(app, &call, index, id, false).await,
        ("GET" | "HEAD", [index, "_source", id]) => documents::get(app, &call, index, id, true).await,
        ("GET", ["_mapping" | "_settings" | "_alias"]) => indices::get(app, &call, "_all", parts[0]),
        ("GET", [names, "_mapping" | "_settings" | "_alias"]) => indices::get(app, &call, names, parts[1]),
        ("PUT", [index, "_mapping" | "_settings"]) => indices::put(app, &call, index, parts[1]).await,
        ("PUT", [index]) if !index.starts_with('_') => indices::create(app, &call, index).await,
        ("DELETE", [names]) if !names.starts_with('_') || *names == "_all" => {
            indices::delete(app, &call, names).await
        }
        ("HEAD", [names]) => indices::exists(app, &call, names),
        ("GET", [names]) if !names.starts_with('_') || *names == "_all" => {
            indices::get(app, &call, names, "")
        }
        _ => Err(no_handler(&call)),
    }
}

fn no_handler(call: &Call) -> ApiError {
    ApiError::illegal(format!("no handler found for uri [{}] and method [{}]", call.uri, call.method))
}
