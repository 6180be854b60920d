//! The serving judge: how good a turn was, as far as the system can tell by itself.
//!
//! With a policy it is the perplexity of the relevance sentence of "Think Before You Retrieve" after the node that read
//! the hits; without one (or without a node) it is the cosine between user query and best hits. Both are mapped to
//! [0, 1] by the parameters here. A checkpoint whose perplexities were measured on a dev split says what they mean in its
//! `orion.json`; `orion eval` fits the two numbers.
use serde::{Deserialize, Serialize};

use crate::contract::{Node, Turn};
use crate::services::{BoxFuture, Judge, JudgeContext, Metered, ServiceError, Usage};

/// Calibration of the self-assessment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfAssessment {
    /// Natural logarithm of the perplexity that means quality 0.5.
    pub middle_log_perplexity: f32,
    /// Width of the logistic curve around it, in the same unit; larger is flatter.
    pub log_perplexity_width: f32,
    /// Cosine that means quality 0.
    pub low_cosine: f32,
    /// Cosine that means quality 1.
    pub high_cosine: f32,
    /// Hits that the cosine looks at.
    pub hits: usize,
}

/// Characters of a document that the cosine looks at: about the encoder's 256 tokens.
const DOCUMENT_CHARS: u32 = 1_200;

impl Default for SelfAssessment {
    /// Not calibrated: perplexity e, one unit wide; cosines as MiniLM gives them to unrelated (0.1) and to answering
    /// (0.7) passages.
    fn default() -> Self {
        Self {
            middle_log_perplexity: 1.0,
            log_perplexity_width: 1.0,
            low_cosine: 0.1,
            high_cosine: 0.7,
            hits: 3,
        }
    }
}

/// The sentence whose perplexity is the confidence of a turn, word for word as the paper has it.
pub fn relevance_sentence(turn: u32, search_query: &str, user_query: &str) -> String {
    format!(
        "Given turn {turn} and search query {search_query}, the retrieved documents are relevant to the user query {user_query}."
    )
}

impl SelfAssessment {
    fn perplexity_quality(&self, perplexity: f32) -> f32 {
        let distance = (perplexity.ln() - self.middle_log_perplexity) / self.log_perplexity_width;
        1.0 / (1.0 + distance.exp())
    }

    fn cosine_quality(&self, cosine: f32) -> f32 {
        ((cosine - self.low_cosine) / (self.high_cosine - self.low_cosine)).clamp(0.0, 1.0)
    }

    async fn by_policy(
        &self,
        turns: &[(usize, &Turn, Node)],
        context: &JudgeContext,
    ) -> Result<Metered<Vec<f32>>, ServiceError> {
        let Some(policy) = context.policy.as_ref().filter(|_| !turns.is_empty()) else {
            return Ok(Metered { value: Vec::new(), usage: Usage::default() });
        };
        let requests = turns.iter().map(|(_, turn, node)| {
            (*node, vec![relevance_sentence(turn.turn, &turn.search_query, &turn.user_query)])
        });
        let judged = policy.perplexity(requests.collect()).await?;
        let value =
            judged.value.iter().flatten().map(|text| self.perplexity_quality(text.perplexity)).collect();
        Ok(Metered { value, usage: judged.usage })
    }

    async fn by_cosine(
        &self,
        turns: &[(usize, &Turn)],
        context: &JudgeContext,
    ) -> Result<Vec<f32>, ServiceError> {
        let tops: Vec<Vec<String>> = turns
            .iter()
            .map(|(_, turn)| turn.hits.iter().take(self.hits).map(|hit| hit.id.clone()).collect())
            .collect();
        let ids: Vec<String> = tops.iter().flatten().cloned().collect();
        if ids.is_empty() {
            return Ok(vec![0.0; turns.len()]);
        }
        let mut documents = context.retrieve.documents(ids, DOCUMENT_CHARS).await?.into_iter();
        let mut pairs = Vec::new();
        let mut counts = Vec::with_capacity(turns.len());
        for ((_, turn), top) in turns.iter().zip(&tops) {
            let texts: Vec<(String, String)> = documents
                .by_ref()
                .take(top.len())
                .flatten()
                .map(|document| (turn.user_query.clone(), format!("{} {}", document.title, document.text)))
                .collect();
            counts.push(texts.len());
            pairs.extend(texts);
        }
        let mut cosines = context.retrieve.similarity(pairs).await?.into_iter();
        let best = counts.into_iter().map(|count| cosines.by_ref().take(count).fold(-1.0, f32::max));
        Ok(best.map(|cosine| self.cosine_quality(cosine)).collect())
    }
}

impl Judge for SelfAssessment {
    fn quality(
        &self,
        turns: Vec<Turn>,
        context: JudgeContext,
    ) -> BoxFuture<'_, Result<Metered<Vec<f32>>, ServiceError>> {
        Box::pin(async move {
            let has_policy = context.policy.is_some();
            let mut with_node = Vec::new();
            let mut without_node = Vec::new();
            for (place, turn) in turns.iter().enumerate() {
                match turn.node.filter(|_| has_policy) {
                    Some(node) => with_node.push((place, turn, node)),
                    None => without_node.push((place, turn)),
                }
            }
            let by_policy = self.by_policy(&with_node, &context).await?;
            let by_cosine = self.by_cosine(&without_node, &context).await?;
            let mut value = vec![0.0; turns.len()];
            for ((place, ..), quality) in with_node.iter().zip(by_policy.value) {
                value[*place] = quality;
            }
            for ((place, _), quality) in without_node.iter().zip(by_cosine) {
                value[*place] = quality;
            }
            Ok(Metered { value, usage: by_policy.usage })
        })
    }
}
