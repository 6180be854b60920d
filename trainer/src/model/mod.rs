//! A differentiable LFM2: gated short convolutions, grouped-query attention, SwiGLU, RMS norms.
//!
//! The same checkpoints, names and arithmetic as the serving engine in `orion-policy` (a test holds their
//! log-probabilities together); the difference is that every tensor here is a variable and every operation has a
//! backward pass. Batches are padded on the right and each row is one sequence, so neither attention nor the
//! convolution ever crosses from one example into another.

mod init;

pub use init::Initial;

use crate::error::{Result, TrainError};
use crate::ops::{CausalSoftmax, CrossEntropy, HeadNormRotary, RmsNorm, ShortConv, SwiGlu};
use candle_core::{Device, Tensor, Var};
use orion_policy::{Config, LayerKind, Weights};
use std::collections::BTreeMap;

/// A rectangle of sequences, padded on the right.
#[derive(Debug, Clone)]
pub struct Rectangle {
    /// `[sequences * time]` token ids, row by row.
    pub tokens: Vec<u32>,
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub time: usize,
}

/// The model's variables by checkpoint name.
pub struct Lfm2 {
    config: Config,
    variables: BTreeMap<String, Var>,
}

impl Lfm2 {
    /// Takes tensors that fit `config`; fails on a missing or misshapen one. Names that the config does not know
    /// (a tied checkpoint may carry its head) are left aside.
    pub fn new(config: Config, mut tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for (name, dims) in config.tensors() {
            let tensor = tensors.remove(&name).ok_or_else(|| {
                TrainError::Policy(format!("tensor `{name}`: expected shape {dims:?}, got none"))
            })?;
            if tensor.dims() != dims {
                let got = tensor.dims();
                return Err(TrainError::Policy(format!(
                    "tensor `{name}`: expected shape {dims:?}, got {got:?}"
                )));
            }
            variables.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self { config, variables })
    }

    /// Fresh weights.
    pub fn random(config: Config, initial: &Initial, seed: u64) -> Result<Self> {
        let tensors = init::random(&config, initial, seed)?;
        Self::new(config, tensors)
    }

    /// A checkpoint's weights.
    pub fn from_weights(config: Config, weights: Weights) -> Result<Self> {
        let tensors = weights
            .tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, Tensor::from_vec(tensor.data, tensor.shape, &Device::Cpu)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        Self::new(config, tensors)
    }

