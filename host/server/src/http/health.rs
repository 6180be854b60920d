//! What says that the server is there, what it is, and what it offers.

use std::sync::{Arc, atomic::Ordering};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    app::App,
    error::ApiError,
    reply::{Answer, Reply},
};
use crate::commands::strategy_json;

/// The version of OpenSearch whose conventions are followed: clients look at it.
pub const SPOKEN_VERSION: &str = "2.19.0";

/// `GET /`.
pub fn root() -> Answer {
    Reply::ok(json!({
        "name": "orion",
        "cluster_name": "orion",
        "cluster_uuid": "orion",
        "version": {
            "distribution": "opensearch",
            "number": SPOKEN_VERSION,
            "build_type": "orion",
            "build_version": env!("CARGO_PKG_VERSION"),
            "minimum_wire_compatibility_version": "7.10.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "Think before you retrieve",
    }))
}

/// `GET /_orion/version`.
pub fn version() -> Answer {
    Reply::ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "wire": format!("opensearch {SPOKEN_VERSION}"),
        "contract": "orion:search@0.1.0",
    }))
}

/// `GET /_orion/strategies`.
pub async fn strategies(app: &Arc<App>) -> Answer {
    let shared = Arc::clone(app);
    let list = app
        .blocking(move || {
            let fault = |failure: crate::failure::Failure| ApiError::fault(failure.to_string());
            let names = shared.engine.strategy_names().map_err(fault)?;
            let all = names
                .iter()
                .map(|name| shared.engine.strategy(name).map(|strategy| strategy_json(&strategy)));
            all.collect::<Result<Vec<Value>, _>>().map_err(fault)
        })
        .await?;
    let config = app.config();
    let mut policies = vec!["nano".to_owned(), "none".to_owned()];
    policies.extend(config.adaptive.policies.keys().cloned());
    Reply::ok(json!({
        "strategies": list,
        "default": config.adaptive.strategy,
        "policies": policies,
        "default_policy": config.adaptive.policy,
    }))
}

/// Parameters of `_cluster/health`: nothing here has to be waited for.
pub const CLUSTER: &[&str] = &[
    "wait_for_status",
    "timeout",
    "level",
    "local",
    "wait_for_no_relocating_shards",
    "wait_for_active_shards",
    "wait_for_nodes",
];

/// `GET /_cluster/health[/INDEX]`.
pub fn cluster(app: &App, names: Option<&str>) -> Answer {
    let count = app.collections(names.unwrap_or("_all"))?.len();
    Reply::ok(json!({
        "cluster_name": "orion",
        "status": "green",
        "timed_out": false,
        "number_of_nodes": 1,
        "number_of_data_nodes": 1,
        "discovered_master": true,
        "discovered_cluster_manager": true,
        "active_primary_shards": count,
        "active_shards": count,
        "relocating_shards": 0,
        "initializing_shards": 0,
        "unassigned_shards": 0,
        "delayed_unassigned_shards": 0,
        "number_of_pending_tasks": 0,
        "number_of_in_flight_fetch": 0,
        "task_max_waiting_in_queue_millis": 0,
        "active_shards_percent_as_number": 100.0,
    }))
}

/// `GET /_health/live`.
pub fn live() -> Answer {
    Reply::ok(json!({ "status": "live" }))
}

/// `GET /_health/ready`: 503 while indexes are opened and once the server is stopping.
pub fn ready(app: &App) -> Answer {
    if app.ready.load(Ordering::Acquire) {
        return Reply::ok(json!({ "status": "ready" }));
    }
    Ok(Reply::Json(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "not ready" })))
}
