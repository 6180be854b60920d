//! Snapshots on OpenSearch's wire.
//!
//! What a snapshot is on disk is `snapshots.rs` of this crate, where they are `repositories.rs`. Taking one first embeds and
//! commits what was acknowledged; then it is a copy, beside which writing goes on. One job that changes or reads a
//! repository's files runs at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::Call,
    error::ApiError,
    health::SPOKEN_VERSION,
    now_ms,
    reply::{Answer, Reply},
    repositories::{Attempt, flag},
    search_fits,
};
use crate::{
    failure::Failure,
    snapshots::{self, Snapshot, is_name},
};

/// Longest pattern for new names, and the memory that it may take when it is read.
const PATTERN_BYTES: usize = 1_000;
const PATTERN_MEMORY: usize = 1 << 20;

/// Parameters of requests that take or restore.
pub const WORKING: &[&str] = &["wait_for_completion", "master_timeout", "cluster_manager_timeout"];
/// Parameters of requests that look at snapshots or delete them.
pub const LOOKING: &[&str] = &["master_timeout", "cluster_manager_timeout", "ignore_unavailable", "verbose"];

fn missing_snapshot(repository: &str, name: &str) -> ApiError {
    let reason = format!("[{repository}:{name}] is missing");
    ApiError::new(StatusCode::NOT_FOUND, "snapshot_missing_exception", reason)
}

fn fault(failure: Failure) -> ApiError {
    ApiError::fault(failure.causes().join(": "))
}

/// What a body asks for of which indexes.
struct Asked {
    patterns: Vec<String>,
    ignore_unavailable: bool,
}

impl Asked {
    fn parse(body: &Map<String, Value>, known: &[&str]) -> Result<Self, ApiError> {
        let mut asked = Self { patterns: Vec::new(), ignore_unavailable: false };
        for (key, value) in body {
            match (key.as_str(), value) {
                ("indices", Value::String(names)) => {
                    asked.patterns.extend(names.split(',').map(str::to_owned));
                }
                ("indices", Value::Array(names)) if names.iter().all(Value::is_string) => {
                    asked.patterns.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                ("ignore_unavailable", value) => asked.ignore_unavailable = flag(key, value)?,
                // There is no global state, no alias, and no index in parts.
                ("include_global_state" | "include_aliases" | "partial", value) => _ = flag(key, value)?,
                (other, _) if known.contains(&other) => {}
                _ => {
                    return Err(ApiError::illegal(format!(
                        "unknown parameter [{key}], or one of another type"
                    )));
                }
            }
        }
        if asked.patterns.is_empty() {
            asked.patterns.push("*".to_owned());
        }
        Ok(asked)
    }

    /// Those of `names` that are asked for.
    fn chosen(&self, names: &[String]) -> Result<Vec<String>, ApiError> {
        let mut chosen: Vec<String> = Vec::new();
        for pattern in &self.patterns {
            let pattern = if pattern == "_all" { "*" } else { pattern };
            let before = chosen.len();
            let fitting = names.iter().filter(|name| search_fits(pattern, name));
            for name in fitting.filter(|name| !chosen.contains(name)).cloned().collect::<Vec<_>>() {
                chosen.push(name);
            }
            let is_missing = chosen.len() == before && !chosen.iter().any(|name| search_fits(pattern, name));
            if is_missing && !pattern.contains('*') && !self.ignore_unavailable {
                return Err(ApiError::no_index(pattern));
            }
        }
        chosen.sort();
        Ok(chosen)
    }
}

/// Runs a job now, or behind the answer. Only one is at work at once.
async fn run(
    app: &Arc<App>,
    call: &Call,
    job: impl Future<Output = Result<Value, ApiError>> + Send + 'static,
) -> Answer {
    let wait = call.switch("wait_for_completion")?.unwrap_or(false);
    let shared = Arc::clone(app);
    let guarded = async move {
        let Ok(_one) = shared.repositories.working.try_lock() else {
            return Err(ApiError::overloaded("snapshots: another one is being taken, restored or deleted"));
        };
        job.await
    };
    if wait {
        // As a task, so that a client that goes leaves nothing half done.
        let done = tokio::spawn(guarded).await;
        return Reply::ok(done.map_err(|panic| ApiError::fault(format!("the job did not end: {panic}")))??);
    }
    if app.repositories.working.try_lock().is_err() {
        return Err(ApiError::overloaded("snapshots: another one is being taken, restored or deleted"));
    }
    tokio::spawn(async move {
        if let Err(error) = guarded.await {
            tracing::error!("a snapshot's job failed: {}", error.reason);
        }
    });
    Reply::ok(json!({ "accepted": true }))
}

/// `PUT /_snapshot/REPOSITORY/NAME`.
pub async fn take(app: &Arc<App>, call: &Call, repository: &str, name: &str) -> Answer {
    if !is_name(name) {
        let reason =
            format!("[{repository}:{name}] invalid snapshot name: expected 1 to 128 of a-z 0-9 - _ .");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_snapshot_name_exception", reason));
    }
    let found = app.repositories.find(repository)?;
    if found.readonly {
        let reason = format!("[{repository}] cannot create snapshot in a readonly repository");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "repository_exception", reason));
    }
    let body = call.object()?;
    let asked = Asked::parse(&body, &["metadata"])?;
    let metadata = body.get("metadata").cloned();
    if metadata.as_ref().is_some_and(|metadata| 1 << 16 < metadata.to_string().len()) {
        return Err(ApiError::illegal("[metadata]: expected at most 65536 bytes"));
    }
    let all = app.all_collections();
    let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    let chosen = asked.chosen(&names)?;
    let folder = {
        let shared = Arc::clone(app);
        app.blocking(move || shared.repositories.folder(&found.location)).await?
    };
    if folder.join(name).exists() {
        let reason = format!("[{repository}:{name}] snapshot with the same name already exists");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_snapshot_name_exception", reason));
    }
    let (shared, repository, name) = (Arc::clone(app), repository.to_owned(), name.to_owned());
    run(app, call, async move {
        let begun = Attempt { began_ms: now_ms(), indexes: chosen.clone(), failure: None };
        shared.repositories.note(&repository, &name, Some(begun.clone()));
        let mut indexes = Vec::new();
        let taken = async {
            for one in all.iter().filter(|one| chosen.contains(&one.name)) {
                // What was acknowledged is part of it.
                one.refresh().await?;
                indexes.push((one.name.clone(), one.index.clone()));
            }
            let (folder, own) = (folder.clone(), name.clone());
            shared
                .blocking(move || {
                    snapshots::sweep(&folder).map_err(fault)?;
                    snapshots::take(&folder, &own, &indexes, metadata).map_err(fault)
                })
                .await
        };
        match taken.await {
            Ok(snapshot) => {
                shared.repositories.note(&repository, &name, None);
                Ok(json!({ "snapshot": shown(&snapshot) }))
            }
            Err(error) => {
                let failed = Attempt { failure: Some(error.reason.clone()), ..begun };
                shared.repositories.note(&repository, &name, Some(failed));
                Err(error)
            }
        }
    })
    .await
}

