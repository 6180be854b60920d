//! A checkpoint in a device's memory, its matrices in one type of number.

use std::sync::Arc;

use super::error::DeviceError;
use super::launcher::{Buffer, Launcher, bytes_of_floats};
use crate::checkpoint::{Checkpoint, NumberFormat, Stored, to_bytes};
use crate::config::{Config, LayerKind};
use crate::error::{CheckpointError, PolicyError};
use crate::model::rotary_tables;

/// Rows of the gate and of the values alternate by that many, so that one tile of a product holds both.
const GATED_ROWS: usize = 8;

/// The widest head and the most queries that share a key head (`MOST_HEAD` and `MOST_SHARED` of `kernels.cu`).
const MOST_HEAD: usize = 128;
const MOST_SHARED: usize = 8;

/// A matrix `[outputs, inputs]`.
pub(crate) struct Matrix {
    buffer: Buffer,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Matrix {
    pub(crate) fn address(&self) -> u64 {
        self.buffer.address()
    }
}

pub(crate) enum Operator {
    Convolution {
        in_projection: Matrix,
        in_bias: Option<Buffer>,
        /// `[length, hidden]`, the oldest position first.
        kernel: Buffer,
        bias: Option<Buffer>,
    },
    Attention {
        projection: Matrix,
        query_norm: Buffer,
        key_norm: Buffer,
    },
}

pub(crate) struct Layer {
    pub(crate) operator_norm: Buffer,
    pub(crate) operator: Operator,
    pub(crate) out_projection: Matrix,
    pub(crate) out_bias: Option<Buffer>,
    pub(crate) feed_forward_norm: Buffer,
    pub(crate) gate_up: Matrix,
    pub(crate) down: Matrix,
}

pub(crate) struct DeviceWeights {
    pub(crate) numbers: NumberFormat,
    pub(crate) embedding: Matrix,
    /// `None` where it is the embedding.
    head: Option<Matrix>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Buffer,
    /// `[context, head / 2]` each.
    pub(crate) cosines: Buffer,
    pub(crate) sines: Buffer,
    pub(crate) matrix_bytes: usize,
}

impl DeviceWeights {
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Whether the kernels compute a model of this shape.
pub(crate) fn check_shape(config: &Config) -> Result<(), DeviceError> {
    let by_eight = [
        ("hidden size", config.hidden_size),
        ("feed-forward width", config.feed_forward_size),
        ("head size", config.head_size),
    ];
    for (what, got) in by_eight {
        if !got.is_multiple_of(8) {
            return Err(DeviceError::Shape { what, expected: "a multiple of 8", got });
        }
    }
    if MOST_HEAD < config.head_size {
        return Err(DeviceError::Shape { what: "head size", expected: "at most 128", got: config.head_size });
    }
    let shared = config.attention_heads / config.key_value_heads;
    if MOST_SHARED < shared {
        let what = "query heads of a key head";
        return Err(DeviceError::Shape { what, expected: "at most 8", got: shared });
    }
    Ok(())
}

/// The type of number for a checkpoint's matrices: its own where all have one; f16 for blocks of integers, which are
/// widened, and where types differ.
pub(crate) fn numbers_of(checkpoint: &Checkpoint) -> Result<NumberFormat, CheckpointError> {
    let mut found = None;
    for (name, shape) in checkpoint.config().tensors() {
        if shape.len() != 2 {
            continue;
        }
        let own = match checkpoint.stored(&name)? {
            Stored::F32 => NumberFormat::F32,
            Stored::Bf16 => NumberFormat::Bf16,
            Stored::F16 | Stored::Blocks(_) => NumberFormat::F16,
        };
        if found.is_some_and(|before| before != own) {
            return Ok(NumberFormat::F16);
        }
        found = Some(own);
    }
    Ok(found.unwrap_or(NumberFormat::F32))
}

struct Loader<'a> {
    launcher: &'a Arc<dyn Launcher>,
    checkpoint: &'a Checkpoint,
    numbers: NumberFormat,
    matrix_bytes: usize,
}

impl Loader<'_> {
    fn floats(&self, values: &[f32]) -> Result<Buffer, PolicyError> {
        Ok(Buffer::holding(self.launcher, "weights", &bytes_of_floats(values))?)
    }

    fn vector(&self, name: &str) -> Result<Buffer, PolicyError> {
        self.floats(&self.checkpoint.tensor(name)?.data)
    }

    fn rows(&mut self, rows: &[f32], inputs: usize) -> Result<Matrix, PolicyError> {
        let buffer = Buffer::holding(self.launcher, "weights", &to_bytes(rows, self.numbers))?;
        self.matrix_bytes += buffer.bytes();
        Ok(Matrix { buffer, inputs, outputs: rows.len() / inputs })
    }

