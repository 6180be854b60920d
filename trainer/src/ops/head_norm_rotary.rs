//! Per-head RMS norm, rotary positions and the move to head-major order, in one pass over queries or keys.
//!
//! The rotary form is the "rotate half" one: element `i` pairs with `i + width / 2` (arXiv 2104.09864).

use super::rms_norm::inverse_rms;
use super::{dot, elements, floats, sum_partials, tensor_like};
use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Operands `x [batch * time, heads * width]` and `weight [width]`; result `[batch, heads, time, width]`.
#[derive(Debug, Clone)]
pub struct HeadNormRotary {
    /// Sequences in the batch.
    pub batch: usize,
    /// Positions of each sequence; the first has position 0.
    pub time: usize,
    /// Heads in a row of `x`.
    pub heads: usize,
    /// Base of the rotary angles.
    pub theta: f64,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl HeadNormRotary {
    /// Cosines and sines, `[time, width / 2]` each; angles in f64, so that late positions stay exact.
    pub(super) fn angles(&self, width: usize) -> (Vec<f32>, Vec<f32>) {
        let half = width / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|i| 1.0 / self.theta.powf(2.0 * i as f64 / width as f64)).collect();
        let mut cosines = Vec::with_capacity(self.time * half);
        let mut sines = Vec::with_capacity(self.time * half);
        for position in 0..self.time {
            for frequency in &frequencies {
                let angle = position as f64 * frequency;
                cosines.push(angle.cos() as f32);
                sines.push(angle.sin() as f32);
            }
        }
        (cosines, sines)
    }

    fn check(&self, elements: usize, width: usize) -> Result<()> {
        let expected = self.batch * self.time * self.heads * width;
        if elements != expected || !width.is_multiple_of(2) {
            return Err(Error::Msg(format!(
                "head-norm-rotary: expected {expected} elements and an even head width, got {elements} and {width}"
            )));
        }
        Ok(())
    }
}

impl CustomOp2 for HeadNormRotary {
    fn name(&self) -> &'static str {
        "head-norm-rotary"
    }

    fn cpu_fwd(
        &self,
        x_storage: &CpuStorage,
        x_layout: &Layout,
        w_storage: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(self.name(), x_storage, x_layout)?;
        let weight = floats(self.name(), w_storage, w_layout)?;
        let (width, time, heads) = (weight.len(), self.time, self.heads);
        self.check(x.len(), width)?;
        let half = width / 2;
        let (cosines, sines) = self.angles(width);
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(time * width).enumerate().for_each(|(index, plane)| {
            let (sequence, head) = (index / heads, index % heads);
            for (t, out) in plane.chunks_exact_mut(width).enumerate() {
                let start = ((sequence * time + t) * heads + head) * width;
                let row = &x[start..start + width];
                let inverse = inverse_rms(row, self.epsilon);
                for i in 0..half {
                    let (cosine, sine) = (cosines[t * half + i], sines[t * half + i]);
                    let low = row[i] * inverse * weight[i];
                    let high = row[i + half] * inverse * weight[i + half];
                    out[i] = low * cosine - high * sine;
                    out[i + half] = high * cosine + low * sine;
                }
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((self.batch, heads, time, width))))
    }

    fn bwd(
        &self,
        x_tensor: &Tensor,
        w_tensor: &Tensor,
        _result: &Tensor,
        grad_result: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad_result = grad_result.contiguous()?;
        let (x, w, g) = (elements(x_tensor), elements(w_tensor), elements(&grad_result));
        let (x, weight, g) = (x.slice(self.name())?, w.slice(self.name())?, g.slice(self.name())?);
        let (width, time, heads) = (weight.len(), self.time, self.heads);
        let half = width / 2;
        let (cosines, sines) = self.angles(width);
        let mut x_grad = vec![0f32; x.len()];
        let partials: Vec<Vec<f32>> = x_grad
            .par_chunks_mut(time * heads * width)
            .enumerate()
            .map(|(sequence, sequence_grad)| {
                let mut weight_grad = vec![0f32; width];
                let mut normed_grad = vec![0f32; width];
                for (index, dx) in sequence_grad.chunks_exact_mut(width).enumerate() {
                    let (t, head) = (index / heads, index % heads);
                    let start = sequence * time * heads * width + index * width;
                    let row = &x[start..start + width];
                    let g_start = ((sequence * heads + head) * time + t) * width;
                    let gradient = &g[g_start..g_start + width];
                    // The rotation is orthogonal: its backward pass is the rotation by the opposite angle.
                    for i in 0..half {
                        let (cosine, sine) = (cosines[t * half + i], sines[t * half + i]);
                        normed_grad[i] = gradient[i] * cosine + gradient[i + half] * sine;
                        normed_grad[i + half] = gradient[i + half] * cosine - gradient[i] * sine;
                    }
                    let inverse = inverse_rms(row, self.epsilon);
                    for i in 0..width {
                        weight_grad[i] += normed_grad[i] * row[i] * inverse;
                        normed_grad[i] *= weight[i];
                    }
                    let shared = dot(&normed_grad, row) * inverse * inverse * inverse / width as f32;
                    for i in 0..width {
                        dx[i] = normed_grad[i] * inverse - row[i] * shared;
                    }
                }
                weight_grad
            })
            .collect();
        let w_grad = tensor_like(sum_partials(partials, width), w_tensor)?;
        Ok((Some(tensor_like(x_grad, x_tensor)?), w_tensor.track_op().then_some(w_grad)))
    }
}