/// A snapshot as replies show it.
fn shown(snapshot: &Snapshot) -> Value {
    let count = snapshot.indexes.len();
    let mut shown = described(
        &snapshot.name,
        "SUCCESS",
        snapshot.indexes.keys().collect::<Vec<_>>(),
        (snapshot.began_ms, snapshot.done_ms),
    );
    shown["shards"] = json!({ "total": count, "failed": 0, "successful": count });
    if let Some(metadata) = &snapshot.metadata {
        shown["metadata"] = metadata.clone();
    }
    shown
}

fn described(name: &str, state: &str, indexes: impl Serialize, (began_ms, done_ms): (u64, u64)) -> Value {
    json!({
        "snapshot": name,
        "uuid": name,
        "version": SPOKEN_VERSION,
        "remote_store_index_shallow_copy": false,
        "indices": indexes,
        "data_streams": [],
        "include_global_state": false,
        "state": state,
        "start_time_in_millis": began_ms,
        "end_time_in_millis": done_ms,
        "duration_in_millis": done_ms.saturating_sub(began_ms),
        "failures": [],
        "shards": { "total": 0, "failed": 0, "successful": 0 },
    })
}

/// `GET /_snapshot/REPOSITORY/NAME`.
pub async fn get(app: &Arc<App>, call: &Call, repository: &str, asked: &str) -> Answer {
    let found = app.repositories.find(repository)?;
    let ignore = call.switch("ignore_unavailable")?.unwrap_or(false);
    let attempts: BTreeMap<String, Attempt> = {
        let all = app.repositories.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.iter().filter(|((of, _), _)| of == repository);
        own.map(|((_, name), attempt)| (name.clone(), attempt.clone())).collect()
    };
    let (shared, repository, asked) = (Arc::clone(app), repository.to_owned(), asked.to_owned());
    let list = app
        .blocking(move || {
            let folder = shared.repositories.folder(&found.location)?;
            let there = snapshots::names(&folder).map_err(fault)?;
            let mut list = Vec::new();
            for asked in asked.split(',') {
                let pattern = if asked == "_all" { "*" } else { asked };
                let before = list.len();
                for name in there.iter().filter(|name| search_fits(pattern, name)) {
                    list.push(match snapshots::read(&folder.join(name)) {
                        Ok(snapshot) => shown(&snapshot),
                        Err(failure) => unusable(name, "FAILED", (0, 0), &failure.causes().join(": ")),
                    });
                }
                for (name, attempt) in attempts.iter().filter(|(name, _)| search_fits(pattern, name)) {
                    let times = (attempt.began_ms, now_ms());
                    list.push(match &attempt.failure {
                        Some(reason) => unusable(name, "FAILED", times, reason),
                        None => described(name, "IN_PROGRESS", &attempt.indexes, times),
                    });
                }
                if list.len() == before && !pattern.contains('*') && !ignore {
                    return Err(missing_snapshot(&repository, asked));
                }
            }
            Ok(list)
        })
        .await?;
    Reply::ok(json!({ "snapshots": list }))
}

