//! Exponential, softmax, SiLU and GELU.
//!
//! Why here: the standard library's `exp` is scalar and its bits depend on the platform's C library. The one below is
//! a fixed sequence of lane-wise operations, so a value has the same bits wherever it stands in a slice; tails are
//! padded to sixteen lanes, never computed by other means. `tile` shares the partial loads.
#![expect(unsafe_code, reason = "vector loops over slices; bounds are checked here")]

use crate::lanes::{LANES, Level, V16, at_level, level};
use crate::tile::{load_some, store_some};

/// `exp(x)`: the same bits as [`exp_in_place`] gives.
pub fn exp(x: f32) -> f32 {
    let mut one = [x];
    exp_in_place(&mut one);
    one[0]
}

/// Replaces each value by its exponential: within 1.5 units in the last place; infinity above 88.73, 0 below -103.98, NaN
/// for NaN.
pub fn exp_in_place(values: &mut [f32]) {
    exp_at(level(), values);
}

pub(crate) fn exp_at(at: Level, values: &mut [f32]) {
    at_level!(at, exp_all(values: &mut [f32]))
}

/// Softmax over the whole slice: `exp(x - max) / sum`, the sum in sixteen interleaved partial sums. An empty slice
/// stays empty. Entries of negative infinity become 0, provided that one entry is finite.
pub fn softmax_in_place(values: &mut [f32]) {
    softmax_at(level(), values);
}

pub(crate) fn softmax_at(at: Level, values: &mut [f32]) {
    at_level!(at, softmax(values: &mut [f32]))
}

/// `gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i]`: the product of a SwiGLU, in place of its gate.
///
/// # Panics
/// Where the lengths differ.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    silu_mul_at(level(), gate, up);
}

pub(crate) fn silu_mul_at(at: Level, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up must be of one length");
    at_level!(at, silu_mul_all(gate: &mut [f32], up: &[f32]))
}

/// Replaces each x by `x/2 (1 + erf(x / sqrt 2))`, the exact form of GELU, within 1e-6.
pub fn gelu_in_place(values: &mut [f32]) {
    gelu_at(level(), values);
}

pub(crate) fn gelu_at(at: Level, values: &mut [f32]) {
    at_level!(at, gelu_all(values: &mut [f32]))
}

/// Replaces the values sixteen at a time. A macro, because a closure would not be compiled with the instruction set of
/// the function around it.
macro_rules! map {
    ($V:ident, $values:expr, |$x:ident| $body:expr) => {
        let (pointer, count) = ($values.as_mut_ptr(), $values.len());
        for i in (0..count).step_by(LANES) {
            let at = pointer.add(i);
            let $x = load_some::<$V>(at, count - i);
            store_some::<$V>($body, at, count - i);
        }
    };
}

/// Sixteen exponentials.
///
/// exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2; exp(r) by its Taylor series to r^7, whose
/// remainder is below 6e-9 of the value. 2^n is applied in two factors, so that results near overflow and below the
/// normal range come out right.
///
/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
pub(crate) unsafe fn exp16<V: V16>(x: V) -> V {
    /// 1.5 * 2^23: adding and subtracting it rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1/7! down to 1/0!.
    const SERIES: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0, 1.0, 1.0];
    // SAFETY: the caller answers for the instruction set.
    unsafe {
        let round = V::splat(ROUND);
        // Beyond these the result is infinite or 0 anyway, and 2^n stays within two factors.
        let bounded = x.at_least(V::splat(-104.0)).at_most(V::splat(88.8));
        let n = bounded.mul_add(V::splat(std::f32::consts::LOG2_E), round).sub(round);
        let coarse = n.mul_add(V::splat(-LN2_HIGH), bounded);
        let r = n.mul_add(V::splat(-LN2_LOW), coarse);
        let mut sum = V::splat(SERIES[0]);
        for coefficient in &SERIES[1..] {
            sum = sum.mul_add(r, V::splat(*coefficient));
        }
        let half = n.mul_add(V::splat(0.5), round).sub(round);
        sum.mul(half.two_to_the()).mul(n.sub(half).two_to_the())
    }
}

