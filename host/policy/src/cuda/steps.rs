//! The launches of one step: `model::Model::forward`, kernel by kernel.
//!
//! All that a step's kernels read of it (tokens, positions, slots, addresses) lies in one small block at a fixed place,
//! and how many rows there are is read on the device; so the launches of a step can be recorded once for so many rows
//! or fewer, and replayed.

use std::sync::Arc;

use super::error::DeviceError;
use super::launcher::{Arguments, Buffer, Launcher};
use super::memory::Pool;
use super::weights::{DeviceWeights, Matrix, Operator};
use crate::checkpoint::NumberFormat;
use crate::config::Config;

/// Positions of one run of attention (`SPAN` of `kernels.cu`).
pub(crate) const SPAN: usize = 256;

/// What becomes of a product's outputs (`FINISH_*` of `kernels.cu`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stored = 0,
    Added = 1,
    Gated = 2,
}

/// How much the launches of a step must cover at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) rows: usize,
    /// Rows whose outputs are wanted; where it is `rows`, all are.
    pub(crate) wanted: usize,
    pub(crate) feeds: usize,
    /// Runs of attention of the longest sequence.
    pub(crate) runs: usize,
}

/// What the kernels are told of a step.
#[derive(Default)]
pub(crate) struct Brief {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) slots: Vec<u32>,
    pub(crate) lines: Vec<u32>,
    /// By row: its feed.
    pub(crate) feed_of: Vec<u32>,
    /// By feed: its first row, its rows, and the address of its place.
    pub(crate) first_of: Vec<u32>,
    pub(crate) count_of: Vec<u32>,
    pub(crate) places: Vec<u64>,
    /// The wanted rows, and where their outputs go beside the common buffer; 0 for nowhere.
    pub(crate) wanted: Vec<u32>,
    pub(crate) destinations: Vec<u64>,
}

/// Words before the lists: rows, feeds, wanted rows.
const COUNTS: usize = 4;
/// Lists of words, in the order of [`Brief`]; then two of addresses.
const WORD_LISTS: usize = 8;

impl Brief {
    /// As the device reads it, each list with room for `capacity`.
    pub(crate) fn bytes(&self, capacity: usize) -> Vec<u8> {
        let words = [
            &self.tokens,
            &self.positions,
            &self.slots,
            &self.lines,
            &self.feed_of,
            &self.first_of,
            &self.count_of,
            &self.wanted,
        ];
        let counts = [self.tokens.len(), self.first_of.len(), self.wanted.len(), 0];
        let mut bytes = Vec::with_capacity(Self::size(capacity));
        bytes.extend(counts.iter().flat_map(|count| (*count as u32).to_le_bytes()));
        for list in words {
            bytes.extend(list.iter().flat_map(|word| word.to_le_bytes()));
            bytes.resize(bytes.len() + (capacity - list.len()) * 4, 0);
        }
        for list in [&self.places, &self.destinations] {
            bytes.extend(list.iter().flat_map(|word| word.to_le_bytes()));
            bytes.resize(bytes.len() + (capacity - list.len()) * 8, 0);
        }
        bytes
    }

    fn size(capacity: usize) -> usize {
        COUNTS * 4 + capacity * (WORD_LISTS * 4 + 2 * 8)
    }
}

/// Working memory of steps of up to `capacity` rows and `runs` runs.
pub(crate) struct Buffers {
    pub(crate) capacity: usize,
    pub(crate) runs: usize,
    pub(crate) brief: Buffer,
    x: Buffer,
    chosen_x: Buffer,
    normed: Buffer,
    projected: Buffer,
    mixed: Buffer,
    chosen_mixed: Buffer,
    active: Buffer,
    partial: Buffer,
    weights: Buffer,
    /// Outputs of the wanted rows after the last norm, in f32.
    pub(crate) hidden: Buffer,
}

