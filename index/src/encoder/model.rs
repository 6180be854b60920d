//! The BERT encoder: weights and forward pass (Devlin et al., arXiv:1810.04805), mean pooling and L2 norm.
//!
//! Sequences are laid one after the other without padding. Every kernel gives a row, or a sequence, the same bits
//! whatever stands beside it, so an embedding does not depend on its batch.

use orion_kernels::{
    AttentionShape, Packed, Threads, add_in_place, bidirectional_attention, dot, gelu_in_place,
    layer_norm_in_place, linear,
};

use super::checkpoint::{Checkpoint, Table};
use super::config::Config;
use super::error::EncoderError;

/// Rows of one part where a step works on rows one by one: some tens of microseconds.
const ROWS_PER_PART: usize = 32;

/// Weights and shapes of the encoder.
pub(super) struct Model {
    config: Config,
    checkpoint: Checkpoint,
    words: Table,
    /// `[max_position_embeddings, hidden]`: position embedding plus that of token type 0.
    positions: Vec<f32>,
    embedding_norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Query, key and value side by side: `[3 * hidden, hidden]`.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

struct Linear {
    weight: Packed,
    bias: Vec<f32>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

/// Working memory of one forward pass; grows to the largest batch it has seen.
#[derive(Default)]
pub(super) struct Scratch {
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
}

impl Model {
    pub(super) fn new(config: Config, checkpoint: Checkpoint) -> Result<Self, EncoderError> {
        let hidden = config.hidden_size;
        let words = checkpoint.table("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let mut positions = checkpoint
            .read("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let types =
            checkpoint.read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            add_in_place(row, &types[..hidden]);
        }
        let embedding_norm = Norm::read(&checkpoint, "embeddings.LayerNorm", &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::read(&checkpoint, &format!("encoder.layer.{i}"), &config))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, checkpoint, words, positions, embedding_norm, layers })
    }

    /// Floats of an embedding.
    pub(super) fn dimensions(&self) -> usize {
        self.config.hidden_size
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// One embedding for each sequence of token ids, which are below `vocab_size`, and of which there are at most
    /// `max_position_embeddings` and at least one in a sequence.
    pub(super) fn forward(
        &self,
        sequences: &[&[u32]],
        scratch: &mut Scratch,
        threads: &Threads,
    ) -> Vec<Vec<f32>> {
        let hidden = self.config.hidden_size;
        let lengths: Vec<usize> = sequences.iter().map(|ids| ids.len()).collect();
        let rows: usize = lengths.iter().sum();
        let Scratch { hidden: x, qkv, mixed, wide } = scratch;
        self.embed(sequences, resized(x, rows * hidden), threads);
        let x = &mut x[..rows * hidden];
        let shape = AttentionShape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_attention_heads,
            head_dim: self.config.head_dim(),
            scale: 1.0 / (self.config.head_dim() as f32).sqrt(),
        };
        for layer in &self.layers {
            // [rows, 3 * hidden]
            let qkv = resized(qkv, rows * 3 * hidden);
            layer.qkv.forward(x, rows, qkv, threads);
            // [rows, hidden]
            let mixed = resized(mixed, rows * hidden);
            bidirectional_attention(qkv, &lengths, shape, mixed, threads);
            let projected = &mut qkv[..rows * hidden];
            layer.attention_output.forward(mixed, rows, projected, threads);
            layer.attention_norm.add_and_norm(x, projected, threads);
            // [rows, intermediate]
            let wide = resized(wide, rows * self.config.intermediate_size);
            layer.intermediate.forward(x, rows, wide, threads);
            threads.run_chunks(wide, ROWS_PER_PART * self.config.intermediate_size, |_, part| {
                gelu_in_place(part)
            });
            // [rows, hidden]
            layer.output.forward(wide, rows, mixed, threads);
            layer.output_norm.add_and_norm(x, mixed, threads);
        }
        pool(x, &lengths, hidden)
    }

