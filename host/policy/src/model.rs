//! The LFM2 forward pass: many rows of many sequences at once.
//!
//! All rows of a step, whether a prompt's chunk or one decoded token, go through the same matrix products; only
//! convolution and attention look at sequences. Every number of a row depends on that row and what its own sequence
//! holds, in a fixed order of operations (see orion-kernels), so a sequence has the same bits alone and batched, whole
//! and in chunks, branched and read again.
//!
//! LFM2: <https://arxiv.org/abs/2511.23404>; RMS norm arXiv:1910.07467; rotary positions arXiv:2104.09864; grouped
//! queries arXiv:2305.13245; SwiGLU arXiv:2002.05202.

use std::sync::{Arc, Mutex, PoisonError};

use orion_kernels::{
    AttentionShape, Packed, Threads, add_in_place, add_rms_norm, attend_rows, linear, push_position,
    rms_norm, rms_norm_in_place, rotate_half_in_place, silu_mul,
};

use crate::checkpoint::Checkpoint;
use crate::config::{Config, LayerKind};
use crate::error::CheckpointError;
use crate::matrices::{self, WeightFormat};
use crate::state::{Sequence, StateSizes};

/// Rows of one task of attention: enough that a panel of keys, once in the cache, serves many.
const ROWS_PER_TASK: usize = 16;

enum Operator {
    Convolution {
        /// `[3 * hidden, hidden]`: the gates B and C and the input x, in that order.
        in_projection: Packed,
        in_bias: Option<Vec<f32>>,
        /// `[length, hidden]`, the oldest position first.
        kernel: Vec<f32>,
        bias: Option<Vec<f32>>,
        out_projection: Packed,
        out_bias: Option<Vec<f32>>,
    },
    Attention {
        /// `[(heads + 2 * kv_heads) * head_size, hidden]`: queries, keys, values.
        projection: Packed,
        query_norm: Vec<f32>,
        key_norm: Vec<f32>,
        out_projection: Packed,
    },
}

struct Layer {
    operator_norm: Vec<f32>,
    operator: Operator,
    feed_forward_norm: Vec<f32>,
    /// `[2 * feed_forward, hidden]`: w1 (gate), then w3 (up).
    gate_up: Packed,
    /// w2.
    down: Packed,
}

/// An LFM2 with its weights packed for the kernels.
pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) sizes: StateSizes,
    /// The embedding table, where it is not the head.
    embedding: Option<Packed>,
    head: Packed,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    /// `[max_context, head_size / 2]` each.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    /// `None` for the pool of the process.
    threads: Option<Arc<Threads>>,
    /// What a test breaks on purpose.
    #[cfg(test)]
    pub(crate) fault: Fault,
}

/// Faults for tests of what must notice them.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every call starts its convolutions from zero.
    DroppedConvolutionState,
}

/// Tokens to feed to one sequence in a step.
pub(crate) struct Feed<'a> {
    pub(crate) sequence: &'a mut Sequence,
    pub(crate) tokens: &'a [u32],
    /// Outputs are wanted of the tokens from this index on; all tokens' length means of none.
    pub(crate) wanted_from: usize,
}

/// Working memory of a step, kept from step to step.
#[derive(Default)]
pub(crate) struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    projected: Vec<f32>,
    mixed: Vec<f32>,
    gated: Vec<f32>,
    active: Vec<f32>,
    /// Outputs of the wanted rows after the last norm, `[rows, hidden]`, in the order of the feeds.
    pub(crate) hidden: Vec<f32>,
}

fn resized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.resize(length, 0.0);
    buffer
}

