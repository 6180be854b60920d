//! The shape of an LFM2 model, read from `config.json`.
//!
//! Hugging Face has two dialects of this file: the published checkpoints say `block_ff_dim`, `full_attn_idxs`,
//! `rope_theta`, `tie_embedding`; newer exports say `intermediate_size`, `layer_types`, `rope_parameters`,
//! `tie_word_embeddings`. Both load. [`Config::tensors`] is the one list of tensor names and shapes that
//! `checkpoint`, `model`, `random` and the trainer go by.

use std::path::Path;

use serde::Deserialize;

use crate::error::CheckpointError;
use crate::gguf_model;

/// What a layer does before its feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Gated short convolution.
    Convolution,
    /// Grouped-query attention.
    Attention,
}

/// The shape of an LFM2 model; all sizes are counts of numbers, not bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding table.
    pub vocabulary_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// The real width of the feed-forward part, after any automatic adjustment.
    pub feed_forward_size: usize,
    /// One entry for each layer.
    pub layers: Vec<LayerKind>,
    /// Query heads.
    pub attention_heads: usize,
    /// Key/value heads; divides `attention_heads`.
    pub key_value_heads: usize,
    /// Width of one head; even, because rotary positions turn pairs.
    pub head_size: usize,
    /// The longest context the model was made for, in tokens.
    pub max_positions: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Whether the output head is the embedding table.
    pub tied_head: bool,
    /// Whether the convolution and its two projections carry biases.
    pub convolution_bias: bool,
    /// Length of the convolution (`conv_L_cache`): how many positions one output sees, itself included.
    pub convolution_length: usize,
    /// Padding token.
    pub pad_token: Option<u32>,
    /// First token of every trajectory.
    pub bos_token: Option<u32>,
    /// End of sequence.
    pub eos_token: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn first(&self) -> Option<u32> {
        match self {
            Self::One(id) => Some(*id),
            Self::Many(ids) => ids.first().copied(),
        }
    }
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

/// The file as it stands, in either dialect.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    block_ff_dim: Option<usize>,
    block_auto_adjust_ff_dim: Option<bool>,
    block_ffn_dim_multiplier: Option<f64>,
    block_multiple_of: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    norm_eps: Option<f64>,
    block_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    tie_word_embeddings: Option<bool>,
    tie_embedding: Option<bool>,
    conv_bias: Option<bool>,
    #[serde(rename = "conv_L_cache")]
    conv_l_cache: Option<usize>,
    layer_types: Option<Vec<String>>,
    full_attn_idxs: Option<Vec<usize>>,
    pad_token_id: Option<OneOrMany>,
    bos_token_id: Option<OneOrMany>,
    eos_token_id: Option<OneOrMany>,
}

/// The real feed-forward width for a configured one: with `adjust`, two thirds of it, times `multiplier`,
/// rounded up to a multiple of `multiple_of` (the sizing of the LFM2 reference implementation).
pub fn feed_forward_width(configured: usize, adjust: bool, multiplier: f64, multiple_of: usize) -> usize {
    if !adjust {
        return configured;
    }
    let scaled = (multiplier * (2 * configured / 3) as f64) as usize;
    scaled.div_ceil(multiple_of.max(1)) * multiple_of.max(1)
}

