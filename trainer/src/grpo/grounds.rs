//! What rollouts search and how they are judged: a collection with targets, and the reward plugin in its sandbox.
//!
//! The judgements are here and nowhere nearer to the policy: it sees snippets, the reward sees a cosine and a rank.

use super::settings::{LookUp, RolloutSettings, Similarity};
use crate::data::Snippet;
use crate::error::{Result, TrainError};
use crate::reward::load;
use crate::trajectories::snippets::{SNIPPETS, TEXT_CHARS, snippet};
use orion_host::contract::Observation;
use orion_host::index::{FUSION_DEPTH, Fusion, Searcher, fuse};
use orion_host::{Host, HostOptions, Limits, Reward};
use orion_policy::Retriever;
use std::sync::Arc;

/// A query to learn from or to measure on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id in its set.
    pub id: String,
    /// What the user asks.
    pub text: String,
    /// Ids of its best judged documents, at least one.
    pub targets: Vec<String>,
}

/// What one look-up came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// 1-based rank of the best target; the size of the collection where the ranking does not have it.
    pub rank: u64,
    /// The cosine of [`Similarity`], in [-1, 1].
    pub cosine: f32,
    /// The first documents, as the policy reads them.
    pub snippets: Vec<Snippet>,
}

/// A collection and a judge.
pub struct Grounds {
    searcher: Arc<Searcher>,
    host: Host,
    reward: Arc<Reward>,
}

fn index_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Index(error.to_string())
}

fn reward_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Host(error.to_string())
}

impl Grounds {
    /// Over a collection that has vectors, with a reward by name or file, as [`load`] takes it.
    ///
    /// # Errors
    /// A collection that is empty or cannot encode queries; a sandbox that does not start; a reward that does not load.
    pub fn new(searcher: Arc<Searcher>, reward: &str) -> Result<Self> {
        if searcher.is_empty() || !searcher.can_encode() {
            let got = format!("{} documents, encoder: {}", searcher.len(), searcher.can_encode());
            return Err(index_error(format!(
                "could not search the collection: expected documents and an encoder, got {got}"
            )));
        }
        // One call at a time, so one place in the pool.
        let options =
            HostOptions { concurrent_searches: 1, concurrent_large_searches: 1, ..HostOptions::default() };
        let host = Host::new(options).map_err(reward_error)?;
        let reward = load(&host, reward)?;
        Ok(Self { searcher, host, reward })
    }

    /// Documents of the collection.
    pub fn documents(&self) -> u64 {
        self.searcher.len()
    }

    /// The reward that judges.
    pub fn reward(&self) -> &Reward {
        &self.reward
    }

    /// Whether the reward plugin knows these options.
    pub fn check_options(&self, settings: &RolloutSettings) -> Result<()> {
        self.reward.check_options(&options(settings)).map_err(reward_error)
    }

    /// Looks up each query for its task; a query's retriever counts only where the settings say so.
    pub fn look_up(
        &self,
        queries: &[(&Task, &str, Option<Retriever>)],
        settings: &RolloutSettings,
    ) -> Result<Vec<Found>> {
        let texts: Vec<&str> = queries.iter().map(|(_, text, _)| *text).collect();
        let whole = usize::try_from(self.searcher.len()).unwrap_or(usize::MAX);
        let dense = self.searcher.dense(&texts, whole, None).map_err(index_error)?;
        queries
            .iter()
            .zip(dense)
            .map(|((task, text, retriever), dense)| {
                let retriever = match settings.look_up {
                    LookUp::Dense => Retriever::Dense,
                    LookUp::Chosen => retriever.unwrap_or(Retriever::Hybrid),
                };
                let lexical = |depth| self.searcher.lexical(text, depth, None).map_err(index_error);
                let ranking: Vec<String> = match retriever {
                    Retriever::Dense => None,
                    Retriever::Lexical => Some(lexical(whole)?),
                    Retriever::Hybrid => Some(fuse(
                        &lexical(FUSION_DEPTH)?,
                        &dense[..dense.len().min(FUSION_DEPTH)],
                        Fusion::default(),
                        whole,
                    )),
                }
                .as_ref()
                .unwrap_or(&dense)
                .iter()
                .map(|hit| hit.id.clone())
                .collect();
                let place = ranking.iter().position(|id| task.targets.contains(id));
                let compared = |id: &String| match settings.similarity {
                    Similarity::Target => task.targets.contains(id),
                    Similarity::FirstHit => ranking.first() == Some(id),
                };
                // The dense ranking is complete and descending: the first that matches is the largest cosine.
                let cosine = dense.iter().find(|hit| compared(&hit.id)).map_or(0.0, |hit| hit.score);
                Ok(Found {
                    rank: place.map_or(self.searcher.len(), |place| place as u64 + 1),
                    cosine,
                    snippets: self.snippets(&ranking)?,
                })
            })
            .collect()
    }

    fn snippets(&self, ranking: &[String]) -> Result<Vec<Snippet>> {
        let ids: Vec<&str> = ranking.iter().take(SNIPPETS).map(String::as_str).collect();
        let stored = self.searcher.documents(&ids).map_err(index_error)?;
        Ok(stored
            .into_iter()
            .flatten()
            .map(|document| snippet(&document.title, &document.text, TEXT_CHARS))
            .collect())
    }

    /// One reward for each look-up, from the plugin. Where its z-scores are on, they are over this list.
    pub fn rewards(&self, found: &[Found], settings: &RolloutSettings) -> Result<Vec<f32>> {
        let corpus_size = self.searcher.len();
        let observations: Vec<Observation> = found
            .iter()
            .map(|found| Observation {
                cosine: found.cosine,
                rank: found.rank,
                corpus_size,
                options: Vec::new(),
            })
            .collect();
        // Fuel bounds the plugin; the clock only guards against a machine that stands still.
        let limits = Limits { deadline_ms: 600_000, ..Limits::default() };
        let scores = self.host.score_blocking(&self.reward, &observations, &options(settings), &limits);
        Ok(scores.map_err(reward_error)?.rewards)
    }
}

fn options(settings: &RolloutSettings) -> Vec<(String, String)> {
    settings.reward.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
