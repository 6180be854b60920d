//! Scaled dot-product attention: one query row over a cache, and whole sequences both ways; rotary positions.
//!
//! Why here: both callers need orders of summation that do not depend on the batch. A score is one `dot` or one chain
//! over the head's dimensions; an output is one chain over the positions in order.
#![expect(unsafe_code, reason = "tiles over strided heads; bounds are checked here")]

use std::cell::RefCell;

use crate::activations::{softmax, softmax_in_place};
use crate::dots::dot_one;
use crate::lanes::{LANES, V16, at_level, level};
use crate::threads::{SharedOut, Threads};
use crate::tile::{Product, Start, load_some, product, store_some};

/// Heads of one attention layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`, and query head h reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Floats of one head.
    pub head_dim: usize,
    /// Factor on scores; commonly `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Attention of one query row over keys and values that lie in one or more segments.
///
/// `q` and `out` are `[heads * head_dim]`; each segment is a pair of keys and values, both row-major
/// `[positions, kv_heads * head_dim]`. How positions are cut into segments does not change the bits. `scores` is working
/// memory and may be reused from call to call. With no position at all the output is 0.
///
/// # Panics
/// Where a slice does not have the stated shape or `kv_heads` does not divide `heads`.
pub fn attend_row(
    q: &[f32],
    segments: &[(&[f32], &[f32])],
    shape: AttentionShape,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim, scale } = shape;
    let width = kv_heads * head_dim;
    assert!(width > 0 && heads.is_multiple_of(kv_heads), "{kv_heads} key heads for {heads} query heads");
    assert_eq!(q.len(), heads * head_dim, "q must be [{heads}, {head_dim}]");
    assert_eq!(out.len(), heads * head_dim, "out must be [{heads}, {head_dim}]");
    let mut positions = 0;
    for (keys, values) in segments {
        assert_eq!(keys.len(), values.len(), "keys and values of a segment must be of one length");
        assert!(keys.len().is_multiple_of(width), "keys must be rows of {width}");
        positions += keys.len() / width;
    }
    scores.clear();
    scores.resize(positions, 0.0);
    let at = level();
    for (head, (q_head, out_head)) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)).enumerate()
    {
        let offset = head / (heads / kv_heads) * head_dim;
        let mut first = 0;
        for (keys, _) in segments {
            let count = keys.len() / width;
            let part = &mut scores[first..first + count];
            at_level!(at, head_scores(q_head: &[f32], keys: &[f32], offset: usize, width: usize, scale: f32, part: &mut [f32]));
            first += count;
        }
        softmax_in_place(scores);
        out_head.fill(0.0);
        first = 0;
        for (_, values) in segments {
            let count = values.len() / width;
            let weights = &scores[first..first + count];
            at_level!(at, weighted_sum(weights: &[f32], values: &[f32], offset: usize, width: usize, out_head: &mut [f32]));
            first += count;
        }
    }
}

/// Scores of one head: `part[j] = scale * dot(q, keys[j, offset..])`.
///
/// # Safety
/// `keys` must hold `part.len()` rows of `width`, `offset + q.len() <= width`; the instruction set must be present.
#[inline(always)]
unsafe fn head_scores<V: V16>(
    q: &[f32],
    keys: &[f32],
    offset: usize,
    width: usize,
    scale: f32,
    part: &mut [f32],
) {
    for (j, score) in part.iter_mut().enumerate() {
        // SAFETY: row j and the head within it are in bounds by the contract.
        *score = scale * unsafe { dot_one::<V>(q.as_ptr(), keys.as_ptr().add(j * width + offset), q.len()) };
    }
}

