//! Causal attention of some rows of one sequence over a cache of keys and values.
//!
//! Why here: a decoding step has one row for each sequence and a prompt has many, and both must give the same bits. So
//! both use the outer products of `tile`: a score is one chain over the head's dimensions, an output one chain over the
//! positions in order, whatever the number of rows. For that, keys lie in panels of sixteen positions, and values in
//! rows whose heads are padded to sixteen; [`push_position`] writes both.
#![expect(unsafe_code, reason = "tiles over strided heads; bounds are checked here")]

use std::ops::Range;

use crate::activations::softmax;
use crate::attention::AttentionShape;
use crate::lanes::{LANES, V16, at_level, level};
use crate::tile::{Product, Start, product};

/// A run of consecutive positions of a cache, as [`push_position`] lays them out.
#[derive(Clone, Copy, Debug)]
pub struct CacheSegment<'a> {
    /// `[panels, kv_heads, head_dim, 16]`: sixteen positions a panel, the last one padded.
    pub keys: &'a [f32],
    /// `[positions, kv_heads, head_dim rounded up to 16]`.
    pub values: &'a [f32],
    /// Positions to use; the slices may hold more.
    pub positions: usize,
}

/// Floats of the keys of sixteen positions, and of the values of one.
fn widths(shape: &AttentionShape) -> (usize, usize) {
    (shape.kv_heads * shape.head_dim * LANES, shape.kv_heads * shape.head_dim.next_multiple_of(LANES))
}

/// Adds one position to a segment that holds `positions` so far: `key` and `value` are `[kv_heads * head_dim]`.
///
/// # Panics
/// Where a slice does not have the stated length, or `keys` and `values` do not hold `positions`.
pub fn push_position(
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
    positions: usize,
    shape: &AttentionShape,
    key: &[f32],
    value: &[f32],
) {
    let (panel_floats, value_floats) = widths(shape);
    let width = shape.kv_heads * shape.head_dim;
    assert!(key.len() == width && value.len() == width, "key and value must be [{width}]");
    assert_eq!(keys.len(), positions.div_ceil(LANES) * panel_floats, "keys must hold {positions} positions");
    assert_eq!(values.len(), positions * value_floats, "values must hold {positions} positions");
    if positions.is_multiple_of(LANES) {
        keys.resize(keys.len() + panel_floats, 0.0);
    }
    let panel = &mut keys[positions / LANES * panel_floats..];
    for (line, number) in panel.chunks_exact_mut(LANES).zip(key) {
        line[positions % LANES] = *number;
    }
    for head in value.chunks_exact(shape.head_dim) {
        values.extend_from_slice(head);
        values.resize(values.len().next_multiple_of(LANES), 0.0);
    }
}