    /// A copy of the weights, as checkpoints hold them.
    pub fn to_weights(&self) -> Result<Weights> {
        let tensors = self
            .variables
            .iter()
            .map(|(name, variable)| {
                let data = variable.flatten_all()?.to_vec1::<f32>()?;
                Ok((name.clone(), orion_policy::Tensor { shape: variable.dims().to_vec(), data }))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Weights { tensors })
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The variables by name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.variables
            .get(name)
            .map(Var::as_tensor)
            .ok_or_else(|| TrainError::Policy(format!("tensor `{name}`: expected it, got none")))
    }

    /// `x [rows, in]` through `name.weight [out, in]` and `name.bias [out]`, where there is one.
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let y = x.matmul(&self.weight(&format!("{name}.weight"))?.t()?)?;
        match self.variables.get(&format!("{name}.bias")) {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let op = RmsNorm { epsilon: self.config.norm_epsilon };
        Ok(x.apply_op2(self.weight(&format!("{name}.weight"))?, op)?)
    }

    fn convolution(&self, x: &Tensor, at: &str, time: usize) -> Result<Tensor> {
        let hidden = self.config.hidden_size;
        let bcx = self.linear(x, &format!("{at}.conv.in_proj"))?; // [rows, 3 * hidden]
        let mut y = bcx.apply_op2(self.weight(&format!("{at}.conv.conv.weight"))?, ShortConv { time })?;
        if let Some(bias) = self.variables.get(&format!("{at}.conv.conv.bias")) {
            y = (y + bcx.narrow(1, hidden, hidden)?.contiguous()?.broadcast_mul(bias)?)?;
        }
        self.linear(&y, &format!("{at}.conv.out_proj"))
    }

    fn attention(&self, x: &Tensor, at: &str, batch: usize, time: usize) -> Result<Tensor> {
        let (heads, kv_heads) = (self.config.attention_heads, self.config.key_value_heads);
        let (theta, epsilon) = (f64::from(self.config.rope_base), self.config.norm_epsilon);
        let width = self.config.head_size;
        let head_major = |name: &str, heads: usize| -> Result<Tensor> {
            let projected = self.linear(x, &format!("{at}.self_attn.{name}_proj"))?;
            let weight = self.weight(&format!("{at}.self_attn.{name}_layernorm.weight"))?;
            Ok(projected.apply_op2(weight, HeadNormRotary { batch, time, heads, theta, epsilon })?)
        };
        // Query heads of one group lie below each other, so that keys and values need no repetition.
        let rows = heads / kv_heads * time;
        let q = head_major("q", heads)?.reshape((batch * kv_heads, rows, width))?;
        let k = head_major("k", kv_heads)?.reshape((batch * kv_heads, time, width))?;
        let v = self.linear(x, &format!("{at}.self_attn.v_proj"))?;
        let v = v.reshape((batch, time, kv_heads, width))?.transpose(1, 2)?.contiguous()?;
        let v = v.reshape((batch * kv_heads, time, width))?;
        let scores = q.matmul(&k.t()?)?; // [batch * kv_heads, rows, time]
        let weights = scores.apply_op1(CausalSoftmax { time, scale: 1.0 / (width as f32).sqrt() })?;
        let mixed = weights.matmul(&v)?.reshape((batch, heads, time, width))?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((batch * time, heads * width))?;
        self.linear(&mixed, &format!("{at}.self_attn.out_proj"))
    }

    fn feed_forward(&self, x: &Tensor, at: &str) -> Result<Tensor> {
        let gate = self.linear(x, &format!("{at}.feed_forward.w1"))?;
        let up = self.linear(x, &format!("{at}.feed_forward.w3"))?;
        self.linear(&gate.apply_op2(&up, SwiGlu)?, &format!("{at}.feed_forward.w2"))
    }

    /// The normed state after the last layer, `[batch * time, hidden]`.
    pub fn hidden(&self, input: &Rectangle) -> Result<Tensor> {
        let (batch, time) = (input.batch, input.time);
        let vocabulary = self.config.vocabulary_size;
        if input.tokens.len() != batch * time || input.tokens.iter().any(|t| *t as usize >= vocabulary) {
            let got = input.tokens.len();
            return Err(TrainError::Policy(format!(
                "batch: expected {batch} x {time} tokens below {vocabulary}, got {got} tokens"
            )));
        }
        let ids = Tensor::from_slice(&input.tokens, batch * time, &Device::Cpu)?;
        let mut x = self.weight("model.embed_tokens.weight")?.index_select(&ids, 0)?;
        for (layer, kind) in self.config.layers.iter().enumerate() {
            let at = format!("model.layers.{layer}");
            let normed = self.norm(&x, &format!("{at}.operator_norm"))?;
            let mixed = match kind {
                LayerKind::Convolution => self.convolution(&normed, &at, time)?,
                LayerKind::Attention => self.attention(&normed, &at, batch, time)?,
            };
            x = (x + mixed)?;
            let normed = self.norm(&x, &format!("{at}.ffn_norm"))?;
            x = (x + self.feed_forward(&normed, &at)?)?;
        }
        self.norm(&x, "model.embedding_norm")
    }

    /// Logits `[rows, vocabulary]` of chosen rows of [`Self::hidden`]'s result.
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::from_slice(rows, rows.len(), &Device::Cpu)?;
        let picked = hidden.index_select(&rows, 0)?;
        let head = if self.config.tied_head { "model.embed_tokens.weight" } else { "lm_head.weight" };
        Ok(picked.matmul(&self.weight(head)?.t()?)?)
    }

    /// Negative log-likelihood in nats of each wanted token, `[wanted]`: `(row, token)` says that the logits at
    /// `row` (position times sequence) should predict `token`. Only these rows ever meet the vocabulary.
    pub fn token_losses(&self, input: &Rectangle, wanted: &[(u32, u32)]) -> Result<Tensor> {
        let hidden = self.hidden(input)?;
        let rows: Vec<u32> = wanted.iter().map(|(row, _)| *row).collect();
        let targets = wanted.iter().map(|(_, token)| *token).collect();
        Ok(self.logits(&hidden, &rows)?.apply_op1(CrossEntropy { targets })?)
    }
}
