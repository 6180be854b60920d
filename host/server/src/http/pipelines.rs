//! Search pipelines: named settings of searches, kept in the data folder.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    adaptive::Wanted,
    app::App,
    call::{Call, kind_of},
    collection::Collection,
    error::ApiError,
    persist::write_whole,
    reply::{Answer, Reply},
    search::dsl,
};
use crate::failure::{Explain, Failure};

/// Most pipelines; each is a few hundred bytes.
const MOST: usize = 1_000;

/// One pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// As it was given.
    body: Map<String, Value>,
    /// Adaptive search.
    pub adaptive: Option<Wanted>,
    /// Weights of hybrid queries.
    pub weights: Option<Vec<f32>>,
}

/// All pipelines.
pub struct Pipelines {
    file: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Pipeline>>>,
}

impl Pipelines {
    /// Reads those that were kept.
    pub fn open(file: PathBuf) -> Result<Self, Failure> {
        let attempted = || format!("reading pipelines from `{}`", file.display());
        let mut all = BTreeMap::new();
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let bodies: BTreeMap<String, Map<String, Value>> =
                    serde_json::from_str(&text).attempt(attempted())?;
                for (name, body) in bodies {
                    let pipeline = Pipeline::parse(body).map_err(|error| {
                        Failure::new(format!("{}: `{name}`: {}", attempted(), error.reason))
                    })?;
                    all.insert(name, Arc::new(pipeline));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).attempt(attempted()),
        }
        Ok(Self { file, all: Mutex::new(all) })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Arc<Pipeline>>) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = all.clone();
        change(&mut next)?;
        let bodies: BTreeMap<&str, &Map<String, Value>> =
            next.iter().map(|(name, pipeline)| (name.as_str(), &pipeline.body)).collect();
        write_whole(&self.file, &format!("{:#}\n", json!(bodies)))
            .map_err(|error| ApiError::fault(format!("could not keep pipelines: {error}")))?;
        *all = next;
        Ok(())
    }
}

fn processors<'b>(body: &'b Map<String, Value>, key: &str, known: &str) -> Result<Vec<&'b Value>, ApiError> {
    let mut found = Vec::new();
    let items = match body.get(key) {
        None => return Ok(found),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(ApiError::parsing(format!("[{key}] should be an array, got {}", kind_of(other))));
        }
    };
    for item in items {
        let object = item.as_object().filter(|object| object.len() == 1);
        let Some((name, settings)) = object.and_then(|object| object.iter().next()) else {
            return Err(ApiError::parsing(format!("[{key}]: expected objects with one processor each")));
        };
        if name != known {
            return Err(ApiError::illegal(format!(
                "Invalid processor type {name}: [{key}] may have [{known}]"
            )));
        }
        found.push(settings);
    }
    if 1 < found.len() {
        return Err(ApiError::illegal(format!("[{key}]: expected one [{known}], got {}", found.len())));
    }
    Ok(found)
}

impl Pipeline {
    fn parse(body: Map<String, Value>) -> Result<Self, ApiError> {
        let known = [
            "description",
            "version",
            "request_processors",
            "phase_results_processors",
            "response_processors",
        ];
        if let Some(key) = body.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ApiError::parsing(format!(
                "pipeline doesn't support one or more provided configuration parameters [{key}]"
            )));
        }
        if body
            .get("response_processors")
            .is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()))
        {
            return Err(ApiError::illegal("[response_processors] are not supported"));
        }
        let adaptive = processors(&body, "request_processors", "adaptive")?
            .first()
            .map(|settings| Wanted::parse(settings))
            .transpose()?;
        let weights = match processors(&body, "phase_results_processors", "normalization-processor")?.first()
        {
            None => None,
            Some(settings) => normalization(settings)?,
        };
        Ok(Self { body, adaptive, weights })
    }
}

