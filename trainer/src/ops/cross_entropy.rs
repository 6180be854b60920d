//! Negative log-likelihood of one target token for each row of logits, without keeping the softmax.

use super::{elements, exp, floats, largest, tensor_like};
use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Operand `logits [rows, vocabulary]`; result `[rows]` in nats.
#[derive(Debug, Clone)]
pub(super) struct CrossEntropy {
    /// The token that each row should have predicted.
    pub targets: Vec<u32>,
}

/// Largest logit and the sum of `exp(logit - top)`.
fn normaliser(row: &[f32]) -> (f32, f32) {
    let top = largest(row);
    let mut chains = [0f32; 8];
    let blocks = row.chunks_exact(8);
    let tail: f32 = blocks.remainder().iter().map(|logit| exp(logit - top)).sum();
    for block in blocks {
        for lane in 0..8 {
            chains[lane] += exp(block[lane] - top);
        }
    }
    (top, chains.iter().sum::<f32>() + tail)
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = floats(self.name(), storage, layout)?;
        let (rows, vocabulary) = layout.shape().dims2()?;
        if rows != self.targets.len() || self.targets.iter().any(|target| *target as usize >= vocabulary) {
            return Err(Error::Msg(format!(
                "cross-entropy: expected {rows} targets below {vocabulary}, got {} targets",
                self.targets.len()
            )));
        }
        let losses: Vec<f32> = logits
            .par_chunks(vocabulary)
            .zip(&self.targets)
            .map(|(row, target)| {
                let (top, sum) = normaliser(row);
                (top - row[*target as usize]) + sum.ln()
            })
            .collect();
        Ok((CpuStorage::F32(losses), Shape::from(rows)))
    }

    fn bwd(&self, logits_tensor: &Tensor, _result: &Tensor, grad_result: &Tensor) -> Result<Option<Tensor>> {
        let grad_result = grad_result.contiguous()?;
        let (logits, g) = (elements(logits_tensor), elements(&grad_result));
        let (logits, g) = (logits.slice(self.name())?, g.slice(self.name())?);
        let vocabulary = logits_tensor.dim(1)?;
        let mut logits_grad = vec![0f32; logits.len()];
        logits_grad
            .par_chunks_mut(vocabulary)
            .zip(logits.par_chunks(vocabulary))
            .zip(self.targets.par_iter().zip(g))
            .for_each(|((out, row), (target, gradient))| {
                let (top, sum) = normaliser(row);
                let scale = gradient / sum;
                for (out, logit) in out.iter_mut().zip(row) {
                    *out = exp(logit - top) * scale;
                }
                out[*target as usize] -= gradient;
            });
        Ok(Some(tensor_like(logits_grad, logits_tensor)?))
    }
}
