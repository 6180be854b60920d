//! RMS and layer normalisation over the last dimension.
//!
//! Why here: sums go through `dots`, so a row has the same bits in any batch.

use crate::dots::{add_in_place, dot, sum};
use crate::threads::Threads;

/// Rows of one task. Fewer than two tasks are done by the caller: that is sooner done than shared out.
const ROWS_PER_TASK: usize = 16;

/// `out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight`, for rows of `weight.len()` (Zhang and Sennrich,
/// arXiv:1910.07467).
///
/// # Panics
/// Where `x` is not a whole number of rows or `out` not of its length.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], threads: &Threads) {
    let width = weight.len();
    assert_eq!(x.len(), out.len(), "x and out must be of one length");
    assert!(width > 0 && x.len().is_multiple_of(width), "x must be rows of {width}");
    threads.run_chunks(out, ROWS_PER_TASK * width, |first, part| {
        for (to, row) in part.chunks_exact_mut(width).zip(x[first..].chunks_exact(width)) {
            norm_row(row, weight, eps, to);
        }
    });
}

/// `x[r] += delta[r]`, and then [`rms_norm`] of the sum in place of `delta`: the end of one residual branch and the
/// beginning of the next in one pass over both.
///
/// # Panics
/// Where `x` is not a whole number of rows or `delta` not of its length.
pub fn add_rms_norm(x: &mut [f32], delta: &mut [f32], weight: &[f32], eps: f32, threads: &Threads) {
    let width = weight.len();
    assert_eq!(x.len(), delta.len(), "x and delta must be of one length");
    assert!(width > 0 && x.len().is_multiple_of(width), "x must be rows of {width}");
    threads.run_chunk_pairs(x, delta, ROWS_PER_TASK * width, |sums, parts| {
        for (row, part) in sums.chunks_exact_mut(width).zip(parts.chunks_exact_mut(width)) {
            add_in_place(row, part);
            norm_row(row, weight, eps, part);
        }
    });
}

fn norm_row(row: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = inverse_rms(row, eps);
    for ((to, value), w) in out.iter_mut().zip(row).zip(weight) {
        *to = *value * scale * w;
    }
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

/// [`rms_norm`] in place, by the caller alone.
///
/// # Panics
/// Where `x` is not a whole number of rows.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "x must be rows of {width}");
    for row in x.chunks_exact_mut(width) {
        let scale = inverse_rms(row, eps);
        for (value, w) in row.iter_mut().zip(weight) {
            *value = *value * scale * w;
        }
    }
}

/// `x[r] = (x[r] - mean) / sqrt(variance + eps) * weight + bias`, for rows of `weight.len()`, the variance that of
/// the population (Ba, Kiros and Hinton, arXiv:1607.06450).
///
/// # Panics
/// Where `x` is not a whole number of rows or `bias` not of the length of `weight`.
pub fn layer_norm_in_place(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "x must be rows of {width}");
    assert_eq!(bias.len(), width, "bias must hold {width} floats");
    for row in x.chunks_exact_mut(width) {
        let mean = sum(row) / width as f32;
        for value in row.iter_mut() {
            *value -= mean;
        }
        let scale = 1.0 / (dot(row, row) / width as f32 + eps).sqrt();
        for ((value, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *value = *value * scale * w + b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rms_norm_equals_its_twin() {
        let (x, weight) = (numbers(3 * 37, 1), numbers(37, 2));
        let mut out = vec![0.0; x.len()];
        rms_norm(&x, &weight, 1e-5, &mut out, &Threads::new(1));
        for (row, got) in x.chunks(37).zip(out.chunks(37)) {
            let mean: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 37.0;
            for i in 0..37 {
                let exact = f64::from(row[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                assert!((f64::from(got[i]) - exact).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn adding_and_threads_change_no_bit() {
        for rows in [1, 3, 16, 17, 70] {
            let (x, delta, weight) = (numbers(rows * 37, 1), numbers(rows * 37, 2), numbers(37, 3));
            let sums: Vec<f32> = x.iter().zip(&delta).map(|(a, b)| a + b).collect();
            let mut normed = sums.clone();
            normed.chunks_mut(37).for_each(|row| rms_norm_in_place(row, &weight, 1e-5));
            for threads in [1, 3] {
                let pool = Threads::new(threads);
                let (mut to, mut part) = (x.clone(), delta.clone());
                add_rms_norm(&mut to, &mut part, &weight, 1e-5, &pool);
                assert_eq!((&to, &part), (&sums, &normed));
                rms_norm(&sums, &weight, 1e-5, &mut to, &pool);
                assert_eq!(to, normed);
            }
        }
    }

    #[test]
    fn layer_norm_equals_its_twin_and_a_row_alone() {
        let (x, weight, bias) = (numbers(3 * 50, 1), numbers(50, 2), numbers(50, 3));
        let mut out = x.clone();
        layer_norm_in_place(&mut out, &weight, &bias, 1e-12);
        for (row, got) in x.chunks(50).zip(out.chunks(50)) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 50.0;
            let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 50.0;
            let mut alone = row.to_vec();
            layer_norm_in_place(&mut alone, &weight, &bias, 1e-12);
            assert_eq!(alone, got);
            for i in 0..50 {
                let exact =
                    (f64::from(row[i]) - mean) / variance.sqrt() * f64::from(weight[i]) + f64::from(bias[i]);
                assert!((f64::from(got[i]) - exact).abs() < 2e-6);
            }
        }
    }
}
