//! Settings of GRPO: one TOML file, and what the command line puts on top.

use super::collapse::CollapseSettings;
use super::loss::Objective;
use crate::error::{Result, TrainError};
use crate::optim::{AdamWSettings, Decay, Schedule};
use crate::reward::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Which retriever answers a candidate's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LookUp {
    /// Always the dense one: the paper's setting. The policy's choice of retriever, which then has no effect, is not
    /// trained.
    Dense,
    /// The one that the candidate chose: not the paper's setting.
    Chosen,
    /// The one that the candidate chose; the target's rank is that in its ranking and the user's own query's, fused evenly.
    /// So the reward is for what a query adds to the plain ranking, which `beam` always has. Not the paper's setting.
    Beside,
}

/// Which cosine the reward sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// Of the candidate's query to its best judged document.
    Target,
    /// Of the candidate's query to the document that it ranks first, as the paper's text reads. Naming any document
    /// earns it.
    FirstHit,
}

/// How candidates are made and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    /// Candidates of a group, at least 2 in training.
    pub group: u32,
    /// Turns of an episode at most.
    pub horizon: u32,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Share of the probability that is sampled from, in (0, 1].
    pub top_p: f32,
    /// Cap of a thought, in tokens.
    pub max_think_tokens: u32,
    /// Cap of a query, in tokens.
    pub max_query_tokens: u32,
    /// Longest trajectory, in tokens; an episode that would outgrow it ends. The model's own limit applies too.
    pub max_context_tokens: usize,
    /// An episode ends when the chosen candidate ranks a judged document this high; 0 for never.
    pub stop_at_rank: u64,
    /// Which retriever answers.
    pub look_up: LookUp,
    /// Which cosine the reward sees.
    pub similarity: Similarity,
    /// The reward that judges: a name that the program carries, or a component's file.
    pub reward_plugin: String,
    /// SHA-256 of the component in that file, written by the program: a run resumes with the reward that it began with.
    pub reward_component: Option<String>,
    /// Options of the reward plugin by name.
    pub reward: BTreeMap<String, String>,
}

impl Default for RolloutSettings {
    /// Group and horizon are the paper's. Temperature and nucleus are 1, so that what is sampled follows the
    /// distribution whose ratios the loss takes. Caps are those of the `beam` strategy. The rank counts
    /// logarithmically: see the reward plugin for why.
    fn default() -> Self {
        Self {
            group: 4,
            horizon: 4,
            temperature: 1.0,
            top_p: 1.0,
            max_think_tokens: 48,
            max_query_tokens: 32,
            max_context_tokens: 4096,
            stop_at_rank: 10,
            look_up: LookUp::Dense,
            similarity: Similarity::Target,
            reward_plugin: STANDARD.to_owned(),
            reward_component: None,
            reward: BTreeMap::from([("rank".to_owned(), "logarithmic".to_owned())]),
        }
    }
}

/// Settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoSettings {
    /// Order of queries and all sampling.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Queries of a step; each makes up to `horizon` groups.
    pub queries: usize,
    /// Optimiser steps on one step's candidates. From the second on, ratios differ from 1 and clipping has work.
    pub updates: u32,
    /// How candidates are made and judged.
    pub rollout: RolloutSettings,
    /// Clipping and the weight of the divergence.
    pub objective: Objective,
    /// Learning rate.
    pub schedule: Schedule,
    /// Optimiser.
    pub adamw: AdamWSettings,
    /// Largest gradient norm.
    pub clip_norm: f64,
    /// Tokens of a micro-batch, padding included.
    pub micro_tokens: usize,
    /// Micro-batches computed at once.
    pub workers: usize,
    /// Steps between dev evaluations; 0 for only before and after.
    pub eval_every: u64,
    /// Held-out queries of an evaluation, at most; 0 for none.
    pub eval_queries: usize,
    /// Steps between checkpoints; 0 for only at the end.
    pub checkpoint_every: u64,
    /// When to stop by itself.
    pub collapse: CollapseSettings,
}

impl Default for GrpoSettings {
    /// The paper's learning rate is lost; 3e-5 moves a small model without shaking it (see the log).
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 100,
            queries: 4,
            updates: 1,
            rollout: RolloutSettings::default(),
            objective: Objective::default(),
            schedule: Schedule { peak: 3e-5, warmup_steps: 5, decay: Decay::Fixed, floor: 0.0 },
            adamw: AdamWSettings::default(),
            clip_norm: 1.0,
            micro_tokens: 4096,
            workers: 2,
            eval_every: 25,
            eval_queries: 32,
            checkpoint_every: 25,
            collapse: CollapseSettings::default(),
        }
    }
}

