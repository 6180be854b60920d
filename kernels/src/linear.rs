//! Packed weight matrices and the linear layer.
//!
//! Why here: weights are packed once at load into panels of sixteen outputs (see `tile`) and then serve one row
//! (decoding, where speed is that of memory) and many rows (prefill and encoding, where it is that of arithmetic).
//! Attention over packed keys is in `attention`.
#![expect(unsafe_code, reason = "threads write disjoint parts of one output through a raw pointer")]

use crate::lanes::{LANES, Level, V16, at_level, level};
use crate::threads::{SharedOut, Threads};
use crate::tile::{Product, Start, product};

/// Depth of one pass over a panel: 32 KiB of panel and 12 KiB of rows. Measured: passing over the output less often
/// is worth more than a panel that fits the first-level cache whole (384 in one pass runs 1.1 to 1.4 times as fast as
/// in two).
const DEPTH_BLOCK: usize = 512;

/// Rows of one task: with the depth above some 200 KiB, which stay in the second-level cache from panel to panel.
const ROW_BLOCK: usize = 96;

/// Multiply-adds below which a second thread costs more than it brings: about two microseconds of one core.
const SERIAL_WORK: usize = 64 * 1024;

/// Tasks for each thread, so that a thread that is held up by other work does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;

/// Sixteen outputs' weights for one input feature; one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A weight matrix `[out_features, in_features]` in panels of sixteen outputs; the last panel is filled up with zeros.
pub struct Packed {
    /// Line `p * in_features + k` holds `weight[16 p .. 16 p + 16][k]`.
    lines: Vec<Line>,
    out_features: usize,
    in_features: usize,
}

impl Packed {
    /// Packs a row-major matrix.
    ///
    /// # Panics
    /// Where `weight` does not hold `out_features * in_features` floats.
    pub fn pack(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        assert_eq!(
            weight.len(),
            out_features * in_features,
            "weight must be [{out_features}, {in_features}]"
        );
        Self::from_rows(out_features, in_features, |o, row| {
            row.copy_from_slice(&weight[o * in_features..][..in_features]);
        })
    }

    /// Packs rows that `fill(o, row)` writes, for `o` in `0..out_features` in order: converts half-precision
    /// checkpoints without a second copy of the matrix in f32.
    pub fn from_rows(
        out_features: usize,
        in_features: usize,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> Self {
        let panels = out_features.div_ceil(LANES);
        let mut lines = vec![Line([0.0; LANES]); panels * in_features];
        let mut row = vec![0.0f32; in_features];
        for o in 0..out_features {
            fill(o, &mut row);
            let panel = &mut lines[o / LANES * in_features..][..in_features];
            for (line, &value) in panel.iter_mut().zip(&row) {
                line.0[o % LANES] = value;
            }
        }
        Self { lines, out_features, in_features }
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
        let panel = &self.lines[output / LANES * self.in_features..][..self.in_features];
        for (value, line) in row.iter_mut().zip(panel) {
            *value = line.0[output % LANES];
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

/// `out[r, o] = bias[o] + sum over i of x[r, i] * w[o, i]`, for `rows` rows.
///
/// Each element is one chain of multiply-adds over i in order that starts at the bias, or at 0 without one: the same
/// bits for a row alone, in any batch, and with any number of threads. Fused as the crate's documentation says.
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
    let panels = outputs.div_ceil(LANES);
    let row_tasks = rows.div_ceil(ROW_BLOCK);
    let wanted = if rows * inputs * outputs < SERIAL_WORK { 1 } else { threads.count() * TASKS_PER_THREAD };
    // At least four panels a task: that many are in flight for one row.
    let column_tasks = wanted.div_ceil(row_tasks).min(panels.div_ceil(4)).max(1);
    let shared = SharedOut::new(out);
    threads.run(row_tasks * column_tasks, |task| {
        let (row_task, column_task) = (task / column_tasks, task % column_tasks);
        let (row, row_end) = (split(rows, row_tasks, row_task), split(rows, row_tasks, row_task + 1));
        let (panel, panel_end) =
            (split(panels, column_tasks, column_task), split(panels, column_tasks, column_task + 1));
        let column = panel * LANES;
        let start = match bias {
            Some(values) => Start::Columns(values[column..].as_ptr()),
            None => Start::Zero,
        };
        // SAFETY: the lengths are checked above; panel and row ranges of different tasks are disjoint, and so are
        // the parts of `out` that they write.
        let whole = unsafe {
            Product {
                a: x.as_ptr().add(row * inputs),
                a_row_stride: inputs,
                depth: inputs,
                b: w.lines.as_ptr().cast::<f32>().add(panel * inputs * LANES),
                b_panel_stride: inputs * LANES,
                b_depth_stride: LANES,
                c: shared.get().add(row * outputs + column),
                c_row_stride: outputs,
                rows: row_end - row,
                columns: (panel_end * LANES).min(outputs) - column,
                start,
            }
        };
        at_level!(at, in_depth_blocks(whole: Product));
    });
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
unsafe fn in_depth_blocks<V: V16>(p: Product) {
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
            product::<V>(part);
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
            let w = Packed::pack(&weight, outputs, inputs);
            for at in available_levels() {
                let mut out = vec![f32::NAN; rows * outputs];
                linear_at(at, &x, rows, &w, bias, &mut out, &Threads::new(1));
                prop_assert_eq!(&out, &twin(&x, rows, &weight, outputs, bias, fused(at)));
            }
        }
    }

    #[test]
    fn blocked_and_threaded_equal_each_row_alone() {
        let (rows, inputs, outputs) = (203, 600, 333);
        let x = numbers(rows * inputs, 3);
        let weight = numbers(outputs * inputs, 4);
        let bias = numbers(outputs, 5);
        let w = Packed::pack(&weight, outputs, inputs);
        let (one, three) = (Threads::new(1), Threads::new(3));
        for at in available_levels() {
            let mut batch = vec![0.0; rows * outputs];
            linear_at(at, &x, rows, &w, Some(&bias), &mut batch, &three);
            for r in 0..rows {
                let mut alone = vec![0.0; outputs];
                linear_at(at, &x[r * inputs..][..inputs], 1, &w, Some(&bias), &mut alone, &one);
                assert_eq!(alone, batch[r * outputs..][..outputs], "row {r} at {at:?}");
            }
            assert_eq!(batch, twin(&x, rows, &weight, outputs, Some(&bias), fused(at)));
        }
    }

    #[test]
    fn rows_come_back_from_panels() {
        let weight = numbers(37 * 11, 9);
        let w = Packed::pack(&weight, 37, 11);
        let mut row = [0.0; 11];
        for o in 0..37 {
            w.copy_row(o, &mut row);
            assert_eq!(row, weight[o * 11..][..11]);
        }
        assert_eq!(w.bytes(), 48 * 11 * 4);
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
