//! Runs searches: one, or several of a multi-search, over a snapshot or a held one.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use orion_host::index::Searcher;
use serde_json::{Map, Value, json};

use super::{
    body::{SearchBody, shown_key},
    compile::Scope,
    dsl::{self, Node},
    highlight::Highlight,
    hits::{self, Ranked},
};
use crate::adapters::backends::SplitRetriever;
use crate::http::{
    adaptive,
    app::App,
    call::{self, Call},
    collection::Collection,
    cursors, elsewhere,
    error::ApiError,
    pipelines,
    reply::{Answer, Reply},
    spans,
};

/// Parameters of searches.
pub const PARAMETERS: &[&str] = &[
    "q",
    "df",
    "default_operator",
    "from",
    "size",
    "sort",
    "_source",
    "_source_includes",
    "_source_excludes",
    "timeout",
    "track_total_hits",
    "search_pipeline",
    "scroll",
    "rest_total_hits_as_int",
    "search_type",
    "ignore_unavailable",
    "allow_no_indices",
    "expand_wildcards",
    "preference",
    "routing",
    "request_cache",
    "batched_reduce_size",
    "ccs_minimize_roundtrips",
    "typed_keys",
];
/// Parameters of `_count`.
pub const COUNTING: &[&str] =
    &["q", "df", "default_operator", "ignore_unavailable", "allow_no_indices", "expand_wildcards"];
/// Parameters of `_msearch`.
pub const SEVERAL: &[&str] = &[
    "rest_total_hits_as_int",
    "max_concurrent_searches",
    "search_type",
    "typed_keys",
    "ccs_minimize_roundtrips",
];
/// Searches of one multi-search.
const MOST_SEARCHES: usize = 200;

/// What a search looks at: a collection and one snapshot of it.
#[derive(Clone)]
pub struct Seen {
    /// The collection.
    pub collection: Arc<Collection>,
    /// The snapshot.
    pub searcher: Arc<Searcher>,
}

impl Seen {
    /// The current snapshot of a collection.
    pub fn now(collection: Arc<Collection>) -> Self {
        let searcher = collection.searcher();
        Self { collection, searcher }
    }
}

/// `_search`.
pub async fn search(app: &Arc<App>, call: &Call, index: Option<&str>) -> Answer {
    let body = call.object()?;
    if let Some(keep) = call.parameter("scroll") {
        let keep = call::milliseconds("scroll", keep)?;
        return cursors::open_scroll(app, call, index, &body, keep).await;
    }
    Reply::ok(one(app, call, index, &body).await?)
}

/// One search to its reply.
async fn one(
    app: &Arc<App>,
    call: &Call,
    index: Option<&str>,
    body: &Map<String, Value>,
) -> Result<Value, ApiError> {
    let started = Instant::now();
    let mut search = SearchBody::parse(body, call)?;
    let seen = match (&search.pit, index) {
        (Some(_), Some(_)) => {
            return Err(ApiError::illegal("[index] cannot be used with point in time"));
        }
        (Some((id, keep)), None) => app.cursors.pit(id, *keep)?,
        (None, Some(name)) => Seen::now(app.one_collection(name)?),
        (None, None) => {
            return Err(ApiError::illegal("name one index: searching all of them at once is not supported"));
        }
    };
    let pipeline = pipelines::chosen(app, call.parameter("search_pipeline"), &seen.collection)?;
    search.weights = pipeline.as_ref().and_then(|pipeline| pipeline.weights.clone());
    if search.adaptive.is_none() {
        let wanted = pipeline.and_then(|pipeline| pipeline.adaptive.clone());
        // An index's default is for the searches that it fits; lists and sorted searches stay what they were.
        let asked_for = call.parameter("search_pipeline").is_some();
        search.adaptive = wanted.filter(|_| asked_for || adaptive::fits(&seen, &search));
    }
    let as_int = call.switch("rest_total_hits_as_int")?.unwrap_or(false);
    let mut reply = match &search.adaptive {
        Some(wanted) => adaptive::search(app, call, &seen, &search, &wanted.clone(), None).await?,
        None => {
            let parent = spans::parent(&call.headers);
            let recorder = app.spans.as_ref().map(|spans| spans.begin(parent, "none"));
            let done = match elsewhere::retriever(app, &seen)? {
                Some(split) => elsewhere::plain(app, &seen, &search, split, started).await,
                None => within(app, search.timeout_ms, move || plain(&seen, &search, started, 0)).await,
            };
            if let Some(recorder) = recorder {
                recorder.finish_plain(done.is_err());
            }
            done?
        }
    };
    if as_int {
        reply["hits"]["total"] = reply["hits"]["total"]["value"].clone();
    }
    Ok(reply)
}

