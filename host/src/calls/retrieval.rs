//! `retrieval`: queries, documents and similarities.
//!
//! The request's filter is joined to every query here, so that a strategy can neither forget nor widen it, and every id
//! that comes back is remembered: an answer may name no other.
use std::collections::BTreeSet;

use super::{Answer, check_answer, check_length, check_options, check_range, check_text, unmetered};
use crate::bindings::orion::search::retrieval::Host;
use crate::contract::{Document, Error, Hit, Query, Retriever};
use crate::limits::Limits;
use crate::state::{SearchState, Work};

/// Characters of one document that a guest can see at most, so that 1024 documents stay within the host's memory.
const DOCUMENT_CHARS: u32 = 1 << 16;

impl Host for SearchState {
    async fn search(&mut self, queries: Vec<Query>) -> Answer<Vec<Vec<Hit>>> {
        self.count_call()?;
        if let Err(error) = check_queries(&queries, &self.limits) {
            return Ok(Err(error));
        }
        let count = queries.len() as u64;
        if count > self.limits.retrievals.saturating_sub(self.spent.retrievals) {
            return Ok(Err(Error::BudgetExhausted("retrievals".to_owned())));
        }
        let Some(retrieve) = self.retrieve.clone() else {
            return Ok(Err(no_services()));
        };
        self.spent.retrievals += count;
        let queries: Vec<Query> = queries.into_iter().map(|query| self.effective(query)).collect();
        let asked = queries.clone();
        let work = async move {
            let depths: Vec<usize> = asked.iter().map(|query| query.k as usize).collect();
            let rankings = retrieve.search(asked).await?;
            let deepest = depths.iter().copied().max().unwrap_or(0);
            check_answer("retrieval", unmetered(rankings), depths.len(), |hits| is_ranking(hits, deepest))
        };
        let answer = self.serve("retrieval.search", Work::Retrieval, queries.len(), &queries, work).await?;
        if let Ok(rankings) = &answer {
            self.seen.extend(rankings.iter().flatten().map(|hit| hit.id.clone()));
        }
        Ok(answer)
    }

    async fn documents(&mut self, ids: Vec<String>, max_chars: u32) -> Answer<Vec<Option<Document>>> {
        self.count_call()?;
        let checked = check_length("ids", ids.len(), self.limits.list_items)
            .and_then(|()| ids.iter().try_for_each(|id| check_text("id", id, &self.limits)));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let Some(retrieve) = self.retrieve.clone() else {
            return Ok(Err(no_services()));
        };
        let max_chars = max_chars.min(DOCUMENT_CHARS);
        let hidden: Vec<bool> =
            ids.iter().map(|id| self.filter.is_some() && !self.seen.contains(id)).collect();
        let asked = ids.clone();
        let work = async move {
            let mut documents = retrieve.documents(asked, max_chars).await?;
            // Under a filter a strategy reads what its filtered searches found, and nothing else.
            for (document, _) in documents.iter_mut().zip(&hidden).filter(|(_, hidden)| **hidden) {
                *document = None;
            }
            check_answer("retrieval", unmetered(documents), hidden.len(), |_| true)
        };
        let items = ids.len();
        Ok(self.serve("retrieval.documents", Work::Retrieval, items, &(ids, max_chars), work).await?)
    }

    async fn similarity(&mut self, pairs: Vec<(String, String)>) -> Answer<Vec<f32>> {
        self.count_call()?;
        let mut texts = pairs.iter().flat_map(|(left, right)| [left, right]);
        let checked = check_length("pairs", pairs.len(), self.limits.list_items)
            .and_then(|()| texts.try_for_each(|text| check_text("text", text, &self.limits)));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let Some(retrieve) = self.retrieve.clone() else {
            return Ok(Err(no_services()));
        };
        let asked = pairs.clone();
        let work = async move {
            let expected = asked.len();
            let mut cosines = retrieve.similarity(asked).await?;
            // Rounding may leave [-1, 1] by an ulp; NaN stays and is refused.
            cosines.iter_mut().for_each(|cosine| *cosine = cosine.clamp(-1.0, 1.0));
            check_answer("retrieval", unmetered(cosines), expected, |cosine| cosine.is_finite())
        };
        Ok(self.serve("retrieval.similarity", Work::Retrieval, pairs.len(), &pairs, work).await?)
    }
}

impl SearchState {
    /// The query with the request's filter joined to its own, and one NaN for all NaNs.
    fn effective(&self, mut query: Query) -> Query {
        if query.retriever != Retriever::Hybrid || query.dense_weight.is_nan() {
            query.dense_weight = f32::NAN;
        }
        query.filter = match (self.filter.clone(), query.filter) {
            (Some(outer), Some(own)) if outer != own => Some(format!("({outer}) AND ({own})")),
            (outer, own) => outer.or(own),
        };
        query
    }
}

fn check_queries(queries: &[Query], limits: &Limits) -> Result<(), Error> {
    check_length("queries", queries.len(), limits.list_items)?;
    for query in queries {
        check_text("query text", &query.text, limits)?;
        if let Some(filter) = &query.filter {
            check_text("filter", filter, limits)?;
            // Only a whole expression may be joined to the request's: `a) OR (b` would escape it.
            orion_index::Filter::parse(filter).map_err(|error| Error::InvalidInput(error.to_string()))?;
        }
        check_options(&query.options, limits)?;
        check_range("k", query.k, 1, limits.hits)?;
        let weight = query.dense_weight;
        let is_weight = weight.is_nan() || (0.0..=1.0).contains(&weight);
        if query.retriever == Retriever::Hybrid && !is_weight {
            return Err(Error::InvalidInput(format!("dense-weight: expected 0 to 1 or NaN, got {weight}")));
        }
    }
    Ok(())
}

/// Finite scores, no id twice, not more than was asked for.
fn is_ranking(hits: &[Hit], deepest: usize) -> bool {
    let ids: BTreeSet<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
    hits.len() <= deepest && ids.len() == hits.len() && hits.iter().all(|hit| hit.score.is_finite())
}

fn no_services() -> Error {
    Error::Unavailable("no collection: this is not a search".to_owned())
}
