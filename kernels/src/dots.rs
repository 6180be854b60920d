//! Dot products and other passes over vectors.
//!
//! Why here: dense search and attention over a cache are dot products of one vector with many. The order of a sum is
//! fixed by the length alone: sixteen interleaved chains of multiply-adds, the tail padded with zeros, then folded by
//! halves (see `lanes`).
#![expect(unsafe_code, reason = "vector loops over slices; bounds are checked here")]

use crate::lanes::{LANES, Level, V16, at_level, level};
use crate::linear::split;
use crate::threads::{SharedOut, Threads};
use crate::tile::load_some;

/// Vectors of one task of [`dot_many`]: some 400 kB at 384 dimensions.
const VECTORS_PER_TASK: usize = 256;

/// The dot product of two vectors of one length.
///
/// # Panics
/// Where the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_at(level(), a, b)
}

pub(crate) fn dot_at(at: Level, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors must be of one length");
    let (pa, pb, count) = (a.as_ptr(), b.as_ptr(), a.len());
    at_level!(at, dot_one(pa: *const f32, pb: *const f32, count: usize) -> f32)
}

/// The sum of a vector, in the order of [`dot`] with ones.
pub(crate) fn sum(a: &[f32]) -> f32 {
    let at = level();
    at_level!(at, sum_all(a: &[f32]) -> f32)
}

/// `y[i] += a * x[i]`, one multiply-add each.
///
/// # Panics
/// Where the lengths differ.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "vectors must be of one length");
    let at = level();
    at_level!(at, axpy_all(a: f32, x: &[f32], y: &mut [f32]))
}

/// `y[i] += x[i]`.
///
/// # Panics
/// Where the lengths differ.
pub fn add_in_place(y: &mut [f32], x: &[f32]) {
    assert_eq!(x.len(), y.len(), "vectors must be of one length");
    for (value, more) in y.iter_mut().zip(x) {
        *value += more;
    }
}

/// `out[q, v] = dot(queries[q], vectors[v])` for row-major `queries` and `vectors` of `dimensions` each: the same bits
/// as [`dot`] for each pair, whatever stands beside it.
///
/// # Panics
/// Where `queries` or `vectors` is not a whole number of rows, or `out` not one float for each pair.
pub fn dot_many(queries: &[f32], vectors: &[f32], dimensions: usize, out: &mut [f32], threads: &Threads) {
    dot_many_at(level(), queries, vectors, dimensions, out, threads);
}

pub(crate) fn dot_many_at(
    at: Level,
    queries: &[f32],
    vectors: &[f32],
    dimensions: usize,
    out: &mut [f32],
    threads: &Threads,
) {
    assert!(dimensions > 0, "vectors must have a dimension");
    assert!(queries.len().is_multiple_of(dimensions), "queries must be rows of {dimensions}");
    assert!(vectors.len().is_multiple_of(dimensions), "vectors must be rows of {dimensions}");
    let (query_count, vector_count) = (queries.len() / dimensions, vectors.len() / dimensions);
    assert_eq!(out.len(), query_count * vector_count, "out must be [{query_count}, {vector_count}]");
    let shared = SharedOut::new(out);
    let tasks = vector_count.div_ceil(VECTORS_PER_TASK);
    threads.run(tasks, |task| {
        let (first, last) = (split(vector_count, tasks, task), split(vector_count, tasks, task + 1));
        let block = Pairs {
            queries: queries.as_ptr(),
            query_count,
            vectors: vectors[first * dimensions..].as_ptr(),
            vector_count: last - first,
            dimensions,
            // SAFETY: `first` is below `vector_count`, the row length of `out`.
            out: unsafe { shared.get().add(first) },
            out_stride: vector_count,
        };
        // Lengths are checked above; tasks write disjoint columns of `out`.
        at_level!(at, dot_pairs(block: Pairs));
    });
}

/// Queries against a block of vectors.
#[derive(Clone, Copy)]
struct Pairs {
    queries: *const f32,
    query_count: usize,
    vectors: *const f32,
    vector_count: usize,
    dimensions: usize,
    out: *mut f32,
    /// Floats from one query's results to the next's.
    out_stride: usize,
}

/// # Safety
/// `count` floats must be readable at both; the instruction set of `V` must be present.
#[inline(always)]
pub(crate) unsafe fn dot_one<V: V16>(a: *const f32, b: *const f32, count: usize) -> f32 {
    // SAFETY: `i + LANES` and `load_some` stay within `count`.
    unsafe {
        let mut sums = V::splat(0.0);
        let mut i = 0;
        while i + LANES <= count {
            sums = V::load(a.add(i)).mul_add(V::load(b.add(i)), sums);
            i += LANES;
        }
        if i < count {
            sums = load_some::<V>(a.add(i), count - i).mul_add(load_some::<V>(b.add(i), count - i), sums);
        }
        sums.sum()
    }
}

/// # Safety
/// The instruction set of `V` must be present.
#[inline(always)]
unsafe fn sum_all<V: V16>(a: &[f32]) -> f32 {
    // SAFETY: loads stay within the slice.
    unsafe {
        let mut sums = V::splat(0.0);
        for i in (0..a.len()).step_by(LANES) {
            sums = sums.add(load_some::<V>(a.as_ptr().add(i), a.len() - i));
        }
        sums.sum()
    }
}

