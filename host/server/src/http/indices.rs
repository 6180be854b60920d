//! Indexes as such: made, shown, refreshed, deleted.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::Call,
    collection::{Collection, Meta},
    error::ApiError,
    mapping::Mapping,
    reply::{Answer, Reply},
};

/// Settings that are understood, or that make no difference to an index that is one shard on one machine.
const SETTINGS: [&str; 7] = [
    "number_of_shards",
    "number_of_replicas",
    "refresh_interval",
    "knn",
    "knn.algo_param.ef_search",
    "search.default_pipeline",
    "max_result_window",
];
const SHARDS: [(&str, u64); 3] = [("total", 1), ("successful", 1), ("failed", 0)];

/// The usual part of replies about shards.
pub fn shards() -> Value {
    json!(
        SHARDS.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<Map<String, Value>>()
    )
}

/// `settings` of a request, flat and without `index.`.
fn flat_settings(settings: &Value) -> Result<BTreeMap<String, Value>, ApiError> {
    fn walk(prefix: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(object) => {
                for (name, inner) in object {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, inner, flat);
                }
            }
            other => {
                let name = prefix.strip_prefix("index.").unwrap_or(prefix);
                flat.insert(name.to_owned(), other.clone());
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", settings, &mut flat);
    match flat.keys().find(|name| !SETTINGS.contains(&name.as_str())) {
        Some(name) => Err(ApiError::illegal(format!(
            "unknown setting [index.{name}]: there are [{}]",
            SETTINGS.join(", ")
        ))),
        None => Ok(flat),
    }
}

fn meta_of(body: &Map<String, Value>) -> Result<Meta, ApiError> {
    let mut meta = Meta { mapping: Mapping::default(), settings: BTreeMap::new() };
    for (key, value) in body {
        match (key.as_str(), value) {
            ("mappings", Value::Object(mappings)) => meta.mapping.merge(mappings)?,
            ("settings", value) => meta.settings = flat_settings(value)?,
            ("aliases", Value::Object(aliases)) if aliases.is_empty() => {}
            _ => return Err(ApiError::parsing(format!("unknown key [{key}] for create index"))),
        }
    }
    Ok(meta)
}

/// Makes the index that a document is put into, as OpenSearch does, if it is not there.
pub async fn ensure(app: &Arc<App>, name: &str) -> Result<Arc<Collection>, ApiError> {
    if let Some(found) = app.find(name) {
        return Ok(found);
    }
    let (shared, own) = (Arc::clone(app), name.to_owned());
    app.blocking(move || {
        let meta = Meta { mapping: Mapping::default(), settings: BTreeMap::new() };
        match shared.create(&own, meta) {
            // Another request was quicker.
            Err(error) => shared.find(&own).ok_or(error),
            made => made,
        }
    })
    .await
}

/// Parameters of requests that make an index.
pub const MAKING: &[&str] =
    &["wait_for_active_shards", "timeout", "master_timeout", "cluster_manager_timeout"];
/// Parameters of requests that change mapping or settings.
pub const CHANGING: &[&str] = &["timeout", "master_timeout", "cluster_manager_timeout", "write_index_only"];
/// Parameters of requests that delete indexes.
pub const DELETING: &[&str] = &[
    "ignore_unavailable",
    "allow_no_indices",
    "expand_wildcards",
    "timeout",
    "master_timeout",
    "cluster_manager_timeout",
];
/// Parameters of `_refresh` and `_flush`.
pub const REFRESHING: &[&str] =
    &["ignore_unavailable", "allow_no_indices", "expand_wildcards", "force", "wait_if_ongoing"];
/// Parameters of `_cat/indices`.
pub const CAT: &[&str] = &["format", "v", "h", "s", "bytes", "expand_wildcards", "health", "local"];

/// `PUT /INDEX`.
pub async fn create(app: &Arc<App>, call: &Call, name: &str) -> Answer {
    let meta = meta_of(&call.object()?)?;
    let (shared, own) = (Arc::clone(app), name.to_owned());
    app.blocking(move || shared.create(&own, meta)).await?;
    Reply::ok(json!({ "acknowledged": true, "shards_acknowledged": true, "index": name }))
}

/// `DELETE /INDEX`.
pub async fn delete(app: &Arc<App>, call: &Call, names: &str) -> Answer {
    if names == "_all" || names.contains('*') {
        return Err(ApiError::illegal("Wildcard expressions or all indices are not allowed"));
    }
    let ignore = call.switch("ignore_unavailable")?.unwrap_or(false);
    for name in names.split(',') {
        if app.find(name).is_none() {
            if ignore {
                continue;
            }
            return Err(ApiError::no_index(name));
        }
        let (shared, own) = (Arc::clone(app), name.to_owned());
        app.blocking(move || shared.delete(&own)).await?;
    }
    Reply::ok(json!({ "acknowledged": true }))
}

/// Parameters of requests that look at indexes.
pub const LOOKING: &[&str] = &[
    "ignore_unavailable",
    "allow_no_indices",
    "expand_wildcards",
    "local",
    "flat_settings",
    "include_defaults",
];

/// `HEAD /INDEX`.
pub fn exists(app: &App, names: &str) -> Answer {
    let there = names.split(',').all(|name| app.collections(name).is_ok());
    Ok(Reply::Status(if there { StatusCode::OK } else { StatusCode::NOT_FOUND }))
}

fn shown_settings(collection: &Collection) -> Value {
    let mut index =
        json!({ "number_of_shards": "1", "number_of_replicas": "0", "provided_name": collection.name });
    for (name, value) in &collection.meta().settings {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        index[name.as_str()] = json!(text);
    }
    json!({ "index": index })
}

/// `GET /INDEX`, `/INDEX/_mapping`, `/INDEX/_settings`, `/INDEX/_alias`.
pub fn get(app: &App, names: &str, part: &str) -> Answer {
    let mut all = Map::new();
    for collection in app.collections(names)? {
        let meta = collection.meta();
        let shown = match part {
            "_mapping" => json!({ "mappings": meta.mapping.to_json() }),
            "_settings" => json!({ "settings": shown_settings(&collection) }),
            "_alias" => json!({ "aliases": {} }),
            _ => json!({
                "aliases": {},
                "mappings": meta.mapping.to_json(),
                "settings": shown_settings(&collection),
            }),
        };
        all.insert(collection.name.clone(), shown);
    }
    Reply::ok(Value::Object(all))
}

/// `PUT /INDEX/_mapping` and `PUT /INDEX/_settings`.
pub async fn put(app: &Arc<App>, call: &Call, name: &str, part: &str) -> Answer {
    let body = call.needed_object()?;
    let collection = app.one_collection(name)?;
    let mut meta = (*collection.meta()).clone();
    if part == "_mapping" {
        meta.mapping.merge(&body)?;
    } else {
        let settings = body.get("settings").cloned().unwrap_or(Value::Object(body));
        for (name, value) in flat_settings(&settings)? {
            if value.is_null() {
                meta.settings.remove(&name);
            } else {
                meta.settings.insert(name, value);
            }
        }
    }
    app.blocking(move || collection.set_meta(meta)).await?;
    Reply::ok(json!({ "acknowledged": true }))
}

/// `_refresh` and `_flush`: both make durable and visible here.
pub async fn refresh(app: &Arc<App>, names: &str) -> Answer {
    for collection in app.collections(names)? {
        collection.refresh().await?;
    }
    Reply::ok(json!({ "_shards": shards() }))
}

/// One index as a row of named cells.
fn row(collection: &Collection) -> Result<[(&'static str, String); 10], ApiError> {
    let stats = collection.index.stats()?;
    Ok([
        ("health", "green".to_owned()),
        ("status", "open".to_owned()),
        ("index", collection.name.clone()),
        ("uuid", collection.name.clone()),
        ("pri", "1".to_owned()),
        ("rep", "0".to_owned()),
        ("docs.count", stats.documents.to_string()),
        ("docs.deleted", stats.dead_vectors.to_string()),
        ("store.size", bytes(stats.disk_bytes)),
        ("pri.store.size", bytes(stats.disk_bytes)),
    ])
}

/// `_cat/indices`.
pub async fn cat(app: &Arc<App>, call: &Call, names: &str) -> Answer {
    let collections = app.collections(names)?;
    let rows =
        app.blocking(move || collections.iter().map(|one| row(one)).collect::<Result<Vec<_>, _>>()).await?;
    let wanted: Vec<&str> = match call.parameter("h") {
        Some(columns) => columns.split(',').collect(),
        None => [
            "health",
            "status",
            "index",
            "uuid",
            "pri",
            "rep",
            "docs.count",
            "docs.deleted",
            "store.size",
            "pri.store.size",
        ]
        .to_vec(),
    };
    let cell = |row: &[(&'static str, String)], column: &str| {
        row.iter().find(|(name, _)| *name == column).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    match call.parameter("format") {
        Some("json") => {
            let object = |row: &[(&'static str, String)]| {
                wanted
                    .iter()
                    .map(|column| ((*column).to_owned(), json!(cell(row, column))))
                    .collect::<Map<_, _>>()
            };
            let list: Vec<Value> = rows.iter().map(|row| Value::Object(object(row))).collect();
            Reply::ok(json!(list))
        }
        None | Some("text") => {
            let mut table: Vec<Vec<String>> = Vec::new();
            if call.switch("v")?.unwrap_or(false) {
                table.push(wanted.iter().map(|column| (*column).to_owned()).collect());
            }
            table.extend(rows.iter().map(|row| wanted.iter().map(|column| cell(row, column)).collect()));
            let width =
                |place: usize| table.iter().map(|row: &Vec<String>| row[place].len()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..wanted.len()).map(width).collect();
            let mut text = String::new();
            for row in &table {
                let cells: Vec<String> =
                    row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                text.push_str(cells.join(" ").trim_end());
                text.push('\n');
            }
            Ok(Reply::Text(text))
        }
        Some(other) => Err(ApiError::illegal(format!("[format]: expected text or json, got [{other}]"))),
    }
}

fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number}b"),
        1_024..1_048_576 => format!("{:.1}kb", number as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1}mb", number as f64 / 1_048_576.0),
        _ => format!("{:.1}gb", number as f64 / 1_073_741_824.0),
    }
}
