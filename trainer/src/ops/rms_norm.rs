//! Root-mean-square norm over the last dimension (arXiv 1910.07467), scaled by a learned weight.

use super::{ROWS_PER_TASK, dot, elements, floats, sum_partials, tensor_like};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `y = x / sqrt(mean(x^2) + epsilon) * weight`; operands `x [.., width]` and `weight [width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RmsNorm {
    /// Added to the mean square.
    pub epsilon: f32,
}

/// `1 / sqrt(mean(x^2) + epsilon)` of one row.
pub(super) fn inverse_rms(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
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
        let width = weight.len();
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(width * ROWS_PER_TASK).zip(x.par_chunks(width * ROWS_PER_TASK)).for_each(
            |(y_rows, x_rows)| {
                for (y_row, x_row) in y_rows.chunks_exact_mut(width).zip(x_rows.chunks_exact(width)) {
                    let inverse = inverse_rms(x_row, self.epsilon);
                    for ((out, value), scale) in y_row.iter_mut().zip(x_row).zip(weight) {
                        *out = value * inverse * scale;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
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
        let width = weight.len();
        let chunk = width * ROWS_PER_TASK;
        let mut x_grad = vec![0f32; x.len()];
        let partials: Vec<Vec<f32>> = x_grad
            .par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk))
            .zip(g.par_chunks(chunk))
            .map(|((x_grad_rows, x_rows), g_rows)| {
                let mut weight_grad = vec![0f32; width];
                let mut scaled = vec![0f32; width];
                for ((dx, row), gradient) in x_grad_rows
                    .chunks_exact_mut(width)
                    .zip(x_rows.chunks_exact(width))
                    .zip(g_rows.chunks_exact(width))
                {
                    let inverse = inverse_rms(row, self.epsilon);
                    for i in 0..width {
                        scaled[i] = gradient[i] * weight[i];
                        weight_grad[i] += gradient[i] * row[i] * inverse;
                    }
                    let shared = dot(&scaled, row) * inverse * inverse * inverse / width as f32;
                    for i in 0..width {
                        dx[i] = scaled[i] * inverse - row[i] * shared;
                    }
                }
                weight_grad
            })
            .collect();
        let w_grad = tensor_like(sum_partials(partials, width), w_tensor)?;
        Ok((Some(tensor_like(x_grad, x_tensor)?), w_tensor.track_op().then_some(w_grad)))
    }
}
