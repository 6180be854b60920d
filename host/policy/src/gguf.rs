//! The GGUF container, versions 2 and 3: metadata by name, and where each tensor lies.
//!
//! Whatever a file says is held against its length before it is believed: every count, length and offset. What the
//! metadata mean is in `gguf_model`; here are bytes only.

use std::collections::BTreeMap;

use orion_kernels::BlockFormat;

use crate::checkpoint::Stored;
use crate::error::CheckpointError;

/// Most tensors and most metadata entries: a hundred times those of a large model.
const MOST_ENTRIES: u64 = 1 << 16;

/// Most numbers and texts in all arrays together: vocabularies have a few hundred thousand.
const MOST_ARRAY_ENTRIES: u64 = 1 << 24;

/// Longest name of an entry or tensor, in bytes; the format's own limit.
const LONGEST_NAME: u64 = 65_535;

/// Most dimensions of a tensor; the format's own limit.
const MOST_DIMENSIONS: u32 = 4;

/// Alignment of tensors where the file does not say.
const DEFAULT_ALIGNMENT: usize = 32;

/// What number formats a GGUF may store tensors in here.
pub(crate) const GGUF_DTYPES: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K";

/// One metadata entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i128),
    Float(f64),
    Flag(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl Value {
    /// What it is, for errors.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Integer(value) => format!("`{value}`"),
            Self::Float(value) => format!("`{value}`"),
            Self::Flag(value) => format!("`{value}`"),
            Self::Text(value) => format!("`{}`", value.chars().take(80).collect::<String>()),
            Self::Integers(values) => format!("an array of {} integers", values.len()),
            Self::Floats(values) => format!("an array of {} floats", values.len()),
            Self::Texts(values) => format!("an array of {} texts", values.len()),
        }
    }
}

/// A tensor's place in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GgufTensor {
    /// Outermost first, as everywhere else here; files have it the other way.
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What stands before the data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gguf {
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, GgufTensor>,
}

impl Gguf {
    /// Reads the head of a file; `file` names it in errors.
    pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Self, CheckpointError> {
        let mut reader = Reader { bytes, at: 0, file, array_entries_left: MOST_ARRAY_ENTRIES };
        let magic = reader.take(4, "the first four bytes")?;
        if magic != b"GGUF" {
            return Err(reader.fault(format!("expected to begin with `GGUF`, got {magic:?}")));
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            let order = if (2..=3).contains(&version.swap_bytes()) { " (a big-endian file)" } else { "" };
            return Err(reader.fault(format!("expected version 2 or 3, got {version}{order}")));
        }
        let tensor_count = reader.count("tensors", MOST_ENTRIES)?;
        let entry_count = reader.count("metadata entries", MOST_ENTRIES)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entry_count {
            let name = reader.text("the name of a metadata entry", LONGEST_NAME)?;
            let kind = reader.u32(&name)?;
            let value = reader.value(kind, &name)?;
            if metadata.insert(name.clone(), value).is_some() {
                return Err(reader.fault(format!("metadata `{name}` stands there twice")));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Integer(value @ 1..=0x10_0000)) if value.count_ones() == 1 => *value as usize,
            Some(other) => {
                let got = other.describe();
                let expected = "a power of two up to 1048576";
                return Err(
                    reader.fault(format!("metadata `general.alignment`: expected {expected}, got {got}"))
                );
            }
        };
        let mut heads = Vec::new();
        for _ in 0..tensor_count {
            heads.push(reader.tensor_head()?);
        }
        let data_start = reader.at.next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for (name, head) in heads {
            let fault = |reason: String| reader.fault(format!("tensor `{name}`: {reason}"));
            let offset = usize::try_from(head.offset).ok().filter(|offset| offset.is_multiple_of(alignment));
            let Some(start) = offset.and_then(|offset| offset.checked_add(data_start)) else {
                return Err(fault(format!(
                    "expected an offset in steps of {alignment}, got {}",
                    head.offset
                )));
            };
            let Some(end) = start.checked_add(head.bytes).filter(|end| *end <= bytes.len()) else {
                return Err(fault(format!(
                    "expected {} bytes from {start} on, got a file of {}",
                    head.bytes,
                    bytes.len()
                )));
            };
            let tensor = GgufTensor { shape: head.shape, stored: head.stored, start, end };
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(fault("it stands there twice".to_owned()));
            }
        }
        Ok(Self { metadata, tensors })
    }
}

struct TensorHead {
    shape: Vec<usize>,
    stored: Stored,
    bytes: usize,
    offset: u64,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    file: &'a str,
    array_entries_left: u64,
}

/// `count` little-endian numbers, widened.
macro_rules! numbers {
    ($reader:expr, $kind:ty, $to:ty, $count:expr, $what:expr) => {{
        let size = size_of::<$kind>();
        let bytes = $reader.take($count.checked_mul(size as u64).unwrap_or(u64::MAX), $what)?;
        bytes
            .as_chunks::<{ size_of::<$kind>() }>()
            .0
            .iter()
            .map(|chunk| <$kind>::from_le_bytes(*chunk) as $to)
            .collect::<Vec<$to>>()
    }};
}

