//! The judge that knows the answer: quality of a turn from its rank of, and its best hit's cosine to, a judged document.
//!
//! It exists in the trainer alone: an archetype cannot tell it from the self-assessment of serving
//! (`host/src/self_assessment.rs`), and what it says never reaches a record but through the archetype's moves and words.
//! The formula is the reward plugin's, called as training calls it.

use crate::error::{Result, TrainError};
use crate::reward::load;
use crate::trajectories::collection::{Collection, best_rank};
use orion_host::contract::{Observation, Turn};
use orion_host::{BoxFuture, Host, Judge, JudgeContext, Limits, Metered, Reward, ServiceError, Usage};
use std::sync::Arc;

/// A reward plugin, loaded, with its options.
#[derive(Clone)]
pub struct Scorer {
    host: Arc<Host>,
    reward: Arc<Reward>,
    options: Vec<(String, String)>,
}

impl Scorer {
    /// Loads a reward by name or file, as [`load`] does.
    ///
    /// # Errors
    /// A reward that is not there or does not load, an option that it does not have.
    pub fn new(host: Arc<Host>, reward: &str, options: Vec<(String, String)>) -> Result<Self> {
        let fail = |error: &dyn std::fmt::Display| TrainError::Host(error.to_string());
        let reward = load(&host, reward)?;
        reward.check_options(&options).map_err(|error| fail(&error))?;
        // Values are the reward's own to check: it does so before it looks at any turn.
        host.score_blocking(&reward, &[], &options, &Limits::unhurried()).map_err(|error| fail(&error))?;
        Ok(Self { host, reward, options })
    }
}

/// The judge of one user query.
pub struct TargetJudge {
    scorer: Scorer,
    collection: Arc<Collection>,
    targets: Vec<String>,
}

impl TargetJudge {
    /// Judges turns by these documents of a collection.
    pub fn new(scorer: Scorer, collection: Arc<Collection>, targets: Vec<String>) -> Self {
        Self { scorer, collection, targets }
    }

    /// What the reward sees of each turn. A target that was not found counts as the collection's last document.
    async fn observe(
        &self,
        turns: &[Turn],
        context: &JudgeContext,
    ) -> std::result::Result<Vec<Observation>, ServiceError> {
        let corpus_size = self.collection.source.documents.len().max(1) as u64;
        let wanted: Vec<String> =
            self.targets.iter().filter_map(|id| self.collection.embedded_text(id)).collect();
        let mut pairs = Vec::new();
        let mut compared = Vec::with_capacity(turns.len());
        for turn in turns {
            let best = turn.hits.first().and_then(|hit| self.collection.embedded_text(&hit.id));
            compared.push(best.as_ref().map_or(0, |_| wanted.len()));
            if let Some(best) = best {
                pairs.extend(wanted.iter().map(|text| (best.clone(), text.clone())));
            }
        }
        let cosines = match context.retrieve.similarity(pairs).await {
            Ok(cosines) => Some(cosines),
            // A lexical collection has no cosines: then the rank alone tells turns apart.
            Err(ServiceError::Unavailable(_)) => None,
            Err(error) => return Err(error),
        };
        let mut cosines = cosines.unwrap_or_default().into_iter();
        let observe = |(turn, count): (&Turn, usize)| {
            let rank = best_rank(turn.hits.iter().map(|hit| hit.id.as_str()), &self.targets);
            Observation {
                cosine: cosines.by_ref().take(count).fold(0.0, f32::max),
                rank: rank.map_or(corpus_size, u64::from).min(corpus_size),
                corpus_size,
                options: Vec::new(),
            }
        };
        Ok(turns.iter().zip(compared).map(observe).collect())
    }
}

impl Judge for TargetJudge {
    fn quality(
        &self,
        turns: Vec<Turn>,
        context: JudgeContext,
    ) -> BoxFuture<'_, std::result::Result<Metered<Vec<f32>>, ServiceError>> {
        Box::pin(async move {
            let observations = self.observe(&turns, &context).await?;
            let Scorer { host, reward, options } = &self.scorer;
            let limits = Limits::unhurried();
            let scores = host.score(reward, &observations, options, &limits).await;
            let scores = scores.map_err(|error| ServiceError::Fault {
                code: "reward".to_owned(),
                message: error.to_string(),
            })?;
            let value = scores.rewards.into_iter().map(|reward| reward.clamp(0.0, 1.0)).collect();
            Ok(Metered { value, usage: Usage::default() })
        })
    }
}
