//! The linear layer over weights in blocks: integer products, scaled in floats.
//!
//! Why here: decoding is bound by reading weights, and blocks are two to four times smaller than half precision. A row
//! of activations is rounded to blocks of 8-bit integers of its own (as long as the weights' blocks), so that the inner
//! loop multiplies integers, which is exact; what is rounded is one multiply-add for each block and lane.
//!
//! Blocks of 32 numbers are put eight rows side by side when they are loaded, and each output is one chain over the
//! blocks in order (see `interleaved`). Blocks of 256 stay as they lie in their file: each output is eight chains over
//! the blocks, one for each lane of `eights`, folded by halves. Then the bias. That is fixed whatever the rows beside it,
//! so prefill and decoding agree to the bit.
#![expect(
    unsafe_code,
    reason = "threads write disjoint parts of one output; tiles read blocks over raw pointers"
)]

use std::sync::Arc;

use crate::blocks::{BlockFormat, scales_and_offsets, widen_blocks};
use crate::eights::Eights;
use crate::interleaved::{GROUP, Interleaved, InterleavedProduct, Q4, Q8, groups};
use crate::lanes::{LANES, Level, at_level};
use crate::linear::{SERIAL_WORK, TASKS_PER_THREAD, split};
use crate::threads::{SharedOut, Threads};

/// Bytes that matrices share with whoever mapped or made them.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Rows of a weight matrix in blocks: part of some bytes, where they lie.
#[derive(Clone)]
pub struct BlockRows {
    /// How they are written.
    pub format: BlockFormat,
    /// What holds them, and may hold more.
    pub bytes: SharedBytes,
    /// Where they begin.
    pub start: usize,
    /// Their number.
    pub rows: usize,
}

/// Rows of one task: with a depth of a few thousand they stay in the second-level cache from column to column.
const ROW_BLOCK: usize = 64;

/// Rows of one tile: beside two columns, eight accumulators and what is multiplied fill the registers.
const TILE_ROWS: usize = 4;

/// Below this largest activation a block counts as zeros: its inverse would overflow.
const SMALLEST: f32 = 1e-30;

/// Adding this to a float below 2^22 in size rounds it to an integer, ties to even, in the low bits.
const ROUNDING_MAGIC: f32 = 12_582_912.0;

/// Rows of one format.
enum Part {
    AsTheyLie(BlockRows),
    SideBySide(Interleaved),
}

impl Part {
    fn rows(&self) -> usize {
        match self {
            Self::AsTheyLie(part) => part.rows,
            Self::SideBySide(part) => part.rows,
        }
    }

    fn format(&self) -> BlockFormat {
        match self {
            Self::AsTheyLie(part) => part.format,
            Self::SideBySide(part) => part.format,
        }
    }
}

/// A stack of rows over the same inputs.
pub(crate) struct BlockMatrix {
    parts: Vec<Part>,
    inputs: usize,
}

impl BlockMatrix {
    pub(crate) fn new(parts: Vec<BlockRows>, inputs: usize, threads: &Threads) -> Self {
        for part in &parts {
            let row = part.format.bytes_of(inputs);
            let end = row.and_then(|bytes| bytes.checked_mul(part.rows)?.checked_add(part.start));
            let held = (*part.bytes).as_ref().len();
            assert!(
                end.is_some_and(|last| last <= held),
                "{} rows of {inputs} in {:?} from byte {} on, of {held} bytes",
                part.rows,
                part.format,
                part.start
            );
        }
        let placed = |part: BlockRows| {
            if Interleaved::takes(part.format) {
                Part::SideBySide(Interleaved::new(&part, inputs, threads))
            } else {
                Part::AsTheyLie(part)
            }
        };
        Self { parts: parts.into_iter().map(placed).collect(), inputs }
    }

    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(Part::rows).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        let of_part = |part: &Part| match part {
            Part::AsTheyLie(rows) => self.row_bytes(rows.format) * rows.rows,
            Part::SideBySide(rows) => rows.bytes().len(),
        };
        self.parts.iter().map(of_part).sum()
    }

    pub(crate) fn copy_row(&self, output: usize, row: &mut [f32]) {
        let mut index = output;
        for part in &self.parts {
            if index < part.rows() {
                return match part {
                    Part::AsTheyLie(rows) => {
                        let bytes = self.row_bytes(rows.format);
                        widen_blocks(rows.format, &self.rows_of(rows)[index * bytes..][..bytes], row);
                    }
                    Part::SideBySide(rows) => rows.copy_row(index, row),
                };
            }
            index -= part.rows();
        }
    }

    fn row_bytes(&self, format: BlockFormat) -> usize {
        self.inputs / format.block_len() * format.block_bytes()
    }

    fn rows_of<'a>(&self, part: &'a BlockRows) -> &'a [u8] {
        &(*part.bytes).as_ref()[part.start..][..part.rows * self.row_bytes(part.format)]
    }
}

