//! Weights in blocks of 32 with eight rows side by side, and their product with rows of activations.
//!
//! Why here: in a file each row of weights is a run of its own, so that a sum of products ends up spread over a register
//! and has to be scaled eight lanes for one output. Side by side, a lane is an output: one scale, one conversion and one
//! multiply-add serve eight outputs, and memory is read in one run. Rows are put so once, when a model is loaded; the
//! size stays the same.
//!
//! A group is eight rows. For each block in turn it has the eight scales (f16), then the numbers of all rows, four bytes
//! of each row at a time. The last group is filled up with rows of zeros. Each output is one chain of multiply-adds over
//! the blocks in order, then the bias, whatever the rows beside it.
#![expect(
    unsafe_code,
    reason = "tiles read blocks and write outputs over raw pointers; callers check the bounds"
)]

use crate::block_linear::BlockRows;
use crate::blocks::{BlockFormat, widen_blocks};
use crate::eights::Eights;
use crate::lanes::V16;
use crate::threads::Threads;

/// Rows of a group: 32-bit lanes of a register.
pub(crate) const GROUP: usize = 8;

/// Bytes of a block's scale.
const SCALE: usize = 2;

/// Rows of one tile of activations: their sums, in floats and in integers, and one piece of weights fill the registers.
const TILE_ROWS: usize = 4;

/// How far ahead of one row's product its weights are asked for, in bytes: the 300 to 400 cycles that memory takes.
const BYTES_AHEAD: usize = 4096;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Rows of a matrix in groups.
pub(crate) struct Interleaved {
    pub(crate) format: BlockFormat,
    pub(crate) rows: usize,
    inputs: usize,
    bytes: Vec<u8>,
}

impl Interleaved {
    /// Whether rows in that format are worth it.
    pub(crate) fn takes(format: BlockFormat) -> bool {
        matches!(format, BlockFormat::Q8_0 | BlockFormat::Q4_0)
    }

    /// `part` must hold what it says.
    pub(crate) fn new(part: &BlockRows, inputs: usize, threads: &Threads) -> Self {
        let block_bytes = part.format.block_bytes();
        let row_bytes = inputs / part.format.block_len() * block_bytes;
        let rows = &(*part.bytes).as_ref()[part.start..][..part.rows * row_bytes];
        let mut bytes = vec![0; part.rows.div_ceil(GROUP) * GROUP * row_bytes];
        if row_bytes > 0 {
            threads.run_chunks(&mut bytes, GROUP * row_bytes, |first, group| {
                for (lane, row) in rows[first..].chunks_exact(row_bytes).take(GROUP).enumerate() {
                    let blocks = group.chunks_exact_mut(GROUP * block_bytes);
                    for (to, from) in blocks.zip(row.chunks_exact(block_bytes)) {
                        to[lane * SCALE..][..SCALE].copy_from_slice(&from[..SCALE]);
                        let fours = to[GROUP * SCALE..].chunks_exact_mut(GROUP * 4);
                        for (four, numbers) in fours.zip(from[SCALE..].chunks_exact(4)) {
                            four[lane * 4..][..4].copy_from_slice(numbers);
                        }
                    }
                }
            });
        }
        Self { format: part.format, rows: part.rows, inputs, bytes }
    }

    /// Bytes of a group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.inputs / self.format.block_len() * self.format.block_bytes() * GROUP
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn copy_row(&self, index: usize, row: &mut [f32]) {
        let (block_bytes, block_len) = (self.format.block_bytes(), self.format.block_len());
        let (group_bytes, lane) = (self.group_bytes(), index % GROUP);
        let group = &self.bytes[index / GROUP * group_bytes..][..group_bytes];
        let mut block = vec![0; block_bytes];
        let blocks = group.chunks_exact(GROUP * block_bytes);
        for (from, numbers) in blocks.zip(row.chunks_exact_mut(block_len)) {
            block[..SCALE].copy_from_slice(&from[lane * SCALE..][..SCALE]);
            let fours = from[GROUP * SCALE..].chunks_exact(GROUP * 4);
            for (to, four) in block[SCALE..].chunks_exact_mut(4).zip(fours) {
                to.copy_from_slice(&four[lane * 4..][..4]);
            }
            widen_blocks(self.format, &block, numbers);
        }
    }
}

/// Some rows of activations times some columns.
#[derive(Clone, Copy)]
pub(crate) struct InterleavedProduct {
    /// `[rows, inputs]`: activations in 8 bits.
    pub(crate) x: *const u8,
    /// `[rows, blocks]`
    pub(crate) x_scales: *const f32,
    /// `[rows, blocks]`: the sum of the activations of a block.
    pub(crate) x_sums: *const i16,
    pub(crate) blocks: usize,
    /// The group of the first column.
    pub(crate) w: *const u8,
    pub(crate) bias: Option<*const f32>,
    /// The first column that is written.
    pub(crate) out: *mut f32,
    pub(crate) out_row_stride: usize,
    pub(crate) rows: usize,
    /// Columns of the first group to leave out.
    pub(crate) skipped: usize,
    /// Columns to write after those.
    pub(crate) columns: usize,
}

/// Integer products of a block of eight columns.
pub(crate) trait GroupKernel {
    /// Bytes of a block's scales and numbers.
    const BYTES: usize;
    /// Whether one row's product asks for its weights ahead of time. Measured: worth a tenth with 4 bits; with 8 it costs
    /// as much as it brings.
    const ASKS_AHEAD: bool;

    /// Sums of the products of `R` rows of activations, `stride` bytes apart, with the eight columns.
    ///
    /// # Safety
    /// `numbers` must be those of a group's block, `x` and `x_sums` those of `R` rows; the instruction set of `E` must
    /// be present.
    unsafe fn products<E: Eights, const R: usize>(
        numbers: *const u8,
        x: *const u8,
        x_sums: *const i16,
        blocks: usize,
    ) -> [E::Ints; R];
}