impl Config {
    /// Reads `config.json` in `folder`, or the metadata of a `.gguf` file.
    pub fn load(folder: &Path) -> Result<Self, CheckpointError> {
        if gguf_model::is_gguf(folder) {
            let (gguf, file) = gguf_model::read(folder)?;
            return gguf_model::config(&gguf, &file);
        }
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path)
            .map_err(|source| CheckpointError::Read { file: path.display().to_string(), source })?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Reads the bytes of a `config.json`; `file` names it in errors.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, CheckpointError> {
        let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| CheckpointError::Malformed {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        Self::from_raw(&raw).map_err(|fault| fault.in_file(file))
    }

    /// Itself, where its sizes are usable; `file` names it in errors.
    pub(crate) fn checked(self, file: &str) -> Result<Self, CheckpointError> {
        self.validate().map_err(|fault| fault.in_file(file))?;
        Ok(self)
    }

    fn from_raw(raw: &RawConfig) -> Result<Self, Fault> {
        if let Some(kind) = &raw.model_type
            && kind != "lfm2"
        {
            return Err(Fault::new("model_type", "`lfm2`", format!("`{kind}`")));
        }
        let layer_count = positive("num_hidden_layers", raw.num_hidden_layers)?;
        let hidden_size = positive("hidden_size", raw.hidden_size)?;
        let attention_heads = positive("num_attention_heads", raw.num_attention_heads.or(raw.num_heads))?;
        let key_value_heads =
            positive("num_key_value_heads", raw.num_key_value_heads.or(Some(attention_heads)))?;
        let head_size = positive("head_dim", raw.head_dim.or(Some(hidden_size / attention_heads)))?;
        // Where both dialects are present the older name wins, as in the reference implementation.
        let configured = positive("intermediate_size", raw.block_ff_dim.or(raw.intermediate_size))?;
        let multiple_of = positive("block_multiple_of", raw.block_multiple_of.or(Some(256)))?;
        let multiplier = raw.block_ffn_dim_multiplier.unwrap_or(1.0);
        if !(multiplier.is_finite() && 0.0 < multiplier && multiplier < 1e3) {
            return Err(Fault::new("block_ffn_dim_multiplier", "a number in (0, 1000)", multiplier));
        }
        let adjust = raw.block_auto_adjust_ff_dim.unwrap_or(true);
        for rope in [&raw.rope_parameters, &raw.rope_scaling].into_iter().flatten() {
            if let Some(kind) = &rope.rope_type
                && kind != "default"
            {
                return Err(Fault::new("rope_type", "`default`", format!("`{kind}`")));
            }
        }
        let config = Self {
            vocabulary_size: positive("vocab_size", raw.vocab_size)?,
            hidden_size,
            feed_forward_size: feed_forward_width(configured, adjust, multiplier, multiple_of),
            layers: layer_kinds(raw, layer_count)?,
            attention_heads,
            key_value_heads,
            head_size,
            max_positions: positive("max_position_embeddings", raw.max_position_embeddings)?,
            norm_epsilon: raw.norm_eps.or(raw.block_norm_eps).unwrap_or(1e-5) as f32,
            rope_base: raw
                .rope_parameters
                .as_ref()
                .and_then(|rope| rope.rope_theta)
                .or(raw.rope_theta)
                .unwrap_or(1e6) as f32,
            tied_head: raw.tie_embedding.or(raw.tie_word_embeddings).unwrap_or(true),
            convolution_bias: raw.conv_bias.unwrap_or(false),
            convolution_length: positive("conv_L_cache", raw.conv_l_cache.or(Some(3)))?,
            pad_token: raw.pad_token_id.as_ref().and_then(OneOrMany::first),
            bos_token: raw.bos_token_id.as_ref().and_then(OneOrMany::first),
            eos_token: raw.eos_token_id.as_ref().and_then(OneOrMany::first),
        };
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Fault> {
        // Bounds far above any LFM2, so that a hostile file cannot make sizes overflow.
        let bounded = [
            ("vocab_size", self.vocabulary_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.feed_forward_size, 1 << 19),
            ("num_hidden_layers", self.layers.len(), 1 << 10),
            ("num_attention_heads", self.attention_heads, 1 << 12),
            ("head_dim", self.head_size, 1 << 12),
            ("conv_L_cache", self.convolution_length, 1 << 8),
            ("max_position_embeddings", self.max_positions, 1 << 32),
        ];
        for (field, value, bound) in bounded {
            if value == 0 || bound < value {
                return Err(Fault::new(field, format!("a number in 1..={bound}"), value));
            }
        }
        if self.key_value_heads == 0 || !self.attention_heads.is_multiple_of(self.key_value_heads) {
            return Err(Fault::new(
                "num_key_value_heads",
                format!("a divisor of {} attention heads", self.attention_heads),
                self.key_value_heads,
            ));
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(Fault::new("head_dim", "an even number", self.head_size));
        }
        if !(self.norm_epsilon.is_finite() && 0.0 <= self.norm_epsilon) {
            return Err(Fault::new("norm_eps", "a finite number, not negative", self.norm_epsilon));
        }
        if !(self.rope_base.is_finite() && 0.0 < self.rope_base) {
            return Err(Fault::new("rope_theta", "a positive number", self.rope_base));
        }
        for (field, token) in [
            ("pad_token_id", self.pad_token),
            ("bos_token_id", self.bos_token),
            ("eos_token_id", self.eos_token),
        ] {
            if let Some(id) = token
                && self.vocabulary_size <= id as usize
            {
                return Err(Fault::new(field, format!("an id below {}", self.vocabulary_size), id));
            }
        }
        Ok(())
    }

    /// Every tensor of the model: name as in the checkpoint, and shape. The order is fixed.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let query = self.attention_heads * self.head_size;
        let key_value = self.key_value_heads * self.head_size;
        let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocabulary_size, hidden])];
        for (index, kind) in self.layers.iter().enumerate() {
            let mut add = |name: &str, shape: &[usize]| {
                list.push((format!("model.layers.{index}.{name}"), shape.to_vec()));
            };
            add("operator_norm.weight", &[hidden]);
            match kind {
                LayerKind::Convolution => {
                    add("conv.in_proj.weight", &[3 * hidden, hidden]);
                    add("conv.conv.weight", &[hidden, 1, self.convolution_length]);
                    add("conv.out_proj.weight", &[hidden, hidden]);
                    if self.convolution_bias {
                        add("conv.in_proj.bias", &[3 * hidden]);
                        add("conv.conv.bias", &[hidden]);
                        add("conv.out_proj.bias", &[hidden]);
                    }
                }
                LayerKind::Attention => {
                    add("self_attn.q_proj.weight", &[query, hidden]);
                    add("self_attn.k_proj.weight", &[key_value, hidden]);
                    add("self_attn.v_proj.weight", &[key_value, hidden]);
                    add("self_attn.q_layernorm.weight", &[self.head_size]);
                    add("self_attn.k_layernorm.weight", &[self.head_size]);
                    add("self_attn.out_proj.weight", &[hidden, query]);
                }
            }
            add("ffn_norm.weight", &[hidden]);
            add("feed_forward.w1.weight", &[self.feed_forward_size, hidden]);
            add("feed_forward.w3.weight", &[self.feed_forward_size, hidden]);
            add("feed_forward.w2.weight", &[hidden, self.feed_forward_size]);
        }
        list.push(("model.embedding_norm.weight".to_owned(), vec![hidden]));
        if !self.tied_head {
            list.push(("lm_head.weight".to_owned(), vec![self.vocabulary_size, hidden]));
        }
        list
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// A `config.json` in the newer dialect, with the real feed-forward width.
    pub fn to_json(&self) -> String {
        let layer_types: Vec<&str> = self
            .layers
            .iter()
            .map(|kind| match kind {
                LayerKind::Convolution => "conv",
                LayerKind::Attention => "full_attention",
            })
            .collect();
        let value = serde_json::json!({
            "architectures": ["Lfm2ForCausalLM"],
            "model_type": "lfm2",
            "vocab_size": self.vocabulary_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.feed_forward_size,
            "block_auto_adjust_ff_dim": false,
            "num_hidden_layers": self.layers.len(),
            "layer_types": layer_types,
            "num_attention_heads": self.attention_heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_size,
            "max_position_embeddings": self.max_positions,
            "norm_eps": shortest(self.norm_epsilon),
            "rope_parameters": { "rope_type": "default", "rope_theta": shortest(self.rope_base) },
            "tie_word_embeddings": self.tied_head,
            "conv_bias": self.convolution_bias,
            "conv_L_cache": self.convolution_length,
            "pad_token_id": self.pad_token,
            "bos_token_id": self.bos_token,
            "eos_token_id": self.eos_token,
        });
        format!("{value:#}\n")
    }
}