/// Rows of activations, rounded to 8-bit integers in blocks.
struct Rounded {
    /// `[rows, inputs]`
    numbers: Vec<u8>,
    /// `[rows, blocks]`
    scales: Vec<f32>,
    /// `[rows, inputs / 32]`: what the offsets of Q4_K multiply, and the missing sign of Q4_0.
    sums: Vec<i16>,
}

impl Rounded {
    fn new(at: Level, x: &[f32], rows: usize, length: usize, threads: &Threads) -> Self {
        let inputs = x.len() / rows.max(1);
        let (mut numbers, mut scales, mut sums) =
            (vec![0u8; x.len()], vec![0.0f32; x.len() / length], vec![0i16; x.len() / 32]);
        let (numbers_out, scales_out, sums_out) =
            (SharedOut::new(&mut numbers), SharedOut::new(&mut scales), SharedOut::new(&mut sums));
        let tasks = if x.len() < SERIAL_WORK { 1 } else { rows.min(threads.count() * TASKS_PER_THREAD) };
        threads.run(tasks, |task| {
            let (first, last) = (split(rows, tasks, task) * inputs, split(rows, tasks, task + 1) * inputs);
            let count = last - first;
            // SAFETY: rows of different tasks are disjoint, and so are their blocks, for a row is whole blocks.
            let (some_numbers, some_scales, some_sums) = unsafe {
                (
                    std::slice::from_raw_parts_mut(numbers_out.get().add(first), count),
                    std::slice::from_raw_parts_mut(scales_out.get().add(first / length), count / length),
                    std::slice::from_raw_parts_mut(sums_out.get().add(first / 32), count / 32),
                )
            };
            let some = &x[first..last];
            at_level!(at, round(some: &[f32], length: usize, some_numbers: &mut [u8], some_scales: &mut [f32], some_sums: &mut [i16]));
        });
        Self { numbers, scales, sums }
    }
}

/// Rounds whole blocks; the same bits at every level.
///
/// # Safety
/// The instruction set of `E` must be present.
#[inline(always)]
unsafe fn round<E: Eights>(
    x: &[f32],
    length: usize,
    numbers: &mut [u8],
    scales: &mut [f32],
    sums: &mut [i16],
) {
    for (b, block) in x.chunks_exact(length).enumerate() {
        let mut most = [0.0f32; LANES];
        for part in block.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                let size = part[i].abs();
                most[i] = if most[i] < size { size } else { most[i] };
            }
        }
        let largest = most.into_iter().fold(0.0, f32::max);
        let (scale, inverse) =
            if largest < SMALLEST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        scales[b] = scale;
        for (run, part) in block.as_chunks::<32>().0.iter().enumerate() {
            let out = &mut numbers[b * length + run * 32..][..32];
            let mut sum = 0i32;
            for i in 0..32 {
                let bits = (part[i] * inverse + ROUNDING_MAGIC).to_bits();
                let number = bits.wrapping_sub(ROUNDING_MAGIC.to_bits()) as i8;
                out[i] = number as u8;
                sum += i32::from(number);
            }
            sums[(b * length) / 32 + run] = sum as i16;
        }
    }
}

