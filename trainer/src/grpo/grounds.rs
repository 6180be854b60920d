//! What rollouts search and how they are judged: collections with targets, and the reward plugin in its sandbox.
//!
//! The judgements are here and nowhere nearer to the policy: it sees snippets, the reward sees a cosine and a rank.

use super::settings::{LookUp, RolloutSettings, Similarity};
use crate::data::Snippet;
use crate::error::{Result, TrainError};
use crate::reward::load;
use crate::trajectories::snippets::{SNIPPETS, TEXT_CHARS, snippet};
use orion_host::contract::Observation;
use orion_host::index::{FUSION_DEPTH, Fusion, Hit, Searcher, fuse};
use orion_host::{Host, HostOptions, Limits, Reward};
use orion_policy::Retriever;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// A query to learn from or to measure on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Which of the collections it asks.
    pub collection: usize,
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
    /// Documents of the collection.
    pub corpus_size: u64,
    /// The cosine of [`Similarity`], in [-1, 1].
    pub cosine: f32,
    /// The first documents, as the policy reads them.
    pub snippets: Vec<Snippet>,
}

/// Collections and a judge.
pub struct Grounds {
    collections: Vec<Arc<Searcher>>,
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
    /// Over collections that have vectors, with a reward by name or file, as [`load`] takes it.
    ///
    /// # Errors
    /// A collection that is empty or cannot encode queries; a sandbox that does not start; a reward that does not load.
    pub fn new(collections: Vec<Arc<Searcher>>, reward: &str) -> Result<Self> {
        for searcher in &collections {
            if searcher.is_empty() || !searcher.can_encode() {
                let got = format!("{} documents, encoder: {}", searcher.len(), searcher.can_encode());
                return Err(index_error(format!(
                    "could not search the collection: expected documents and an encoder, got {got}"
                )));
            }
        }
        // One call at a time, so one place in the pool.
        let options =
            HostOptions { concurrent_searches: 1, concurrent_large_searches: 1, ..HostOptions::default() };
        let host = Host::new(options).map_err(reward_error)?;
        let reward = load(&host, reward)?;
        Ok(Self { collections, host, reward })
    }

    /// Documents of the collection that a task asks.
    pub fn documents(&self, task: &Task) -> u64 {
        self.collections[task.collection].len()
    }

