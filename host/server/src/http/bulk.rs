//! `_bulk`: many changes in lines of JSON, acknowledged together, failing one by one.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::{Call, kind_of},
    collection::{Change, Operation},
    documents::{shown, wants_refresh},
    error::ApiError,
    indices::ensure,
    reply::{Answer, Reply},
};

/// Parameters of `_bulk`.
pub const PARAMETERS: &[&str] = &["refresh", "timeout", "wait_for_active_shards", "routing", "pipeline"];

/// One line's action, and what came of reading it.
struct Item {
    action: &'static str,
    index: String,
    id: Option<String>,
    /// The operation, or why there is none.
    operation: Result<Operation, ApiError>,
}

/// `POST [/INDEX]/_bulk`.
pub async fn bulk(app: &Arc<App>, call: &Call, index: Option<&str>) -> Answer {
    if let Some(pipeline) = call.parameter("pipeline") {
        return Err(ApiError::illegal(format!("pipeline with id [{pipeline}] does not exist")));
    }
    let started = Instant::now();
    let refresh = wants_refresh(call)?;
    // A body may be large, and parsing it take long.
    let (body, own) = (call.body.clone(), index.map(str::to_owned));
    let items = app.blocking(move || items(&body, own.as_deref())).await?;
    // By index in order of first use; within one index in the order of the lines.
    let mut by_index: BTreeMap<String, Vec<(usize, Operation)>> = BTreeMap::new();
    let mut answers: Vec<Value> = vec![Value::Null; items.len()];
    let mut actions = Vec::with_capacity(items.len());
    let mut errors = false;
    for (place, item) in items.into_iter().enumerate() {
        match item.operation {
            Ok(operation) => by_index.entry(item.index.clone()).or_default().push((place, operation)),
            Err(error) => {
                errors = true;
                answers[place] = failed(item.action, &item.index, item.id.as_deref(), &error);
            }
        }
        actions.push(item.action);
    }
    for (name, operations) in by_index {
        let (places, operations): (Vec<usize>, Vec<Operation>) = operations.into_iter().unzip();
        let only_deletes = operations.iter().all(|operation| matches!(operation.change, Change::Delete));
        let collection = match app.find(&name) {
            Some(found) => Ok(found),
            None if only_deletes => Err(ApiError::no_index(&name)),
            None => ensure(app, &name).await,
        };
        let ids: Vec<Option<String>> = operations.iter().map(|operation| operation.id.clone()).collect();
        let outcomes = match collection {
            Ok(collection) => {
                let outcomes = collection.write(operations).await;
                if refresh && outcomes.is_ok() {
                    collection.refresh().await?;
                }
                outcomes
            }
            Err(error) => Err(error),
        };
        match outcomes {
            // Nothing of the whole request was taken: the client may send it again as it is.
            Err(error) if error.status == StatusCode::TOO_MANY_REQUESTS && places.len() == actions.len() => {
                return Err(error);
            }
            Err(error) => {
                errors = true;
                for (place, id) in places.into_iter().zip(ids) {
                    answers[place] = failed(actions[place], &name, id.as_deref(), &error);
                }
            }
            Ok(outcomes) => {
                for (place, outcome) in places.into_iter().zip(outcomes) {
                    answers[place] = match outcome {
                        Ok(done) => {
                            let status = match done.result {
                                "created" => 201,
                                "not_found" => 404,
                                _ => 200,
                            };
                            let mut answer = shown(&name, &done);
                            answer["status"] = json!(status);
                            json!({ actions[place]: answer })
                        }
                        Err((id, error)) => {
                            errors = true;
                            failed(actions[place], &name, Some(&id), &error)
                        }
                    };
                }
            }
        }
    }
    Reply::ok(json!({ "took": started.elapsed().as_millis() as u64, "errors": errors, "items": answers }))
}

fn failed(action: &str, index: &str, id: Option<&str>, error: &ApiError) -> Value {
    let mut inner = error.inner();
    if error.status == StatusCode::CONFLICT {
        inner["index"] = json!(index);
    }
    json!({ action: { "_index": index, "_id": id, "status": error.status.as_u16(), "error": inner } })
}

