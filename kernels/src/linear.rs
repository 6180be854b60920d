//! Packed weight matrices and the linear layer.
//!
//! Why here: weights are packed once at load into panels of sixteen outputs (see `tile`) and then serve one row
//! (decoding, where speed is that of memory) and many rows (prefill and encoding, where it is that of arithmetic).
//! Attention over packed keys is in `attention`.
#![expect(unsafe_code, reason = "threads write disjoint parts of one output through a raw pointer")]

use half::{bf16, f16};

use crate::block_linear::{BlockMatrix, BlockRows, block_linear};
use crate::lanes::{LANES, Level, V16, at_level, level};
use crate::threads::{SharedOut, Threads};
use crate::tile::{Number, Product, Start, product};

/// Depth of one pass over a panel: 32 KiB of panel in f32 and 12 KiB of rows. Measured: passing over the output less often
/// is worth more than a panel that fits the first-level cache whole (384 in one pass runs 1.1 to 1.4 times as fast as
/// in two).
const DEPTH_BLOCK: usize = 512;

/// Rows of one task: with the depth above some 200 KiB, which stay in the second-level cache from panel to panel.
const ROW_BLOCK: usize = 96;

/// Multiply-adds below which a second thread costs more than it brings: about two microseconds of one core.
pub(crate) const SERIAL_WORK: usize = 64 * 1024;

/// Tasks for each thread, so that a thread that is held up by other work does not hold up the rest.
pub(crate) const TASKS_PER_THREAD: usize = 4;

/// How weights are held. Arithmetic is always f32, so a checkpoint in half precision loses nothing by staying in it, and
/// decoding, whose speed is that of memory, gains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 16 bits, the exponent range of f32.
    Bf16,
    /// 16 bits, IEEE 754 binary16.
    F16,
    /// 32 bits.
    F32,
}

/// Sixteen outputs' weights for one input feature: a cache line of f32, half of one otherwise.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Line<N>([N; LANES]);

/// Line `p * in_features + k` holds `weight[16 p .. 16 p + 16][k]`.
enum Lines {
    F32(Vec<Line<f32>>),
    F16(Vec<Line<f16>>),
    Bf16(Vec<Line<bf16>>),
    /// No lines: rows of blocks, as they lie in a file.
    Blocks(BlockMatrix),
}

/// A weight matrix `[out_features, in_features]`: in panels of sixteen outputs, the last one filled up with zeros, or in
/// rows of blocks.
pub struct Packed {
    lines: Lines,
    out_features: usize,
    in_features: usize,
}

impl Packed {
    /// Packs a row-major matrix in f32.
    ///
    /// # Panics
    /// Where `weight` does not hold `out_features * in_features` floats.
    pub fn pack(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        Self::pack_in(Precision::F32, weight, out_features, in_features)
    }

    /// Packs a row-major matrix, each number rounded to `precision`; numbers that came from it stay as they are.
    ///
    /// # Panics
    /// Where `weight` does not hold `out_features * in_features` floats.
    pub fn pack_in(precision: Precision, weight: &[f32], out_features: usize, in_features: usize) -> Self {
        assert_eq!(
            weight.len(),
            out_features * in_features,
            "weight must be [{out_features}, {in_features}]"
        );
        let lines = match precision {
            Precision::F32 => Lines::F32(panels(weight, in_features, |value| value)),
            Precision::F16 => Lines::F16(panels(weight, in_features, f16::from_f32)),
            Precision::Bf16 => Lines::Bf16(panels(weight, in_features, bf16::from_f32)),
        };
        Self { lines, out_features, in_features }
    }

    /// The matrix of some rows in blocks; formats may differ from part to part. Blocks of 256 numbers stay where they are,
    /// blocks of 32 are copied into the order that the kernels read them in, with the help of `threads`.
    ///
    /// # Panics
    /// Where a row is no whole number of blocks, or the bytes do not hold the rows.
    pub fn from_blocks(parts: Vec<BlockRows>, in_features: usize, threads: &Threads) -> Self {
        let matrix = BlockMatrix::new(parts, in_features, threads);
        Self { out_features: matrix.rows(), lines: Lines::Blocks(matrix), in_features }
    }