/// # Safety
/// The slices must be of one length; the instruction set of `V` must be present.
#[inline(always)]
unsafe fn axpy_all<V: V16>(a: f32, x: &[f32], y: &mut [f32]) {
    // SAFETY: the body only uses the slices' own bounds.
    unsafe {
        let factor = V::splat(a);
        let count = y.len();
        for i in (0..count).step_by(LANES) {
            let to = y.as_mut_ptr().add(i);
            let value = factor.mul_add(load_some(x.as_ptr().add(i), count - i), load_some(to, count - i));
            crate::tile::store_some(value, to, count - i);
        }
    }
}

/// # Safety
/// All ranges of `p` must be in bounds; the instruction set of `V` must be present.
#[inline(always)]
unsafe fn dot_pairs<V: V16>(p: Pairs) {
    let mut v = 0;
    // SAFETY: `v` and `q` stay below their counts.
    unsafe {
        while v < p.vector_count {
            // Two queries against three vectors, or one against four, fill the registers.
            let many = p.query_count > 1;
            let height = if many { 3 } else { 4 };
            let left = p.vector_count - v;
            let mut q = 0;
            while q < p.query_count {
                let pair = p.query_count - q > 1;
                match (left >= height, many, pair) {
                    (true, true, true) => dot_block::<V, 2, 3>(p, q, v),
                    (true, true, false) => dot_block::<V, 1, 3>(p, q, v),
                    (true, false, _) => dot_block::<V, 1, 4>(p, q, v),
                    (false, _, true) => {
                        for i in 0..left {
                            dot_block::<V, 2, 1>(p, q, v + i);
                        }
                    }
                    (false, _, false) => {
                        for i in 0..left {
                            dot_block::<V, 1, 1>(p, q, v + i);
                        }
                    }
                }
                q += if pair { 2 } else { 1 };
            }
            v += height;
        }
    }
}

/// `Q` queries from `q` on against `R` vectors from `v` on.
///
/// # Safety
/// As for [`dot_pairs`]; `q + Q` and `v + R` must be within the counts.
#[inline(always)]
unsafe fn dot_block<V: V16, const Q: usize, const R: usize>(p: Pairs, q: usize, v: usize) {
    // SAFETY: rows are in bounds by the contract; `i + LANES` and `load_some` stay within a row.
    unsafe {
        let query = p.queries.add(q * p.dimensions);
        let vector = p.vectors.add(v * p.dimensions);
        let mut sums = [[V::splat(0.0); R]; Q];
        let whole = p.dimensions - p.dimensions % LANES;
        let mut i = 0;
        while i < whole {
            let mut values = [V::splat(0.0); R];
            for (r, value) in values.iter_mut().enumerate() {
                *value = V::load(vector.add(r * p.dimensions + i));
            }
            for (k, row) in sums.iter_mut().enumerate() {
                let x = V::load(query.add(k * p.dimensions + i));
                for (sum, value) in row.iter_mut().zip(values) {
                    *sum = x.mul_add(value, *sum);
                }
            }
            i += LANES;
        }
        if i < p.dimensions {
            let left = p.dimensions - i;
            for (k, row) in sums.iter_mut().enumerate() {
                let x = load_some::<V>(query.add(k * p.dimensions + i), left);
                for (r, sum) in row.iter_mut().enumerate() {
                    *sum = x.mul_add(load_some(vector.add(r * p.dimensions + i), left), *sum);
                }
            }
        }
        for (k, row) in sums.iter().enumerate() {
            for (r, sum) in row.iter().enumerate() {
                *p.out.add((q + k) * p.out_stride + v + r) = sum.sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{available_levels, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn many_equal_one_at_a_time(
            queries in 1usize..6, vectors in 0usize..23, dimensions in 1usize..70, seed: u64,
        ) {
            let q = numbers(queries * dimensions, seed);
            let v = numbers(vectors * dimensions, !seed);
            for at in available_levels() {
                let mut out = vec![f32::NAN; queries * vectors];
                dot_many_at(at, &q, &v, dimensions, &mut out, &Threads::new(1));
                for i in 0..queries {
                    for j in 0..vectors {
                        let (a, b) = (&q[i * dimensions..][..dimensions], &v[j * dimensions..][..dimensions]);
                        let one = dot_at(at, a, b);
                        prop_assert_eq!(out[i * vectors + j].to_bits(), one.to_bits());
                        let exact: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                        prop_assert!((f64::from(one) - exact).abs() < 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let (dimensions, vectors) = (40, 1500);
        let q = numbers(3 * dimensions, 1);
        let v = numbers(vectors * dimensions, 2);
        let (mut one, mut three) = (vec![0.0; 3 * vectors], vec![0.0; 3 * vectors]);
        dot_many(&q, &v, dimensions, &mut one, &Threads::new(1));
        dot_many(&q, &v, dimensions, &mut three, &Threads::new(3));
        assert_eq!(one, three);
    }

    #[test]
    fn axpy_equals_its_twin() {
        let x = numbers(37, 1);
        let mut y = numbers(37, 2);
        let exact: Vec<f32> = x.iter().zip(&y).map(|(a, b)| 0.3f32 * a + b).collect();
        axpy(0.3, &x, &mut y);
        assert!(y.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