    /// Documents of each collection.
    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        self.collections.iter().map(|searcher| searcher.len())
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
        let dense = self.dense(queries)?;
        let mut own_rankings = BTreeMap::new();
        queries
            .iter()
            .zip(dense)
            .map(|((task, text, retriever), dense)| {
                let searcher = &self.collections[task.collection];
                let retriever = match settings.look_up {
                    LookUp::Dense => Retriever::Dense,
                    LookUp::Chosen | LookUp::Beside => retriever.unwrap_or(Retriever::Hybrid),
                };
                let ranking = ranked(searcher, text, retriever, &dense)?;
                let answer = match settings.look_up {
                    LookUp::Dense | LookUp::Chosen => None,
                    LookUp::Beside => {
                        let own = match own_rankings.entry((task.collection, task.text.as_str())) {
                            Entry::Occupied(known) => known.into_mut(),
                            Entry::Vacant(new) => new.insert(own_ranking(searcher, &task.text)?),
                        };
                        let few = &ranking[..ranking.len().min(FUSION_DEPTH)];
                        Some(fuse(own, few, EVEN, own.len() + few.len()))
                    }
                };
                let is_target = |hit: &Hit| task.targets.contains(&hit.id);
                let place = answer.as_ref().unwrap_or(&ranking).iter().position(is_target);
                let compared = |hit: &&Hit| match settings.similarity {
                    Similarity::Target => is_target(hit),
                    Similarity::FirstHit => ranking.first().is_some_and(|first| first.id == hit.id),
                };
                Ok(Found {
                    rank: place.map_or(searcher.len(), |place| place as u64 + 1),
                    corpus_size: searcher.len(),
                    // The dense ranking is complete and descending: the first that matches is the largest cosine.
                    cosine: dense.iter().find(compared).map_or(0.0, |hit| hit.score),
                    snippets: snippets(searcher, &ranking)?,
                })
            })
            .collect()
    }

    /// The whole collection by its cosine to each query; those of one collection are encoded together.
    fn dense(&self, queries: &[(&Task, &str, Option<Retriever>)]) -> Result<Vec<Vec<Hit>>> {
        let mut rankings = vec![Vec::new(); queries.len()];
        for (number, searcher) in self.collections.iter().enumerate() {
            let asked: Vec<usize> =
                (0..queries.len()).filter(|place| queries[*place].0.collection == number).collect();
            let texts: Vec<&str> = asked.iter().map(|place| queries[*place].1).collect();
            for (place, ranking) in asked.into_iter().zip(every(searcher, &texts)?) {
                rankings[place] = ranking;
            }
        }
        Ok(rankings)
    }

    /// One reward for each look-up, from the plugin. Where its z-scores are on, they are over this list.
    pub fn rewards(&self, found: &[Found], settings: &RolloutSettings) -> Result<Vec<f32>> {
        let observations: Vec<Observation> = found
            .iter()
            .map(|found| Observation {
                cosine: found.cosine,
                rank: found.rank,
                corpus_size: found.corpus_size,
                options: Vec::new(),
            })
            .collect();
        // Fuel bounds the plugin; the clock only guards against a machine that stands still.
        let limits = Limits { deadline_ms: 600_000, ..Limits::default() };
        let scores = self.host.score_blocking(&self.reward, &observations, &options(settings), &limits);
        Ok(scores.map_err(reward_error)?.rewards)
    }
}

/// Both halves of a ranking, or two rankings, count the same: the default of the strategies that serve.
const EVEN: Fusion = Fusion::Convex { dense_weight: 0.5 };

/// The whole collection by its cosine to each text.
fn every(searcher: &Searcher, texts: &[&str]) -> Result<Vec<Vec<Hit>>> {
    let whole = usize::try_from(searcher.len()).unwrap_or(usize::MAX);
    searcher.dense(texts, whole, None).map_err(index_error)
}

/// What a retriever makes of a text whose dense ranking is known.
fn ranked(searcher: &Searcher, text: &str, retriever: Retriever, dense: &[Hit]) -> Result<Vec<Hit>> {
    let lexical = |depth| searcher.lexical(text, depth, None).map_err(index_error);
    match retriever {
        Retriever::Dense => Ok(dense.to_vec()),
        Retriever::Lexical => lexical(dense.len()),
        Retriever::Hybrid => {
            let near = &dense[..dense.len().min(FUSION_DEPTH)];
            Ok(fuse(&lexical(FUSION_DEPTH)?, near, EVEN, dense.len()))
        }
    }
}

/// The plain ranking of the user's own query, which a search has before it asks a policy anything.
fn own_ranking(searcher: &Searcher, text: &str) -> Result<Vec<Hit>> {
    let dense = every(searcher, &[text])?.pop().unwrap_or_default();
    let mut own = ranked(searcher, text, Retriever::Hybrid, &dense)?;
    own.truncate(FUSION_DEPTH);
    Ok(own)
}

fn snippets(searcher: &Searcher, ranking: &[Hit]) -> Result<Vec<Snippet>> {
    let ids: Vec<&str> = ranking.iter().take(SNIPPETS).map(|hit| hit.id.as_str()).collect();
    let stored = searcher.documents(&ids).map_err(index_error)?;
    Ok(stored
        .into_iter()
        .flatten()
        .map(|document| snippet(&document.title, &document.text, TEXT_CHARS))
        .collect())
}

fn options(settings: &RolloutSettings) -> Vec<(String, String)> {
    settings.reward.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
