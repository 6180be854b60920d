//! Snapshot repositories: folders below the one that the configuration names, and nothing else.
//!
//! Neighbour: `snapshots.rs` takes, shows, deletes and restores what is in them.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::Call,
    error::ApiError,
    persist::write_whole,
    reply::{Answer, Reply},
    search_fits,
};
use crate::{
    failure::{Explain, Failure},
    snapshots::is_name,
};

/// Most repositories.
const MOST: usize = 100;
/// Failed snapshots that are remembered.
const REMEMBERED: usize = 100;

/// Parameters of requests about repositories.
pub const PARAMETERS: &[&str] = &["timeout", "master_timeout", "cluster_manager_timeout", "verify", "local"];

/// One repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Repository {
    /// Below the configured folder, or the folder itself.
    pub(super) location: String,
    /// Whether nothing is made or deleted there.
    pub(super) readonly: bool,
    /// As the client gave them.
    settings: Map<String, Value>,
}

/// A snapshot that is being made, or could not be.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) began_ms: u64,
    pub(super) indexes: Vec<String>,
    /// Why it failed; `None` while it is being made.
    pub(super) failure: Option<String>,
}

/// All repositories.
pub struct Repositories {
    root: Option<PathBuf>,
    file: PathBuf,
    all: Mutex<BTreeMap<String, Repository>>,
    pub(super) attempts: Mutex<BTreeMap<(String, String), Attempt>>,
    /// Held by the one job at work.
    pub(super) working: tokio::sync::Mutex<()>,
}

fn missing_repository(name: &str) -> ApiError {
    let reason = format!("[{name}] missing");
    ApiError::new(StatusCode::NOT_FOUND, "repository_missing_exception", reason)
}

impl Repositories {
    /// Reads those that were kept; `root` is the folder that all are in.
    pub fn open(root: Option<PathBuf>, file: PathBuf) -> Result<Self, Failure> {
        let attempted = || format!("reading repositories from `{}`", file.display());
        let all = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).attempt(attempted())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).attempt(attempted()),
        };
        Ok(Self {
            root,
            file,
            all: Mutex::new(all),
            attempts: Mutex::default(),
            working: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn find(&self, name: &str) -> Result<Repository, ApiError> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().ok_or_else(|| missing_repository(name))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Repository>) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = all.clone();
        change(&mut next)?;
        write_whole(&self.file, &format!("{:#}\n", json!(next)))
            .map_err(|error| ApiError::fault(format!("could not keep repositories: {error}")))?;
        *all = next;
        Ok(())
    }

    /// The folder of a repository, made where it is missing. Links cannot lead out of the configured folder.
    pub(super) fn folder(&self, location: &str) -> Result<PathBuf, ApiError> {
        let Some(root) = &self.root else {
            return Err(ApiError::illegal(
                "snapshots: the configuration has no `snapshots` folder for repositories",
            ));
        };
        let io = |what: &str, error: std::io::Error| ApiError::fault(format!("snapshots: {what}: {error}"));
        std::fs::create_dir_all(root).map_err(|error| io("the configured folder", error))?;
        let root = root.canonicalize().map_err(|error| io("the configured folder", error))?;
        let outside = || {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "repository_exception",
                format!(
                    "location [{location}] doesn't match: expected a folder below the configured one, of names a-z 0-9 - _ ."
                ),
            )
        };
        let asked = Path::new(location);
        let below =
            if asked.is_absolute() { asked.strip_prefix(&root).map_err(|_| outside())? } else { asked };
        let mut folder = root.clone();
        for part in below.components() {
            let Component::Normal(part) = part else { return Err(outside()) };
            let part = part.to_str().filter(|part| is_name(part)).ok_or_else(outside)?;
            folder.push(part);
            // One after the other, so that a link is seen before anything is made behind it.
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(io("the repository's folder", error));
                }
                _ => {}
            }
            let real = folder.canonicalize().map_err(|error| io("the repository's folder", error))?;
            if real != folder {
                return Err(outside());
            }
        }
        Ok(folder)
    }

    pub(super) fn note(&self, repository: &str, name: &str, attempt: Option<Attempt>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.to_owned(), name.to_owned());
        match attempt {
            Some(attempt) => {
                attempts.insert(key, attempt);
                if REMEMBERED < attempts.len() {
                    attempts.pop_first();
                }
            }
            None => {
                attempts.remove(&key);
            }
        }
    }
}

