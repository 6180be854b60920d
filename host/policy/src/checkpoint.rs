//! Weights on disk: a folder with `model.safetensors` or its shards, or the same bytes in memory.
//!
//! Files are mapped, and each tensor is converted to f32 only when it is asked for, so that a large model never
//! stands in memory twice. `config` says which tensors there must be; `model` and the trainer read them here.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use orion_kernels::Precision;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::Config;
use crate::error::CheckpointError;

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
    fn size_bytes(self) -> usize {
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

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(vec) => vec,
            Self::Static(slice) => slice,
        }
    }
}

struct File {
    name: String,
    bytes: Bytes,
}

struct Location {
    file: usize,
    start: usize,
    end: usize,
    shape: Vec<usize>,
    dtype: Dtype,
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
    /// format, and none may be there that the config does not know.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
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
        Self::assemble(config, vec![File { name: name.to_owned(), bytes: Bytes::Static(bytes) }])
    }

    /// A checkpoint of weights in memory, stored as f32.
    pub fn from_weights(config: Config, weights: &Weights) -> Result<Self, CheckpointError> {
        let bytes = weights.to_safetensors(NumberFormat::F32)?;
        Self::assemble(
            config,
            vec![File { name: "weights in memory".to_owned(), bytes: Bytes::Owned(bytes) }],
        )
    }

    fn assemble(config: Config, files: Vec<File>) -> Result<Self, CheckpointError> {
        let expected: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        let mut locations = BTreeMap::new();
        for (file_index, file) in files.iter().enumerate() {
            let data = file.bytes.as_slice();
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
                if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                    let got = format!("{:?}", info.dtype);
                    return Err(CheckpointError::Dtype { file: file.name.clone(), tensor, got });
                }
                let base = 8 + header_bytes;
                let location = Location {
                    file: file_index,
                    start: base + info.data_offsets.0,
                    end: base + info.data_offsets.1,
                    shape: info.shape.clone(),
                    dtype: info.dtype,
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
        let (file, location) = self.locate(name)?;
        let mut data = vec![0.0; location.shape.iter().product()];
        convert(&file.bytes.as_slice()[location.start..location.end], location.dtype, &mut data);
        if let Some(offset) = data.iter().position(|value| !value.is_finite()) {
            let got = data[offset];
            return Err(CheckpointError::NotFinite {
                file: file.name.clone(),
                tensor: name.to_owned(),
                got,
                offset,
            });
        }
        Ok(Tensor { shape: location.shape.clone(), data })
    }

    /// How a tensor is stored.
    pub fn precision(&self, name: &str) -> Result<Precision, CheckpointError> {
        let (_, location) = self.locate(name)?;
        Ok(match location.dtype {
            Dtype::F16 => Precision::F16,
            Dtype::BF16 => Precision::Bf16,
            _ => Precision::F32,
        })
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

fn convert(bytes: &[u8], dtype: Dtype, out: &mut [f32]) {
    match dtype {
        Dtype::F16 => {
            for (pair, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = f16::from_le_bytes(*pair).to_f32();
            }
        }
        Dtype::BF16 => {
            for (pair, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = bf16::from_le_bytes(*pair).to_f32();
            }
        }
        _ => {
            for (quad, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *value = f32::from_le_bytes(*quad);
            }
        }
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

fn map_file(path: &Path) -> Result<File, CheckpointError> {
    let name = path.display().to_string();
    let read = |source| CheckpointError::Read { file: name.clone(), source };
    let handle = std::fs::File::open(path).map_err(read)?;
    if handle.metadata().map_err(read)?.len() == 0 {
        return Err(CheckpointError::Malformed { file: name, reason: "the file is empty".to_owned() });
    }
    // SAFETY: the map is read-only and lives as long as the checkpoint. As with every mapped file, another
    // process that truncates it while it is in use can end this one; checkpoints are not edited in place.
    let map = unsafe { memmap2::Mmap::map(&handle) }.map_err(read)?;
    Ok(File { name, bytes: Bytes::Mapped(map) })
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

fn to_bytes(data: &[f32], format: NumberFormat) -> Vec<u8> {
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