/// `out[i] += sum over j in order of weights[j] * values[j, offset + i]`, one chain for each i.
///
/// # Safety
/// As for [`head_scores`], with `out` for `q`.
#[inline(always)]
unsafe fn weighted_sum<V: V16>(
    weights: &[f32],
    values: &[f32],
    offset: usize,
    width: usize,
    out: &mut [f32],
) {
    let count = out.len();
    let mut i = 0;
    // SAFETY: row j and lanes i up to `count` of the head are in bounds by the contract.
    unsafe {
        // Four values of lanes at a time cover a head of 64; the chain of each lane is the same at any width.
        while i + 4 * LANES <= count {
            let to = out.as_mut_ptr().add(i);
            let mut sums =
                [V::load(to), V::load(to.add(LANES)), V::load(to.add(2 * LANES)), V::load(to.add(3 * LANES))];
            for (j, &weight) in weights.iter().enumerate() {
                let from = values.as_ptr().add(j * width + offset + i);
                let factor = V::splat(weight);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = factor.mul_add(V::load(from.add(k * LANES)), *sum);
                }
            }
            for (k, sum) in sums.iter().enumerate() {
                sum.store(to.add(k * LANES));
            }
            i += 4 * LANES;
        }
        while i < count {
            let to = out.as_mut_ptr().add(i);
            let mut sums = load_some::<V>(to, count - i);
            for (j, &weight) in weights.iter().enumerate() {
                let from = values.as_ptr().add(j * width + offset + i);
                sums = V::splat(weight).mul_add(load_some(from, count - i), sums);
            }
            store_some(sums, to, count - i);
            i += LANES;
        }
    }
}

/// Attention of every position of each sequence to every position of the same sequence, for an encoder.
///
/// Sequences lie one after the other without padding; `lengths` holds their positions. `qkv` is row-major
/// `[sum of lengths, 3 * heads * head_dim]`: queries, keys and values side by side; `out` is
/// `[sum of lengths, heads * head_dim]`. A sequence has the same bits alone and beside others.
///
/// # Panics
/// Where a slice does not have the stated shape, or `kv_heads` is not `heads`.
pub fn bidirectional_attention(
    qkv: &[f32],
    lengths: &[usize],
    shape: AttentionShape,
    out: &mut [f32],
    threads: &Threads,
) {
    let AttentionShape { heads, kv_heads, head_dim, .. } = shape;
    let width = heads * head_dim;
    let total: usize = lengths.iter().sum();
    assert_eq!(kv_heads, heads, "encoders share no key heads");
    assert_eq!(qkv.len(), total * 3 * width, "qkv must be [{total}, {}]", 3 * width);
    assert_eq!(out.len(), total * width, "out must be [{total}, {width}]");
    if out.is_empty() {
        return;
    }
    let starts: Vec<usize> = lengths
        .iter()
        .scan(0, |next, &length| {
            let start = *next;
            *next += length;
            Some(start)
        })
        .collect();
    let at = level();
    let shared = SharedOut::new(out);
    threads.run(lengths.len() * heads, |part| {
        let (sequence, head) = (part / heads, part % heads);
        let (start, positions) = (starts[sequence], lengths[sequence]);
        let rows = &qkv[start * 3 * width..][..positions * 3 * width];
        // SAFETY: the head's columns of the sequence's rows, which no other part writes; in bounds as checked above.
        let to = unsafe { shared.get().add(start * width + head * head_dim) };
        SCRATCH.with_borrow_mut(|scratch| {
            at_level!(at, one_head(rows: &[f32], positions: usize, head: usize, shape: AttentionShape, scratch: &mut Vec<f32>, to: *mut f32));
        });
    });
}

