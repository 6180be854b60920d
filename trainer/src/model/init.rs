//! Fresh weights from a seed.

use crate::error::Result;
use candle_core::{Device, Tensor};
use orion_policy::Config;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How wide fresh weights spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Initial {
    /// Standard deviation of the embedding.
    pub embedding: f32,
    /// Standard deviation of a projection, times the square root of its inputs.
    pub projection: f32,
    /// The same for the projections that write to the residual stream, further divided by the square root of
    /// twice the number of layers, so that the stream's variance does not grow with depth.
    pub residual: f32,
    /// Where positive, attention starts as a copier: its output projection is this many times the transpose of its
    /// value projection, so that what is attended to is written back as it was read, and through a tied head as a
    /// vote for the token itself. (The idea of mimetic initialisation, arXiv 2305.09828, with the sign that suits
    /// copying.) Zero draws it at random like the rest.
    pub copying: f32,
}

impl Default for Initial {
    /// 0.02 is the reference implementation's; unit gain keeps activations in range at any width.
    fn default() -> Self {
        Self { embedding: 0.02, projection: 1.0, residual: 0.5, copying: 0.0 }
    }
}

/// A normal deviate by the Box-Muller transform.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

/// `[hidden, heads * width]`: for each query head the transpose of its group's rows of the value projection.
fn copier(config: &Config, values: Option<&Tensor>, scale: f32) -> Result<Vec<f32>> {
    let Some(values) = values else { return Ok(Vec::new()) };
    let rows = values.to_vec2::<f32>()?;
    let (heads, width) = (config.attention_heads, config.head_size);
    let group = heads / config.key_value_heads;
    let mut out = Vec::with_capacity(config.hidden_size * heads * width);
    for channel in 0..config.hidden_size {
        let column = |column: usize| &rows[column / width / group * width + column % width];
        out.extend((0..heads * width).map(|place| scale * column(place)[channel]));
    }
    Ok(out)
}

/// One tensor for each tensor of the model. Every tensor has its own stream, so adding one changes no other.
pub(super) fn random(config: &Config, initial: &Initial, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    let depth = (2.0 * config.layers.len() as f32).sqrt();
    for (stream, (name, dims)) in config.tensors().into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        let count: usize = dims.iter().product();
        let fan_in = dims.last().copied().unwrap_or(1) as f32;
        let writes_residual = name.ends_with("out_proj.weight") || name.ends_with("w2.weight");
        let values: Vec<f32> = if 0.0 < initial.copying && name.ends_with("self_attn.out_proj.weight") {
            let values = name.replace("out_proj", "v_proj");
            copier(config, tensors.get(&values), initial.copying)?
        } else if name.contains("norm") {
            vec![1.0; count]
        } else if name.ends_with("bias") {
            vec![0.0; count]
        } else if name.ends_with("conv.conv.weight") {
            // The reference implementation's default for a convolution: uniform in 1 / sqrt(taps).
            let bound = 1.0 / fan_in.sqrt();
            (0..count).map(|_| rng.random_range(-bound..bound)).collect()
        } else {
            let deviation = if name.contains("embed_tokens") || name.contains("lm_head") {
                initial.embedding
            } else if writes_residual {
                initial.residual / fan_in.sqrt() / depth
            } else {
                initial.projection / fan_in.sqrt()
            };
            (0..count).map(|_| deviation * normal(&mut rng)).collect()
        };
        tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu)?);
    }
    Ok(tensors)
}