/// Blocking work for at most so long; beyond that the reply says that time was up, and the work ends by itself.
async fn within(
    app: &Arc<App>,
    timeout_ms: Option<u64>,
    work: impl FnOnce() -> Result<Value, ApiError> + Send + 'static,
) -> Result<Value, ApiError> {
    let started = Instant::now();
    let done = app.blocking(work);
    let Some(timeout_ms) = timeout_ms else { return done.await };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), done).await {
        Ok(done) => done,
        Err(_) => {
            let mut reply = envelope(started, 0, None, Vec::new(), true);
            reply["timed_out"] = json!(true);
            Ok(reply)
        }
    }
}

/// The reply around hits.
pub fn envelope(
    started: Instant,
    total: u64,
    max_score: Option<f32>,
    hits: Vec<Value>,
    with_total: bool,
) -> Value {
    let mut reply = json!({
        "took": started.elapsed().as_millis() as u64,
        "timed_out": false,
        "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 },
        "hits": { "max_score": max_score, "hits": hits },
    });
    if with_total {
        reply["hits"]["total"] = json!({ "value": total, "relation": "eq" });
    }
    reply
}

/// A search that is not adaptive; `skip` hits come before the body's own `from`.
pub fn plain(seen: &Seen, search: &SearchBody, started: Instant, skip: usize) -> Result<Value, ApiError> {
    if seen.collection.elsewhere.get().is_some() {
        return Err(ApiError::illegal(format!(
            "index [{}] is kept by other engines: scrolls and points in time are not supported",
            seen.collection.name
        )));
    }
    let meta = seen.collection.meta();
    let scope = Scope { mapping: &meta.mapping, searcher: &seen.searcher, weights: search.weights.clone() };
    let clause = scope.clause(&search.query)?;
    let (order, position) = (search.order(&meta.mapping)?, search.position(&meta.mapping)?);
    let from = search.from + skip;
    let mut found = match search.min_score {
        None => seen.searcher.structured(&clause, &order, from, search.size, position.as_deref())?,
        Some(least) => {
            if !order.is_empty() {
                return Err(ApiError::illegal("[min_score] together with [sort] is not supported"));
            }
            let all = usize::try_from(seen.searcher.len()).unwrap_or(usize::MAX);
            let mut found = seen.searcher.structured(&clause, &[], 0, all, None)?;
            found.hits.retain(|hit| hit.score.is_some_and(|score| least <= score));
            found.total = found.hits.len() as u64;
            found.hits = found.hits.into_iter().skip(from).take(search.size).collect();
            found
        }
    };
    let sorted = !order.is_empty();
    let ranked: Vec<Ranked> = std::mem::take(&mut found.hits)
        .into_iter()
        .map(|hit| Ranked { id: hit.id, score: hit.score, sort: hit.sort.iter().map(shown_key).collect() })
        .collect();
    let words = marked_words(seen, search);
    let ids: Vec<&str> = ranked.iter().map(|one| one.id.as_str()).collect();
    let documents = seen.searcher.documents(&ids)?;
    let hits =
        hits::shown(&seen.collection, &seen.searcher, documents, &ranked, search, &words, Some(&clause))?;
    let max_score = if sorted { None } else { found.max_score };
    Ok(envelope(started, found.total, max_score, hits, search.total))
}

/// The words to highlight, where that is wanted.
fn marked_words(seen: &Seen, search: &SearchBody) -> BTreeSet<String> {
    if search.highlight.is_none() {
        return BTreeSet::new();
    }
    let mut texts = Vec::new();
    Scope::texts(&search.query, &mut texts);
    Highlight::words(&seen.searcher, &texts)
}