/// The weights of a normalization processor; min-max and arithmetic mean are what there is.
fn normalization(settings: &Value) -> Result<Option<Vec<f32>>, ApiError> {
    let technique = |part: &str, only: &str| match settings.pointer(&format!("/{part}/technique")) {
        None => Ok(()),
        Some(Value::String(name)) if name == only => Ok(()),
        Some(other) => Err(ApiError::illegal(format!(
            "provided {part} technique is not supported: expected {only}, got {other}"
        ))),
    };
    technique("normalization", "min_max")?;
    technique("combination", "arithmetic_mean")?;
    let known = ["normalization", "combination", "tag", "description", "ignore_failure"];
    if let Some(key) =
        settings.as_object().into_iter().flat_map(Map::keys).find(|key| !known.contains(&key.as_str()))
    {
        return Err(ApiError::illegal(format!("[normalization-processor] unknown member [{key}]")));
    }
    settings
        .pointer("/combination/parameters/weights")
        .map(|weights| dsl::weights("normalization-processor", weights))
        .transpose()
}

/// The pipeline of a search: by parameter, else by the index's setting; `_none` is none.
pub fn chosen(
    app: &App,
    parameter: Option<&str>,
    collection: &Collection,
) -> Result<Option<Arc<Pipeline>>, ApiError> {
    let meta = collection.meta();
    let name =
        match parameter.or_else(|| meta.settings.get("search.default_pipeline").and_then(Value::as_str)) {
            None | Some("_none") => return Ok(None),
            Some(name) => name,
        };
    let found = app.pipelines.all.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    found.map(Some).ok_or_else(|| ApiError::illegal(format!("Pipeline {name} is not defined")))
}

/// Parameters of requests that change pipelines.
pub const CHANGING: &[&str] = &["timeout", "master_timeout", "cluster_manager_timeout"];
/// Parameters of requests that look at them.
pub const LOOKING: &[&str] = &["master_timeout", "cluster_manager_timeout"];

/// `PUT /_search/pipeline/NAME`.
pub async fn put(app: &Arc<App>, call: &Call, name: &str) -> Answer {
    let pipeline = Arc::new(Pipeline::parse(call.needed_object()?)?);
    let (shared, own) = (Arc::clone(app), name.to_owned());
    app.blocking(move || {
        shared.pipelines.change(|all| {
            all.insert(own, pipeline);
            if MOST < all.len() {
                return Err(ApiError::illegal(format!("expected at most {MOST} pipelines")));
            }
            Ok(())
        })
    })
    .await?;
    Reply::ok(json!({ "acknowledged": true }))
}

/// `GET /_search/pipeline[/NAME]`.
pub fn get(app: &App, name: Option<&str>) -> Answer {
    let all = app.pipelines.all.lock().unwrap_or_else(PoisonError::into_inner);
    let shown: Map<String, Value> = all
        .iter()
        .filter(|(known, _)| {
            name.is_none_or(|name| name.split(',').any(|part| super::search_fits(part, known)))
        })
        .map(|(known, pipeline)| (known.clone(), Value::Object(pipeline.body.clone())))
        .collect();
    if shown.is_empty() && name.is_some_and(|name| !name.contains('*')) {
        return Ok(Reply::Json(StatusCode::NOT_FOUND, json!({})));
    }
    Reply::ok(Value::Object(shown))
}

/// `DELETE /_search/pipeline/NAME`.
pub async fn delete(app: &Arc<App>, name: &str) -> Answer {
    let (shared, own) = (Arc::clone(app), name.to_owned());
    app.blocking(move || {
        shared.pipelines.change(|all| match all.remove(&own) {
            Some(_) => Ok(()),
            None => {
                let reason = format!("pipeline [{own}] is missing");
                Err(ApiError::new(StatusCode::NOT_FOUND, "resource_not_found_exception", reason))
            }
        })
    })
    .await?;
    Reply::ok(json!({ "acknowledged": true }))
}
