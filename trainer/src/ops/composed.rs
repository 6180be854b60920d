//! The operations of this module made of candle's own, which have backward passes on every device that candle knows.
//!
//! Slower than the fused ones, with a dozen passes over memory each, and their obvious twins in the tests.

use super::HeadNormRotary;
use candle_core::{D, Result, Tensor};

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
    let inverse = (mean + f64::from(epsilon))?.sqrt()?.recip()?;
    x.broadcast_mul(&inverse)?.broadcast_mul(weight)
}

pub(super) fn head_norm_rotary(x: &Tensor, weight: &Tensor, how: &HeadNormRotary) -> Result<Tensor> {
    let (time, width) = (how.time, weight.elem_count());
    let half = width / 2;
    let heads = x.reshape((how.batch, time, how.heads, width))?;
    let normed = rms_norm(&heads, weight, how.epsilon)?.transpose(1, 2)?.contiguous()?;
    let (cosines, sines) = how.angles(width);
    let table = |values: Vec<f32>| Tensor::from_vec(values, (1, 1, time, half), x.device());
    let (cosine, sine) = (table(cosines)?, table(sines)?);
    let (low, high) = (normed.narrow(3, 0, half)?.contiguous()?, normed.narrow(3, half, half)?.contiguous()?);
    let turned_low = (low.broadcast_mul(&cosine)? - high.broadcast_mul(&sine)?)?;
    let turned_high = (high.broadcast_mul(&cosine)? + low.broadcast_mul(&sine)?)?;
    Tensor::cat(&[turned_low, turned_high], 3)?.contiguous()
}

pub(super) fn causal_softmax(scores: &Tensor, time: usize, scale: f32) -> Result<Tensor> {
    let planes = scores.elem_count() / (time * time).max(1);
    let hidden = |place: usize| if place % time > place / time { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..time * time).map(hidden).collect();
    let mask = Tensor::from_vec(mask, (1, time, time), scores.device())?;
    let scaled = (scores.reshape((planes, time, time))? * f64::from(scale))?.broadcast_add(&mask)?;
    let (shares, sums, _) = exponentials(&scaled)?;
    shares.broadcast_div(&sums)?.reshape(scores.shape())
}

/// `exp(x - top)` over the last dimension, its sums, and the top, which no gradient passes.
fn exponentials(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let top = x.detach().max_keepdim(D::Minus1)?;
    let shares = x.broadcast_sub(&top)?.exp()?;
    let sums = shares.sum_keepdim(D::Minus1)?;
    Ok((shares, sums, top))
}

pub(super) fn short_conv(bcx: &Tensor, taps: &Tensor, time: usize) -> Result<Tensor> {
    let (width, _, length) = taps.dims3()?;
    let rows = bcx.dim(0)?;
    let third = |index: usize| bcx.narrow(1, index * width, width)?.contiguous();
    let gated = (third(0)? * third(2)?)?.reshape((rows / time.max(1), time, width))?;
    // Each sequence starts from an empty state.
    let padded = gated.pad_with_zeros(1, length - 1, 0)?;
    let mut sum = gated.zeros_like()?;
    for tap in 0..length {
        let weight = taps.narrow(2, tap, 1)?.reshape((1, 1, width))?;
        sum = (sum + padded.narrow(1, tap, time)?.contiguous()?.broadcast_mul(&weight)?)?;
    }
    sum.reshape((rows, width))? * third(1)?
}

pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let rows = targets.len();
    let places = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    let (_, sums, top) = exponentials(logits)?;
    let wanted = logits.gather(&places, 1)?;
    ((sums.log()? + top)? - wanted)?.reshape(rows)
}

#[cfg(test)]
mod tests {
    use super::super::Ops;
    use super::*;
    use candle_core::{Device, Var};

    /// Numbers in [-1, 1) from a seed (Numerical Recipes' congruence).
    fn numbers(dims: &[usize], seed: u32) -> Var {
        let mut state = seed;
        let count = dims.iter().product();
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..count).map(next).collect();
        Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
    }

    /// Values, and the gradients of a fixed mixture of them.
    fn values_and_gradients(operands: &[Var], y: &Tensor) -> Vec<Vec<f32>> {
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let store = (y * numbers(y.dims(), 77).as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let gradients = operands.iter().map(|operand| flat(store.get(operand.as_tensor()).unwrap()));
        std::iter::once(flat(y)).chain(gradients).collect()
    }

    fn agree(operands: &[Var], operation: impl Fn(Ops, &[Var]) -> Result<Tensor>) {
        let [fused, composed] = [Ops::Fused, Ops::Composed].map(|ops| {
            let y = operation(ops, operands).unwrap();
            (y.dims().to_vec(), values_and_gradients(operands, &y))
        });
        assert_eq!(fused.0, composed.0);
        for (part, (left, right)) in fused.1.iter().zip(&composed.1).enumerate() {
            assert_eq!(left.len(), right.len());
            for (a, b) in left.iter().zip(right) {
                assert!((a - b).abs() < 2e-5 * (1.0 + a.abs()), "part {part}: fused {a}, composed {b}");
            }
        }
    }

    #[test]
    fn composed_operations_equal_the_fused_ones_in_values_and_gradients() {
        agree(&[numbers(&[7, 24], 1), numbers(&[24], 2)], |ops, x| ops.rms_norm(&x[0], &x[1], 1e-5));
        agree(&[numbers(&[9, 10], 3), numbers(&[9, 10], 4)], |ops, x| ops.swiglu(&x[0], &x[1]));
        let (batch, time, heads) = (2, 5, 3);
        let how = HeadNormRotary { batch, time, heads, theta: 10_000.0, epsilon: 1e-5 };
        agree(&[numbers(&[batch * time, heads * 8], 5), numbers(&[8], 6)], |ops, x| {
            ops.head_norm_rotary(&x[0], &x[1], how.clone())
        });
        agree(&[numbers(&[4, 2 * time, time], 7)], |ops, x| ops.causal_softmax(&x[0], time, 0.4));
        agree(&[numbers(&[batch * time, 18], 8), numbers(&[6, 1, 3], 9)], |ops, x| {
            ops.short_conv(&x[0], &x[1], time)
        });
        agree(&[numbers(&[4, 11], 10)], |ops, x| ops.cross_entropy(&x[0], vec![0, 10, 3, 3]));
    }
}