/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
unsafe fn exp_all<V: V16>(values: &mut [f32]) {
    // SAFETY: the caller answers for the instruction set.
    unsafe {
        map!(V, values, |x| exp16(x));
    }
}

/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
pub(crate) unsafe fn softmax<V: V16>(values: &mut [f32]) {
    let (pointer, count) = (values.as_mut_ptr(), values.len());
    // SAFETY: all loads and stores stay below `count`; the caller answers for the instruction set.
    unsafe {
        let whole = count - count % LANES;
        let mut largest = f32::NEG_INFINITY;
        if whole > 0 {
            let mut lanes = V::load(pointer);
            for i in (LANES..whole).step_by(LANES) {
                lanes = lanes.at_least(V::load(pointer.add(i)));
            }
            largest = lanes.largest();
        }
        for &x in &values[whole..] {
            largest = if x > largest { x } else { largest };
        }
        let shift = V::splat(largest);
        let mut sums = V::splat(0.0);
        for i in (0..count).step_by(LANES) {
            let at = pointer.add(i);
            let mut power = exp16(load_some::<V>(at, count - i).sub(shift));
            store_some(power, at, count - i);
            if count - i < LANES {
                // Lanes past the end hold exp(0 - max); load again so that they hold 0.
                power = load_some::<V>(at, count - i);
            }
            sums = sums.add(power);
        }
        let scale = V::splat(1.0 / sums.sum());
        map!(V, values, |x| x.mul(scale));
    }
}

/// # Safety
/// The instruction set of `V` must be present, and the slices of one length.
#[inline(always)]
unsafe fn silu_mul_all<V: V16>(gate: &mut [f32], up: &[f32]) {
    let (pointer, count) = (gate.as_mut_ptr(), gate.len());
    // SAFETY: all loads and stores stay below `count`, which is the length of both.
    unsafe {
        let one = V::splat(1.0);
        for i in (0..count).step_by(LANES) {
            let x = load_some::<V>(pointer.add(i), count - i);
            let y = load_some::<V>(up.as_ptr().add(i), count - i);
            let damped = x.div(exp16(V::splat(0.0).sub(x)).add(one));
            store_some(damped.mul(y), pointer.add(i), count - i);
        }
    }
}

/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
unsafe fn gelu_all<V: V16>(values: &mut [f32]) {
    // SAFETY: the caller answers for the instruction set.
    unsafe {
        map!(V, values, |x| gelu16(x));
    }
}

