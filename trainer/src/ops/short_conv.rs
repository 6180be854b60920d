//! The gated short convolution of LFM2: input gate, depth-wise causal convolution, output gate.
//!
//! One projection gives `B`, `C` and `x` side by side; the result is `C * conv(B * x)`. Each sequence starts from
//! an empty state, so no example sees another's.

use super::{elements, floats, sum_partials, tensor_like};
use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Operands `bcx [batch * time, 3 * width]` and `taps [width, 1, length]`; result `[batch * time, width]`.
/// Tap `length - 1` belongs to the current position.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortConv {
    /// Positions of each sequence.
    pub time: usize,
}

/// `taps [width, 1, length]` as `[length, width]`, the order in which rows are walked.
fn by_tap(taps: &[f32], width: usize, length: usize) -> Vec<f32> {
    let mut rows = vec![0f32; taps.len()];
    for channel in 0..width {
        for tap in 0..length {
            rows[tap * width + channel] = taps[channel * length + tap];
        }
    }
    rows
}

/// `B * x` for each position of one sequence, `[time, width]`.
fn gated_input(rows: &[f32], width: usize) -> Vec<f32> {
    let mut gated = vec![0f32; rows.len() / 3];
    for (out, row) in gated.chunks_exact_mut(width).zip(rows.chunks_exact(3 * width)) {
        let (b, x) = (&row[..width], &row[2 * width..]);
        for i in 0..width {
            out[i] = b[i] * x[i];
        }
    }
    gated
}

/// The convolution at position `t`, into `out`.
fn convolve(gated: &[f32], taps: &[f32], t: usize, width: usize, out: &mut [f32]) {
    let length = taps.len() / width;
    out.fill(0.0);
    for tap in 0..length {
        let Some(source) = (t + tap + 1).checked_sub(length) else { continue };
        let (input, weight) = (&gated[source * width..][..width], &taps[tap * width..][..width]);
        for i in 0..width {
            out[i] += weight[i] * input[i];
        }
    }
}

impl CustomOp2 for ShortConv {
    fn name(&self) -> &'static str {
        "short-conv"
    }

    fn cpu_fwd(
        &self,
        x_storage: &CpuStorage,
        x_layout: &Layout,
        w_storage: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bcx = floats(self.name(), x_storage, x_layout)?;
        let taps = floats(self.name(), w_storage, w_layout)?;
        let (rows, columns) = x_layout.shape().dims2()?;
        let (width, _, length) = w_layout.shape().dims3()?;
        if columns != 3 * width || rows % self.time != 0 {
            return Err(Error::Msg(format!(
                "short-conv: expected [batch * {}, {}], got [{rows}, {columns}]",
                self.time,
                3 * width
            )));
        }
        let taps = by_tap(taps, width, length);
        let mut y = vec![0f32; rows * width];
        y.par_chunks_mut(self.time * width).zip(bcx.par_chunks(self.time * columns)).for_each(
            |(out, rows)| {
                let gated = gated_input(rows, width);
                for (t, (out_row, row)) in
                    out.chunks_exact_mut(width).zip(rows.chunks_exact(columns)).enumerate()
                {
                    convolve(&gated, &taps, t, width, out_row);
                    for (value, gate) in out_row.iter_mut().zip(&row[width..2 * width]) {
                        *value *= gate;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(y), Shape::from((rows, width))))
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
        let (bcx, taps, g) = (x.slice(self.name())?, w.slice(self.name())?, g.slice(self.name())?);
        let (width, _, length) = w_tensor.dims3()?;
        let (columns, time) = (3 * width, self.time);
        let taps = by_tap(taps, width, length);
        let mut x_grad = vec![0f32; bcx.len()];
        let partials: Vec<Vec<f32>> = x_grad
            .par_chunks_mut(time * columns)
            .zip(bcx.par_chunks(time * columns))
            .zip(g.par_chunks(time * width))
            .map(|((dx, rows), gradients)| {
                let gated = gated_input(rows, width);
                let mut conv_grad = vec![0f32; time * width];
                let mut taps_grad = vec![0f32; length * width];
                let mut convolved = vec![0f32; width];
                for t in 0..time {
                    convolve(&gated, &taps, t, width, &mut convolved);
                    let gradient = &gradients[t * width..][..width];
                    let gate = &rows[t * columns + width..][..width];
                    let gate_grad = &mut dx[t * columns + width..][..width];
                    let conv_row = &mut conv_grad[t * width..][..width];
                    for i in 0..width {
                        gate_grad[i] = gradient[i] * convolved[i];
                        conv_row[i] = gradient[i] * gate[i];
                    }
                    for tap in 0..length {
                        let Some(source) = (t + tap + 1).checked_sub(length) else { continue };
                        let input = &gated[source * width..][..width];
                        let sum = &mut taps_grad[tap * width..][..width];
                        for i in 0..width {
                            sum[i] += conv_row[i] * input[i];
                        }
                    }
                }
                let mut gated_grad = vec![0f32; width];
                for t in 0..time {
                    gated_grad.fill(0.0);
                    for tap in 0..length {
                        let target = t + length - 1 - tap;
                        if target >= time {
                            continue;
                        }
                        let (conv_row, weight) =
                            (&conv_grad[target * width..][..width], &taps[tap * width..][..width]);
                        for i in 0..width {
                            gated_grad[i] += weight[i] * conv_row[i];
                        }
                    }
                    let row = &rows[t * columns..][..columns];
                    let out = &mut dx[t * columns..][..columns];
                    for i in 0..width {
                        out[i] = gated_grad[i] * row[2 * width + i];
                        out[2 * width + i] = gated_grad[i] * row[i];
                    }
                }
                taps_grad
            })
            .collect();
        let by_tap_grad = sum_partials(partials, length * width);
        let mut taps_grad = vec![0f32; length * width];
        for channel in 0..width {
            for tap in 0..length {
                taps_grad[channel * length + tap] = by_tap_grad[tap * width + channel];
            }
        }
        let taps_grad = w_tensor.track_op().then(|| tensor_like(taps_grad, w_tensor)).transpose()?;
        Ok((Some(tensor_like(x_grad, x_tensor)?), taps_grad))
    }
}
