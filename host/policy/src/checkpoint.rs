//! Weights on disk: a folder with `model.safetensors` or its shards, a GGUF file, or such bytes in memory.
//!
//! Files are mapped, and each tensor is converted to f32 only when it is asked for, so that a large model never
//! stands in memory twice. `config` says which tensors there must be; `matrices` and the trainer read them here.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use orion_kernels::{BlockFormat, SharedBytes, widen_blocks};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::Config;
use crate::error::CheckpointError;
use crate::gguf::Gguf;
use crate::gguf_model;

/// How numbers are stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// 32-bit IEEE floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
}

impl NumberFormat {
    pub(crate) fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// One tensor in f32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Size of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// The numbers; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// All tensors of a model by name, in f32.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// Name to tensor.
    pub tensors: BTreeMap<String, Tensor>,
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(vec) => vec,
            Self::Static(slice) => slice,
        }
    }
}

/// A file of weights. Matrices that are used as they lie share its bytes.
pub(crate) struct File {
    pub(crate) name: String,
    bytes: Arc<Bytes>,
}

impl File {
    fn new(name: String, bytes: Bytes) -> Self {
        Self { name, bytes: Arc::new(bytes) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

/// How a tensor's numbers lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    Blocks(BlockFormat),
}

impl Stored {
    /// Bytes of that many numbers; `None` where they are no whole blocks, or too many to count.
    pub(crate) fn bytes_of(self, numbers: usize) -> Option<usize> {
        match self {
            Self::F32 => numbers.checked_mul(4),
            Self::F16 | Self::Bf16 => numbers.checked_mul(2),
            Self::Blocks(format) => format.bytes_of(numbers),
        }
    }
}

struct Location {
    file: usize,
    start: usize,
    end: usize,
    shape: Vec<usize>,
    stored: Stored,
}

/// An opened checkpoint: the config, and where each tensor lies.
pub struct Checkpoint {
    config: Config,
    files: Vec<File>,
    locations: BTreeMap<String, Location>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `config.json` and `model.safetensors` (or `model.safetensors.index.json` and its shards) in `folder`
    /// and holds them against each other: every tensor must be there in the right shape and a readable number
    /// format, and none may be there that the config does not know. A `.gguf` file stands for such a folder.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        if gguf_model::is_gguf(folder) {
            return Self::from_gguf(map_file(folder)?);
        }
        let config = Config::load(folder)?;
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let files = if !single.exists() && index.exists() {
            shard_paths(folder, &index)?.iter().map(|path| map_file(path)).collect::<Result<Vec<_>, _>>()?
        } else {
            vec![map_file(&single)?]
        };
        Self::assemble(config, files)
    }

    /// A checkpoint whose safetensors file is in the program itself.
    pub fn from_static(config: Config, name: &str, bytes: &'static [u8]) -> Result<Self, CheckpointError> {
        Self::assemble(config, vec![File::new(name.to_owned(), Bytes::Static(bytes))])
    }

    /// A checkpoint of weights in memory, stored as f32.
    pub fn from_weights(config: Config, weights: &Weights) -> Result<Self, CheckpointError> {
        let bytes = weights.to_safetensors(NumberFormat::F32)?;
        Self::assemble(config, vec![File::new("weights in memory".to_owned(), Bytes::Owned(bytes))])
    }