impl Buffers {
    pub(crate) fn new(
        launcher: &Arc<dyn Launcher>,
        config: &Config,
        numbers: NumberFormat,
        capacity: usize,
        runs: usize,
    ) -> Result<Self, DeviceError> {
        // A multiple of two, so that the addresses after the words are aligned.
        let capacity = capacity.next_multiple_of(2);
        let buffer = |each: usize| Buffer::new(launcher, "working memory", capacity * each);
        let (hidden, float, number) = (config.hidden_size, size_of::<f32>(), numbers.size_bytes());
        let queries = config.attention_heads * config.head_size;
        let keys = config.key_value_heads * config.head_size;
        Ok(Self {
            capacity,
            runs,
            brief: Buffer::new(launcher, "working memory", Brief::size(capacity))?,
            x: buffer(hidden * float)?,
            chosen_x: buffer(hidden * float)?,
            normed: buffer(hidden * number)?,
            projected: buffer((3 * hidden).max(queries + 2 * keys) * float)?,
            mixed: buffer(hidden.max(queries) * number)?,
            chosen_mixed: buffer(hidden.max(queries) * number)?,
            active: buffer(config.feed_forward_size * number)?,
            partial: buffer(runs * queries * float)?,
            weights: buffer(runs * config.attention_heads * 2 * float)?,
            hidden: buffer(hidden * float)?,
        })
    }

    fn count(&self, which: usize) -> u64 {
        self.brief.address() + 4 * which as u64
    }

    fn words(&self, which: usize) -> u64 {
        self.brief.address() + 4 * (COUNTS + which * self.capacity) as u64
    }

    fn addresses(&self, which: usize) -> u64 {
        self.words(WORD_LISTS) + 8 * (which * self.capacity) as u64
    }
}

/// Names of the kernels for one type of number.
pub(crate) struct Kernels {
    numbers: NumberFormat,
    suffix: &'static str,
}

impl Kernels {
    pub(crate) fn of(numbers: NumberFormat) -> Self {
        let suffix = match numbers {
            NumberFormat::F32 => "f32",
            NumberFormat::F16 => "f16",
            NumberFormat::Bf16 => "bf16",
        };
        Self { numbers, suffix }
    }

    pub(crate) fn name(&self, kernel: &str) -> String {
        format!("{kernel}_{}", self.suffix)
    }

    /// The product for so many rows: outputs and rows of a block. All give the same bits.
    fn product(&self, rows: usize) -> (String, usize, usize) {
        let (output_tiles, row_tiles) = match self.numbers {
            NumberFormat::F32 => (1, 1),
            _ if rows <= 8 => (1, 1),
            _ if rows <= 32 => (1, 4),
            _ => (2, 8),
        };
        let name = self.name(&format!("linear_{output_tiles}_{row_tiles}"));
        (name, 16 * output_tiles, 8 * row_tiles)
    }
}

pub(crate) fn arguments(values: &[u64]) -> Arguments {
    let mut all = Arguments::default();
    all[..values.len()].copy_from_slice(values);
    all
}

fn blocks_of(count: usize, size: usize) -> u32 {
    count.div_ceil(size) as u32
}

/// Everything that a step's launches need.
pub(crate) struct Step<'a> {
    pub(crate) launcher: &'a dyn Launcher,
    pub(crate) config: &'a Config,
    pub(crate) kernels: &'a Kernels,
    pub(crate) weights: &'a DeviceWeights,
    pub(crate) pool: &'a Pool,
    pub(crate) buffers: &'a Buffers,
    pub(crate) extent: Extent,
}

/// One matrix product.
pub(crate) struct Product<'a> {
    pub(crate) x: u64,
    pub(crate) matrix: &'a Matrix,
    pub(crate) bias: u64,
    pub(crate) out: u64,
    pub(crate) rows: usize,
    /// Where the number of rows is read.
    pub(crate) live: u64,
    pub(crate) finish: Finish,
}

