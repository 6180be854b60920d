//! Single documents: put, get, update, delete, and several got at once.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::Call,
    collection::{Change, Collection, Done, Kept, Operation},
    error::ApiError,
    indices::{ensure, shards},
    reply::{Answer, Reply},
    search::{
        body::{SourceFilter, source_filter, source_parameters},
        filtered,
    },
};

/// Parameters of requests that change one document.
pub const WRITING: &[&str] = &[
    "refresh",
    "op_type",
    "if_seq_no",
    "if_primary_term",
    "timeout",
    "wait_for_active_shards",
    "routing",
    "retry_on_conflict",
];

/// Whether a request asks that its changes be visible when it is answered.
pub fn wants_refresh(call: &Call) -> Result<bool, ApiError> {
    match call.parameter("refresh") {
        None | Some("false") => Ok(false),
        Some("" | "true" | "wait_for") => Ok(true),
        Some(other) => Err(ApiError::illegal(format!("Unknown value for refresh: [{other}]."))),
    }
}

/// A change as replies show it.
pub fn shown(index: &str, done: &Done) -> Value {
    json!({
        "_index": index,
        "_id": done.id,
        "_version": done.version,
        "result": done.result,
        "_shards": shards(),
        "_seq_no": done.sequence,
        "_primary_term": 1,
    })
}