/// As `linear`, whose checks have passed.
pub(crate) fn block_linear(
    at: Level,
    x: &[f32],
    rows: usize,
    matrix: &BlockMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
    threads: &Threads,
) {
    let (inputs, outputs) = (matrix.inputs, matrix.rows());
    let rounded = [32, 256].map(|length| {
        let wanted = matrix.parts.iter().any(|part| part.format().block_len() == length);
        wanted.then(|| Rounded::new(at, x, rows, length, threads))
    });
    let row_tasks = rows.div_ceil(ROW_BLOCK);
    let wanted = if rows * inputs * outputs < SERIAL_WORK { 1 } else { threads.count() * TASKS_PER_THREAD };
    // At least sixteen columns a task.
    let column_tasks = wanted.div_ceil(row_tasks).min(outputs.div_ceil(16)).max(1);
    let shared = SharedOut::new(out);
    threads.run(row_tasks * column_tasks, |task| {
        let (row_task, column_task) = (task / column_tasks, task % column_tasks);
        let (row, row_end) = (split(rows, row_tasks, row_task), split(rows, row_tasks, row_task + 1));
        let eights = outputs.div_ceil(GROUP);
        let first = split(eights, column_tasks, column_task) * GROUP;
        let last = (split(eights, column_tasks, column_task + 1) * GROUP).min(outputs);
        let mut before = 0;
        for part in &matrix.parts {
            let (begin, end) = (first.max(before), last.min(before + part.rows()));
            let inner = begin.saturating_sub(before);
            before += part.rows();
            let length = part.format().block_len();
            let activations = &rounded[usize::from(length == 256)];
            let (Some(held), true) = (activations, begin < end) else { continue };
            let blocks = inputs / length;
            // SAFETY: rows and columns are within the shapes that `linear` has checked and within the part; different
            // tasks write disjoint parts of `out`.
            let (x, x_scales, x_sums, to) = unsafe {
                (
                    held.numbers.as_ptr().add(row * inputs),
                    held.scales.as_ptr().add(row * blocks),
                    held.sums.as_ptr().add(row * (inputs / 32)),
                    shared.get().add(row * outputs + begin),
                )
            };
            let bias_part = bias.map(|values| values[begin..].as_ptr());
            let (task_rows, columns) = (row_end - row, end - begin);
            match part {
                Part::SideBySide(weights) => {
                    let product = InterleavedProduct {
                        x,
                        x_scales,
                        x_sums,
                        blocks,
                        w: weights.bytes()[inner / GROUP * weights.group_bytes()..].as_ptr(),
                        bias: bias_part,
                        out: to,
                        out_row_stride: outputs,
                        rows: task_rows,
                        skipped: inner % GROUP,
                        columns,
                    };
                    if weights.format == BlockFormat::Q8_0 {
                        at_level!(at, groups::<Q8>(product: InterleavedProduct));
                    } else {
                        at_level!(at, groups::<Q4>(product: InterleavedProduct));
                    }
                }
                Part::AsTheyLie(weights) => {
                    let row_bytes = matrix.row_bytes(weights.format);
                    let product = BlockProduct {
                        x,
                        x_scales,
                        x_sums,
                        inputs,
                        blocks,
                        w: matrix.rows_of(weights)[inner * row_bytes..].as_ptr(),
                        w_row_bytes: row_bytes,
                        bias: bias_part,
                        out: to,
                        out_row_stride: outputs,
                        rows: task_rows,
                        columns,
                    };
                    if weights.format == BlockFormat::Q6K {
                        at_level!(at, tiles::<Q6K>(product: BlockProduct));
                    } else {
                        at_level!(at, tiles::<Q4K>(product: BlockProduct));
                    }
                }
            }
        }
    });
}

