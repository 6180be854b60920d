//! A differentiable LFM2: gated short convolutions, grouped-query attention, SwiGLU, RMS norms.
//!
//! The same checkpoints, names and arithmetic as the serving engine in `orion-policy` (a test holds their
//! log-probabilities together); the difference is that every tensor here is a variable and every operation has a
//! backward pass. Batches are padded on the right and each row is one sequence, so neither attention nor the
//! convolution ever crosses from one example into another.

mod init;
mod lora;

pub use init::Initial;
pub(crate) use lora::MATRICES;
pub use lora::{LoraArguments, LoraSettings};

use crate::error::{Result, TrainError};
use crate::ops::{FrozenLinear, HeadNormRotary, Ops};
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

/// `x [rows, in]` times the transpose of `weight [out, in]`, plus `bias [out]`; a frozen weight gets no gradient.
fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let is_frozen = x.track_op() && !weight.track_op();
    let input = if is_frozen { x.detach() } else { x.clone() };
    let mut product = input.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        product = product.broadcast_add(bias)?;
    }
    if is_frozen { Ok(x.apply_op1(FrozenLinear { weight: weight.clone(), product })?) } else { Ok(product) }
}

fn tensors_of(weights: Weights) -> Result<BTreeMap<String, Tensor>> {
    let tensors = weights.tensors.into_iter();
    tensors
        .map(|(name, tensor)| Ok((name, Tensor::from_vec(tensor.data, tensor.shape, &Device::Cpu)?)))
        .collect()
}

/// The model's weights by checkpoint name, and which of them are variables.
///
/// A frozen weight is a plain tensor: no operation that reads frozen weights alone is recorded, so a frozen model's
/// forward pass keeps no activations and has no gradients.
pub struct Lfm2 {
    config: Config,
    weights: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
    /// `alpha / rank`, where the variables are adapters.
    adapter_scale: Option<f64>,
    device: Device,
    ops: Ops,
}

impl Lfm2 {
    /// Takes tensors on the CPU that fit `config`; fails on a missing or misshapen one. Names that the config does not know
    /// (a tied checkpoint may carry its head) are left aside.
    pub fn new(config: Config, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut model = Self::frozen(config, tensors)?;
        for (name, weight) in &mut model.weights {
            let variable = Var::from_tensor(weight)?;
            // The same storage: what the optimiser sets is what the forward pass reads.
            *weight = variable.as_tensor().clone();
            model.variables.insert(name.clone(), variable);
        }
        Ok(model)
    }