thread_local! {
    /// Packed keys and values and scores of the head at work: some 90 kB at 256 positions.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Query rows whose scores are held at once: 24 rows of 256 scores are 24 KiB.
const ROWS_AT_ONCE: usize = 24;

/// One head of one sequence of [`bidirectional_attention`]; `out` is the head's first column.
///
/// # Safety
/// Shapes as checked there; `out` must have `positions` rows, `heads * head_dim` floats apart; the instruction set of `V` must be present.
#[inline(always)]
unsafe fn one_head<V: V16>(
    qkv: &[f32],
    positions: usize,
    head: usize,
    shape: AttentionShape,
    scratch: &mut Vec<f32>,
    out: *mut f32,
) {
    let AttentionShape { heads, head_dim, scale, .. } = shape;
    let width = heads * head_dim;
    let (key_panels, value_panels) = (positions.div_ceil(LANES), head_dim.div_ceil(LANES));
    let (key_floats, value_floats) = (key_panels * head_dim * LANES, value_panels * positions * LANES);
    // What is left from another head is overwritten, or lies in columns that are computed and dropped.
    scratch.resize(scratch.len().max(key_floats + value_floats + ROWS_AT_ONCE * positions), 0.0);
    let (keys, rest) = scratch.split_at_mut(key_floats);
    let (values, scores) = rest.split_at_mut(value_floats);
    // Panels of sixteen keys; the scale is put on the keys here, once, instead of on every score.
    for (j, row) in qkv.chunks_exact(3 * width).enumerate() {
        let key = &row[width + head * head_dim..][..head_dim];
        let panel = &mut keys[j / LANES * head_dim * LANES..][..head_dim * LANES];
        for (entry, &value) in panel.chunks_exact_mut(LANES).zip(key) {
            entry[j % LANES] = value * scale;
        }
        let value = &row[2 * width + head * head_dim..][..head_dim];
        for (p, part) in value.chunks(LANES).enumerate() {
            values[(p * positions + j) * LANES..][..part.len()].copy_from_slice(part);
        }
    }
    let mut row = 0;
    while row < positions {
        let rows = ROWS_AT_ONCE.min(positions - row);
        // SAFETY: scores hold `rows` of `positions`; queries and outputs are the head's columns of rows `row ..
        // row + rows`; the panels are those just written.
        unsafe {
            product::<V, f32>(Product {
                a: qkv.as_ptr().add(row * 3 * width + head * head_dim),
                a_row_stride: 3 * width,
                depth: head_dim,
                b: keys.as_ptr(),
                b_panel_stride: head_dim * LANES,
                b_depth_stride: LANES,
                c: scores.as_mut_ptr(),
                c_row_stride: positions,
                rows,
                columns: positions,
                start: Start::Zero,
            });
            for part in scores[..rows * positions].chunks_exact_mut(positions) {
                softmax::<V>(part);
            }
            product::<V, f32>(Product {
                a: scores.as_ptr(),
                a_row_stride: positions,
                depth: positions,
                b: values.as_ptr(),
                b_panel_stride: positions * LANES,
                b_depth_stride: LANES,
                c: out.add(row * width),
                c_row_stride: width,
                rows,
                columns: head_dim,
                start: Start::Zero,
            });
        }
        row += rows;
    }
}

/// Rotates one head by its position, the halves of the head being the two coordinates (the convention of GPT-NeoX and
/// of Hugging Face models; Su et al., arXiv:2104.09864): `x1 cos - x2 sin`, `x2 cos + x1 sin`.
///
/// `cos` and `sin` hold half as many floats as `head`.
///
/// # Panics
/// Where the lengths do not fit.
pub fn rotate_half_in_place(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    assert_eq!(head.len(), 2 * half, "cos must hold half a head");
    assert_eq!(sin.len(), half, "sin must hold half a head");
    let (first, second) = head.split_at_mut(half);
    for i in 0..half {
        let (x1, x2) = (first[i], second[i]);
        first[i] = x1 * cos[i] - x2 * sin[i];
        second[i] = x2 * cos[i] + x1 * sin[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use proptest::prelude::*;

    /// Attention in f64, said plainly.
    fn twin(q: &[f32], keys: &[f32], values: &[f32], shape: AttentionShape) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim, scale } = shape;
        let width = kv_heads * head_dim;
        let mut out = Vec::new();
        for head in 0..heads {
            let offset = head / (heads / kv_heads) * head_dim;
            let q_head = &q[head * head_dim..][..head_dim];
            let powers: Vec<f64> = keys
                .chunks(width)
                .map(|k| {
                    let score: f64 =
                        q_head.iter().zip(&k[offset..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    (score * f64::from(scale)).exp()
                })
                .collect();
            let sum: f64 = powers.iter().sum();
            for i in 0..head_dim {
                let value = |(p, v): (&f64, &[f32])| p / sum * f64::from(v[offset + i]);
                out.push(powers.iter().zip(values.chunks(width)).map(value).sum());
            }
        }
        out
    }

    fn close(got: &[f32], exact: &[f64]) -> bool {
        got.len() == exact.len() && got.iter().zip(exact).all(|(&a, &b)| (f64::from(a) - b).abs() < 3e-6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn one_row_equals_its_twin_however_the_cache_is_cut(
            positions in 1usize..40, cut in 0usize..40, kv_heads in 1usize..3, group in 1usize..4,
            head_dim in 1usize..80, seed: u64,
        ) {
            let shape = AttentionShape { heads: kv_heads * group, kv_heads, head_dim, scale: 0.3 };
            let width = kv_heads * head_dim;
            let q = numbers(shape.heads * head_dim, seed);
            let keys = numbers(positions * width, seed ^ 1);
            let values = numbers(positions * width, seed ^ 2);
            let (mut whole, mut parts) = (vec![9.0; q.len()], vec![9.0; q.len()]);
            let mut scores = Vec::new();
            attend_row(&q, &[(&keys, &values)], shape, &mut scores, &mut whole);
            let at = cut.min(positions) * width;
            let segments = [(&keys[..at], &values[..at]), (&keys[at..], &values[at..])];
            attend_row(&q, &segments, shape, &mut scores, &mut parts);
            prop_assert_eq!(&whole, &parts);
            prop_assert!(close(&whole, &twin(&q, &keys, &values, shape)));
        }

        #[test]
        fn sequences_equal_their_twin_alone_and_beside_others(
            lengths in proptest::collection::vec(1usize..60, 1..4), heads in 1usize..4, head_dim in 1usize..40,
            seed: u64,
        ) {
            let shape = AttentionShape { heads, kv_heads: heads, head_dim, scale: 0.4 };
            let width = heads * head_dim;
            let total: usize = lengths.iter().sum();
            let qkv = numbers(total * 3 * width, seed);
            let mut out = vec![9.0; total * width];
            bidirectional_attention(&qkv, &lengths, shape, &mut out, &Threads::new(2));
            let mut start = 0;
            for length in lengths {
                let rows = &qkv[start * 3 * width..][..length * 3 * width];
                let got = &out[start * width..][..length * width];
                let mut alone = vec![9.0; length * width];
                bidirectional_attention(rows, &[length], shape, &mut alone, &Threads::new(1));
                prop_assert_eq!(&alone, got);
                let column = |i: usize| -> Vec<f32> {
                    rows.chunks(3 * width).flat_map(|row| row[i * width..][..width].iter().copied()).collect()
                };
                let (q, keys, values) = (column(0), column(1), column(2));
                for (row, got_row) in q.chunks(width).zip(got.chunks(width)) {
                    prop_assert!(close(got_row, &twin(row, &keys, &values, shape)));
                }
                start += length;
            }
        }
    }

    #[test]
    fn rotation_keeps_length_and_turns() {
        let mut head = [3.0, 0.0, 4.0, 1.0];
        rotate_half_in_place(&mut head, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(head, [-4.0, 0.0, 3.0, 1.0]);
    }

    #[test]
    fn nothing_to_attend_to_is_zero() {
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 2, scale: 1.0 };
        let mut out = [5.0; 2];
        attend_row(&[1.0, 2.0], &[], shape, &mut Vec::new(), &mut out);
        assert_eq!(out, [0.0, 0.0]);
    }
}