impl Model {
    /// Reads and packs all tensors of a checkpoint, its matrices as `format` says; positions up to `max_context` tokens
    /// are prepared.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        max_context: usize,
        format: WeightFormat,
        threads: Option<Arc<Threads>>,
    ) -> Result<Self, CheckpointError> {
        let config = checkpoint.config().clone();
        let hidden = config.hidden_size;
        let vector = |name: &str| checkpoint.tensor(name).map(|tensor| tensor.data);
        let pool = threads.as_deref().unwrap_or_else(|| Threads::global());
        let stacked = |names: &[String], inputs: usize| {
            matrices::stacked(checkpoint, names, inputs, format, false, pool)
        };
        let table =
            |name: &str| matrices::stacked(checkpoint, &[name.to_owned()], hidden, format, true, pool);
        let packed = |name: &str, inputs: usize| stacked(&[name.to_owned()], inputs);
        let mut layers = Vec::with_capacity(config.layers.len());
        for (index, kind) in config.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let bias = |part: &str| {
                if config.convolution_bias { vector(&name(part)).map(Some) } else { Ok(None) }
            };
            let operator = match kind {
                LayerKind::Convolution => {
                    let by_channel = vector(&name("conv.conv.weight"))?;
                    let length = config.convolution_length;
                    let kernel =
                        (0..length * hidden).map(|i| by_channel[i % hidden * length + i / hidden]).collect();
                    Operator::Convolution {
                        in_projection: packed(&name("conv.in_proj.weight"), hidden)?,
                        in_bias: bias("conv.in_proj.bias")?,
                        kernel,
                        bias: bias("conv.conv.bias")?,
                        out_projection: packed(&name("conv.out_proj.weight"), hidden)?,
                        out_bias: bias("conv.out_proj.bias")?,
                    }
                }
                LayerKind::Attention => Operator::Attention {
                    projection: stacked(
                        &["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}.weight"))),
                        hidden,
                    )?,
                    query_norm: vector(&name("self_attn.q_layernorm.weight"))?,
                    key_norm: vector(&name("self_attn.k_layernorm.weight"))?,
                    out_projection: packed(
                        &name("self_attn.out_proj.weight"),
                        config.attention_heads * config.head_size,
                    )?,
                },
            };
            layers.push(Layer {
                operator_norm: vector(&name("operator_norm.weight"))?,
                operator,
                feed_forward_norm: vector(&name("ffn_norm.weight"))?,
                gate_up: stacked(
                    &["w1", "w3"].map(|part| name(&format!("feed_forward.{part}.weight"))),
                    hidden,
                )?,
                down: packed(&name("feed_forward.w2.weight"), config.feed_forward_size)?,
            });
        }
        let embedded = table("model.embed_tokens.weight")?;
        let (embedding, head) =
            if config.tied_head { (None, embedded) } else { (Some(embedded), table("lm_head.weight")?) };
        let (cosines, sines) = rotary_tables(config.rope_base, config.head_size, max_context);
        Ok(Self {
            sizes: StateSizes::of(&config),
            embedding,
            head,
            layers,
            final_norm: vector("model.embedding_norm.weight")?,
            cosines,
            sines,
            threads,
            config,
            #[cfg(test)]
            fault: Fault::None,
        })
    }

    /// Bytes of all matrices, mapped ones too.
    pub(crate) fn weight_bytes(&self) -> usize {
        let of_layer = |layer: &Layer| {
            let (first, second) = match &layer.operator {
                Operator::Convolution { in_projection, out_projection, .. } => {
                    (in_projection, out_projection)
                }
                Operator::Attention { projection, out_projection, .. } => (projection, out_projection),
            };
            [first, second, &layer.gate_up, &layer.down].map(Packed::bytes).iter().sum::<usize>()
        };
        let tables = self.head.bytes() + self.embedding.as_ref().map_or(0, Packed::bytes);
        tables + self.layers.iter().map(of_layer).sum::<usize>()
    }

    /// The threads that it computes with.
    pub(crate) fn threads(&self) -> &Threads {
        self.threads.as_deref().unwrap_or_else(|| Threads::global())
    }

    fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.as_ref().unwrap_or(&self.head).copy_row(token as usize, out);
    }

    /// Feeds tokens to sequences; leaves the wanted rows in `scratch.hidden` and, where the last token of a feed is
    /// wanted, in its sequence.
    ///
    /// The caller answers for ids below the vocabulary size and lengths within the prepared context.
    pub(crate) fn forward(&self, feeds: &mut [Feed<'_>], scratch: &mut Scratch) {
        let hidden = self.config.hidden_size;
        let epsilon = self.config.norm_epsilon;
        let rows: usize = feeds.iter().map(|feed| feed.tokens.len()).sum();
        let x = resized(&mut scratch.x, rows * hidden); // [rows, hidden]
        let tokens = feeds.iter().flat_map(|feed| feed.tokens);
        for (row, &token) in x.chunks_exact_mut(hidden).zip(tokens) {
            self.embed(token, row);
        }
        #[cfg(test)]
        if self.fault == Fault::DroppedConvolutionState {
            for feed in feeds.iter_mut() {
                feed.sequence.convolutions.fill(0.0);
            }
        }
        let normed = resized(&mut scratch.normed, rows * hidden);
        rms_norm(x, &self.layers[0].operator_norm, epsilon, normed, self.threads());
        let mut active_rows = rows;
        let (mut attention_index, mut convolution_index) = (0, 0);
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = &scratch.normed[..rows * hidden];
            let (out_projection, out_bias) = match &layer.operator {
                Operator::Convolution { in_projection, in_bias, kernel, bias, out_projection, out_bias } => {
                    let projected = resized(&mut scratch.projected, rows * 3 * hidden);
                    linear(normed, rows, in_projection, in_bias.as_deref(), projected, self.threads());
                    let projected = &*projected;
                    let mixed = resized(&mut scratch.mixed, rows * hidden);
                    let floats = self.sizes.convolution_floats;
                    let first = convolution_index * floats;
                    self.each_feed(feeds, mixed, hidden, |feed, row, out| {
                        convolve(
                            &projected[row * 3 * hidden..][..out.len() * 3],
                            kernel,
                            bias.as_deref(),
                            &mut feed.sequence.convolutions[first..][..floats],
                            hidden,
                            out,
                        );
                    });
                    convolution_index += 1;
                    (out_projection, out_bias.as_deref())
                }
                Operator::Attention { projection, query_norm, key_norm, out_projection } => {
                    let projected = resized(&mut scratch.projected, rows * projection.out_features());
                    linear(normed, rows, projection, None, projected, self.threads());
                    let query_width = self.config.attention_heads * self.config.head_size;
                    let mixed = resized(&mut scratch.mixed, rows * query_width);
                    self.attend(attention_index, (query_norm, key_norm), feeds, projected, mixed);
                    attention_index += 1;
                    (out_projection, None)
                }
            };
            if index + 1 == self.layers.len() {
                // From here on rows depend on themselves alone, and only the wanted ones on anything.
                active_rows = keep_wanted(feeds, &mut scratch.x, hidden);
                keep_wanted(feeds, &mut scratch.mixed, out_projection.in_features());
            }
            let x = &mut scratch.x[..active_rows * hidden];
            let mixed = &scratch.mixed[..active_rows * out_projection.in_features()];
            let normed = &mut scratch.normed[..active_rows * hidden];
            linear(mixed, active_rows, out_projection, out_bias, normed, self.threads());
            add_rms_norm(x, normed, &layer.feed_forward_norm, epsilon, self.threads());
            let width = self.config.feed_forward_size;
            let gated = resized(&mut scratch.gated, active_rows * 2 * width); // [rows, gate and up]
            linear(normed, active_rows, &layer.gate_up, None, gated, self.threads());
            let active = resized(&mut scratch.active, active_rows * width);
            let gated = &*gated;
            self.threads().run_chunks(active, ROWS_PER_TASK * width, |first, part| {
                let both = &gated[2 * first..][..2 * part.len()];
                for (out, line) in part.chunks_exact_mut(width).zip(both.chunks_exact(2 * width)) {
                    let (gate, up) = line.split_at(width);
                    out.copy_from_slice(gate);
                    silu_mul(out, up);
                }
            });
            linear(active, active_rows, &layer.down, None, normed, self.threads());
            let next_norm = self.layers.get(index + 1).map_or(&self.final_norm, |next| &next.operator_norm);
            add_rms_norm(x, normed, next_norm, epsilon, self.threads());
        }
        std::mem::swap(&mut scratch.hidden, &mut scratch.normed);
        let out = resized(&mut scratch.hidden, active_rows * hidden);
        let mut row = 0;
        for feed in feeds.iter_mut() {
            let count = feed.tokens.len();
            feed.sequence.note_tokens(feed.tokens);
            row += count - feed.wanted_from;
            if feed.wanted_from < count {
                feed.sequence.hidden.clear();
                feed.sequence.hidden.extend_from_slice(&out[(row - 1) * hidden..][..hidden]);
            }
        }
    }

    /// Logits `[rows, vocabulary]` of hidden rows.
    pub(crate) fn logits(&self, hidden: &[f32], out: &mut Vec<f32>) {
        let rows = hidden.len() / self.config.hidden_size;
        let logits = resized(out, rows * self.config.vocabulary_size);
        linear(hidden, rows, &self.head, None, logits, self.threads());
    }

    /// Calls `work` once with each feed, its first row among all and its rows of `width` floats.
    fn each_feed<'f>(
        &self,
        feeds: &mut [Feed<'f>],
        rows: &mut [f32],
        width: usize,
        work: impl Fn(&mut Feed<'f>, usize, &mut [f32]) + Sync,
    ) {
        let mut parts = Vec::with_capacity(feeds.len());
        let mut rest = rows;
        let mut row = 0;
        for feed in feeds.iter_mut() {
            let count = feed.tokens.len();
            let (own, later) = rest.split_at_mut(count * width);
            parts.push(Mutex::new((feed, row, own)));
            rest = later;
            row += count;
        }
        let one = |index: usize| {
            let mut guard = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (feed, first_row, own) = &mut *guard;
            work(feed, *first_row, own);
        };
        // A decoded token or two are sooner done than shared out.
        if row < ROWS_PER_TASK {
            (0..parts.len()).for_each(one)
        } else {
            self.threads().run(parts.len(), one)
        }
    }

    /// Causal attention of all feeds in one layer. `projected` is `[rows, queries + keys + values]`, `mixed` is
    /// `[rows, heads * head_size]`. Keys and values are added to the sequences.
    fn attend(
        &self,
        layer: usize,
        (query_norm, key_norm): (&[f32], &[f32]),
        feeds: &mut [Feed<'_>],
        projected: &mut [f32],
        mixed: &mut [f32],
    ) {
        let config = &self.config;
        let head = config.head_size;
        let shape = AttentionShape {
            heads: config.attention_heads,
            kv_heads: config.key_value_heads,
            head_dim: head,
            scale: 1.0 / (head as f32).sqrt(),
        };
        let (query_width, key_width) = (shape.heads * head, shape.kv_heads * head);
        let row_width = query_width + 2 * key_width;
        let row_count = projected.len() / row_width;
        self.each_feed(feeds, projected, row_width, |feed, _, lines| {
            let start = feed.sequence.length();
            let own = &mut feed.sequence.own[layer];
            for (offset, line) in lines.chunks_exact_mut(row_width).enumerate() {
                let (queries, rest) = line.split_at_mut(query_width);
                let (keys, values) = rest.split_at_mut(key_width);
                let half = (start + offset) * head / 2;
                let (cosines, sines) = (&self.cosines[half..][..head / 2], &self.sines[half..][..head / 2]);
                for (part, norm) in [(queries, query_norm), (&mut *keys, key_norm)] {
                    rms_norm_in_place(part, norm, config.norm_epsilon);
                    for one_head in part.chunks_exact_mut(head) {
                        rotate_half_in_place(one_head, cosines, sines);
                    }
                }
                push_position(&mut own.keys, &mut own.values, own.positions, &shape, keys, values);
                own.positions += 1;
            }
        });
        // One task is a few rows of one sequence; a single row is cut into heads where there are too few tasks.
        let head_parts =
            if row_count < self.threads().count() { shape.kv_heads.min(self.threads().count()) } else { 1 };
        let group_width = query_width / shape.kv_heads;
        let mut tasks = Vec::new();
        let mut rest = mixed;
        let mut first_row = 0;
        for feed in feeds.iter() {
            let count = feed.tokens.len();
            for offset in (0..count).step_by(ROWS_PER_TASK) {
                let height = ROWS_PER_TASK.min(count - offset);
                let rows_after = count - offset - height;
                let parts = if height == 1 { head_parts } else { 1 };
                for part in 0..parts {
                    let heads = shape.kv_heads * part / parts..shape.kv_heads * (part + 1) / parts;
                    let (out, later) = rest.split_at_mut(height * heads.len() * group_width);
                    rest = later;
                    tasks.push((
                        &*feed.sequence,
                        first_row + offset,
                        rows_after,
                        height,
                        heads,
                        Mutex::new(out),
                    ));
                }
            }
            first_row += count;
        }
        let projected = &*projected;
        self.threads().run(tasks.len(), |index| {
            let (sequence, task_row, rows_after, height, heads, out) = &tasks[index];
            let mut guard = out.lock().unwrap_or_else(PoisonError::into_inner);
            let mut segments = Vec::new();
            sequence.collect_base(layer, &mut segments);
            let own = &sequence.own[layer];
            segments.push(own.first(own.positions - rows_after));
            let queries = &projected[task_row * row_width..];
            attend_rows(queries, row_width, *height, &segments, &shape, heads.clone(), &mut guard);
        });
    }
}

/// Moves the rows of `width` that are wanted to the front; returns their number.
fn keep_wanted(feeds: &[Feed<'_>], rows: &mut [f32], width: usize) -> usize {
    let (mut read, mut written) = (0, 0);
    for feed in feeds {
        let count = feed.tokens.len();
        let wanted = count - feed.wanted_from;
        let start = (read + feed.wanted_from) * width;
        rows.copy_within(start..start + wanted * width, written * width);
        read += count;
        written += wanted;
    }
    written
}

/// The gated short convolution of one sequence: `C * (kernel over time of B * x)`.
///
/// `projected` is `[count, B C x]`; `remembered` holds the last `length - 1` products `B * x`, oldest first, and is
/// brought up to date; `out` is `[count, hidden]`. Each output is a sum over the kernel from the oldest position to
/// the newest, then the bias.
fn convolve(
    projected: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    remembered: &mut [f32],
    hidden: usize,
    out: &mut [f32],
) {
    let mut window = Vec::with_capacity(remembered.len() + out.len());
    window.extend_from_slice(remembered);
    for line in projected.chunks_exact(3 * hidden) {
        let (gate, input) = (&line[..hidden], &line[2 * hidden..]);
        window.extend(gate.iter().zip(input).map(|(b, x)| b * x));
    }
    for (index, (row, line)) in
        out.chunks_exact_mut(hidden).zip(projected.chunks_exact(3 * hidden)).enumerate()
    {
        row.fill(0.0);
        for (offset, weights) in kernel.chunks_exact(hidden).enumerate() {
            let products = &window[(index + offset) * hidden..][..hidden];
            for ((sum, weight), product) in row.iter_mut().zip(weights).zip(products) {
                *sum += weight * product;
            }
        }
        if let Some(values) = bias {
            add_in_place(row, values);
        }
        for (value, gate) in row.iter_mut().zip(&line[hidden..2 * hidden]) {
            *value *= gate;
        }
    }
    remembered.copy_from_slice(&window[window.len() - remembered.len()..]);
}

/// Cosines and sines `[positions, head_size / 2]`; angles are rounded to f32 as in the reference implementation.
pub(crate) fn rotary_tables(base: f32, head_size: usize, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let half = head_size / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| (1.0 / f64::from(base).powf(2.0 * i as f64 / head_size as f64)) as f32).collect();
    let angles = (0..positions)
        .flat_map(|position| frequencies.iter().map(move |frequency| f64::from(position as f32 * frequency)));
    angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
}