    /// Outputs, the rows of the weight matrix.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Inputs, the columns of the weight matrix.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Copies row `output` of the matrix to `row`: the embedding look-up of a tied head.
    ///
    /// # Panics
    /// Where `output` is out of range or `row` is not `in_features` long.
    pub fn copy_row(&self, output: usize, row: &mut [f32]) {
        assert!(output < self.out_features, "output {output} of {}", self.out_features);
        assert_eq!(row.len(), self.in_features, "row must hold {} floats", self.in_features);
        let lines = output / LANES * self.in_features..(output / LANES + 1) * self.in_features;
        let lane = output % LANES;
        match &self.lines {
            Lines::F32(all) => copy_lane(&all[lines], lane, row, |value| value),
            Lines::F16(all) => copy_lane(&all[lines], lane, row, f16::to_f32),
            Lines::Bf16(all) => copy_lane(&all[lines], lane, row, bf16::to_f32),
            Lines::Blocks(matrix) => matrix.copy_row(output, row),
        }
    }

    /// Bytes of memory held, or of a file that is mapped.
    pub fn bytes(&self) -> usize {
        match &self.lines {
            Lines::F32(lines) => size_of_val(lines.as_slice()),
            Lines::F16(lines) => size_of_val(lines.as_slice()),
            Lines::Bf16(lines) => size_of_val(lines.as_slice()),
            Lines::Blocks(matrix) => matrix.bytes(),
        }
    }
}

/// The panels of a row-major matrix with rows of `in_features`.
fn panels<N: Copy>(weight: &[f32], in_features: usize, narrow: impl Fn(f32) -> N) -> Vec<Line<N>> {
    let rows = weight.len().checked_div(in_features).unwrap_or(0);
    let mut lines = vec![Line([narrow(0.0); LANES]); rows.div_ceil(LANES) * in_features];
    for (o, row) in weight.chunks_exact(in_features.max(1)).enumerate() {
        let panel = &mut lines[o / LANES * in_features..][..in_features];
        for (line, &value) in panel.iter_mut().zip(row) {
            line.0[o % LANES] = narrow(value);
        }
    }
    lines
}

fn copy_lane<N: Copy>(panel: &[Line<N>], lane: usize, row: &mut [f32], widen: impl Fn(N) -> f32) {
    for (value, line) in row.iter_mut().zip(panel) {
        *value = widen(line.0[lane]);
    }
}

/// `out[r, o] = bias[o] + sum over i of x[r, i] * w[o, i]`, for `rows` rows.
///
/// Each element is one chain of multiply-adds over i in order that starts at the bias, or at 0 without one: the same
/// bits for a row alone, in any batch, and with any number of threads. Fused as the crate's documentation says. Weights
/// in blocks round the row to 8-bit integers first and have an order of their own, as fixed: see [`BlockRows`].
///
/// # Panics
/// Where `x` is not `[rows, in_features]`, `out` not `[rows, out_features]`, or `bias` not `[out_features]`.
pub fn linear(x: &[f32], rows: usize, w: &Packed, bias: Option<&[f32]>, out: &mut [f32], threads: &Threads) {
    linear_at(level(), x, rows, w, bias, out, threads);
}

pub(crate) fn linear_at(
    at: Level,
    x: &[f32],
    rows: usize,
    w: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    threads: &Threads,
) {
    let (inputs, outputs) = (w.in_features, w.out_features);
    assert_eq!(x.len(), rows * inputs, "x must be [{rows}, {inputs}]");
    assert_eq!(out.len(), rows * outputs, "out must be [{rows}, {outputs}]");
    if let Some(values) = bias {
        assert_eq!(values.len(), outputs, "bias must hold {outputs} floats");
    }
    if rows == 0 || outputs == 0 {
        return;
    }
    let call = Call { at, x, rows, bias, inputs, outputs, threads };
    match &w.lines {
        Lines::F32(lines) => {
            call.run(lines, out, |at, part| at_level!(at, in_depth_blocks::<f32>(part: Product<f32>)));
        }
        Lines::F16(lines) => {
            call.run(lines, out, |at, part| at_level!(at, in_depth_blocks::<f16>(part: Product<f16>)));
        }
        Lines::Bf16(lines) => {
            call.run(lines, out, |at, part| at_level!(at, in_depth_blocks::<bf16>(part: Product<bf16>)));
        }
        Lines::Blocks(matrix) => block_linear(at, x, rows, matrix, bias, out, threads),
    }
}