fn malformed(reason: String) -> ApiError {
    ApiError::illegal(reason)
}

fn items(body: &[u8], index: Option<&str>) -> Result<Vec<Item>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "parse_exception", "request body is required"));
    }
    if body.last() != Some(&b'\n') {
        return Err(malformed("The bulk request must be terminated by a newline [\\n]".to_owned()));
    }
    let mut items = Vec::new();
    let mut lines = body.split(|byte| *byte == b'\n').enumerate();
    while let Some((number, line)) = lines.next() {
        let (number, line) = (number + 1, line.trim_ascii());
        if line.is_empty() {
            continue;
        }
        let (action, metadata) = action_line(number, line)?;
        let (target, id, if_sequence) = metadata_of(number, &metadata, index)?;
        let change = if action == "delete" {
            Ok(Change::Delete)
        } else {
            let Some((_, source)) = lines.next().filter(|(_, source)| !source.trim_ascii().is_empty()) else {
                return Err(malformed(format!(
                    "Malformed action/metadata line [{number}], expected a source line after it"
                )));
            };
            match super::call::object(source) {
                Ok(source) if action == "update" => Ok(Change::Update(source)),
                Ok(source) if action == "create" => Ok(Change::Create(source)),
                Ok(source) => Ok(Change::Index(source)),
                Err(error) => Err(ApiError::mapping("failed to parse").because(error.kind, error.reason)),
            }
        };
        let change = match change {
            Ok(Change::Delete | Change::Update(_)) if id.is_none() => {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "action_request_validation_exception",
                    "Validation Failed: 1: id is missing;",
                ));
            }
            other => other,
        };
        let operation = change.map(|change| Operation { id: id.clone(), change, if_sequence });
        items.push(Item { action, index: target, id, operation });
    }
    Ok(items)
}

fn action_line(number: usize, line: &[u8]) -> Result<(&'static str, Map<String, Value>), ApiError> {
    let value: Value = serde_json::from_slice(line).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "json_parse_exception", format!("line [{number}]: {error}"))
    })?;
    let Value::Object(object) = value else {
        return Err(malformed(format!(
            "Malformed action/metadata line [{number}], expected START_OBJECT but found {}",
            kind_of(&value)
        )));
    };
    let mut members = object.into_iter();
    let (Some((name, metadata)), None) = (members.next(), members.next()) else {
        return Err(malformed(format!("Malformed action/metadata line [{number}], expected one action")));
    };
    let known = ["index", "create", "update", "delete"];
    let Some(action) = known.into_iter().find(|known| *known == name) else {
        return Err(malformed(format!(
            "Malformed action/metadata line [{number}], expected field [create], [delete], [index] or [update] but found [{name}]"
        )));
    };
    match metadata {
        Value::Object(metadata) => Ok((action, metadata)),
        other => Err(malformed(format!(
            "Malformed action/metadata line [{number}], expected START_OBJECT but found {}",
            kind_of(&other)
        ))),
    }
}

fn metadata_of(
    number: usize,
    metadata: &Map<String, Value>,
    index: Option<&str>,
) -> Result<(String, Option<String>, Option<u64>), ApiError> {
    let (mut target, mut id, mut if_sequence) = (index.map(str::to_owned), None, None);
    for (key, value) in metadata {
        match (key.as_str(), value) {
            ("_index", Value::String(name)) => target = Some(name.clone()),
            ("_id", Value::String(text)) => id = Some(text.clone()),
            ("_id", Value::Number(text)) => id = Some(text.to_string()),
            ("if_seq_no", value) if value.is_u64() => if_sequence = value.as_u64(),
            ("_id", Value::Null)
            | ("if_primary_term" | "retry_on_conflict" | "routing" | "require_alias", _) => {}
            _ => {
                return Err(malformed(format!(
                    "Action/metadata line [{number}] contains an unknown parameter [{key}]"
                )));
            }
        }
    }
    let target = target.ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "action_request_validation_exception",
            "Validation Failed: 1: index is missing;",
        )
    })?;
    Ok((target, id, if_sequence))
}
