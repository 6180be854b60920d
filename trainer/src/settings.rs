//! Settings of a whole training line: one TOML file, committed, so that one command makes the same weights again.

use crate::data::LossOn;
use crate::error::{Result, TrainError};
use crate::model::Initial;
use crate::sft::SftSettings;
use crate::trajectories::copies::CopySettings;
use crate::trajectories::walk::WalkSettings;
use orion_policy::{Config, FormatKind};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The line: vocabulary, model, data, stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSettings {
    /// Seed of weights and data; each use derives its own.
    pub seed: u64,
    /// Tokens of the vocabulary, markers included.
    pub vocabulary: usize,
    /// Trajectory format of the policy: `full`, `no-think` or `no-marker`.
    #[serde(default = "full")]
    pub format: FormatKind,
    /// Dimensions.
    pub model: ModelSettings,
    /// Spread of fresh weights.
    #[serde(default)]
    pub initial: Initial,
    /// The first lesson.
    #[serde(default)]
    pub copies: CopySettings,
    /// The walks.
    #[serde(default)]
    pub walks: WalkSettings,
    /// Training stages, in order.
    pub stages: Vec<StageSettings>,
}

fn full() -> FormatKind {
    FormatKind::Full
}

/// Dimensions of a fresh model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub feed_forward: usize,
    /// `conv` or `full_attention`, one for each layer.
    pub layers: Vec<String>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Longest trajectory in tokens.
    pub positions: usize,
    /// Base of the rotary angles.
    pub theta: f64,
    /// Taps of the short convolution.
    pub conv_length: usize,
}

/// Data of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageData {
    /// [`crate::trajectories::copies`].
    Copies,
    /// [`crate::trajectories::walk`].
    Walks,
}

/// One training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSettings {
    /// Name of its folder.
    pub name: String,
    /// What it learns from.
    pub data: StageData,
    /// Another draw of the first lesson's records; 0 is the first.
    #[serde(default)]
    pub draw: u64,
    /// How.
    #[serde(default)]
    pub sft: SftSettings,
}

impl LineSettings {
    /// Reads a TOML file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::file("read", path))?;
        toml::from_str(&text).map_err(|error| TrainError::content(path, "settings of a training line", error))
    }

    /// The config of the fresh model. Special tokens have their places as ids.
    pub fn config(&self) -> Result<Config> {
        let model = &self.model;
        let json = serde_json::json!({
            "model_type": "lfm2",
            "vocab_size": self.vocabulary,
            "hidden_size": model.hidden,
            "intermediate_size": model.feed_forward,
            "block_auto_adjust_ff_dim": false,
            "num_hidden_layers": model.layers.len(),
            "layer_types": model.layers,
            "num_attention_heads": model.heads,
            "num_key_value_heads": model.kv_heads,
            "max_position_embeddings": model.positions,
            "rope_parameters": { "rope_type": "default", "rope_theta": model.theta },
            "conv_L_cache": model.conv_length,
            "tie_word_embeddings": true,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2
        });
        Config::parse(json.to_string().as_bytes(), "[model]")
            .map_err(|error| TrainError::Policy(error.to_string()))
    }
}

/// Reads the settings of one stage from a TOML file; without one, the defaults.
pub fn load_sft(path: Option<&Path>) -> Result<SftSettings> {
    let Some(path) = path else { return Ok(SftSettings::default()) };
    let text = std::fs::read_to_string(path).map_err(TrainError::file("read", path))?;
    toml::from_str(&text).map_err(|error| TrainError::content(path, "settings of a training stage", error))
}

/// What the command line may put on top of the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SftOverrides {
    /// Seed of the order of examples.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Passes over the data.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Steps at most.
    #[arg(long)]
    pub steps: Option<u64>,
    /// Peak learning rate.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Which tokens carry loss.
    #[arg(long)]
    pub loss: Option<LossOn>,
    /// Micro-batches of a step.
    #[arg(long)]
    pub accumulation: Option<usize>,
    /// Tokens of a micro-batch.
    #[arg(long)]
    pub micro_tokens: Option<usize>,
    /// Threads.
    #[arg(long)]
    pub workers: Option<usize>,
}

impl SftOverrides {
    /// The settings with these on top.
    pub fn apply(&self, mut settings: SftSettings) -> SftSettings {
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.epochs = self.epochs.unwrap_or(settings.epochs);
        settings.steps = self.steps.or(settings.steps);
        settings.schedule.peak = self.rate.unwrap_or(settings.schedule.peak);
        settings.loss = self.loss.unwrap_or(settings.loss);
        settings.accumulation = self.accumulation.unwrap_or(settings.accumulation);
        settings.micro_tokens = self.micro_tokens.unwrap_or(settings.micro_tokens);
        settings.workers = self.workers.unwrap_or(settings.workers);
        settings
    }
}