/// Attention of the last `rows` positions of a cache, each over all positions up to its own, by the query heads of some
/// key heads.
///
/// `q` holds `rows` rows of all query heads, `q_row_stride` floats apart; `out` those of `kv_heads` alone, row by row. The
/// segments are all positions, oldest first, those of the rows themselves at the end. The same bits for a head of a row
/// whatever is asked for beside it, and however positions are cut into segments.
///
/// # Panics
/// Where a slice does not have the stated shape, the shape's `kv_heads` does not divide its `heads`, `kv_heads` reaches
/// beyond them, or there are fewer positions than rows.
pub fn attend_rows(
    q: &[f32],
    q_row_stride: usize,
    rows: usize,
    segments: &[CacheSegment<'_>],
    shape: &AttentionShape,
    kv_heads: Range<usize>,
    out: &mut [f32],
) {
    if rows == 0 || kv_heads.is_empty() {
        return;
    }
    assert!(
        shape.head_dim > 0 && shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "{} key heads of {} floats for {} query heads",
        shape.kv_heads,
        shape.head_dim,
        shape.heads
    );
    assert!(kv_heads.end <= shape.kv_heads, "key heads up to {} of {}", kv_heads.end, shape.kv_heads);
    let group = shape.heads / shape.kv_heads;
    let all = shape.heads * shape.head_dim;
    assert!(all <= q_row_stride && (rows - 1) * q_row_stride + all <= q.len(), "q must hold {rows} rows");
    let width = kv_heads.len() * group * shape.head_dim;
    assert_eq!(out.len(), rows * width, "out must be [{rows}, {width}]");
    let (panel_floats, value_floats) = widths(shape);
    let mut positions = 0;
    for segment in segments {
        let panels = segment.positions.div_ceil(LANES);
        assert!(
            panels * panel_floats <= segment.keys.len(),
            "keys must hold {} positions",
            segment.positions
        );
        let values = segment.positions * value_floats;
        assert!(values <= segment.values.len(), "values must hold {} positions", segment.positions);
        positions += segment.positions;
    }
    assert!(rows <= positions, "{rows} rows at the end of {positions} positions");
    let mut scratch = vec![0.0; rows * width + group * rows * positions];
    let (scaled, scores) = scratch.split_at_mut(rows * width);
    let first_query = kv_heads.start * group * shape.head_dim;
    for (to, from) in scaled.chunks_exact_mut(width).zip(q.chunks(q_row_stride)) {
        for (a, b) in to.iter_mut().zip(&from[first_query..]) {
            *a = b * shape.scale;
        }
    }
    let at = level();
    for head in kv_heads.enumerate() {
        at_level!(at, one_kv_head(scaled: &[f32], rows: usize, head: (usize, usize), segments: &[CacheSegment<'_>], shape: &AttentionShape, scores: &mut [f32], out: &mut [f32]));
    }
}

/// All query heads of one key head, which is at `place` among those of `scaled` and `out`.
///
/// # Safety
/// `scaled` and `out` must be `[rows, query heads * head_dim]`, `scores` `[heads / kv_heads * rows, positions]`, the segments
/// as [`attend_rows`] checks them; the instruction set of `V` must be present.
#[inline(always)]
unsafe fn one_kv_head<V: V16>(
    scaled: &[f32],
    rows: usize,
    (place, kv_head): (usize, usize),
    segments: &[CacheSegment<'_>],
    shape: &AttentionShape,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim, .. } = *shape;
    let (panel_floats, value_floats) = widths(shape);
    let (width, group) = (scaled.len() / rows, heads / kv_heads);
    let positions = scores.len() / (group * rows);
    // A product takes rows at one stride: all rows of a query head, or, for a single row, all query heads.
    let (products, count, row_stride) = if rows == 1 { (1, group, head_dim) } else { (group, rows, width) };
    let first_query = place * group * head_dim;
    for index in 0..products {
        let query = first_query + index * head_dim;
        let mut first = 0;
        for segment in segments {
            // SAFETY: query heads, panels and scores are in bounds by the contract; a segment writes
            // `segment.positions` scores of each row from `first` on, which add up to `positions`.
            unsafe {
                product::<V, f32>(Product {
                    a: scaled.as_ptr().add(query),
                    a_row_stride: row_stride,
                    depth: head_dim,
                    b: segment.keys.as_ptr().add(kv_head * head_dim * LANES),
                    b_panel_stride: panel_floats,
                    b_depth_stride: LANES,
                    c: scores.as_mut_ptr().add(index * count * positions + first),
                    c_row_stride: positions,
                    rows: count,
                    columns: segment.positions,
                    start: Start::Zero,
                });
            }
            first += segment.positions;
        }
    }
    for (index, line) in scores.chunks_exact_mut(positions).enumerate() {
        let row = if rows == 1 { 0 } else { index % rows };
        let (seen, unseen) = line.split_at_mut(positions - (rows - 1 - row));
        // SAFETY: the caller answers for the instruction set.
        unsafe { softmax::<V>(seen) };
        unseen.fill(0.0);
    }
    for index in 0..products {
        let query = first_query + index * head_dim;
        let mut first = 0;
        for segment in segments {
            // SAFETY: weights and values are in bounds by the contract; a head of values is padded to whole panels;
            // rows of `out` do not overlap, and `head_dim` columns of each are written.
            unsafe {
                product::<V, f32>(Product {
                    a: scores.as_ptr().add(index * count * positions + first),
                    a_row_stride: positions,
                    depth: segment.positions,
                    b: segment.values.as_ptr().add(kv_head * head_dim.next_multiple_of(LANES)),
                    b_panel_stride: LANES,
                    b_depth_stride: value_floats,
                    c: out.as_mut_ptr().add(query),
                    c_row_stride: row_stride,
                    rows: count,
                    columns: head_dim,
                    start: if first == 0 { Start::Zero } else { Start::Output },
                });
            }
            first += segment.positions;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use proptest::prelude::*;

    /// Attention of the row at `position` in f64, said plainly; keys and values are `[positions, kv_heads * head_dim]`.
    fn twin(q: &[f32], keys: &[f32], values: &[f32], position: usize, shape: &AttentionShape) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim, scale } = *shape;
        let width = kv_heads * head_dim;
        let mut out = Vec::new();
        for head in 0..heads {
            let offset = head / (heads / kv_heads) * head_dim;
            let at = |rows: &[f32], j: usize, i: usize| f64::from(rows[j * width + offset + i]);
            let score = |j| -> f64 {
                (0..head_dim).map(|i| f64::from(q[head * head_dim + i]) * at(keys, j, i)).sum()
            };
            let powers: Vec<f64> = (0..=position).map(|j| (score(j) * f64::from(scale)).exp()).collect();
            let total: f64 = powers.iter().sum();
            out.extend((0..head_dim).map(|i| -> f64 {
                powers.iter().enumerate().map(|(j, power)| power / total * at(values, j, i)).sum()
            }));
        }
        out
    }

    /// The cache of positions `range`.
    fn cache(
        keys: &[f32],
        values: &[f32],
        range: std::ops::Range<usize>,
        shape: &AttentionShape,
    ) -> (Vec<f32>, Vec<f32>) {
        let width = shape.kv_heads * shape.head_dim;
        let (mut panels, mut padded) = (Vec::new(), Vec::new());
        for (count, position) in range.enumerate() {
            let at = position * width..(position + 1) * width;
            push_position(&mut panels, &mut padded, count, shape, &keys[at.clone()], &values[at]);
        }
        (panels, padded)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn rows_equal_their_twin_and_themselves_however_cut(
            positions in 1usize..60, cut in 0usize..60, together in 1usize..20, kv_heads in 1usize..3,
            group in 1usize..5, head_dim in 1usize..50, seed: u64,
        ) {
            let shape = AttentionShape { heads: kv_heads * group, kv_heads, head_dim, scale: 0.3 };
            let (width, q_width) = (kv_heads * head_dim, shape.heads * head_dim);
            let stride = q_width + 3;
            let q = numbers(positions * stride, seed);
            let keys = numbers(positions * width, seed ^ 1);
            let values = numbers(positions * width, seed ^ 2);
            let whole = cache(&keys, &values, 0..positions, &shape);
            let mut single = vec![9.0; positions * q_width];
            for (position, out) in single.chunks_mut(q_width).enumerate() {
                let segment = CacheSegment { keys: &whole.0, values: &whole.1, positions: position + 1 };
                attend_rows(&q[position * stride..], stride, 1, &[segment], &shape, 0..kv_heads, out);
                let exact = twin(&q[position * stride..], &keys, &values, position, &shape);
                for (a, b) in out.iter().zip(&exact) {
                    prop_assert!((f64::from(*a) - b).abs() < 3e-6, "{} {}", a, b);
                }
            }
            // The last rows together, the cache cut in two.
            let rows = together.min(positions);
            let middle = cut.min(positions);
            let (old, new) = (cache(&keys, &values, 0..middle, &shape), cache(&keys, &values, middle..positions, &shape));
            let segments = [
                CacheSegment { keys: &old.0, values: &old.1, positions: middle },
                CacheSegment { keys: &new.0, values: &new.1, positions: positions - middle },
            ];
            let mut out = vec![9.0; rows * q_width];
            let queries = &q[(positions - rows) * stride..];
            attend_rows(queries, stride, rows, &segments, &shape, 0..kv_heads, &mut out);
            prop_assert_eq!(&out[..], &single[(positions - rows) * q_width..]);
            // A key head alone.
            let (own, last) = (group * head_dim, kv_heads - 1);
            let mut part = vec![9.0; rows * own];
            attend_rows(queries, stride, rows, &segments, &shape, last..kv_heads, &mut part);
            for (got, row) in part.chunks(own).zip(out.chunks(q_width)) {
                prop_assert_eq!(got, &row[last * own..]);
            }
        }
    }
}