/// Some rows of activations times some rows of weights.
#[derive(Clone, Copy)]
struct BlockProduct {
    x: *const u8,
    x_scales: *const f32,
    x_sums: *const i16,
    /// Numbers from one row of `x` to the next, and of weights.
    inputs: usize,
    /// Blocks of a row.
    blocks: usize,
    w: *const u8,
    w_row_bytes: usize,
    bias: Option<*const f32>,
    out: *mut f32,
    out_row_stride: usize,
    rows: usize,
    columns: usize,
}

/// One block of some rows times one of some columns.
trait Kernel {
    const BYTES: usize;

    /// # Safety
    /// `t` must describe `R` rows and `C` columns in bounds, with more than `b` blocks; the instruction set of `E` must
    /// be present.
    unsafe fn step<E: Eights, const R: usize, const C: usize>(
        t: &BlockProduct,
        b: usize,
        sums: &mut [[E::Floats; C]; R],
    );
}

/// All rows by all columns, in tiles: a few columns stay in the first-level cache while the rows pass by.
///
/// # Safety
/// All ranges of [`BlockProduct`] must be in bounds, `out` must overlap nothing else, and the instruction set of `E` be
/// present.
#[inline(always)]
unsafe fn tiles<E: Eights, K: Kernel>(p: BlockProduct) {
    let mut column = 0;
    while column < p.columns {
        // One row leaves registers free: four columns in flight hide latencies and keep the memory busy.
        let abreast = if p.rows == 1 { 4 } else { 2 };
        let width = if p.columns - column < abreast { 1 } else { abreast };
        let mut row = 0;
        while row < p.rows {
            let height = (p.rows - row).min(TILE_ROWS);
            // SAFETY: `row + height` is at most `p.rows`, `column + width` at most `p.columns`.
            unsafe {
                let mut part = p;
                part.x = p.x.add(row * p.inputs);
                part.x_scales = p.x_scales.add(row * p.blocks);
                part.x_sums = p.x_sums.add(row * (p.inputs / 32));
                part.w = p.w.add(column * p.w_row_bytes);
                part.bias = p.bias.map(|values| values.add(column));
                part.out = p.out.add(row * p.out_row_stride + column);
                match (height, width) {
                    (1, 4) => tile::<E, K, 1, 4>(part),
                    (1, 2) => tile::<E, K, 1, 2>(part),
                    (2, 2) => tile::<E, K, 2, 2>(part),
                    (3, 2) => tile::<E, K, 3, 2>(part),
                    (4, 2) => tile::<E, K, 4, 2>(part),
                    (1, _) => tile::<E, K, 1, 1>(part),
                    (2, _) => tile::<E, K, 2, 1>(part),
                    (3, _) => tile::<E, K, 3, 1>(part),
                    _ => tile::<E, K, 4, 1>(part),
                }
            }
            row += height;
        }
        column += width;
    }
}

/// # Safety
/// As for [`tiles`], with exactly `R` rows and `C` columns.
#[inline(always)]
unsafe fn tile<E: Eights, K: Kernel, const R: usize, const C: usize>(t: BlockProduct) {
    // SAFETY: all offsets stay within the ranges that the caller answers for.
    unsafe {
        let mut sums = [[E::no_floats(); C]; R];
        for b in 0..t.blocks {
            K::step::<E, R, C>(&t, b, &mut sums);
        }
        for (r, row) in sums.iter().enumerate() {
            for (c, lanes) in row.iter().enumerate() {
                let sum = E::sum(*lanes);
                let value = t.bias.map_or(sum, |values| sum + *values.add(c));
                t.out.add(r * t.out_row_stride + c).write(value);
            }
        }
    }
}

struct Q4K;

impl Kernel for Q4K {
    const BYTES: usize = BlockFormat::Q4K.block_bytes();