/// `PUT /_snapshot/REPOSITORY`.
pub async fn put(app: &Arc<App>, call: &Call, name: &str) -> Answer {
    if !is_name(name) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "repository_exception",
            format!("[{name}] cannot be a repository's name: expected 1 to 128 of a-z 0-9 - _ ."),
        ));
    }
    let body = call.needed_object()?;
    if let Some(key) = body.keys().find(|key| !matches!(key.as_str(), "type" | "settings" | "verify")) {
        return Err(ApiError::parsing(format!("unknown key [{key}] for a repository")));
    }
    if body.get("type").and_then(Value::as_str) != Some("fs") {
        let reason = format!(
            "[{name}] repository type [{}] does not exist: expected [fs]",
            body.get("type").and_then(Value::as_str).unwrap_or_default()
        );
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "repository_exception", reason));
    }
    let settings = match body.get("settings") {
        Some(Value::Object(settings)) => settings.clone(),
        _ => return Err(ApiError::parsing("[settings]: expected an object with a [location]")),
    };
    let mut repository = Repository { location: String::new(), readonly: false, settings: settings.clone() };
    for (key, value) in &settings {
        match (key.as_str(), value) {
            ("location", Value::String(location)) => repository.location.clone_from(location),
            ("readonly", value) => repository.readonly = flag(key, value)?,
            // Files are shared or copied as they are.
            ("compress", value) => _ = flag(key, value)?,
            _ => {
                let reason = format!(
                    "[settings]: [{key}] is not supported with this value: there are [location, readonly, compress]"
                );
                return Err(ApiError::illegal(reason));
            }
        }
    }
    if !settings.contains_key("location") {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "repository_exception",
            "missing location: expected a folder below the configured one",
        ));
    }
    let (shared, name) = (Arc::clone(app), name.to_owned());
    app.blocking(move || {
        shared.repositories.folder(&repository.location)?;
        shared.repositories.change(|all| {
            all.insert(name, repository);
            if MOST < all.len() {
                return Err(ApiError::illegal(format!("expected at most {MOST} repositories")));
            }
            Ok(())
        })
    })
    .await?;
    Reply::ok(json!({ "acknowledged": true }))
}

pub(super) fn flag(key: &str, value: &Value) -> Result<bool, ApiError> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text == "true" || text == "false" => Ok(text == "true"),
        other => Err(ApiError::illegal(format!("[{key}]: expected true or false, got {other}"))),
    }
}

/// `GET /_snapshot[/REPOSITORY]`.
pub fn get(app: &App, names: Option<&str>) -> Answer {
    let all = app.repositories.all.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.unwrap_or("_all");
    let mut shown = Map::new();
    for asked in names.split(',') {
        let pattern = if asked == "_all" { "*" } else { asked };
        let before = shown.len();
        for (name, repository) in all.iter().filter(|(name, _)| search_fits(pattern, name)) {
            shown.insert(name.clone(), json!({ "type": "fs", "settings": repository.settings }));
        }
        if shown.len() == before && !pattern.contains('*') {
            return Err(missing_repository(asked));
        }
    }
    Reply::ok(Value::Object(shown))
}

/// `DELETE /_snapshot/REPOSITORY`: forgets it; its snapshots stay where they are.
pub async fn delete(app: &Arc<App>, name: &str) -> Answer {
    let (shared, own) = (Arc::clone(app), name.to_owned());
    app.blocking(move || {
        shared.repositories.change(|all| match all.remove(&own) {
            Some(_) => Ok(()),
            None => Err(missing_repository(&own)),
        })
    })
    .await?;
    Reply::ok(json!({ "acknowledged": true }))
}