    fn from_gguf(file: File) -> Result<Self, CheckpointError> {
        let mut gguf = Gguf::parse(file.bytes(), &file.name)?;
        let config = gguf_model::config(&gguf, &file.name)?;
        let mut locations = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let missing = |tensor: String, expected: Vec<usize>| CheckpointError::MissingTensor {
                file: file.name.clone(),
                tensor,
                expected,
            };
            let Some((own, own_shape)) = gguf_model::gguf_tensor(&name, &shape) else {
                return Err(missing(name, shape));
            };
            let Some(tensor) = gguf.tensors.remove(&own) else { return Err(missing(own, own_shape)) };
            if tensor.shape != own_shape {
                return Err(CheckpointError::Shape {
                    file: file.name.clone(),
                    tensor: own,
                    expected: own_shape,
                    got: tensor.shape,
                });
            }
            let (start, end, stored) = (tensor.start, tensor.end, tensor.stored);
            locations.insert(name, Location { file: 0, start, end, shape, stored });
        }
        if let Some((tensor, left)) = gguf.tensors.pop_first() {
            return Err(CheckpointError::UnknownTensor { file: file.name, tensor, got: left.shape });
        }
        Ok(Self { config, files: vec![file], locations })
    }

    fn assemble(config: Config, files: Vec<File>) -> Result<Self, CheckpointError> {
        let expected: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        let mut locations = BTreeMap::new();
        for (file_index, file) in files.iter().enumerate() {
            let data = file.bytes();
            let (header_bytes, metadata) = SafeTensors::read_metadata(data).map_err(|error| {
                CheckpointError::Malformed { file: file.name.clone(), reason: error.to_string() }
            })?;
            for tensor in metadata.offset_keys() {
                let Some(info) = metadata.info(&tensor) else { continue };
                let Some(shape) = expected.get(&tensor) else {
                    // Exports of tied models may repeat the head.
                    if config.tied_head && tensor == "lm_head.weight" {
                        continue;
                    }
                    let got = info.shape.clone();
                    return Err(CheckpointError::UnknownTensor { file: file.name.clone(), tensor, got });
                };
                if *shape != info.shape {
                    return Err(CheckpointError::Shape {
                        file: file.name.clone(),
                        tensor,
                        expected: shape.clone(),
                        got: info.shape.clone(),
                    });
                }
                let stored = match info.dtype {
                    Dtype::F32 => Stored::F32,
                    Dtype::F16 => Stored::F16,
                    Dtype::BF16 => Stored::Bf16,
                    other => {
                        let (expected, got) = ("F32, F16 or BF16", format!("{other:?}"));
                        return Err(CheckpointError::Dtype {
                            file: file.name.clone(),
                            tensor,
                            expected,
                            got,
                        });
                    }
                };
                let base = 8 + header_bytes;
                let location = Location {
                    file: file_index,
                    start: base + info.data_offsets.0,
                    end: base + info.data_offsets.1,
                    shape: info.shape.clone(),
                    stored,
                };
                if locations.insert(tensor.clone(), location).is_some() {
                    return Err(CheckpointError::Malformed {
                        file: file.name.clone(),
                        reason: format!("tensor `{tensor}` stands in two shards"),
                    });
                }
            }
        }
        for (tensor, shape) in expected {
            if !locations.contains_key(&tensor) {
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                return Err(CheckpointError::MissingTensor {
                    file: names.join("`, `"),
                    tensor,
                    expected: shape,
                });
            }
        }
        Ok(Self { config, files, locations })
    }

    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One tensor in f32, row by row; every number is finite.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let (_, location) = self.locate(name)?;
        let mut data = vec![0.0; location.shape.iter().product()];
        self.widen(name, 0, &mut data)?;
        Ok(Tensor { shape: location.shape.clone(), data })
    }

    /// The numbers of a tensor from the one at `first` on, as many as `out` holds; every one is finite.
    ///
    /// The caller answers for a range within the tensor that begins and ends with a row.
    pub(crate) fn widen(&self, name: &str, first: usize, out: &mut [f32]) -> Result<(), CheckpointError> {
        let (file, location) = self.locate(name)?;
        let data = &file.bytes()[location.start..location.end];
        let begin = location.stored.bytes_of(first).unwrap_or(data.len());
        let length = location.stored.bytes_of(out.len()).unwrap_or(0);
        convert(&data[begin..begin + length], location.stored, out);
        match out.iter().position(|value| !value.is_finite()) {
            Some(offset) => Err(self.not_finite(name, out[offset], first + offset)),
            None => Ok(()),
        }
    }

    /// What is said of a number that is none.
    pub(crate) fn not_finite(&self, name: &str, got: f32, offset: usize) -> CheckpointError {
        let file = self.locate(name).map(|(file, _)| file.name.clone()).unwrap_or_default();
        CheckpointError::NotFinite { file, tensor: name.to_owned(), got, offset }
    }

    /// How a tensor is stored.
    pub(crate) fn stored(&self, name: &str) -> Result<Stored, CheckpointError> {
        self.locate(name).map(|(_, location)| location.stored)
    }

    /// How many numbers a tensor has.
    pub(crate) fn numbers(&self, name: &str) -> Result<usize, CheckpointError> {
        self.locate(name).map(|(_, location)| location.shape.iter().product())
    }

    /// The bytes of a tensor where they lie.
    pub(crate) fn raw(&self, name: &str) -> Result<(SharedBytes, Range<usize>), CheckpointError> {
        let (file, location) = self.locate(name)?;
        Ok((file.bytes.clone(), location.start..location.end))
    }

    /// All tensors in f32.
    pub fn weights(&self) -> Result<Weights, CheckpointError> {
        let mut tensors = BTreeMap::new();
        for name in self.locations.keys() {
            tensors.insert(name.clone(), self.tensor(name)?);
        }
        Ok(Weights { tensors })
    }

    fn locate(&self, name: &str) -> Result<(&File, &Location), CheckpointError> {
        let location = self.locations.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            file: self.files.first().map(|file| file.name.clone()).unwrap_or_default(),
            tensor: name.to_owned(),
            expected: Vec::new(),
        })?;
        Ok((&self.files[location.file], location))
    }
}