    #[inline(always)]
    unsafe fn step<E: Eights, const R: usize, const C: usize>(
        t: &BlockProduct,
        b: usize,
        sums: &mut [[E::Floats; C]; R],
    ) {
        // SAFETY: block `b` of every row and column is in bounds; the offsets are those of its parts.
        unsafe {
            for c in 0..C {
                let block = t.w.add(c * t.w_row_bytes + b * Self::BYTES);
                let (scale, offset) = (E::half(block), E::half(block.add(2)));
                let (scales, offsets) = scales_and_offsets(&*block.add(4).cast::<[u8; 12]>());
                let mut totals = [E::no_ints(); R];
                for pair in 0..4 {
                    let both = E::bytes(block.add(16 + 32 * pair));
                    let (low, high) = (E::low(both), E::high(both));
                    let by = [2 * pair, 2 * pair + 1].map(|run| i16::from(scales[run]));
                    for (r, total) in totals.iter_mut().enumerate() {
                        let x = t.x.add(r * t.inputs + b * 256 + 64 * pair);
                        *total = E::add(*total, E::scaled_nibbles(low, E::bytes(x), by[0]));
                        *total = E::add(*total, E::scaled_nibbles(high, E::bytes(x.add(32)), by[1]));
                    }
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let x_scale = *t.x_scales.add(r * t.blocks + b);
                    let less = E::multiply(&offsets, t.x_sums.add(r * (t.inputs / 32) + b * 8));
                    row[c] = E::mul_add(scale, x_scale, totals[r], row[c]);
                    row[c] = E::mul_sub(offset, x_scale, less, row[c]);
                }
            }
        }
    }
}

struct Q6K;

impl Kernel for Q6K {
    const BYTES: usize = BlockFormat::Q6K.block_bytes();