    fn matrix(&mut self, names: &[String], inputs: usize) -> Result<Matrix, PolicyError> {
        let mut rows = Vec::new();
        for name in names {
            rows.extend(self.checkpoint.tensor(name)?.data);
        }
        self.rows(&rows, inputs)
    }

    fn gate_up(&mut self, names: &[String; 2], inputs: usize) -> Result<Matrix, PolicyError> {
        let [gate, up] = [&names[0], &names[1]].map(|name| self.checkpoint.tensor(name));
        let (gate, up) = (gate?.data, up?.data);
        let tile = GATED_ROWS * inputs;
        let rows: Vec<f32> =
            gate.chunks(tile).zip(up.chunks(tile)).flat_map(|(a, b)| [a, b]).flatten().copied().collect();
        self.rows(&rows, inputs)
    }

    fn layer(&mut self, index: usize, kind: LayerKind) -> Result<Layer, PolicyError> {
        let config = self.checkpoint.config();
        let hidden = config.hidden_size;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let bias = |loader: &Self, part: &str| {
            if config.convolution_bias { loader.vector(&name(part)).map(Some) } else { Ok(None) }
        };
        let (operator, out_projection, out_bias) = match kind {
            LayerKind::Convolution => {
                let by_channel = self.checkpoint.tensor(&name("conv.conv.weight"))?.data;
                let length = config.convolution_length;
                let kernel: Vec<f32> =
                    (0..length * hidden).map(|i| by_channel[i % hidden * length + i / hidden]).collect();
                let operator = Operator::Convolution {
                    in_projection: self.matrix(&[name("conv.in_proj.weight")], hidden)?,
                    in_bias: bias(self, "conv.in_proj.bias")?,
                    kernel: self.floats(&kernel)?,
                    bias: bias(self, "conv.conv.bias")?,
                };
                let out = self.matrix(&[name("conv.out_proj.weight")], hidden)?;
                (operator, out, bias(self, "conv.out_proj.bias")?)
            }
            LayerKind::Attention => {
                let parts =
                    ["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}.weight")));
                let operator = Operator::Attention {
                    projection: self.matrix(&parts, hidden)?,
                    query_norm: self.vector(&name("self_attn.q_layernorm.weight"))?,
                    key_norm: self.vector(&name("self_attn.k_layernorm.weight"))?,
                };
                let width = config.attention_heads * config.head_size;
                (operator, self.matrix(&[name("self_attn.out_proj.weight")], width)?, None)
            }
        };
        Ok(Layer {
            operator_norm: self.vector(&name("operator_norm.weight"))?,
            operator,
            out_projection,
            out_bias,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"))?,
            gate_up: self
                .gate_up(&["w1", "w3"].map(|part| name(&format!("feed_forward.{part}.weight"))), hidden)?,
            down: self.matrix(&[name("feed_forward.w2.weight")], config.feed_forward_size)?,
        })
    }
}

/// Copies a checkpoint to the device; positions up to `context` are prepared.
pub(crate) fn load(
    launcher: &Arc<dyn Launcher>,
    checkpoint: &Checkpoint,
    context: usize,
) -> Result<DeviceWeights, PolicyError> {
    let config = checkpoint.config();
    let numbers = numbers_of(checkpoint)?;
    let needed_bytes = config.parameters() as usize * numbers.size_bytes();
    let free_bytes = launcher.free_bytes()?;
    if free_bytes < needed_bytes {
        return Err(DeviceError::Memory { what: "weights", needed_bytes, free_bytes }.into());
    }
    let mut loader = Loader { launcher, checkpoint, numbers, matrix_bytes: 0 };
    let layers = config
        .layers
        .iter()
        .enumerate()
        .map(|(index, kind)| loader.layer(index, *kind))
        .collect::<Result<Vec<_>, _>>()?;
    let embedding = loader.matrix(&["model.embed_tokens.weight".to_owned()], config.hidden_size)?;
    let head = if config.tied_head {
        None
    } else {
        Some(loader.matrix(&["lm_head.weight".to_owned()], config.hidden_size)?)
    };
    let (cosines, sines) = rotary_tables(config.rope_base, config.head_size, context);
    Ok(DeviceWeights {
        numbers,
        embedding,
        head,
        layers,
        final_norm: loader.vector("model.embedding_norm.weight")?,
        cosines: loader.floats(&cosines)?,
        sines: loader.floats(&sines)?,
        matrix_bytes: loader.matrix_bytes,
    })
}