fn convert(bytes: &[u8], stored: Stored, out: &mut [f32]) {
    match stored {
        Stored::F16 => {
            for (pair, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = f16::from_le_bytes(*pair).to_f32();
            }
        }
        Stored::Bf16 => {
            for (pair, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = bf16::from_le_bytes(*pair).to_f32();
            }
        }
        Stored::F32 => {
            for (quad, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *value = f32::from_le_bytes(*quad);
            }
        }
        Stored::Blocks(format) => widen_blocks(format, bytes, out),
    }
}

fn shard_paths(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let file = index.display().to_string();
    let bytes =
        std::fs::read(index).map_err(|source| CheckpointError::Read { file: file.clone(), source })?;
    let parsed: ShardIndex = serde_json::from_slice(&bytes)
        .map_err(|error| CheckpointError::Malformed { file: file.clone(), reason: error.to_string() })?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(CheckpointError::Malformed { file, reason: "`weight_map` is empty".to_owned() });
    }
    names
        .into_iter()
        .map(|name| {
            // An index must not reach out of its folder.
            if Path::new(&name).file_name().is_none_or(|plain| plain != name.as_str()) {
                let reason = format!("shard `{name}` is not a plain file name");
                return Err(CheckpointError::Malformed { file: file.clone(), reason });
            }
            Ok(folder.join(name))
        })
        .collect()
}

pub(crate) fn map_file(path: &Path) -> Result<File, CheckpointError> {
    let name = path.display().to_string();
    let read = |source| CheckpointError::Read { file: name.clone(), source };
    let handle = std::fs::File::open(path).map_err(read)?;
    if handle.metadata().map_err(read)?.len() == 0 {
        return Err(CheckpointError::Malformed { file: name, reason: "the file is empty".to_owned() });
    }
    // SAFETY: the map is read-only and lives as long as the checkpoint. As with every mapped file, another
    // process that truncates it while it is in use can end this one; checkpoints are not edited in place.
    let map = unsafe { memmap2::Mmap::map(&handle) }.map_err(read)?;
    Ok(File::new(name, Bytes::Mapped(map)))
}

impl Weights {
    /// The bytes of a safetensors file with these tensors, each number rounded to `format`.
    pub fn to_safetensors(&self, format: NumberFormat) -> Result<Vec<u8>, CheckpointError> {
        let dtype = match format {
            NumberFormat::F32 => Dtype::F32,
            NumberFormat::F16 => Dtype::F16,
            NumberFormat::Bf16 => Dtype::BF16,
        };
        let malformed = |error: safetensors::SafeTensorError| CheckpointError::Malformed {
            file: "weights in memory".to_owned(),
            reason: error.to_string(),
        };
        let encoded: Vec<(&String, &Tensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, tensor, to_bytes(&tensor.data, format)))
            .collect();
        let views = encoded
            .iter()
            .map(|(name, tensor, bytes)| {
                safetensors::tensor::TensorView::new(dtype, tensor.shape.clone(), bytes)
                    .map(|view| (name.as_str(), view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        safetensors::serialize(views, None).map_err(malformed)
    }

    /// Writes `config.json` and `model.safetensors` to `folder`, which is made if need be. The weights file is
    /// written beside its place, then renamed.
    pub fn save(&self, config: &Config, folder: &Path, format: NumberFormat) -> Result<(), CheckpointError> {
        let write = |path: &Path, bytes: &[u8]| {
            let temporary = path.with_extension("partial");
            std::fs::write(&temporary, bytes)
                .and_then(|()| std::fs::rename(&temporary, path))
                .map_err(|source| CheckpointError::Write { file: path.display().to_string(), source })
        };
        std::fs::create_dir_all(folder)
            .map_err(|source| CheckpointError::Write { file: folder.display().to_string(), source })?;
        write(&folder.join("config.json"), config.to_json().as_bytes())?;
        write(&folder.join("model.safetensors"), &self.to_safetensors(format)?)
    }
}

pub(crate) fn to_bytes(data: &[f32], format: NumberFormat) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.len() * format.size_bytes());
    for &value in data {
        match format {
            NumberFormat::F32 => bytes.extend(value.to_le_bytes()),
            NumberFormat::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            NumberFormat::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }
    bytes
}
