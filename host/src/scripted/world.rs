//! The scripted collection: rankings as the file says them, else a search simple enough to do by hand.
//!
//! Lexical: the number of the query's words (repeats count) that occur in title or text; documents without any are not
//! found. Dense: cosine of character trigram counts. Hybrid: the weighted sum of both, each divided by its best, or
//! reciprocal rank fusion. Ties are ordered by id. These are the rules of the SDK's `MockHost`, so that a native unit
//! test and a scenario agree; the two crates may not share code, and a test of `tests/` holds them equal.
use std::collections::BTreeMap;

use super::scenario::{ScriptedDocument, ScriptedHit, ScriptedRanking, Scripts};
use crate::contract::{Document, Hit, Query, Retriever};
use crate::services::{BoxFuture, Retrieve, ServiceError};

/// Damping of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), as everywhere in this project.
const RECIPROCAL_RANK_CONSTANT: f64 = 60.0;

pub(super) struct ScriptedCollection {
    documents: BTreeMap<String, ScriptedDocument>,
    rankings: Vec<ScriptedRanking>,
    has_encoder: bool,
}

impl ScriptedCollection {
    pub(super) fn new(scripts: &Scripts) -> Self {
        let documents = scripts.document.iter().map(|document| (document.id.clone(), document.clone()));
        Self {
            documents: documents.collect(),
            rankings: scripts.ranking.clone(),
            has_encoder: scripts.encoder.unwrap_or(true),
        }
    }

    fn rank(&self, query: &Query) -> Result<Vec<Hit>, ServiceError> {
        if query.retriever != Retriever::Lexical && !self.has_encoder {
            return Err(no_encoder());
        }
        let scripted = self.rankings.iter().find(|script| {
            script.query == query.text
                && script.retriever.is_none_or(|only| only.to_contract() == query.retriever)
        });
        let mut ranking = match scripted {
            Some(ScriptedRanking { error: Some(message), .. }) => {
                return Err(ServiceError::Fault { code: "scripted".to_owned(), message: message.clone() });
            }
            Some(script) => script.hits.iter().enumerate().map(|(place, hit)| scored(place, hit)).collect(),
            None => self.found(query),
        };
        ranking.truncate(query.k as usize);
        Ok(ranking)
    }

    fn found(&self, query: &Query) -> Vec<Hit> {
        let lexical = || self.ranked(|document| overlap(&query.text, document));
        let dense = || self.ranked(|document| trigram_cosine(&query.text, &whole_text(document)));
        match query.retriever {
            Retriever::Lexical => lexical(),
            Retriever::Dense => dense(),
            Retriever::Hybrid if query.dense_weight.is_nan() => {
                let (lexical, dense) = (lexical(), dense());
                let part = |hits: &[Hit], id: &str| {
                    let place = hits.iter().position(|hit| hit.id == id);
                    place.map_or(0.0, |place| 1.0 / (RECIPROCAL_RANK_CONSTANT + place as f64 + 1.0))
                };
                self.ranked(|document| (part(&lexical, &document.id) + part(&dense, &document.id)) as f32)
            }
            Retriever::Hybrid => {
                let (lexical, dense) = (lexical(), dense());
                let scaled = |hits: &[Hit], id: &str| {
                    let best = hits.first().map_or(1.0, |hit| hit.score);
                    hits.iter().find(|hit| hit.id == id).map_or(0.0, |hit| hit.score / best)
                };
                let share = query.dense_weight;
                self.ranked(|document| {
                    share * scaled(&dense, &document.id) + (1.0 - share) * scaled(&lexical, &document.id)
                })
            }
        }
    }

    /// Documents with a positive score: best first, then by id.
    fn ranked(&self, score: impl Fn(&ScriptedDocument) -> f32) -> Vec<Hit> {
        let scored =
            self.documents.values().map(|document| Hit { id: document.id.clone(), score: score(document) });
        let mut hits: Vec<Hit> = scored.filter(|hit| hit.score > 0.0).collect();
        hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
        hits
    }
}

fn scored(place: usize, hit: &ScriptedHit) -> Hit {
    match hit {
        ScriptedHit::Id(id) => Hit { id: id.clone(), score: 1.0 / (place as f32 + 1.0) },
        ScriptedHit::Scored { id, score } => Hit { id: id.clone(), score: *score },
    }
}

fn no_encoder() -> ServiceError {
    ServiceError::Unavailable("this scenario has no dense encoder".to_owned())
}

impl Retrieve for ScriptedCollection {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Box::pin(async move { queries.iter().map(|query| self.rank(query)).collect() })
    }

    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        let shown = |document: &ScriptedDocument| Document {
            id: document.id.clone(),
            title: document.title.clone(),
            text: document.text.chars().take(max_chars as usize).collect(),
        };
        let found = ids.iter().map(|id| self.documents.get(id).map(shown)).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        let cosines = || pairs.iter().map(|(left, right)| trigram_cosine(left, right)).collect();
        let answer = if self.has_encoder { Ok(cosines()) } else { Err(no_encoder()) };
        Box::pin(std::future::ready(answer))
    }
}

/// Maximal runs of alphanumeric characters, in lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    let runs = text.split(|character: char| !character.is_alphanumeric());
    runs.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn whole_text(document: &ScriptedDocument) -> String {
    format!("{} {}", document.title, document.text)
}

fn overlap(query: &str, document: &ScriptedDocument) -> f32 {
    let known = words(&whole_text(document));
    words(query).iter().filter(|word| known.contains(word)).count() as f32
}

fn trigram_cosine(left: &str, right: &str) -> f32 {
    let (left, right) = (trigrams(left), trigrams(right));
    let dot: f32 = left.iter().map(|(trigram, count)| count * right.get(trigram).unwrap_or(&0.0)).sum();
    let norm =
        |counts: &BTreeMap<String, f32>| counts.values().map(|count| count * count).sum::<f32>().sqrt();
    let norms = norm(&left) * norm(&right);
    if norms > 0.0 { dot / norms } else { 0.0 }
}

fn trigrams(text: &str) -> BTreeMap<String, f32> {
    let letters: Vec<char> = format!(" {} ", words(text).join(" ")).chars().collect();
    let mut counts = BTreeMap::new();
    for trigram in letters.windows(3) {
        *counts.entry(trigram.iter().collect()).or_insert(0.0) += 1.0;
    }
    counts
}