impl GrpoSettings {
    /// Reads a TOML file; without one, the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(TrainError::file("read", path))?;
        toml::from_str(&text).map_err(|error| TrainError::content(path, "settings of GRPO", error))
    }

    /// Fails on a value out of range.
    pub fn check(&self) -> Result<()> {
        let fault = |name, expected: &str, got: String| {
            Err(TrainError::Setting { name, expected: expected.to_owned(), got })
        };
        let positive = [
            ("queries", self.queries as u64),
            ("updates", u64::from(self.updates)),
            ("micro_tokens", self.micro_tokens as u64),
            ("workers", self.workers as u64),
            ("rollout.horizon", u64::from(self.rollout.horizon)),
            ("rollout.max_query_tokens", u64::from(self.rollout.max_query_tokens)),
        ];
        for (name, value) in positive {
            if value == 0 {
                return fault(name, "at least 1", "0".to_owned());
            }
        }
        if !(2..=64).contains(&self.rollout.group) {
            return fault("rollout.group", "2 to 64", self.rollout.group.to_string());
        }
        if !(0.0 < self.rollout.temperature && self.rollout.temperature.is_finite()) {
            let got = self.rollout.temperature.to_string();
            return fault("rollout.temperature", "a number above 0: greedy groups have no differences", got);
        }
        let (clip, beta) = (self.objective.clip, self.objective.beta);
        if !(0.0 < clip && clip < 1.0) {
            return fault("objective.clip", "a number between 0 and 1", clip.to_string());
        }
        if !(0.0 <= beta && beta.is_finite()) {
            return fault("objective.beta", "a finite number, not negative", beta.to_string());
        }
        if !(0.0 < self.clip_norm && self.clip_norm.is_finite()) {
            return fault("clip_norm", "a finite number above 0", self.clip_norm.to_string());
        }
        self.collapse.check()
    }

    /// These settings as far as they decide the weights after a step that both runs reach: a resumed run must agree
    /// with the one that it goes on from. Workers change nothing, and the end only a schedule that knows of it.
    pub(super) fn decisive(&self) -> Self {
        let mut settings = self.clone();
        settings.workers = 0;
        if settings.schedule.decay == Decay::Fixed {
            settings.steps = 0;
        }
        (settings.eval_every, settings.eval_queries, settings.checkpoint_every) = (0, 0, 0);
        settings
    }
}

/// What the command line may put on top of the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GrpoOverrides {
    /// Seed of query order and sampling.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps of the whole run.
    #[arg(long)]
    pub steps: Option<u64>,
    /// Queries of a step.
    #[arg(long)]
    pub queries: Option<usize>,
    /// Candidates of a group.
    #[arg(long)]
    pub group: Option<u32>,
    /// Turns of an episode at most.
    #[arg(long)]
    pub horizon: Option<u32>,
    /// Peak learning rate.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Weight of the divergence from the reference.
    #[arg(long)]
    pub beta: Option<f64>,
    /// Sampling temperature.
    #[arg(long)]
    pub temperature: Option<f32>,
    /// Which retriever answers: `dense` is the paper's setting.
    #[arg(long)]
    pub look_up: Option<LookUp>,
    /// Which cosine the reward sees.
    #[arg(long)]
    pub similarity: Option<Similarity>,
    /// The reward that judges: `reward`, the standard one, or a component's file.
    #[arg(long = "reward", value_name = "NAME|FILE")]
    pub reward_plugin: Option<String>,
    /// Option of the reward plugin, as NAME=VALUE; may be repeated.
    #[arg(long = "reward-option", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub reward_options: Vec<(String, String)>,
    /// Threads.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Steps between dev evaluations.
    #[arg(long)]
    pub eval_every: Option<u64>,
    /// Held-out queries of an evaluation, at most.
    #[arg(long)]
    pub eval_queries: Option<usize>,
    /// Steps between checkpoints.
    #[arg(long)]
    pub checkpoint_every: Option<u64>,
}

fn name_and_value(text: &str) -> std::result::Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("expected NAME=VALUE, got `{text}`"))
}

impl GrpoOverrides {
    /// The settings with these on top.
    pub fn apply(&self, mut settings: GrpoSettings) -> GrpoSettings {
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.steps = self.steps.unwrap_or(settings.steps);
        settings.queries = self.queries.unwrap_or(settings.queries);
        settings.schedule.peak = self.rate.unwrap_or(settings.schedule.peak);
        settings.objective.beta = self.beta.unwrap_or(settings.objective.beta);
        settings.workers = self.workers.unwrap_or(settings.workers);
        settings.eval_every = self.eval_every.unwrap_or(settings.eval_every);
        settings.eval_queries = self.eval_queries.unwrap_or(settings.eval_queries);
        settings.checkpoint_every = self.checkpoint_every.unwrap_or(settings.checkpoint_every);
        let rollout = &mut settings.rollout;
        rollout.group = self.group.unwrap_or(rollout.group);
        rollout.horizon = self.horizon.unwrap_or(rollout.horizon);
        rollout.temperature = self.temperature.unwrap_or(rollout.temperature);
        rollout.look_up = self.look_up.unwrap_or(rollout.look_up);
        rollout.similarity = self.similarity.unwrap_or(rollout.similarity);
        if let Some(plugin) = &self.reward_plugin {
            // Another reward has other parameters than the standard one's defaults name.
            if *plugin != STANDARD && rollout.reward == RolloutSettings::default().reward {
                rollout.reward.clear();
            }
            rollout.reward_plugin.clone_from(plugin);
        }
        rollout.reward.extend(self.reward_options.iter().cloned());
        settings
    }
}