    fn embed(&self, sequences: &[&[u32]], x: &mut [f32], threads: &Threads) {
        let hidden = self.config.hidden_size;
        let tokens: Vec<(usize, usize)> =
            sequences.iter().flat_map(|ids| ids.iter().map(|&id| id as usize).enumerate()).collect();
        threads.run_chunks(x, ROWS_PER_PART * hidden, |first, part| {
            for (row, (position, id)) in part.chunks_exact_mut(hidden).zip(&tokens[first / hidden..]) {
                row.copy_from_slice(&self.positions[position * hidden..][..hidden]);
                self.checkpoint.add_row(self.words, *id, row);
            }
            self.embedding_norm.apply(part);
        });
    }
}

impl Layer {
    fn read(checkpoint: &Checkpoint, prefix: &str, config: &Config) -> Result<Self, EncoderError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("{prefix}.{part}");
        let parts = ["attention.self.query", "attention.self.key", "attention.self.value"].map(name);
        let norm = |part: &str| Norm::read(checkpoint, &name(part), config);
        Ok(Self {
            qkv: Linear::read(checkpoint, &parts, hidden, hidden)?,
            attention_output: Linear::read(checkpoint, &[name("attention.output.dense")], hidden, hidden)?,
            attention_norm: norm("attention.output.LayerNorm")?,
            intermediate: Linear::read(checkpoint, &[name("intermediate.dense")], wide, hidden)?,
            output: Linear::read(checkpoint, &[name("output.dense")], hidden, wide)?,
            output_norm: norm("output.LayerNorm")?,
        })
    }
}

impl Linear {
    /// One layer of the outputs of `prefixes` one after the other, each `[outputs, inputs]`.
    fn read(
        checkpoint: &Checkpoint,
        prefixes: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, EncoderError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            weight.extend(checkpoint.read(&format!("{prefix}.weight"), &[outputs, inputs])?);
            bias.extend(checkpoint.read(&format!("{prefix}.bias"), &[outputs])?);
        }
        Ok(Self { weight: Packed::pack(&weight, prefixes.len() * outputs, inputs), bias })
    }

    fn forward(&self, x: &[f32], rows: usize, out: &mut [f32], threads: &Threads) {
        linear(x, rows, &self.weight, Some(&self.bias), out, threads);
    }
}

impl Norm {
    fn read(checkpoint: &Checkpoint, prefix: &str, config: &Config) -> Result<Self, EncoderError> {
        let shape = [config.hidden_size];
        Ok(Self {
            weight: checkpoint.read(&format!("{prefix}.weight"), &shape)?,
            bias: checkpoint.read(&format!("{prefix}.bias"), &shape)?,
            eps: config.layer_norm_eps,
        })
    }

    fn apply(&self, x: &mut [f32]) {
        layer_norm_in_place(x, &self.weight, &self.bias, self.eps);
    }

    /// `x = norm(x + more)`.
    fn add_and_norm(&self, x: &mut [f32], more: &[f32], threads: &Threads) {
        threads.run_chunks(x, ROWS_PER_PART * self.weight.len(), |first, part| {
            add_in_place(part, &more[first..][..part.len()]);
            self.apply(part);
        });
    }
}

/// The first `len` floats, grown where there are fewer; what they hold is left from earlier use.
fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Mean over each sequence's rows, in order, scaled to length 1; a mean of zero stays zero.
fn pool(x: &[f32], lengths: &[usize], hidden: usize) -> Vec<Vec<f32>> {
    let mut rows = x.chunks_exact(hidden);
    let mut pooled = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let mut sum = vec![0.0; hidden];
        for row in rows.by_ref().take(length) {
            add_in_place(&mut sum, row);
        }
        // Dividing by the count first is left out: it cancels in the norm.
        let norm = dot(&sum, &sum).sqrt();
        if norm > 0.0 {
            for value in &mut sum {
                *value /= norm;
            }
        }
        pooled.push(sum);
    }
    pooled
}