pub(crate) struct Q8;

impl GroupKernel for Q8 {
    const BYTES: usize = GROUP * BlockFormat::Q8_0.block_bytes();
    const ASKS_AHEAD: bool = false;

    #[inline(always)]
    unsafe fn products<E: Eights, const R: usize>(
        numbers: *const u8,
        x: *const u8,
        x_sums: *const i16,
        blocks: usize,
    ) -> [E::Ints; R] {
        // SAFETY: a block has eight pieces of 32 bytes, and 32 bytes and a sum of each row of activations.
        unsafe {
            let mut totals = [E::no_ints(); R];
            for (r, total) in totals.iter_mut().enumerate() {
                *total = E::lifted_start(x_sums.add(r * blocks));
            }
            for piece in 0..8 {
                let weights = E::lifted(E::bytes(numbers.add(32 * piece)));
                for (r, total) in totals.iter_mut().enumerate() {
                    let activations = E::four(x.add(r * blocks * 32 + 4 * piece));
                    *total = E::add_lifted(*total, weights, activations);
                }
            }
            totals
        }
    }
}

pub(crate) struct Q4;

impl GroupKernel for Q4 {
    const BYTES: usize = GROUP * BlockFormat::Q4_0.block_bytes();
    const ASKS_AHEAD: bool = true;

    // Nibbles stay without their sign, which the sum of the activations makes up for. A pair of products is at most
    // 2 * 15 * 127, and 16 bits hold eight of those.
    #[inline(always)]
    unsafe fn products<E: Eights, const R: usize>(
        numbers: *const u8,
        x: *const u8,
        x_sums: *const i16,
        blocks: usize,
    ) -> [E::Ints; R] {
        // SAFETY: a block has four pieces of 32 bytes, and 32 bytes and a sum of each row of activations.
        unsafe {
            let mut totals = [E::no_pairs(); R];
            for piece in 0..4 {
                let both = E::bytes(numbers.add(32 * piece));
                let (low, high) = (E::low(both), E::high(both));
                for (r, total) in totals.iter_mut().enumerate() {
                    let activations = x.add(r * blocks * 32 + 4 * piece);
                    *total = E::add_pairs(*total, low, E::four(activations));
                    *total = E::add_pairs(*total, high, E::four(activations.add(16)));
                }
            }
            // No closure: it would not be compiled with the instruction set of the function around it.
            let mut out = [E::no_ints(); R];
            for (r, (ints, total)) in out.iter_mut().zip(totals).enumerate() {
                *ints = E::less_of_each(E::widened(total), 8 * i32::from(*x_sums.add(r * blocks)));
            }
            out
        }
    }
}

/// All rows by all columns: the weights of a group stay in the first-level cache while the rows pass by.
///
/// # Safety
/// All ranges of [`InterleavedProduct`] must be in bounds, `out` must overlap nothing else, and the instruction set of
/// `E` be present.
#[inline(always)]
pub(crate) unsafe fn groups<E: Eights + V16, K: GroupKernel>(p: InterleavedProduct) {
    let end = p.skipped + p.columns;
    for group in 0..end.div_ceil(GROUP) {
        let first = group * GROUP;
        // Lanes of this group that are columns to write.
        let (from, to) = (p.skipped.max(first) - first, (end - first).min(GROUP));
        let mut row = 0;
        while row < p.rows {
            let height = (p.rows - row).min(TILE_ROWS);
            // SAFETY: `row + height` is at most `p.rows`, and the group holds columns to write.
            unsafe {
                let mut part = p;
                part.x = p.x.add(row * p.blocks * 32);
                part.x_scales = p.x_scales.add(row * p.blocks);
                part.x_sums = p.x_sums.add(row * p.blocks);
                part.w = p.w.add(group * p.blocks * K::BYTES);
                let column = first + from - p.skipped;
                part.bias = p.bias.map(|values| values.add(column));
                part.out = p.out.add(row * p.out_row_stride + column);
                (part.skipped, part.columns) = (from, to - from);
                match height {
                    1 => tile::<E, K, 1>(part),
                    2 => tile::<E, K, 2>(part),
                    3 => tile::<E, K, 3>(part),
                    _ => tile::<E, K, 4>(part),
                }
            }
            row += height;
        }
    }
}

/// # Safety
/// As for [`groups`], with exactly `R` rows and one group.
#[inline(always)]
unsafe fn tile<E: Eights + V16, K: GroupKernel, const R: usize>(t: InterleavedProduct) {
    // SAFETY: all offsets stay within the ranges that the caller answers for.
    unsafe {
        let mut sums = [E::no_floats(); R];
        for b in 0..t.blocks {
            let block = t.w.add(b * K::BYTES);
            if R == 1 && K::ASKS_AHEAD {
                for line in 0..K::BYTES.div_ceil(CACHE_LINE) {
                    E::prefetch(block.wrapping_add(BYTES_AHEAD + line * CACHE_LINE).cast());
                }
            }
            let scales = E::halves(block);
            let numbers = block.add(GROUP * SCALE);
            let ints = K::products::<E, R>(numbers, t.x.add(b * 32), t.x_sums.add(b), t.blocks);
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = <E as Eights>::mul_add(scales, *t.x_scales.add(r * t.blocks + b), ints[r], *sum);
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            let lanes = E::lanes(sum);
            let out = t.out.add(r * t.out_row_stride);
            for (c, value) in lanes[t.skipped..t.skipped + t.columns].iter().enumerate() {
                out.add(c).write(t.bias.map_or(*value, |values| value + *values.add(c)));
            }
        }
    }
}