    #[inline(always)]
    unsafe fn step<E: Eights, const R: usize, const C: usize>(
        t: &BlockProduct,
        b: usize,
        sums: &mut [[E::Floats; C]; R],
    ) {
        // SAFETY: block `b` of every row and column is in bounds; the offsets are those of its parts.
        unsafe {
            for c in 0..C {
                let block = t.w.add(c * t.w_row_bytes + b * Self::BYTES);
                let mut totals = [E::no_ints(); R];
                for half in 0..2 {
                    let tops = E::bytes(block.add(128 + 32 * half));
                    let lows = [E::bytes(block.add(64 * half)), E::bytes(block.add(64 * half + 32))];
                    let quarters = [
                        E::or(E::low(lows[0]), E::two_bits::<0>(tops)),
                        E::or(E::low(lows[1]), E::two_bits::<1>(tops)),
                        E::or(E::high(lows[0]), E::two_bits::<2>(tops)),
                        E::or(E::high(lows[1]), E::two_bits::<3>(tops)),
                    ];
                    for (quarter, bits) in quarters.into_iter().enumerate() {
                        let weights = E::less(bits, 32);
                        let run = block.add(192 + 8 * half + 2 * quarter).cast::<i8>();
                        let (first, second) = (i16::from(*run), i16::from(*run.add(1)));
                        for (r, total) in totals.iter_mut().enumerate() {
                            let x = E::bytes(t.x.add(r * t.inputs + b * 256 + 128 * half + 32 * quarter));
                            *total = E::add(*total, E::scaled_products(weights, x, first, second));
                        }
                    }
                }
                let scale = E::half(block.add(208));
                for (r, row) in sums.iter_mut().enumerate() {
                    row[c] = E::mul_add(scale, *t.x_scales.add(r * t.blocks + b), totals[r], row[c]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{quantise_blocks, sixes};
    use crate::linear::{Packed, linear_at};
    use crate::testing::{available_levels, numbers};
    use half::f16;
    use proptest::prelude::*;

    /// A block in integers: what multiplies activation i, and what each run of 32 loses for each unit of its sum.
    struct Plainly {
        scale: f32,
        weights: Vec<i64>,
        offset: f32,
        offsets: [i64; 8],
    }

    fn plainly(format: BlockFormat, block: &[u8]) -> Plainly {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let mut out = Plainly { scale: half(0), weights: Vec::new(), offset: 0.0, offsets: [0; 8] };
        match format {
            BlockFormat::Q8_0 => out.weights = block[2..].iter().map(|byte| i64::from(*byte as i8)).collect(),
            BlockFormat::Q4_0 => {
                let low = block[2..].iter().map(|byte| i64::from(byte & 15) - 8);
                out.weights = low.chain(block[2..].iter().map(|byte| i64::from(byte >> 4) - 8)).collect();
            }
            BlockFormat::Q4K => {
                let (scales, offsets) = scales_and_offsets(block[4..16].try_into().unwrap());
                out.offset = half(2);
                out.offsets = offsets.map(i64::from);
                for (run, scale) in scales.iter().enumerate() {
                    let bytes = &block[16 + run / 2 * 32..][..32];
                    let shift = run % 2 * 4;
                    out.weights.extend(bytes.iter().map(|b| i64::from(b >> shift & 15) * i64::from(*scale)));
                }
            }
            BlockFormat::Q6K => {
                out.scale = half(208);
                let scale = |i: usize| i64::from(block[192 + i / 16] as i8);
                out.weights =
                    sixes(block).iter().enumerate().map(|(i, six)| i64::from(*six) * scale(i)).collect();
            }
        }
        out
    }

    /// One output as the head of this file describes it.
    fn twin(format: BlockFormat, x: &[f32], row: &[u8], fused: bool) -> f32 {
        let mul_add = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { a * b + c };
        let (mut lanes, mut whole_sum) = ([0.0f32; 8], 0.0f32);
        for (part, block) in x.chunks(format.block_len()).zip(row.chunks(format.block_bytes())) {
            let largest = part.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let (scale, inverse) =
                if largest < SMALLEST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
            let whole: Vec<i64> =
                part.iter().map(|value| (value * inverse).round_ties_even() as i64).collect();
            let held = plainly(format, block);
            if format.block_len() == 32 {
                let sum: i64 = held.weights.iter().zip(&whole).map(|(a, b)| a * b).sum();
                whole_sum = mul_add(held.scale * scale, sum as f32, whole_sum);
                continue;
            }
            for (j, lane) in lanes.iter_mut().enumerate() {
                let mine = |i: &usize| i % 32 / 4 == j;
                let sum: i64 = (0..part.len()).filter(mine).map(|i| held.weights[i] * whole[i]).sum();
                *lane = mul_add(held.scale * scale, sum as f32, *lane);
                if format == BlockFormat::Q4K {
                    let run: i64 = whole[j * 32..][..32].iter().sum();
                    *lane = mul_add(-(held.offset * scale), (held.offsets[j] * run) as f32, *lane);
                }
            }
        }
        if format.block_len() == 32 {
            return whole_sum;
        }
        let four = [0, 1, 2, 3].map(|i| lanes[i] + lanes[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }

    fn fused(at: Level) -> bool {
        at != Level::Plain || cfg!(any(target_arch = "aarch64", target_feature = "fma"))
    }

    /// Blocks of any bytes, with scales that are numbers.
    fn any_blocks(format: BlockFormat, count: usize, seed: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            numbers(count * format.block_bytes(), seed).iter().map(|x| (x * 128.0) as i8 as u8).collect();
        let scales: &[usize] = match format {
            BlockFormat::Q8_0 | BlockFormat::Q4_0 => &[0],
            BlockFormat::Q4K => &[0, 2],
            BlockFormat::Q6K => &[208],
        };
        for (i, block) in bytes.chunks_mut(format.block_bytes()).enumerate() {
            for at in scales {
                let scale = f16::from_f32(numbers(1, seed ^ (i as u64) << 8 ^ *at as u64)[0]);
                block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn equals_its_twin_bit_for_bit_alone_batched_and_stacked(
            rows in 1usize..10, blocks in 1usize..4, outputs in 1usize..23, more in 0usize..9, with_bias: bool,
            zero_row: bool, seed: u64,
        ) {
            for format in BlockFormat::ALL {
                let inputs = if format.block_len() == 32 { 32 * (blocks * 5 - 4) } else { 256 * blocks };
                let mut x = numbers(rows * inputs, seed);
                if zero_row {
                    x[..inputs].fill(0.0);
                }
                // The second part lies in the same bytes behind a gap, in 8 bits where the first is in 4.
                let second = if format.block_len() == 32 { BlockFormat::Q8_0 } else { BlockFormat::Q6K };
                let row_bytes = [format, second].map(|one| one.bytes_of(inputs).unwrap());
                let mut bytes = any_blocks(format, outputs * inputs / format.block_len(), seed ^ 1);
                bytes.extend([7; 5]);
                bytes.extend(any_blocks(second, more * inputs / second.block_len(), seed ^ 2));
                let start = bytes.len() - more * row_bytes[1];
                let shared: SharedBytes = Arc::new(bytes.clone());
                let w = Packed::from_blocks(vec![
                    BlockRows { format, bytes: shared.clone(), start: 0, rows: outputs },
                    BlockRows { format: second, bytes: shared, start, rows: more },
                ], inputs, &Threads::new(2));
                let bias_values = numbers(outputs + more, seed ^ 3);
                let bias = with_bias.then_some(&bias_values[..]);
                for at in available_levels() {
                    let mut expected = Vec::new();
                    for row in x.chunks(inputs) {
                        for o in 0..outputs + more {
                            let sum = match o.checked_sub(outputs) {
                                None => twin(format, row, &bytes[o * row_bytes[0]..][..row_bytes[0]], fused(at)),
                                Some(i) => twin(second, row, &bytes[start + i * row_bytes[1]..][..row_bytes[1]], fused(at)),
                            };
                            expected.push(bias.map_or(sum, |values| sum + values[o]).to_bits());
                        }
                    }
                    let mut out = vec![f32::NAN; rows * (outputs + more)];
                    linear_at(at, &x, rows, &w, bias, &mut out, &Threads::new(1));
                    let bits: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
                    prop_assert_eq!(bits, expected, "{:?} at {:?}", format, at);
                }
            }
        }
    }

    #[test]
    fn threaded_batches_equal_each_row_alone_and_come_near_the_exact_product() {
        let (rows, inputs, outputs) = (131, 512, 333);
        let x = numbers(rows * inputs, 3);
        let weight = numbers(outputs * inputs, 4);
        let (one, three) = (Threads::new(1), Threads::new(3));
        for format in BlockFormat::ALL {
            let bytes = quantise_blocks(format, &weight);
            let mut widened = vec![0.0; weight.len()];
            widen_blocks(format, &bytes, &mut widened);
            let w = Packed::from_blocks(
                vec![BlockRows { format, bytes: Arc::new(bytes), start: 0, rows: outputs }],
                inputs,
                &three,
            );
            assert_eq!((w.out_features(), w.in_features()), (outputs, inputs));
            // Rows that lie side by side are filled up to whole groups.
            let held = if format.block_len() == 32 { outputs.next_multiple_of(GROUP) } else { outputs };
            assert_eq!(w.bytes(), format.bytes_of(held * inputs).unwrap());
            for at in available_levels() {
                let mut batch = vec![0.0; rows * outputs];
                linear_at(at, &x, rows, &w, None, &mut batch, &three);
                for r in 0..rows {
                    let row = &x[r * inputs..][..inputs];
                    let mut alone = vec![0.0; outputs];
                    linear_at(at, row, 1, &w, None, &mut alone, &one);
                    assert_eq!(alone, batch[r * outputs..][..outputs], "row {r} at {at:?}, {format:?}");
                    for o in (0..outputs).step_by(31) {
                        let exact: f64 = row
                            .iter()
                            .zip(&widened[o * inputs..][..inputs])
                            .map(|(a, b)| f64::from(*a) * f64::from(*b))
                            .sum();
                        assert!(
                            (f64::from(alone[o]) - exact).abs() < 0.15,
                            "{format:?}: {} {exact}",
                            alone[o]
                        );
                    }
                }
            }
            let mut row = vec![0.0; inputs];
            for o in [0, 7, outputs - 1] {
                w.copy_row(o, &mut row);
                assert_eq!(row, widened[o * inputs..][..inputs]);
            }
        }
    }
}