/// The arguments of [`linear`] after their check, without what depends on how weights are held.
struct Call<'a> {
    at: Level,
    x: &'a [f32],
    rows: usize,
    bias: Option<&'a [f32]>,
    inputs: usize,
    outputs: usize,
    threads: &'a Threads,
}

impl Call<'_> {
    /// Cuts the product into tasks; `kernel` computes the part of one.
    fn run<N: Number + Sync>(
        &self,
        lines: &[Line<N>],
        out: &mut [f32],
        kernel: impl Fn(Level, Product<N>) + Sync,
    ) {
        let Self { x, rows, inputs, outputs, .. } = *self;
        let panels = outputs.div_ceil(LANES);
        let row_tasks = rows.div_ceil(ROW_BLOCK);
        let wanted =
            if rows * inputs * outputs < SERIAL_WORK { 1 } else { self.threads.count() * TASKS_PER_THREAD };
        // At least four panels a task: that many are in flight for one row.
        let column_tasks = wanted.div_ceil(row_tasks).min(panels.div_ceil(4)).max(1);
        let shared = SharedOut::new(out);
        self.threads.run(row_tasks * column_tasks, |task| {
            let (row_task, column_task) = (task / column_tasks, task % column_tasks);
            let (row, row_end) = (split(rows, row_tasks, row_task), split(rows, row_tasks, row_task + 1));
            let (panel, panel_end) =
                (split(panels, column_tasks, column_task), split(panels, column_tasks, column_task + 1));
            let column = panel * LANES;
            let start = match self.bias {
                Some(values) => Start::Columns(values[column..].as_ptr()),
                None => Start::Zero,
            };
            // SAFETY: the lengths are checked by `linear_at`; panel and row ranges of different tasks are disjoint,
            // and so are the parts of `out` that they write.
            let part = unsafe {
                Product {
                    a: x.as_ptr().add(row * inputs),
                    a_row_stride: inputs,
                    depth: inputs,
                    b: lines.as_ptr().cast::<N>().add(panel * inputs * LANES),
                    b_panel_stride: inputs * LANES,
                    b_depth_stride: LANES,
                    c: shared.get().add(row * outputs + column),
                    c_row_stride: outputs,
                    rows: row_end - row,
                    columns: (panel_end * LANES).min(outputs) - column,
                    start,
                }
            };
            kernel(self.at, part);
        });
    }
}

/// Boundary `i` of `parts` nearly equal parts of `0..total`.
pub(crate) fn split(total: usize, parts: usize, i: usize) -> usize {
    total * i / parts
}

