//! Scaled softmax over the positions that a query may see.
//!
//! Sequences are padded on the right, so the causal rule alone keeps every real position from seeing padding.

use super::{dot, elements, exp, floats, largest, tensor_like};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Operand: scores `[.., rows, time]`, where row `r` belongs to position `r % time`; later columns get weight 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct CausalSoftmax {
    /// Positions.
    pub time: usize,
    /// Multiplies every score.
    pub scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = floats(self.name(), storage, layout)?;
        let time = self.time;
        let mut weights = vec![0f32; scores.len()];
        weights.par_chunks_mut(time * time).zip(scores.par_chunks(time * time)).for_each(|(out, plane)| {
            for (t, (out_row, row)) in out.chunks_exact_mut(time).zip(plane.chunks_exact(time)).enumerate() {
                let (out_row, row) = (&mut out_row[..=t], &row[..=t]);
                let top = largest(row);
                for (weight, score) in out_row.iter_mut().zip(row) {
                    *weight = exp((score - top) * self.scale);
                }
                let inverse = 1.0 / out_row.iter().sum::<f32>();
                for weight in out_row.iter_mut() {
                    *weight *= inverse;
                }
            }
        });
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, result: &Tensor, grad_result: &Tensor) -> Result<Option<Tensor>> {
        let grad_result = grad_result.contiguous()?;
        let (weights, gradients) = (elements(result), elements(&grad_result));
        let (weights, gradients) = (weights.slice(self.name())?, gradients.slice(self.name())?);
        let plane = self.time * self.time;
        let mut score_grad = vec![0f32; weights.len()];
        score_grad
            .par_chunks_mut(plane)
            .zip(weights.par_chunks(plane))
            .zip(gradients.par_chunks(plane))
            .for_each(|((out, weights), gradients)| {
                for (t, ((out_row, weight_row), gradient_row)) in out
                    .chunks_exact_mut(self.time)
                    .zip(weights.chunks_exact(self.time))
                    .zip(gradients.chunks_exact(self.time))
                    .enumerate()
                {
                    let (weight_row, gradient_row) = (&weight_row[..=t], &gradient_row[..=t]);
                    let mean = dot(weight_row, gradient_row);
                    for ((out, weight), gradient) in out_row.iter_mut().zip(weight_row).zip(gradient_row) {
                        *out = self.scale * weight * (gradient - mean);
                    }
                }
            });
        Ok(Some(tensor_like(score_grad, scores)?))
    }
}
