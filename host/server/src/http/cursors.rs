//! Scrolls and points in time: snapshots that are held for a client, few of them and not for ever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    app::App,
    call::{Call, milliseconds},
    error::ApiError,
    pipelines,
    reply::{Answer, Reply},
    search::{Seen, body::SearchBody, plain},
};

/// Longest that a cursor may be asked to be kept: a day, as OpenSearch has it.
const LONGEST_MS: u64 = 86_400_000;

struct Cursor {
    seen: Seen,
    /// The search and how many hits it has given, of a scroll.
    scroll: Option<(SearchBody, usize)>,
    keep: Duration,
    until: Instant,
}

/// All that are held.
pub struct Cursors {
    held: Mutex<(u64, BTreeMap<String, Cursor>)>,
    most: Mutex<usize>,
    /// Makes ids that cannot be guessed from others.
    salt: String,
}

impl Cursors {
    /// Room for `most`; `salt` differs from start to start.
    pub fn new(most: usize, salt: String) -> Self {
        Self { held: Mutex::default(), most: Mutex::new(most), salt }
    }

    /// Other room, from now on.
    pub fn set_most(&self, most: usize) {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner) = most;
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hold(
        &self,
        seen: Seen,
        scroll: Option<(SearchBody, usize)>,
        keep_ms: u64,
    ) -> Result<String, ApiError> {
        let most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.1.retain(|_, cursor| now < cursor.until);
        if most <= held.1.len() {
            return Err(ApiError::overloaded(format!(
                "Trying to create too many scroll contexts. Must be less than or equal to: [{most}]."
            )));
        }
        held.0 += 1;
        let digest = Sha256::digest(format!("{} {}", self.salt, held.0));
        let id: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        let keep = Duration::from_millis(keep_ms);
        held.1.insert(id.clone(), Cursor { seen, scroll, keep, until: now + keep });
        Ok(id)
    }

    fn with<T>(
        &self,
        id: &str,
        keep_ms: Option<u64>,
        work: impl FnOnce(&mut Cursor) -> Option<T>,
    ) -> Result<T, ApiError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        held.1.retain(|_, cursor| now < cursor.until);
        let found = held.1.get_mut(id).and_then(|cursor| {
            cursor.keep = keep_ms.map_or(cursor.keep, Duration::from_millis);
            cursor.until = now + cursor.keep;
            work(cursor)
        });
        found.ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "search_context_missing_exception",
                format!("No search context found for id [{id}]"),
            )
        })
    }

    /// The snapshot of a point in time.
    pub fn pit(&self, id: &str, keep_ms: Option<u64>) -> Result<Seen, ApiError> {
        checked(keep_ms)?;
        self.with(id, keep_ms, |cursor| cursor.scroll.is_none().then(|| cursor.seen.clone()))
    }

    fn drop(&self, id: &str) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).1.remove(id).is_some()
    }

    fn drop_all(&self, scrolls: bool) -> Vec<String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<String> = held
            .1
            .iter()
            .filter(|(_, cursor)| cursor.scroll.is_some() == scrolls)
            .map(|(id, _)| id.clone())
            .collect();
        ids.iter().for_each(|id| {
            held.1.remove(id);
        });
        ids
    }

    /// Lets go of everything that looks at an index that is deleted.
    pub fn forget(&self, index: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.1.retain(|_, cursor| cursor.seen.collection.name != index);
    }
}

fn checked(keep_ms: Option<u64>) -> Result<(), ApiError> {
    match keep_ms {
        Some(keep) if LONGEST_MS < keep => Err(ApiError::illegal(format!(
            "Keep alive for request ({keep}ms) is too large. It must be less than (1d)."
        ))),
        _ => Ok(()),
    }
}

/// Parameters of requests for the next page of a scroll.
pub const SCROLLING: &[&str] = &["scroll", "scroll_id", "rest_total_hits_as_int"];
/// Parameters of requests that end scrolls.
pub const CLEARING: &[&str] = &["scroll_id"];
/// Parameters of requests for a point in time.
pub const HOLDING: &[&str] =
    &["keep_alive", "preference", "routing", "expand_wildcards", "allow_partial_pit_creation"];

