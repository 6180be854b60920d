//! Fused operations with hand-written backward passes.
//!
//! candle's own `softmax_last_dim`, `rms_norm` and `rope` have no backward pass: gradients stop there without a
//! word. Composing them from differentiable primitives works but makes a dozen passes over memory each. Every
//! operation here is one pass forward and one backward, in parallel over rows, and reduces in a fixed order
//! whatever the number of threads, so that a resumed run equals an uninterrupted one bit for bit.
//!
//! Fused, they take contiguous `f32` tensors on the CPU. Elsewhere [`Ops::Composed`] writes each of them with candle's
//! own differentiable operations; the tests hold both against each other. [`crate::model`] is their only user.

mod causal_softmax;
mod composed;
mod cross_entropy;
mod frozen_linear;
mod head_norm_rotary;
mod rms_norm;
mod short_conv;
mod swiglu;

use causal_softmax::CausalSoftmax;
use cross_entropy::CrossEntropy;
pub use frozen_linear::FrozenLinear;
pub use head_norm_rotary::HeadNormRotary;
use rms_norm::RmsNorm;
use short_conv::ShortConv;
use swiglu::SwiGlu;

use candle_core::{CpuStorage, Device, Error, Layout, Result, Storage, Tensor};
use std::ops::Deref;

/// How operations are computed. Both have the same operands, shapes and, up to rounding, the same values and gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ops {
    /// One pass each, on the CPU alone.
    Fused,
    /// Of candle's operations, wherever candle computes.
    Composed,
}

impl Ops {
    /// What fits tensors on `device`.
    pub fn on(device: &Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Composed }
    }

    /// `x / sqrt(mean(x^2) + epsilon) * weight` (arXiv 1910.07467): `x [.., width]`, `weight [width]`.
    pub fn rms_norm(self, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
        match self {
            Self::Fused => x.apply_op2(weight, RmsNorm { epsilon }),
            Self::Composed => composed::rms_norm(x, weight, epsilon),
        }
    }

    /// Per-head norm and rotary positions: `x [batch * time, heads * width]` and `weight [width]` to `[batch, heads, time,
    /// width]`.
    pub fn head_norm_rotary(self, x: &Tensor, weight: &Tensor, how: HeadNormRotary) -> Result<Tensor> {
        match self {
            Self::Fused => x.apply_op2(weight, how),
            Self::Composed => composed::head_norm_rotary(x, weight, &how),
        }
    }

    /// Scaled softmax of `scores [.., rows, time]`; row `r` sees columns up to `r % time`, later ones get weight 0.
    pub fn causal_softmax(self, scores: &Tensor, time: usize, scale: f32) -> Result<Tensor> {
        match self {
            Self::Fused => scores.apply_op1(CausalSoftmax { time, scale }),
            Self::Composed => composed::causal_softmax(scores, time, scale),
        }
    }

    /// LFM2's gated short convolution: `bcx [batch * time, 3 * width]` and `taps [width, 1, length]` to `[batch * time,
    /// width]`.
    pub fn short_conv(self, bcx: &Tensor, taps: &Tensor, time: usize) -> Result<Tensor> {
        match self {
            Self::Fused => bcx.apply_op2(taps, ShortConv { time }),
            Self::Composed => composed::short_conv(bcx, taps, time),
        }
    }

    /// `silu(gate) * up`, of one shape (arXiv 2002.05202).
    pub fn swiglu(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => gate.apply_op2(up, SwiGlu),
            Self::Composed => gate.silu()? * up,
        }
    }

    /// Negative log-likelihood in nats of one target for each row of `logits [rows, vocabulary]`: `[rows]`.
    pub fn cross_entropy(self, logits: &Tensor, targets: Vec<u32>) -> Result<Tensor> {
        match self {
            Self::Fused => logits.apply_op1(CrossEntropy { targets }),
            Self::Composed => composed::cross_entropy(logits, &targets),
        }
    }
}

/// Rows handed to one task; small enough to balance two threads, large enough to hide the hand-over.
const ROWS_PER_TASK: usize = 32;

/// The elements of a contiguous f32 operand.
fn floats<'a>(operation: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| {
        Error::Msg(format!("{operation}: expected a contiguous operand, got strides {:?}", layout.stride()))
    })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// A read lock on a tensor's elements, for backward passes.
struct Elements<'a, Guard> {
    guard: Guard,
    layout: &'a Layout,
}

/// Locks a tensor's elements for reading.
fn elements(tensor: &Tensor) -> Elements<'_, impl Deref<Target = Storage>> {
    let (guard, layout) = tensor.storage_and_layout();
    Elements { guard, layout }
}

impl<Guard: Deref<Target = Storage>> Elements<'_, Guard> {
    fn slice(&self, operation: &str) -> Result<&[f32]> {
        match &*self.guard {
            Storage::Cpu(storage) => floats(operation, storage, self.layout),
            _ => Err(Error::Msg(format!("{operation}: expected a tensor on the cpu"))),
        }
    }
}

/// A tensor of `like`'s shape.
fn tensor_like(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), &Device::Cpu)
}

/// Sum of the products of two equally long slices, in eight interleaved chains (a fixed order that vectorises).
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut chains = [0f32; 8];
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..8 {
            chains[lane] += x[lane] * y[lane];
        }
    }
    chains.iter().sum::<f32>() + tail
}

/// The largest element; eight interleaved chains, so that it vectorises.
fn largest(row: &[f32]) -> f32 {
    let mut chains = [f32::NEG_INFINITY; 8];
    let blocks = row.chunks_exact(8);
    let tail = blocks.remainder();
    for block in blocks {
        for lane in 0..8 {
            chains[lane] = if block[lane] > chains[lane] { block[lane] } else { chains[lane] };
        }
    }
    chains.iter().chain(tail).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Adds up partial gradients in task order.
fn sum_partials(partials: Vec<Vec<f32>>, length: usize) -> Vec<f32> {
    let mut total = vec![0f32; length];
    for partial in &partials {
        for (sum, value) in total.iter_mut().zip(partial) {
            *sum += value;
        }
    }
    total
}

/// `exp` by range reduction and a degree-6 polynomial (relative error below 2e-7); free of branches and calls, so
/// that loops over it vectorise. Arguments are clamped to [-87, 88].
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let mut p = 1.0 / 720.0;
    p = p * rest + 1.0 / 120.0;
    p = p * rest + 1.0 / 24.0;
    p = p * rest + 1.0 / 6.0;
    p = p * rest + 0.5;
    p = p * rest + 1.0;
    p = p * rest + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    p * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_over_its_range() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / expected - 1.0).abs() < 4e-7, "exp({x}): got {got}, expected {expected}");
        }
    }
}