impl<'a> Reader<'a> {
    fn fault(&self, reason: String) -> CheckpointError {
        CheckpointError::Malformed { file: self.file.to_owned(), reason }
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], CheckpointError> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(wanted) if wanted <= left => {
                let taken = &self.bytes[self.at..self.at + wanted];
                self.at += wanted;
                Ok(taken)
            }
            _ => Err(self.fault(format!(
                "reading `{what}` at byte {}: expected {count} bytes, got the last {left} of the file",
                self.at
            ))),
        }
    }

    fn u32(&mut self, what: &str) -> Result<u32, CheckpointError> {
        let bytes = self.take(4, what)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn u64(&mut self, what: &str) -> Result<u64, CheckpointError> {
        let bytes = self.take(8, what)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, CheckpointError> {
        let count = self.u64(what)?;
        if most < count {
            return Err(self.fault(format!("expected at most {most} {what}, got {count}")));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str, longest: u64) -> Result<String, CheckpointError> {
        let length = self.u64(what)?;
        if longest < length {
            return Err(self.fault(format!("{what}: expected at most {longest} bytes, got {length}")));
        }
        let bytes = self.take(length, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(self.fault(format!("{what}: expected UTF-8, got {error}"))),
        }
    }

    fn value(&mut self, kind: u32, name: &str) -> Result<Value, CheckpointError> {
        Ok(match kind {
            0..=5 | 10 | 11 => Value::Integer(self.integers(kind, 1, name)?[0].into()),
            6 | 12 => Value::Float(self.floats(kind, 1, name)?[0]),
            7 => Value::Flag(self.take(1, name)?[0] != 0),
            8 => Value::Text(self.text(name, u64::MAX)?),
            9 => {
                let inner = self.u32(name)?;
                let count = self.u64(name)?;
                let Some(left) = self.array_entries_left.checked_sub(count) else {
                    return Err(self.fault(format!(
                        "metadata `{name}`: expected at most {MOST_ARRAY_ENTRIES} entries in all arrays, got {count} more"
                    )));
                };
                self.array_entries_left = left;
                match inner {
                    0..=5 | 7 | 10 | 11 => Value::Integers(self.integers(inner, count, name)?),
                    6 | 12 => Value::Floats(self.floats(inner, count, name)?),
                    8 => {
                        let mut texts = Vec::new();
                        for _ in 0..count {
                            texts.push(self.text(name, u64::MAX)?);
                        }
                        Value::Texts(texts)
                    }
                    _ => {
                        let expected = "an array of numbers, flags or texts";
                        return Err(
                            self.fault(format!("metadata `{name}`: expected {expected}, got type {inner}"))
                        );
                    }
                }
            }
            _ => return Err(self.fault(format!("metadata `{name}`: expected a type up to 12, got {kind}"))),
        })
    }

    fn integers(&mut self, kind: u32, count: u64, what: &str) -> Result<Vec<i64>, CheckpointError> {
        Ok(match kind {
            0 | 7 => numbers!(self, u8, i64, count, what),
            1 => numbers!(self, i8, i64, count, what),
            2 => numbers!(self, u16, i64, count, what),
            3 => numbers!(self, i16, i64, count, what),
            4 => numbers!(self, u32, i64, count, what),
            5 => numbers!(self, i32, i64, count, what),
            // Those beyond i64 come out negative, which nothing here takes for a size.
            10 => numbers!(self, u64, i64, count, what),
            _ => numbers!(self, i64, i64, count, what),
        })
    }

    fn floats(&mut self, kind: u32, count: u64, what: &str) -> Result<Vec<f64>, CheckpointError> {
        Ok(if kind == 6 {
            numbers!(self, f32, f64, count, what)
        } else {
            numbers!(self, f64, f64, count, what)
        })
    }

    fn tensor_head(&mut self) -> Result<(String, TensorHead), CheckpointError> {
        let name = self.text("the name of a tensor", LONGEST_NAME)?;
        let dimensions = self.u32(&name)?;
        if MOST_DIMENSIONS < dimensions {
            return Err(self.fault(format!(
                "tensor `{name}`: expected at most {MOST_DIMENSIONS} dimensions, got {dimensions}"
            )));
        }
        let sizes = numbers!(self, u64, u64, u64::from(dimensions), &name);
        let kind = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some(stored) = stored(kind) else {
            let (file, got) = (self.file.to_owned(), format!("type {kind}"));
            return Err(CheckpointError::Dtype { file, tensor: name, expected: GGUF_DTYPES, got });
        };
        let shape: Option<Vec<usize>> = sizes.iter().rev().map(|size| usize::try_from(*size).ok()).collect();
        let counted = shape.and_then(|shape| {
            let numbers = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
            // Blocks never reach over the end of a row.
            let row = shape.last().copied().unwrap_or(1);
            stored.bytes_of(row)?;
            Some((stored.bytes_of(numbers)?, shape))
        });
        let Some((bytes, shape)) = counted else {
            return Err(self.fault(format!(
                "tensor `{name}`: expected sizes that make whole blocks, innermost first, got {sizes:?}"
            )));
        };
        Ok((name, TensorHead { shape, stored, bytes, offset }))
    }
}

/// The format behind a type number.
fn stored(kind: u32) -> Option<Stored> {
    Some(match kind {
        0 => Stored::F32,
        1 => Stored::F16,
        2 => Stored::Blocks(BlockFormat::Q4_0),
        8 => Stored::Blocks(BlockFormat::Q8_0),
        12 => Stored::Blocks(BlockFormat::Q4K),
        14 => Stored::Blocks(BlockFormat::Q6K),
        30 => Stored::Bf16,
        _ => return None,
    })
}