fn unusable(name: &str, state: &str, times: (u64, u64), reason: &str) -> Value {
    let mut shown = described(name, state, json!([]), times);
    shown["reason"] = json!(reason);
    shown
}

/// `DELETE /_snapshot/REPOSITORY/NAME`.
pub async fn delete(app: &Arc<App>, repository: &str, names: &str) -> Answer {
    let found = app.repositories.find(repository)?;
    if found.readonly {
        let reason = format!("[{repository}] cannot delete snapshots from a readonly repository");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "repository_exception", reason));
    }
    let Ok(_one) = app.repositories.working.try_lock() else {
        return Err(ApiError::overloaded("snapshots: another one is being taken, restored or deleted"));
    };
    let (shared, repository, names) = (Arc::clone(app), repository.to_owned(), names.to_owned());
    app.blocking(move || {
        let folder = shared.repositories.folder(&found.location)?;
        let there = snapshots::names(&folder).map_err(fault)?;
        let mut doomed: Vec<&String> = Vec::new();
        for asked in names.split(',') {
            let before = doomed.len();
            doomed.extend(there.iter().filter(|name| search_fits(asked, name)));
            if doomed.len() == before {
                return Err(missing_snapshot(&repository, asked));
            }
        }
        doomed.sort();
        doomed.dedup();
        doomed.into_iter().try_for_each(|name| snapshots::remove(&folder, name).map_err(fault))
    })
    .await?;
    Reply::ok(json!({ "acknowledged": true }))
}

/// New names for restored indexes.
fn renaming(body: &Map<String, Value>) -> Result<Option<(regex::Regex, String)>, ApiError> {
    let text = |key: &str| match body.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= PATTERN_BYTES => Ok(Some(text.clone())),
        Some(_) => Err(ApiError::illegal(format!("[{key}]: expected at most {PATTERN_BYTES} bytes of text"))),
    };
    match (text("rename_pattern")?, text("rename_replacement")?) {
        (None, None) => Ok(None),
        (Some(pattern), Some(replacement)) => {
            let pattern = regex::RegexBuilder::new(&pattern)
                .size_limit(PATTERN_MEMORY)
                .build()
                .map_err(|error| ApiError::illegal(format!("[rename_pattern]: {error}")))?;
            // `$1_old` is group 1 and a text, as OpenSearch has it.
            let digits = regex::Regex::new(r"\$(\d+)").map_err(|error| ApiError::fault(error.to_string()))?;
            let replacement = digits.replace_all(&replacement, "$${$1}").into_owned();
            Ok(Some((pattern, replacement)))
        }
        _ => Err(ApiError::illegal("[rename_pattern] and [rename_replacement] go together")),
    }
}

/// `POST /_snapshot/REPOSITORY/NAME/_restore`.
pub async fn restore(app: &Arc<App>, call: &Call, repository: &str, name: &str) -> Answer {
    let found = app.repositories.find(repository)?;
    let body = call.object()?;
    let asked = Asked::parse(&body, &["rename_pattern", "rename_replacement"])?;
    let renaming = renaming(&body)?;
    if !is_name(name) {
        return Err(missing_snapshot(repository, name));
    }
    let (folder, snapshot) = {
        let (shared, repository, name) = (Arc::clone(app), repository.to_owned(), name.to_owned());
        app.blocking(move || {
            let folder = shared.repositories.folder(&found.location)?.join(&name);
            if !folder.is_dir() {
                return Err(missing_snapshot(&repository, &name));
            }
            let snapshot = snapshots::read(&folder).map_err(fault)?;
            Ok((folder, snapshot))
        })
        .await?
    };
    let held: Vec<String> = snapshot.indexes.keys().cloned().collect();
    let mut pairs: Vec<(String, String)> = Vec::new();
    for index in asked.chosen(&held)? {
        let target = match &renaming {
            Some((pattern, replacement)) => pattern.replace_all(&index, replacement.as_str()).into_owned(),
            None => index.clone(),
        };
        if app.find(&target).is_some() || pairs.iter().any(|(_, other)| *other == target) {
            let reason = format!(
                "[{repository}:{name}] cannot restore index [{target}] because an open index with same name already exists"
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "snapshot_restore_exception", reason));
        }
        app.check_name(&target)?;
        pairs.push((index, target));
    }
    let (shared, name) = (Arc::clone(app), name.to_owned());
    run(app, call, async move {
        let targets: Vec<String> = pairs.iter().map(|(_, target)| target.clone()).collect();
        let own = Arc::clone(&shared);
        shared
            .blocking(move || {
                for (index, target) in &pairs {
                    own.adopt(target, |catalog| {
                        snapshots::put_back(&folder, &snapshot, index, catalog, target)
                    })?;
                }
                Ok(())
            })
            .await?;
        let count = targets.len();
        let shards = json!({ "total": count, "failed": 0, "successful": count });
        Ok(json!({ "snapshot": { "snapshot": name, "indices": targets, "shards": shards } }))
    })
    .await
}