/// Hits of a ranking that was looked up; documents from other engines where they are there.
pub fn ranked_hits(
    seen: &Seen,
    search: &SearchBody,
    ranking: &[orion_host::Hit],
    split: Option<&SplitRetriever>,
) -> Result<Vec<Value>, ApiError> {
    let page: Vec<&orion_host::Hit> = ranking.iter().skip(search.from).take(search.size).collect();
    let documents = match split {
        Some(split) => elsewhere::documents(split, &page),
        None => {
            let ids: Vec<&str> = page.iter().map(|hit| hit.id.as_str()).collect();
            seen.searcher.documents(&ids)?
        }
    };
    let one = |hit: &orion_host::Hit| Ranked { id: hit.id.clone(), score: Some(hit.score), sort: Vec::new() };
    let ranked: Vec<Ranked> = page.into_iter().map(one).collect();
    let words = marked_words(seen, search);
    hits::shown(&seen.collection, &seen.searcher, documents, &ranked, search, &words, None)
}

/// `_count`.
pub async fn count(app: &Arc<App>, call: &Call, index: Option<&str>) -> Answer {
    let body = call.object()?;
    if let Some(key) = body.keys().find(|key| key.as_str() != "query") {
        return Err(ApiError::parsing(format!("request does not support [{key}]")));
    }
    let query = match (body.get("query"), call.parameter("q")) {
        (Some(query), None) => dsl::parse(query)?,
        (None, Some(text)) => dsl::parse(&json!({ "query_string": { "query": text } }))?,
        (None, None) => Node::All,
        _ => return Err(ApiError::illegal("the query is given twice: as [q] and in the body")),
    };
    let collections = app.collections(index.unwrap_or("_all"))?;
    let count = app
        .blocking(move || {
            let mut count = 0;
            for collection in collections {
                if let Some(halves) = collection.elsewhere.get().filter(|halves| halves.is_whole()) {
                    if !matches!(query, Node::All) {
                        return Err(ApiError::illegal(format!(
                            "index [{}] is kept by other engines: only all documents can be counted",
                            collection.name
                        )));
                    }
                    count += halves.count().map_err(elsewhere::api_error)?;
                    continue;
                }
                let (meta, searcher) = (collection.meta(), collection.searcher());
                let scope = Scope { mapping: &meta.mapping, searcher: &searcher, weights: None };
                count += searcher.count(&scope.clause(&query)?)?;
            }
            Ok(count)
        })
        .await?;
    Reply::ok(
        json!({ "count": count, "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 } }),
    )
}

/// `_msearch`: pairs of lines, a header and a body.
pub async fn msearch(app: &Arc<App>, call: &Call, index: Option<&str>) -> Answer {
    let started = Instant::now();
    if call.body.is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "parse_exception", "request body is required"));
    }
    if call.body.last() != Some(&b'\n') {
        return Err(ApiError::illegal("The msearch request must be terminated by a newline [\\n]"));
    }
    let lines: Vec<&[u8]> = call
        .body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    if !lines.len().is_multiple_of(2) {
        return Err(ApiError::illegal("the last search of the msearch request has a header and no body"));
    }
    if MOST_SEARCHES < lines.len() / 2 {
        return Err(ApiError::illegal(format!(
            "expected at most {MOST_SEARCHES} searches, got {}",
            lines.len() / 2
        )));
    }
    let mut responses = Vec::new();
    for pair in lines.chunks_exact(2) {
        let header = call::object(pair[0])?;
        let mut named = index.map(str::to_owned);
        for (key, value) in &header {
            match (key.as_str(), value) {
                ("index", Value::String(name)) => named = Some(name.clone()),
                ("index", Value::Array(names)) if names.len() == 1 && names[0].is_string() => {
                    named = names[0].as_str().map(str::to_owned);
                }
                (
                    "search_type" | "preference" | "ignore_unavailable" | "allow_no_indices"
                    | "expand_wildcards" | "request_cache",
                    _,
                ) => {}
                _ => {
                    return Err(ApiError::illegal(format!(
                        "key [{key}] is not supported in the metadata section"
                    )));
                }
            }
        }
        let answer = match call::object(pair[1]) {
            Ok(body) => one(app, call, named.as_deref(), &body).await,
            Err(error) => Err(error),
        };
        responses.push(match answer {
            Ok(mut reply) => {
                reply["status"] = json!(200);
                reply
            }
            Err(error) => error.body(),
        });
    }
    Reply::ok(json!({ "took": started.elapsed().as_millis() as u64, "responses": responses }))
}