    /// Like [`Self::new`], with all weights frozen.
    pub fn frozen(config: Config, mut tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut weights = BTreeMap::new();
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
            weights.insert(name, tensor);
        }
        let (device, ops) = (Device::Cpu, Ops::Fused);
        Ok(Self { config, weights, variables: BTreeMap::new(), adapter_scale: None, device, ops })
    }

    /// The model with its weights on `device`, where it computes from then on.
    ///
    /// # Errors
    /// A device that has no room.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        if device.is_cpu() {
            return Ok(self);
        }
        for (name, weight) in &mut self.weights {
            *weight = match self.variables.get_mut(name) {
                None => weight.to_device(device)?,
                Some(variable) => {
                    *variable = Var::from_tensor(&variable.as_detached_tensor().to_device(device)?)?;
                    variable.as_tensor().clone()
                }
            };
        }
        for (name, variable) in &mut self.variables {
            if !self.weights.contains_key(name) {
                *variable = Var::from_tensor(&variable.as_detached_tensor().to_device(device)?)?;
            }
        }
        (self.device, self.ops) = (device.clone(), Ops::on(device));
        Ok(self)
    }

    /// The model as it computes on devices other than the CPU, wherever it is: for comparison.
    pub fn composed(self) -> Self {
        Self { ops: Ops::Composed, ..self }
    }

    /// Fresh weights.
    pub fn random(config: Config, initial: &Initial, seed: u64) -> Result<Self> {
        let tensors = init::random(&config, initial, seed)?;
        Self::new(config, tensors)
    }

    /// A checkpoint's weights, all of them variables.
    pub fn from_weights(config: Config, weights: Weights) -> Result<Self> {
        Self::new(config, tensors_of(weights)?)
    }

    /// A checkpoint's weights, all of them frozen: a reference that is only read.
    pub fn frozen_from_weights(config: Config, weights: Weights) -> Result<Self> {
        Self::frozen(config, tensors_of(weights)?)
    }

    /// A copy of the weights, as checkpoints hold them; adapters are merged in.
    pub fn to_weights(&self) -> Result<Weights> {
        let tensors = self
            .weights
            .iter()
            .map(|(name, weight)| {
                let data = self.merged(name, weight)?.flatten_all()?.to_vec1::<f32>()?;
                Ok((name.clone(), orion_policy::Tensor { shape: weight.dims().to_vec(), data }))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Weights { tensors })
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The variables by name: all weights, the adapters alone in an adapted model, none in a frozen one.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights
            .get(name)
            .ok_or_else(|| TrainError::Policy(format!("tensor `{name}`: expected it, got none")))
    }

    /// `x [rows, in]` through `name.weight [out, in]` and `name.bias [out]`, where there is one, and through the adapter.
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let bias = self.weights.get(&format!("{name}.bias"));
        let y = product(x, self.weight(&format!("{name}.weight"))?, bias)?;
        match self.adapter(x, name)? {
            Some(more) => Ok((y + more)?),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.weight(&format!("{name}.weight"))?;
        Ok(self.ops.rms_norm(x, weight, self.config.norm_epsilon)?)
    }

    fn convolution(&self, x: &Tensor, at: &str, time: usize) -> Result<Tensor> {
        let hidden = self.config.hidden_size;
        let bcx = self.linear(x, &format!("{at}.conv.in_proj"))?; // [rows, 3 * hidden]
        let mut y = self.ops.short_conv(&bcx, self.weight(&format!("{at}.conv.conv.weight"))?, time)?;
        if let Some(bias) = self.weights.get(&format!("{at}.conv.conv.bias")) {
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
            let how = HeadNormRotary { batch, time, heads, theta, epsilon };
            Ok(self.ops.head_norm_rotary(&projected, weight, how)?)
        };
        // Query heads of one group lie below each other, so that keys and values need no repetition.
        let rows = heads / kv_heads * time;
        let q = head_major("q", heads)?.reshape((batch * kv_heads, rows, width))?;
        let k = head_major("k", kv_heads)?.reshape((batch * kv_heads, time, width))?;
        let v = self.linear(x, &format!("{at}.self_attn.v_proj"))?;
        let v = v.reshape((batch, time, kv_heads, width))?.transpose(1, 2)?.contiguous()?;
        let v = v.reshape((batch * kv_heads, time, width))?;
        let scores = q.matmul(&k.t()?)?; // [batch * kv_heads, rows, time]
        let weights = self.ops.causal_softmax(&scores, time, 1.0 / (width as f32).sqrt())?;
        let mixed = weights.matmul(&v)?.reshape((batch, heads, time, width))?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((batch * time, heads * width))?;
        self.linear(&mixed, &format!("{at}.self_attn.out_proj"))
    }

    fn feed_forward(&self, x: &Tensor, at: &str) -> Result<Tensor> {
        let gate = self.linear(x, &format!("{at}.feed_forward.w1"))?;
        let up = self.linear(x, &format!("{at}.feed_forward.w3"))?;
        self.linear(&self.ops.swiglu(&gate, &up)?, &format!("{at}.feed_forward.w2"))
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
        let ids = Tensor::from_slice(&input.tokens, batch * time, &self.device)?;
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
        let rows = Tensor::from_slice(rows, rows.len(), &self.device)?;
        let picked = hidden.index_select(&rows, 0)?;
        let head = if self.config.tied_head { "model.embed_tokens.weight" } else { "lm_head.weight" };
        product(&picked, self.weight(head)?, None)
    }

    /// Negative log-likelihood in nats of each wanted token, `[wanted]`: `(row, token)` says that the logits at
    /// `row` (position times sequence) should predict `token`. Only these rows ever meet the vocabulary.
    pub fn token_losses(&self, input: &Rectangle, wanted: &[(u32, u32)]) -> Result<Tensor> {
        let hidden = self.hidden(input)?;
        let rows: Vec<u32> = wanted.iter().map(|(row, _)| *row).collect();
        let targets = wanted.iter().map(|(_, token)| *token).collect();
        Ok(self.ops.cross_entropy(&self.logits(&hidden, &rows)?, targets)?)
    }
}
