//! Dot products of one vector of bytes with many: sums of integers, so exact, in whatever order they are made.
//!
//! Why here: vectors that are kept as bytes beside their full precision are a quarter of its size, and looking through
//! them is bound by how fast memory gives them out. The instructions are those of `eights`.
#![expect(unsafe_code, reason = "vector loads over slices; bounds are checked here")]

use crate::eights::Eights;
use crate::lanes::{Level, V16, at_level, level};

/// Vectors of bytes are padded with zeros to a multiple of this length, so that no loop has a tail.
pub const BYTES_STEP: usize = 32;

/// Longer vectors could overflow 32 bits: 2^17 products of at most 127 x 127 just fit.
const MOST_BYTES: usize = 1 << 17;

/// `out[r]` is the dot product of `query` with row `r` of the row-major `rows`. Values are in -127 ..= 127.
///
/// # Panics
/// Where the length of `query` is 0, above 2^17 or no multiple of [`BYTES_STEP`], or `rows` is not one row of that
/// length for each number of `out`.
pub fn byte_dots(query: &[i8], rows: &[i8], out: &mut [i32]) {
    byte_dots_at(level(), query, rows, out);
}

/// `out[i]` is the dot product of `query` with row `chosen[i]` of the row-major `rows`, wherever in memory that is: while
/// one row is worked on, the next ones are on their way.
///
/// # Panics
/// Where the length of `query` is not as in [`byte_dots`], `rows` is no whole number of rows, a chosen row does not
/// exist, or `out` is not one number for each.
pub fn byte_dots_of(query: &[i8], rows: &[i8], chosen: &[u32], out: &mut [i32]) {
    byte_dots_of_at(level(), query, rows, chosen, out);
}

fn check_query(length: usize) {
    assert!((1..=MOST_BYTES).contains(&length), "vectors must have 1 to {MOST_BYTES} bytes");
    assert!(length.is_multiple_of(BYTES_STEP), "vectors must be padded to a multiple of {BYTES_STEP} bytes");
}

pub(crate) fn byte_dots_of_at(at: Level, query: &[i8], rows: &[i8], chosen: &[u32], out: &mut [i32]) {
    let length = query.len();
    check_query(length);
    assert!(rows.len().is_multiple_of(length), "rows must be of {length} bytes each");
    let count = rows.len() / length;
    assert!(chosen.iter().all(|&row| (row as usize) < count), "chosen rows must be below {count}");
    assert_eq!(chosen.len(), out.len(), "out must be one number for each chosen row");
    at_level!(at, dots_of(query: &[i8], rows: &[i8], chosen: &[u32], out: &mut [i32]));
}

pub(crate) fn byte_dots_at(at: Level, query: &[i8], rows: &[i8], out: &mut [i32]) {
    let length = query.len();
    check_query(length);
    assert_eq!(rows.len(), length * out.len(), "rows must be [{}, {length}]", out.len());
    at_level!(at, dots(query: &[i8], rows: &[i8], out: &mut [i32]));
}

/// # Safety
/// Lengths must be as [`byte_dots_at`] checks them; the instruction set of `E` must be present.
#[inline(always)]
unsafe fn dots<E: Eights>(query: &[i8], rows: &[i8], out: &mut [i32]) {
    let length = query.len();
    let (from, rows, count) = (query.as_ptr().cast::<u8>(), rows.as_ptr().cast::<u8>(), out.len());
    let out = out.as_mut_ptr();
    let mut row = 0;
    // SAFETY: `row` and what follows it stay below the number of rows.
    unsafe {
        while row + 4 <= count {
            block::<E, 4>(from, rows.add(row * length), length, out.add(row));
            row += 4;
        }
        while row < count {
            block::<E, 1>(from, rows.add(row * length), length, out.add(row));
            row += 1;
        }
    }
}

/// Rows asked for ahead of the one that is worked on: memory takes several times as long as a row of 384 bytes does.
const AHEAD: usize = 4;
/// Bytes that memory gives out at once.
const CACHE_LINE_BYTES: usize = 64;

/// # Safety
/// Lengths and rows must be as [`byte_dots_of_at`] checks them; the instruction set of `E` must be present.
#[inline(always)]
unsafe fn dots_of<E: Eights + V16>(query: &[i8], rows: &[i8], chosen: &[u32], out: &mut [i32]) {
    let length = query.len();
    let (from, rows) = (query.as_ptr().cast::<u8>(), rows.as_ptr().cast::<u8>());
    // SAFETY: every chosen row exists; what is asked for ahead need not be valid.
    unsafe {
        let fetch = |row: u32| {
            let start = rows.add(row as usize * length);
            for at in (0..length).step_by(CACHE_LINE_BYTES) {
                E::prefetch(start.add(at).cast());
            }
        };
        chosen.iter().take(AHEAD).for_each(|&row| fetch(row));
        for (place, (&row, out)) in chosen.iter().zip(out).enumerate() {
            if let Some(&next) = chosen.get(place + AHEAD) {
                fetch(next);
            }
            block::<E, 1>(from, rows.add(row as usize * length), length, out);
        }
    }
}

/// # Safety
/// `length` bytes must be readable at `query`, `R` times as many at `rows`, and `R` numbers writable at `out`; the
/// instruction set of `E` must be present.
#[inline(always)]
unsafe fn block<E: Eights, const R: usize>(query: *const u8, rows: *const u8, length: usize, out: *mut i32) {
    // SAFETY: by the contract; `at` steps through whole steps of each row.
    unsafe {
        let mut sums = [E::no_ints(); R];
        let mut at = 0;
        while at < length {
            let some = E::bytes(query.add(at));
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = E::add_products(*sum, some, E::bytes(rows.add(row * length + at)));
            }
            at += BYTES_STEP;
        }
        for (row, sum) in sums.into_iter().enumerate() {
            *out.add(row) = E::total(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{available_levels, numbers};
    use proptest::prelude::*;

    fn bytes(count: usize, seed: u64) -> Vec<i8> {
        numbers(count, seed).into_iter().map(|number| (number * 127.0).round() as i8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn sums_are_exact(steps in 1usize..14, rows in 0usize..11, seed: u64) {
            let length = steps * BYTES_STEP;
            let (query, all) = (bytes(length, seed), bytes(length * rows, !seed));
            for at in available_levels() {
                let mut out = vec![i32::MIN; rows];
                byte_dots_at(at, &query, &all, &mut out);
                for (got, row) in out.iter().zip(all.chunks_exact(length)) {
                    let exact: i32 = query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                    prop_assert_eq!(*got, exact);
                }
                let chosen: Vec<u32> = (0..rows as u32).rev().chain(0..rows as u32 / 2).collect();
                let mut chosen_out = vec![i32::MIN; chosen.len()];
                byte_dots_of_at(at, &query, &all, &chosen, &mut chosen_out);
                for (got, row) in chosen_out.iter().zip(chosen) {
                    prop_assert_eq!(*got, out[row as usize]);
                }
            }
        }
    }

    #[test]
    fn the_longest_vectors_do_not_overflow() {
        for value in [127_i8, -127] {
            let (query, row) = (vec![127_i8; MOST_BYTES], vec![value; MOST_BYTES]);
            for at in available_levels() {
                let mut out = [0];
                byte_dots_at(at, &query, &row, &mut out);
                assert_eq!(i64::from(out[0]), MOST_BYTES as i64 * 127 * i64::from(value));
            }
        }
    }
}
