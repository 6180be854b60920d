//! The embedded index as a [`Retrieve`] service.
//!
//! The index is synchronous; its work runs on the runtime's blocking threads, so that no search holds up another's
//! guest. A snapshot that a search began with is the one it ends with.
use std::sync::Arc;

use orion_index::{Filter, Fusion, IndexError, Mode, Searcher};

use crate::contract::{Document, Hit, Query, Retriever};
use crate::services::{BoxFuture, Retrieve, ServiceError};

/// One snapshot of an embedded index. Has to run inside a tokio runtime.
#[derive(Clone)]
pub struct EmbeddedRetriever(pub Arc<Searcher>);

impl EmbeddedRetriever {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Searcher) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let searcher = self.0.clone();
        match tokio::task::spawn_blocking(move || work(&searcher)).await {
            Ok(answer) => answer.map_err(service_error),
            Err(failure) => Err(fault(format!("a lookup did not end: {failure}"))),
        }
    }
}

impl Retrieve for EmbeddedRetriever {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Box::pin(async move {
            let queries =
                queries.into_iter().map(to_index).collect::<Result<Vec<_>, _>>().map_err(service_error)?;
            let rankings = self.blocking(move |searcher| searcher.search(&queries)).await?;
            let to_contract = |hit: orion_index::Hit| Hit { id: hit.id, score: hit.score };
            Ok(rankings.into_iter().map(|hits| hits.into_iter().map(to_contract).collect()).collect())
        })
    }

    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Box::pin(async move {
            let stored = self.blocking(move |searcher| {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                searcher.documents(&ids)
            });
            let to_contract = |document: orion_index::StoredDocument| Document {
                id: document.id,
                title: document.title,
                text: first_chars(document.text, max_chars),
            };
            Ok(stored.await?.into_iter().map(|document| document.map(to_contract)).collect())
        })
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Box::pin(self.blocking(move |searcher| {
            let pairs: Vec<(&str, &str)> =
                pairs.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
            searcher.similarity(&pairs)
        }))
    }
}

fn to_index(query: Query) -> Result<orion_index::Query, IndexError> {
    let mode = match query.retriever {
        Retriever::Lexical => Mode::Lexical,
        Retriever::Dense => Mode::Dense,
        // The contract's NaN asks for reciprocal ranks, which is the index's default fusion.
        Retriever::Hybrid if query.dense_weight.is_nan() => Mode::Hybrid(Fusion::default()),
        Retriever::Hybrid => Mode::Hybrid(Fusion::Convex { dense_weight: query.dense_weight }),
    };
    let filter = query.filter.as_deref().map(Filter::parse).transpose()?;
    Ok(orion_index::Query { text: query.text, mode, k: query.k as usize, filter })
}

fn first_chars(mut text: String, max_chars: u32) -> String {
    if let Some((end, _)) = text.char_indices().nth(max_chars as usize) {
        text.truncate(end);
    }
    text
}

fn service_error(error: IndexError) -> ServiceError {
    match &error {
        IndexError::Filter { .. } | IndexError::Invalid { .. } => {
            ServiceError::InvalidInput(error.to_string())
        }
        IndexError::NoEncoder { .. } => ServiceError::Unavailable(error.to_string()),
        _ => fault(error.to_string()),
    }
}

fn fault(message: String) -> ServiceError {
    ServiceError::Fault { code: "index".to_owned(), message }
}