/// The first page of a scroll.
pub async fn open_scroll(
    app: &Arc<App>,
    call: &Call,
    index: Option<&str>,
    body: &Map<String, Value>,
    keep_ms: u64,
) -> Answer {
    checked(Some(keep_ms))?;
    let mut search = SearchBody::parse(body, call)?;
    let name = index.ok_or_else(|| ApiError::illegal("name one index to scroll through"))?;
    let seen = Seen::now(app.one_collection(name)?);
    let pipeline = pipelines::chosen(app, call.parameter("search_pipeline"), &seen.collection)?;
    search.weights = pipeline.as_ref().and_then(|pipeline| pipeline.weights.clone());
    let by_pipeline = pipeline.is_some_and(|pipeline| pipeline.adaptive.is_some());
    let refused = if search.adaptive.is_some() || by_pipeline {
        Some(
            "an adaptive search has one ranking and no scroll; search_pipeline=_none does without the pipeline",
        )
    } else if search.pit.is_some() || search.after.is_some() || search.from != 0 {
        Some("`from`, `search_after` and `pit` are not allowed in a scroll context")
    } else if search.size == 0 {
        Some("[size] cannot be [0] in a scroll context")
    } else {
        None
    };
    if let Some(reason) = refused {
        return Err(ApiError::illegal(reason));
    }
    let id = app.cursors.hold(seen, Some((search, 0)), keep_ms)?;
    page(app, call, &id, None).await
}

/// `_search/scroll`.
pub async fn scroll(app: &Arc<App>, call: &Call, id: Option<&str>) -> Answer {
    let body = call.object()?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).or_else(|| call.parameter(key));
    if let Some(key) = body.keys().find(|key| !matches!(key.as_str(), "scroll" | "scroll_id")) {
        return Err(ApiError::illegal(format!(
            "Unknown parameter [{key}] in request body or parameter is of the wrong type"
        )));
    }
    let keep = text("scroll").map(|keep| milliseconds("scroll", keep)).transpose()?;
    checked(keep)?;
    let id = id.or_else(|| text("scroll_id")).ok_or_else(|| ApiError::illegal("scrollId is missing"))?;
    page(app, call, id, keep).await
}

async fn page(app: &Arc<App>, call: &Call, id: &str, keep_ms: Option<u64>) -> Answer {
    let (seen, search, skip) = app.cursors.with(id, keep_ms, |cursor| {
        let (search, given) = cursor.scroll.as_mut()?;
        let skip = *given;
        *given += search.size;
        Some((cursor.seen.clone(), search.clone(), skip))
    })?;
    let mut reply = app.blocking(move || plain(&seen, &search, Instant::now(), skip)).await?;
    reply["_scroll_id"] = json!(id);
    if call.switch("rest_total_hits_as_int")?.unwrap_or(false) {
        reply["hits"]["total"] = reply["hits"]["total"]["value"].clone();
    }
    Reply::ok(reply)
}

/// Ends scrolls.
pub fn clear_scroll(app: &App, call: &Call, path: Option<&str>) -> Answer {
    let body = call.object()?;
    let mut ids: Vec<String> = path
        .or_else(|| call.parameter("scroll_id"))
        .into_iter()
        .flat_map(|ids| ids.split(','))
        .map(str::to_owned)
        .collect();
    match body.get("scroll_id") {
        Some(Value::String(id)) => ids.push(id.clone()),
        Some(Value::Array(more)) => ids.extend(more.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    let freed = if ids.iter().any(|id| id == "_all") {
        app.cursors.drop_all(true).len()
    } else if ids.is_empty() {
        return Err(ApiError::illegal("scrollId is missing"));
    } else {
        ids.iter().filter(|id| app.cursors.drop(id)).count()
    };
    let status = if freed == 0 { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok(Reply::Json(status, json!({ "succeeded": true, "num_freed": freed })))
}

/// Takes a point in time.
pub fn open_pit(app: &App, call: &Call, index: &str) -> Answer {
    let keep = call.parameter("keep_alive").ok_or_else(|| ApiError::illegal("[keep_alive] is missing"))?;
    let keep = milliseconds("keep_alive", keep)?;
    checked(Some(keep))?;
    let id = app.cursors.hold(Seen::now(app.one_collection(index)?), None, keep)?;
    let shards = json!({ "total": 1, "successful": 1, "skipped": 0, "failed": 0 });
    Reply::ok(json!({ "pit_id": id, "_shards": shards, "creation_time": super::now_ms() }))
}

/// Lets points in time go.
pub fn close_pit(app: &App, call: &Call, all: bool) -> Answer {
    let ids = if all {
        app.cursors.drop_all(false)
    } else {
        let body = call.needed_object()?;
        let ids: Vec<String> = match body.get("pit_id") {
            Some(Value::String(id)) => vec![id.clone()],
            Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => return Err(ApiError::illegal("[pit_id]: expected ids")),
        };
        ids.into_iter().filter(|id| app.cursors.drop(id)).collect()
    };
    let pits: Vec<Value> = ids.iter().map(|id| json!({ "successful": true, "pit_id": id })).collect();
    Reply::ok(json!({ "pits": pits }))
}
