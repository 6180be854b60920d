//! Tensors of a memory-mapped safetensors file, checked against expected shapes and read as f32.
//!
//! Why here: the embedding table is half of the file and only a few of its rows are ever read, so it stays in the
//! map; the matrices are packed from it once.
#![expect(unsafe_code, reason = "memory-maps the checkpoint")]

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::error::EncoderError;

/// A mapped checkpoint.
pub(super) struct Checkpoint {
    path: PathBuf,
    map: Mmap,
}

/// A tensor that stays in the map: its type and where its bytes lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    kind: Kind,
    /// Byte offset in the file.
    offset: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    F32,
    F16,
    Bf16,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::F16 | Kind::Bf16 => 2,
        }
    }
}

impl Checkpoint {
    pub(super) fn open(path: &Path) -> Result<Self, EncoderError> {
        let read_error = |source| EncoderError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read_error)?;
        // SAFETY: the map is read-only; a model's file is replaced by renaming, never rewritten in place, while it
        // is in use. This is the usual contract of a mapped model file.
        let map = unsafe { Mmap::map(&file) }.map_err(read_error)?;
        let checkpoint = Self { path: path.to_owned(), map };
        checkpoint.tensors()?;
        Ok(checkpoint)
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The tensor `name` as f32.
    pub(super) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EncoderError> {
        let table = self.table(name, shape)?;
        let count = shape.iter().product();
        let mut values = vec![0.0; count];
        self.convert(table.kind, table.offset, &mut values);
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(position) => Err(EncoderError::TensorValue {
                path: self.path.clone(),
                tensor: name.into(),
                got: values[position],
                position,
            }),
        }
    }

    /// The tensor `name`, left in the map.
    pub(super) fn table(&self, name: &str, shape: &[usize]) -> Result<Table, EncoderError> {
        let tensors = self.tensors()?;
        // Checkpoints of a model with a head carry the encoder's tensors under this prefix.
        let found = tensors.tensor(name).or_else(|_| tensors.tensor(&format!("bert.{name}")));
        let Ok(tensor) = found else {
            return Err(EncoderError::MissingTensor {
                path: self.path.clone(),
                tensor: name.into(),
                expected: shape.to_vec(),
            });
        };
        if tensor.shape() != shape {
            return Err(EncoderError::TensorShape {
                path: self.path.clone(),
                tensor: name.into(),
                expected: shape.to_vec(),
                got: tensor.shape().to_vec(),
            });
        }
        let kind = match tensor.dtype() {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::Bf16,
            other => {
                return Err(EncoderError::TensorType {
                    path: self.path.clone(),
                    tensor: name.into(),
                    got: format!("{other:?}"),
                });
            }
        };
        let offset = tensor.data().as_ptr().addr() - self.map.as_ptr().addr();
        Ok(Table { kind, offset, width: shape.last().copied().unwrap_or(1) })
    }

    /// Adds row `row` of a table to `sums`.
    pub(super) fn add_row(&self, table: Table, row: usize, sums: &mut [f32]) {
        debug_assert_eq!(sums.len(), table.width);
        let mut values = [0.0; 64];
        let mut offset = table.offset + row * table.width * table.kind.bytes();
        for part in sums.chunks_mut(values.len()) {
            let converted = &mut values[..part.len()];
            self.convert(table.kind, offset, converted);
            for (sum, value) in part.iter_mut().zip(converted) {
                *sum += *value;
            }
            offset += part.len() * table.kind.bytes();
        }
    }

    fn convert(&self, kind: Kind, offset: usize, values: &mut [f32]) {
        let bytes = &self.map[offset..][..values.len() * kind.bytes()];
        match kind {
            Kind::F32 => {
                for (value, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*b);
                }
            }
            Kind::F16 => {
                for (value, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = half_to_float(u16::from_le_bytes(*b));
                }
            }
            Kind::Bf16 => {
                for (value, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
        }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, EncoderError> {
        SafeTensors::deserialize(&self.map)
            .map_err(|e| EncoderError::Checkpoint { path: self.path.clone(), reason: e.to_string() })
    }
}

/// IEEE 754 binary16 as f32; exact.
fn half_to_float(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let value = match magnitude >> 10 {
        // Zero and the numbers below the normal range: multiples of 2^-24.
        0 => magnitude as f32 / (1u32 << 24) as f32,
        // Infinity and NaN.
        31 => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // The exponent's bias grows from 15 to 127.
        _ => f32::from_bits((magnitude << 13) + (112 << 23)),
    };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::half_to_float;

    #[test]
    fn halves_are_exact() {
        let cases = [
            (0x0000u16, 0.0f32),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_float(bits), value, "{bits:#06x}");
        }
        assert!(half_to_float(0x7e00).is_nan());
        assert!(half_to_float(0x8000).is_sign_negative());
    }
}
