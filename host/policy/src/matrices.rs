//! Weight matrices for the kernels: as the checkpoint stores them, or rounded to blocks while they are read.
//!
//! What is stored in blocks of 256 stays where it lies, in the mapped file; blocks of 32 the kernels copy. Half precision
//! is packed as it is. Rounding goes a few rows at a time, so that a large matrix never stands in memory in f32.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use orion_kernels::{
    BlockFormat, BlockRows, Packed, Precision, Threads, quantise_blocks, scale_that_is_not_finite,
};

use crate::checkpoint::{Checkpoint, Stored};
use crate::error::CheckpointError;

/// Numbers that are widened at once while a matrix is rounded: 4 MiB in f32.
const NUMBERS_AT_ONCE: usize = 1 << 20;

/// What the matrices of a checkpoint become when it is loaded. Norms and convolution taps stay as they are, and so does
/// a matrix that is in blocks already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightFormat {
    /// As the checkpoint has them.
    #[default]
    AsStored,
    /// Eight bits in blocks of 32: half of f16, and next to nothing lost.
    Q8_0,
    /// Four bits in blocks of 32; the table of tokens and the head in eight.
    Q4_0,
    /// Four bits in blocks of 256, nearer to the original than `Q4_0` at its size; the table of tokens and the head in
    /// eight. A matrix whose rows are no whole blocks becomes `Q4_0`.
    Q4K,
}

impl WeightFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AsStored, Self::Q8_0, Self::Q4_0, Self::Q4K];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsStored => "as-stored",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4K => "q4_k",
        }
    }

    /// The blocks for rows of `inputs`; `None` where the matrix stays as it is.
    fn blocks(self, inputs: usize, is_table: bool) -> Option<BlockFormat> {
        let wanted = match self {
            Self::AsStored => return None,
            Self::Q8_0 => BlockFormat::Q8_0,
            Self::Q4_0 | Self::Q4K if is_table => BlockFormat::Q8_0,
            Self::Q4K if inputs.is_multiple_of(BlockFormat::Q4K.block_len()) => BlockFormat::Q4K,
            Self::Q4_0 | Self::Q4K => BlockFormat::Q4_0,
        };
        inputs.is_multiple_of(wanted.block_len()).then_some(wanted)
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is no [`WeightFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading a weight format: expected `as-stored`, `q8_0`, `q4_0` or `q4_k`, got `{0}`")]
pub struct UnknownWeightFormat(String);

impl FromStr for WeightFormat {
    type Err = UnknownWeightFormat;

    fn from_str(text: &str) -> Result<Self, UnknownWeightFormat> {
        let named = Self::ALL.into_iter().find(|format| format.name() == text);
        named.ok_or_else(|| UnknownWeightFormat(text.to_owned()))
    }
}

/// The matrices of some names, one below the other, as one for the kernels.
pub(crate) fn stacked(
    checkpoint: &Checkpoint,
    names: &[String],
    inputs: usize,
    format: WeightFormat,
    is_table: bool,
    threads: &Threads,
) -> Result<Packed, CheckpointError> {
    let stored = names.iter().map(|name| checkpoint.stored(name)).collect::<Result<Vec<_>, _>>()?;
    let to_blocks = |one: &Stored| match one {
        Stored::Blocks(own) => Some(*own),
        _ => format.blocks(inputs, is_table),
    };
    let blocks: Option<Vec<BlockFormat>> = stored.iter().map(to_blocks).collect();
    if let Some(formats) = blocks {
        let parts = names
            .iter()
            .zip(stored)
            .zip(formats)
            .map(|((name, one), own)| match one {
                Stored::Blocks(_) => as_it_lies(checkpoint, name, inputs, own),
                _ => rounded(checkpoint, name, inputs, own, threads),
            })
            .collect::<Result<Vec<_>, _>>()?;
        return Ok(Packed::from_blocks(parts, inputs, threads));
    }
    // In the checkpoint's own precision: exact, and half precision is read in half the time. Where parts differ, f32
    // holds the numbers of all.
    let mut rows = Vec::new();
    for name in names {
        rows.extend(checkpoint.tensor(name)?.data);
    }
    let own = |one: &Stored| match one {
        Stored::F16 => Precision::F16,
        Stored::Bf16 => Precision::Bf16,
        Stored::F32 | Stored::Blocks(_) => Precision::F32,
    };
    let first = stored.first().map_or(Precision::F32, own);
    let precision = if stored.iter().all(|one| own(one) == first) { first } else { Precision::F32 };
    Ok(Packed::pack_in(precision, &rows, rows.len() / inputs, inputs))
}

fn as_it_lies(
    checkpoint: &Checkpoint,
    name: &str,
    inputs: usize,
    format: BlockFormat,
) -> Result<BlockRows, CheckpointError> {
    let (bytes, range) = checkpoint.raw(name)?;
    let held = &(*bytes).as_ref()[range.clone()];
    if let Some((block, got)) = scale_that_is_not_finite(format, held) {
        return Err(checkpoint.not_finite(name, got, block * format.block_len()));
    }
    let row_bytes = format.bytes_of(inputs).unwrap_or(0);
    Ok(BlockRows { format, start: range.start, rows: range.len().checked_div(row_bytes).unwrap_or(0), bytes })
}

fn rounded(
    checkpoint: &Checkpoint,
    name: &str,
    inputs: usize,
    format: BlockFormat,
    threads: &Threads,
) -> Result<BlockRows, CheckpointError> {
    let numbers = checkpoint.numbers(name)?;
    let rows = numbers / inputs;
    let row_bytes = format.bytes_of(inputs).unwrap_or(0);
    let mut bytes = vec![0u8; rows * row_bytes];
    let rows_at_once = (NUMBERS_AT_ONCE / inputs).max(1);
    let mut values = Vec::new();
    for (index, part) in bytes.chunks_mut(rows_at_once * row_bytes).enumerate() {
        let first = index * rows_at_once * inputs;
        values.resize(part.len() / row_bytes * inputs, 0.0);
        checkpoint.widen(name, first, &mut values)?;
        let some = &values;
        threads.run_chunks(part, rows_at_once.div_ceil(8) * row_bytes, |at, out| {
            let from = at / row_bytes * inputs;
            let count = out.len() / row_bytes * inputs;
            out.copy_from_slice(&quantise_blocks(format, &some[from..from + count]));
        });
    }
    if let Some((block, got)) = scale_that_is_not_finite(format, &bytes) {
        return Err(checkpoint.not_finite(name, got, block * format.block_len()));
    }
    Ok(BlockRows { format, bytes: Arc::new(bytes), start: 0, rows })
}