/// Sixteen GELUs: max(x, 0) - |x| erfc(|x| / sqrt 2) / 2.
///
/// erfc by formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions: a polynomial in
/// t = 1 / (1 + p z) times exp(-z^2), within 1.5e-7.
///
/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
unsafe fn gelu16<V: V16>(x: V) -> V {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    // SAFETY: the caller answers for the instruction set.
    unsafe {
        let zero = V::splat(0.0);
        // erfc is 0 in f32 from here on; the bound keeps infinity from meeting it.
        let size = x.at_least(zero.sub(x)).at_most(V::splat(64.0));
        let z = size.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = V::splat(1.0).div(z.mul_add(V::splat(P), V::splat(1.0)));
        let mut sum = V::splat(A[0]);
        for coefficient in &A[1..] {
            sum = sum.mul_add(t, V::splat(*coefficient));
        }
        let decay = exp16(zero.sub(z).mul(z));
        let half_erfc = sum.mul(t).mul(decay).mul(V::splat(0.5));
        zero.sub(size).mul_add(half_erfc, x.at_least(zero))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{available_levels, numbers};

    /// erf(x) by its Maclaurin series, in f64; good to 1e-12 for |x| < 5.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn exp_is_within_two_units_of_the_last_place() {
        for at in available_levels() {
            let points: Vec<f32> = (-103_000..88_700).map(|i| i as f32 * 1e-3 + 3e-5).collect();
            let mut values = points.clone();
            exp_at(at, &mut values);
            for (&x, &y) in points.iter().zip(&values) {
                let exact = f64::from(x).exp();
                let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                let off = (f64::from(y) - exact).abs() / unit;
                assert!(off <= 1.5, "exp({x}) = {y}, {off} units off at {at:?}");
            }
        }
    }

    #[test]
    fn exp_at_the_edges() {
        for at in available_levels() {
            let mut v = [f32::NEG_INFINITY, -200.0, -0.0, 0.0, 89.0, f32::INFINITY, f32::NAN];
            exp_at(at, &mut v);
            assert_eq!(v[..6], [0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]);
            assert!(v[6].is_nan());
        }
    }

    #[test]
    fn a_value_has_the_same_bits_wherever_it_stands() {
        for at in available_levels() {
            let points: Vec<f32> = numbers(53, 7).iter().map(|x| x * 9.0).collect();
            let ones = vec![1.0; 53];
            let (mut a, mut b, mut c) = (points.clone(), points.clone(), points.clone());
            exp_at(at, &mut a);
            gelu_at(at, &mut b);
            silu_mul_at(at, &mut c, &ones);
            for (i, &x) in points.iter().enumerate() {
                let (mut e, mut g, mut s) = ([x], [x], [x]);
                exp_at(at, &mut e);
                gelu_at(at, &mut g);
                silu_mul_at(at, &mut s, &[1.0]);
                assert_eq!([e[0], g[0], s[0]], [a[i], b[i], c[i]]);
            }
        }
    }

    #[test]
    fn gelu_is_exact_to_a_millionth() {
        for at in available_levels() {
            let points: Vec<f32> = (-6000..6000).map(|i| i as f32 * 1e-3).collect();
            let mut values = points.clone();
            gelu_at(at, &mut values);
            for (&x, &y) in points.iter().zip(&values) {
                let exact = f64::from(x) / 2.0 * (1.0 + erf(f64::from(x) / 2f64.sqrt()));
                assert!((f64::from(y) - exact).abs() < 1e-6, "gelu({x}) = {y}, not {exact}");
            }
            let mut far = [f32::NEG_INFINITY, -100.0, 100.0, f32::INFINITY];
            gelu_at(at, &mut far);
            assert_eq!(far, [0.0, 0.0, 100.0, f32::INFINITY]);
        }
    }

    #[test]
    fn softmax_equals_its_twin_at_every_length() {
        for at in available_levels() {
            for count in 0..70 {
                let points: Vec<f32> = numbers(count, count as u64).iter().map(|x| x * 20.0 - 50.0).collect();
                let mut values = points.clone();
                softmax_at(at, &mut values);
                let top = points.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
                let sum: f64 = points.iter().map(|&x| (f64::from(x) - top).exp()).sum();
                for (&x, &y) in points.iter().zip(&values) {
                    assert!((f64::from(y) - (f64::from(x) - top).exp() / sum).abs() < 1e-6);
                }
            }
            let mut masked = [1.0, f32::NEG_INFINITY, 1.0];
            softmax_at(at, &mut masked);
            assert_eq!(masked, [0.5, 0.0, 0.5]);
        }
    }

    #[test]
    fn silu_mul_equals_its_twin() {
        for at in available_levels() {
            let x: Vec<f32> = numbers(41, 1).iter().map(|x| x * 30.0).collect();
            let up = numbers(41, 2);
            let mut out = x.clone();
            silu_mul_at(at, &mut out, &up);
            for i in 0..41 {
                let exact = f64::from(x[i]) / (1.0 + (-f64::from(x[i])).exp()) * f64::from(up[i]);
                assert!((f64::from(out[i]) - exact).abs() < 4e-6);
            }
        }
    }
}