/// The product in passes over the depth, each short enough for the caches.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn in_depth_blocks<V: V16, N: Number>(p: Product<N>) {
    // One tile reads each panel once: there is nothing to keep in cache.
    let blocks = if p.rows <= V::TILE_ROWS { 1 } else { p.depth.div_ceil(DEPTH_BLOCK).max(1) };
    for block in 0..blocks {
        let (from, to) = (split(p.depth, blocks, block), split(p.depth, blocks, block + 1));
        let mut part = p;
        part.depth = to - from;
        if block > 0 {
            part.start = Start::Output;
        }
        // SAFETY: the range is within the depth.
        unsafe {
            part.a = p.a.add(from);
            part.b = p.b.add(from * p.b_depth_stride);
            product::<V, N>(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{available_levels, numbers};
    use proptest::prelude::*;

    /// The contract, said plainly.
    fn twin(
        x: &[f32],
        rows: usize,
        w: &[f32],
        outputs: usize,
        bias: Option<&[f32]>,
        fused: bool,
    ) -> Vec<f32> {
        let inputs = w.len() / outputs;
        let mut out = Vec::new();
        for r in 0..rows {
            for o in 0..outputs {
                let mut sum = bias.map_or(0.0, |b| b[o]);
                for i in 0..inputs {
                    let (a, b) = (x[r * inputs + i], w[o * inputs + i]);
                    sum = if fused { a.mul_add(b, sum) } else { a * b + sum };
                }
                out.push(sum);
            }
        }
        out
    }

    fn fused(at: Level) -> bool {
        at != Level::Plain || cfg!(any(target_arch = "aarch64", target_feature = "fma"))
    }

    const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

    /// `weight` as `precision` holds it.
    fn rounded(weight: &[f32], precision: Precision) -> Vec<f32> {
        let round = |value: &f32| match precision {
            Precision::F32 => *value,
            Precision::F16 => f16::from_f32(*value).to_f32(),
            Precision::Bf16 => bf16::from_f32(*value).to_f32(),
        };
        weight.iter().map(round).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn equals_the_sequential_chain_bit_for_bit(
            rows in 1usize..20, inputs in 1usize..70, outputs in 1usize..90, with_bias: bool, seed: u64,
        ) {
            let x = numbers(rows * inputs, seed);
            let weight = numbers(outputs * inputs, seed ^ 1);
            let bias_values = numbers(outputs, seed ^ 2);
            let bias = with_bias.then_some(&bias_values[..]);
            for precision in PRECISIONS {
                let w = Packed::pack_in(precision, &weight, outputs, inputs);
                for at in available_levels() {
                    let mut out = vec![f32::NAN; rows * outputs];
                    linear_at(at, &x, rows, &w, bias, &mut out, &Threads::new(1));
                    let held = rounded(&weight, precision);
                    prop_assert_eq!(&out, &twin(&x, rows, &held, outputs, bias, fused(at)));
                }
            }
        }
    }

    #[test]
    fn blocked_and_threaded_equal_each_row_alone() {
        let (rows, inputs, outputs) = (203, 600, 333);
        let x = numbers(rows * inputs, 3);
        let weight = numbers(outputs * inputs, 4);
        let bias = numbers(outputs, 5);
        let (one, three) = (Threads::new(1), Threads::new(3));
        for precision in PRECISIONS {
            let w = Packed::pack_in(precision, &weight, outputs, inputs);
            let held = rounded(&weight, precision);
            for at in available_levels() {
                let mut batch = vec![0.0; rows * outputs];
                linear_at(at, &x, rows, &w, Some(&bias), &mut batch, &three);
                for r in 0..rows {
                    let mut alone = vec![0.0; outputs];
                    linear_at(at, &x[r * inputs..][..inputs], 1, &w, Some(&bias), &mut alone, &one);
                    assert_eq!(alone, batch[r * outputs..][..outputs], "row {r} at {at:?}, {precision:?}");
                }
                assert_eq!(batch, twin(&x, rows, &held, outputs, Some(&bias), fused(at)));
            }
        }
    }

    #[test]
    fn every_half_precision_number_is_widened_exactly() {
        // One input of 1 and a row of every bit pattern that is a number: the outputs are the numbers.
        for (precision, numbers) in [
            (Precision::F16, (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect::<Vec<_>>()),
            (Precision::Bf16, (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        ] {
            let finite: Vec<f32> = numbers.into_iter().filter(|value| value.is_finite()).collect();
            let w = Packed::pack_in(precision, &finite, finite.len(), 1);
            for at in available_levels() {
                let mut out = vec![f32::NAN; finite.len()];
                linear_at(at, &[1.0], 1, &w, None, &mut out, &Threads::new(1));
                assert_eq!(out, finite, "{precision:?} at {at:?}");
            }
        }
    }

    #[test]
    fn rows_come_back_from_panels() {
        let weight = numbers(37 * 11, 9);
        for (precision, size) in PRECISIONS.into_iter().zip([4, 2, 2]) {
            let w = Packed::pack_in(precision, &weight, 37, 11);
            let held = rounded(&weight, precision);
            let mut row = [0.0; 11];
            for o in 0..37 {
                w.copy_row(o, &mut row);
                assert_eq!(row, held[o * 11..][..11]);
            }
            assert_eq!(w.bytes(), 48 * 11 * size);
        }
    }

    #[test]
    fn empty_shapes_are_no_work() {
        let w = Packed::pack(&[], 3, 0);
        let mut out = [1.0; 6];
        linear(&[], 2, &w, Some(&[4.0, 5.0, 6.0]), &mut out, Threads::global());
        assert_eq!(out, [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
        linear(&[], 0, &w, None, &mut [], Threads::global());
    }
}