/// The f64 that prints as briefly as the f32 does (1e-5, not 9.99999974e-6).
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn layer_kinds(raw: &RawConfig, count: usize) -> Result<Vec<LayerKind>, Fault> {
    if let Some(names) = &raw.layer_types {
        if names.len() != count {
            return Err(Fault::new("layer_types", format!("{count} entries"), names.len()));
        }
        return names
            .iter()
            .map(|name| match name.as_str() {
                "conv" => Ok(LayerKind::Convolution),
                "full_attention" => Ok(LayerKind::Attention),
                other => Err(Fault::new("layer_types", "`conv` or `full_attention`", format!("`{other}`"))),
            })
            .collect();
    }
    let Some(indices) = &raw.full_attn_idxs else {
        return Ok(vec![LayerKind::Attention; count]);
    };
    let mut kinds = vec![LayerKind::Convolution; count];
    for &index in indices {
        let Some(kind) = kinds.get_mut(index) else {
            return Err(Fault::new("full_attn_idxs", format!("layers below {count}"), index));
        };
        *kind = LayerKind::Attention;
    }
    Ok(kinds)
}

/// A field that is wrong, before the file name is known.
struct Fault {
    field: &'static str,
    expected: String,
    got: String,
}

impl Fault {
    fn new(field: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self { field, expected: expected.to_string(), got: got.to_string() }
    }

    fn in_file(self, file: &str) -> CheckpointError {
        let Self { field, expected, got } = self;
        CheckpointError::Config { file: file.to_owned(), field, expected, got }
    }
}

fn positive(field: &'static str, value: Option<usize>) -> Result<usize, Fault> {
    match value {
        Some(number) if 0 < number && number <= 1 << 32 => Ok(number),
        Some(number) => Err(Fault::new(field, "a positive number", number)),
        None => Err(Fault::new(field, "a positive number", "nothing")),
    }
}