/// Launches a matrix product.
pub(crate) fn multiply(
    launcher: &dyn Launcher,
    kernels: &Kernels,
    product: &Product<'_>,
) -> Result<(), DeviceError> {
    let (name, outputs, rows) = kernels.product(product.rows);
    let blocks = [blocks_of(product.matrix.outputs, outputs), blocks_of(product.rows, rows), 1];
    let list = [
        product.x,
        product.matrix.address(),
        product.bias,
        product.out,
        product.matrix.inputs as u64,
        product.matrix.outputs as u64,
        product.live,
        product.finish as u64,
    ];
    launcher.launch(&name, blocks, 256, &arguments(&list))
}

fn address_of(buffer: Option<&Buffer>) -> u64 {
    buffer.map_or(0, Buffer::address)
}

impl Step<'_> {
    fn launch(&self, kernel: &str, blocks: [u32; 3], threads: u32, list: &[u64]) -> Result<(), DeviceError> {
        self.launcher.launch(&self.kernels.name(kernel), blocks, threads, &arguments(list))
    }

    fn dims(&self) -> u64 {
        let config = self.config;
        config.attention_heads as u64
            | (config.key_value_heads as u64) << 16
            | (config.head_size as u64) << 32
    }

    fn epsilon(&self) -> u64 {
        u64::from(self.config.norm_epsilon.to_bits())
    }

    /// `out = norm(x)` for `rows` rows, the number of which is read at `live`.
    fn normalise(&self, x: u64, weight: &Buffer, rows: usize, live: u64) -> Result<(), DeviceError> {
        let out = self.buffers.normed.address();
        let list = [x, weight.address(), out, self.config.hidden_size as u64, self.epsilon(), live];
        self.launch("normalise", [rows as u32, 1, 1], 256, &list)
    }

    /// All launches of the step, in order. Leaves the wanted rows in `buffers.hidden`.
    pub(crate) fn run(&self) -> Result<(), DeviceError> {
        let (buffers, extent) = (self.buffers, self.extent);
        let hidden = self.config.hidden_size as u64;
        let rows = extent.rows as u32;
        let (all, wanted) = (buffers.count(0), buffers.count(2));
        let (mut x, mut mixed) = (buffers.x.address(), buffers.mixed.address());
        let table = self.weights.embedding.address();
        self.launch("embed", [rows, 1, 1], 256, &[table, buffers.words(0), x, hidden, all])?;
        let (mut attention, mut convolution) = (0, 0);
        let (mut live, mut live_rows) = (all, extent.rows);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.normalise(x, &layer.operator_norm, live_rows, live)?;
            match &layer.operator {
                Operator::Convolution { in_projection, in_bias, kernel, bias } => {
                    self.project(in_projection, in_bias.as_ref())?;
                    self.convolve(kernel, bias.as_ref(), convolution)?;
                    convolution += 1;
                }
                Operator::Attention { projection, query_norm, key_norm } => {
                    self.project(projection, None)?;
                    self.attend(query_norm, key_norm, attention)?;
                    attention += 1;
                }
            }
            if index + 1 == self.weights.layers.len() {
                if extent.wanted == 0 {
                    return Ok(());
                }
                if extent.wanted < extent.rows {
                    // From here on rows depend on themselves alone, and only the wanted ones on anything.
                    (live, live_rows) = (wanted, extent.wanted);
                    let width = layer.out_projection.inputs;
                    let chosen = self.kernels.name("choose");
                    let float = "choose_f32";
                    for (name, from, to, wide) in [
                        (float, x, buffers.chosen_x.address(), hidden),
                        (&chosen, mixed, buffers.chosen_mixed.address(), width as u64),
                    ] {
                        let list = arguments(&[from, to, buffers.words(7), wide, live]);
                        self.launcher.launch(name, [live_rows as u32, 1, 1], 256, &list)?;
                    }
                    (x, mixed) = (buffers.chosen_x.address(), buffers.chosen_mixed.address());
                }
            }
            let bias = address_of(layer.out_bias.as_ref());
            let (normed, active) = (buffers.normed.address(), buffers.active.address());
            let product = |from, matrix, bias, out, finish| {
                let one = Product { x: from, matrix, bias, out, rows: live_rows, live, finish };
                multiply(self.launcher, self.kernels, &one)
            };
            product(mixed, &layer.out_projection, bias, x, Finish::Added)?;
            self.normalise(x, &layer.feed_forward_norm, live_rows, live)?;
            product(normed, &layer.gate_up, 0, active, Finish::Gated)?;
            product(active, &layer.down, 0, x, Finish::Added)?;
        }
        let norm = self.weights.final_norm.address();
        let (out, kept) = (buffers.hidden.address(), buffers.addresses(1));
        let list = arguments(&[x, norm, out, hidden, self.epsilon(), live, kept]);
        self.launcher.launch("output", [live_rows as u32, 1, 1], 256, &list)
    }

    fn project(&self, matrix: &Matrix, bias: Option<&Buffer>) -> Result<(), DeviceError> {
        let product = Product {
            x: self.buffers.normed.address(),
            matrix,
            bias: address_of(bias),
            out: self.buffers.projected.address(),
            rows: self.extent.rows,
            live: self.buffers.count(0),
            finish: Finish::Stored,
        };
        multiply(self.launcher, self.kernels, &product)
    }

    fn convolve(&self, kernel: &Buffer, bias: Option<&Buffer>, index: usize) -> Result<(), DeviceError> {
        let buffers = self.buffers;
        let (hidden, length) = (self.config.hidden_size, self.config.convolution_length as u64);
        let across = blocks_of(hidden, 256);
        let offset = (index * self.pool.sizes.convolution_floats) as u64;
        let (projected, places) = (buffers.projected.address(), buffers.addresses(0));
        let list = [
            projected,
            kernel.address(),
            address_of(bias),
            buffers.mixed.address(),
            buffers.words(4),
            buffers.words(5),
            places,
            offset,
            hidden as u64,
            length,
            buffers.count(0),
        ];
        self.launch("convolve", [self.extent.rows as u32, across, 1], 256, &list)?;
        let (first, count) = (buffers.words(5), buffers.words(6));
        let list = [projected, first, count, places, offset, hidden as u64, length, buffers.count(1)];
        self.launcher.launch("remember", [self.extent.feeds as u32, across, 1], 256, &arguments(&list))
    }

    fn attend(&self, query_norm: &Buffer, key_norm: &Buffer, index: usize) -> Result<(), DeviceError> {
        let (buffers, config) = (self.buffers, self.config);
        let (keys, values) = self.pool.layer(index);
        let (projected, live, rows) =
            (buffers.projected.address(), buffers.count(0), self.extent.rows as u32);
        let (positions, slots, lines) = (buffers.words(1), buffers.words(2), buffers.words(3));
        let (table, stride) = (self.pool.table(), self.pool.context as u64);
        let heads = blocks_of(config.attention_heads + 2 * config.key_value_heads, 4);
        let list = [
            projected,
            query_norm.address(),
            key_norm.address(),
            self.weights.cosines.address(),
            self.weights.sines.address(),
            keys,
            values,
            positions,
            slots,
            lines,
            table,
            stride,
            self.dims(),
            self.epsilon(),
            live,
        ];
        self.launch("place", [rows, heads, 1], 128, &list)?;
        let scale = u64::from((1.0 / (config.head_size as f32).sqrt()).to_bits());
        let (partial, weights) = (buffers.partial.address(), buffers.weights.address());
        let runs = buffers.runs as u64;
        let list = [
            projected,
            keys,
            values,
            positions,
            lines,
            table,
            stride,
            self.dims(),
            live,
            scale,
            partial,
            weights,
            runs,
        ];
        let blocks = [rows, config.key_value_heads as u32, self.extent.runs as u32];
        self.launch("attend", blocks, 128, &list)?;
        let across = blocks_of(config.attention_heads * config.head_size, 256);
        let list = [partial, weights, buffers.mixed.address(), positions, live, self.dims(), runs];
        self.launch("join", [rows, across, 1], 256, &list)
    }
}