async fn change(app: &Arc<App>, call: &Call, index: &str, id: Option<&str>, change: Change) -> Answer {
    let refresh = wants_refresh(call)?;
    if call.number("if_primary_term")?.is_some_and(|term| term != 1) {
        return Err(ApiError::illegal("[if_primary_term]: expected 1"));
    }
    let if_sequence = call.number("if_seq_no")?;
    let collection = match &change {
        Change::Index(_) | Change::Create(_) | Change::Update(_) => ensure(app, index).await?,
        Change::Delete => app.one_collection(index)?,
    };
    let operation = Operation { id: id.map(str::to_owned), change, if_sequence };
    let mut outcomes = collection.write(vec![operation]).await?;
    let done = outcomes.pop().ok_or_else(|| ApiError::fault("the writer gave no answer"))?;
    let done = done.map_err(|(_, mut error)| {
        if matches!(error.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            error.more.insert("index".to_owned(), json!(collection.name));
        }
        error
    })?;
    if refresh {
        collection.refresh().await?;
    }
    let status = match done.result {
        "created" => StatusCode::CREATED,
        "not_found" => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    Ok(Reply::Json(status, shown(&collection.name, &done)))
}

/// `PUT|POST /INDEX/_doc[/ID]` and `/INDEX/_create/ID`.
pub async fn put(app: &Arc<App>, call: &Call, index: &str, id: Option<&str>, create: bool) -> Answer {
    let source = call.needed_object()?;
    let create = match call.parameter("op_type") {
        None | Some("index") => create,
        Some("create") => true,
        Some(other) => {
            return Err(ApiError::illegal(format!("opType must be 'create' or 'index', found: [{other}]")));
        }
    };
    let made = if create { Change::Create(source) } else { Change::Index(source) };
    change(app, call, index, id, made).await
}

/// `POST /INDEX/_update/ID`.
pub async fn update(app: &Arc<App>, call: &Call, index: &str, id: &str) -> Answer {
    change(app, call, index, Some(id), Change::Update(call.needed_object()?)).await
}

/// `DELETE /INDEX/_doc/ID`.
pub async fn delete(app: &Arc<App>, call: &Call, index: &str, id: &str) -> Answer {
    change(app, call, index, Some(id), Change::Delete).await
}

/// The filter that parameters ask for.
fn source_of(call: &Call) -> SourceFilter {
    match call.parameter("_source") {
        Some("true" | "") | None => source_parameters(call),
        Some("false") => SourceFilter::Nothing,
        Some(list) => SourceFilter::Parts(list.split(',').map(str::to_owned).collect(), Vec::new()),
    }
}

fn found(index: &str, id: &str, kept: Option<&Kept>, filter: &SourceFilter) -> Value {
    let Some(kept) = kept else { return json!({ "_index": index, "_id": id, "found": false }) };
    let mut reply = json!({
        "_index": index,
        "_id": id,
        "_version": kept.version,
        "_seq_no": kept.sequence,
        "_primary_term": 1,
        "found": true,
    });
    if let Some(source) = filtered(kept.object(), filter) {
        reply["_source"] = Value::Object(source);
    }
    reply
}

/// Parameters of requests that read documents.
pub const READING: &[&str] =
    &["_source", "_source_includes", "_source_excludes", "realtime", "refresh", "routing", "preference"];

/// `GET|HEAD /INDEX/_doc/ID` and `/INDEX/_source/ID`.
pub async fn get(app: &Arc<App>, call: &Call, index: &str, id: &str, only_source: bool) -> Answer {
    let filter = source_of(call);
    let collection = app.one_collection(index)?;
    let (asked, own) = (Arc::clone(&collection), id.to_owned());
    let kept = app.blocking(move || asked.get(&own)).await?;
    let status = if kept.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    if call.method == "HEAD" {
        return Ok(Reply::Status(status));
    }
    if only_source {
        let Some(kept) = kept else {
            let reason = format!("Document not found [{}]/[{id}]", collection.name);
            return Err(ApiError::new(StatusCode::NOT_FOUND, "resource_not_found_exception", reason));
        };
        return Reply::ok(Value::Object(filtered(kept.object(), &filter).unwrap_or_default()));
    }
    Ok(Reply::Json(status, found(&collection.name, id, kept.as_ref(), &filter)))
}

/// `_mget`.
pub async fn mget(app: &Arc<App>, call: &Call, index: Option<&str>) -> Answer {
    let body = call.needed_object()?;
    if let Some(key) = body.keys().find(|key| !matches!(key.as_str(), "docs" | "ids")) {
        return Err(ApiError::parsing(format!("unknown key [{key}] for a VALUE, expected [docs] or [ids]")));
    }
    let usual = source_of(call);
    let mut wanted: Vec<(String, String, SourceFilter)> = Vec::new();
    for item in body.get("docs").and_then(Value::as_array).into_iter().flatten() {
        let item = item.as_object().ok_or_else(|| ApiError::parsing("[docs]: expected objects"))?;
        wanted.push(wanted_document(item, index, &usual)?);
    }
    for id in body.get("ids").and_then(Value::as_array).into_iter().flatten() {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let index = index.ok_or_else(|| ApiError::illegal("index is missing for doc 0"))?;
        wanted.push((index.to_owned(), id, usual.clone()));
    }
    if wanted.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "action_request_validation_exception",
            "Validation Failed: 1: no documents to get;",
        ));
    }
    let shared = Arc::clone(app);
    let docs = app
        .blocking(move || {
            let one = |(index, id, filter): (String, String, SourceFilter)| {
                let got = shared.one_collection(&index).and_then(|collection: Arc<Collection>| {
                    let kept = collection.get(&id)?;
                    Ok(found(&collection.name, &id, kept.as_ref(), &filter))
                });
                got.unwrap_or_else(|error| {
                    let body = error.body();
                    json!({ "_index": index, "_id": id, "error": body["error"] })
                })
            };
            Ok(wanted.into_iter().map(one).collect::<Vec<Value>>())
        })
        .await?;
    Reply::ok(json!({ "docs": docs }))
}

fn wanted_document(
    item: &Map<String, Value>,
    index: Option<&str>,
    usual: &SourceFilter,
) -> Result<(String, String, SourceFilter), ApiError> {
    if let Some(key) =
        item.keys().find(|key| !matches!(key.as_str(), "_index" | "_id" | "_source" | "routing"))
    {
        return Err(ApiError::parsing(format!("[docs]: unknown key [{key}]")));
    }
    let index = item.get("_index").and_then(Value::as_str).or(index);
    let index = index.ok_or_else(|| ApiError::illegal("index is missing"))?;
    let id = item.get("_id").ok_or_else(|| ApiError::illegal("id is missing"))?;
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let filter = item.get("_source").map_or(Ok(usual.clone()), source_filter)?;
    Ok((index.to_owned(), id, filter))
}
