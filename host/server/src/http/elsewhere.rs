//! Indexes whose halves are in other engines, over HTTP.
//!
//! Each has an index of Orion's own beside it: the other half where one is embedded, and empty otherwise, when it keeps
//! the mapping, the settings and the types of metadata. A process over engines that hold everything keeps nothing that
//! another one would miss, so as many as are wanted run side by side. Neighbours: [`crate::adapters::backends`] searches,
//! `adaptive.rs` puts strategies over it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use orion_host::{
    Retrieve, ServiceError,
    contract::{Hit, Query, Retriever},
    index::StoredDocument,
};
use serde_json::{Value, json};

use super::{
    app::App,
    collection::{Kept, Meta},
    error::ApiError,
    mapping::Mapping,
    search::{Seen, body::SearchBody, compile::Scope, dsl::Node, envelope, ranked_hits},
};
use crate::{adapters::backends::SplitRetriever, failure::Failure};

/// Ties configured indexes to their engines, and makes the empty ones beside them that are missing.
pub fn attach(app: &App) -> Result<(), Failure> {
    for (name, config) in &app.config().indices {
        let Some(halves) = app.backends.halves(name) else { continue };
        let failed = |error: ApiError| Failure::new(format!("index `{name}`: {}", error.reason));
        // An empty one whose types are no longer the configured ones is made anew.
        if let Some(known) = app.find(name)
            && known.searcher().is_empty()
            && *known.searcher().metadata() != config.metadata
        {
            app.delete(name).map_err(failed)?;
        }
        let collection = match app.find(name) {
            Some(known) => known,
            None => {
                let mapping = Mapping::of_kinds(&config.metadata);
                app.create(name, Meta { mapping, settings: BTreeMap::new() }).map_err(failed)?
            }
        };
        if !halves.is_whole() && collection.searcher().is_empty() {
            tracing::warn!(index = name, "one half is embedded, and there are no documents in it");
        }
        // Nothing else sets it.
        let _ = collection.elsewhere.set(Arc::clone(halves));
    }
    Ok(())
}

/// The service for one search, where any half of the index is in another engine.
pub fn retriever(app: &App, seen: &Seen) -> Result<Option<SplitRetriever>, ApiError> {
    let Some(halves) = seen.collection.elsewhere.get() else { return Ok(None) };
    let encoder = app.engine.encoder().map_err(|failure| ApiError::fault(failure.to_string()))?;
    Ok(Some(SplitRetriever {
        halves: Arc::clone(halves),
        embedded: Arc::clone(&seen.searcher),
        encoder,
        notes: Arc::default(),
        strict: false,
    }))
}

/// A search that is not adaptive.
pub async fn plain(
    app: &Arc<App>,
    seen: &Seen,
    search: &SearchBody,
    split: SplitRetriever,
    started: Instant,
) -> Result<Value, ApiError> {
    super::adaptive::refuse_what_has_no_meaning(search)?;
    let (text, filter) = {
        let meta = seen.collection.meta();
        Scope { mapping: &meta.mapping, searcher: &seen.searcher, weights: None }
            .text_and_filter(&search.query)?
    };
    let (retriever, dense_weight) = asked(&search.query, search.weights.as_deref())?;
    let k = (search.from + search.size).max(1);
    let query = Query { text, retriever, dense_weight, k: k as u32, filter, options: Vec::new() };
    let found = split.search(vec![query]);
    let found = match search.timeout_ms {
        None => found.await,
        Some(timeout_ms) => {
            let time = std::time::Duration::from_millis(timeout_ms);
            match tokio::time::timeout(time, found).await {
                Ok(found) => found,
                Err(_) => {
                    let mut reply = envelope(started, 0, None, Vec::new(), true);
                    reply["timed_out"] = json!(true);
                    return Ok(reply);
                }
            }
        }
    };
    let ranking = found.map_err(api_error)?.pop().unwrap_or_default();
    let (seen, search) = (seen.clone(), search.clone());
    app.blocking(move || {
        let hits = ranked_hits(&seen, &search, &ranking, Some(&split))?;
        let max_score = ranking.first().map(|hit| hit.score);
        let mut reply = envelope(started, ranking.len() as u64, max_score, hits, search.total);
        // How many more there are was not asked.
        if search.total && k <= ranking.len() {
            reply["hits"]["total"]["relation"] = json!("gte");
        }
        mark(&mut reply, &split);
        Ok(reply)
    })
    .await
}

/// Says in a reply what was not answered, as clients of a cluster expect it.
pub fn mark(reply: &mut Value, split: &SplitRetriever) {
    let reasons = split.notes.reasons();
    if reasons.is_empty() {
        return;
    }
    let failures: Vec<Value> = reasons
        .iter()
        .map(|reason| json!({ "shard": 0, "reason": { "type": "backend_exception", "reason": reason } }))
        .collect();
    reply["_shards"] =
        json!({ "total": 2, "successful": 1, "skipped": 0, "failed": 1, "failures": failures });
}

/// The documents of a ranking; where nobody has them now, their ids alone.
pub fn documents(split: &SplitRetriever, hits: &[&Hit]) -> Vec<Option<StoredDocument>> {
    let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
    split.stored(&ids).unwrap_or_else(|error| {
        split.notes.add(format!("{error}; hits have no sources"));
        let bare = |id: &&str| {
            let kept = Kept { version: 1, sequence: 0, source: "{}".to_owned() };
            Some(StoredDocument {
                id: (*id).to_owned(),
                title: String::new(),
                text: String::new(),
                metadata: BTreeMap::new(),
                source: Some(kept.to_stored()),
            })
        };
        ids.iter().map(bare).collect()
    })
}

/// Which halves a query asks for, and the weight of the dense one.
fn asked(query: &Node, weights: Option<&[f32]>) -> Result<(Retriever, f32), ApiError> {
    match query {
        Node::Match { minimum, .. } if *minimum <= 1 => Ok((Retriever::Lexical, f32::NAN)),
        Node::Neural { .. } => Ok((Retriever::Dense, f32::NAN)),
        Node::Hybrid { queries, weights: own } => {
            let weights = own.as_deref().or(weights).unwrap_or(&[0.5, 0.5]);
            let dense = queries.iter().position(|query| matches!(query, Node::Neural { .. }));
            match (dense, queries.len()) {
                (Some(place), 2) => Ok((Retriever::Hybrid, weights.get(place).copied().unwrap_or(0.5))),
                _ => Err(ApiError::illegal(
                    "[hybrid] over other engines: expected one query with words and one [neural] query",
                )),
            }
        }
        Node::Bool { must, should, .. } => match must.iter().chain(should).next() {
            Some(inner) => asked(inner, weights),
            None => Err(ApiError::illegal("[bool] over other engines: expected a query with text in it")),
        },
        Node::Scaled(inner, _) => asked(inner, weights),
        _ => Err(ApiError::illegal(
            "search over other engines: expected [match] of any word, [multi_match], [neural] or [hybrid], or one of \
             them in [bool] with filters",
        )),
    }
}

/// A failure of other engines as clients see it.
pub fn api_error(error: ServiceError) -> ApiError {
    match error {
        ServiceError::InvalidInput(reason) => ApiError::illegal(reason),
        ServiceError::Unavailable(reason) => {
            let mut error = ApiError::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "search_phase_execution_exception",
                reason,
            );
            error.retry_after = Some(1);
            error
        }
        other => ApiError::fault(other.to_string()),
    }
}
