//! `orion-train export`: a policy folder in other number formats, or as one GGUF file for llama.cpp and its kin.
//!
//! Names and metadata of the GGUF are those that llama.cpp reads for the architecture `lfm2`; the writer is candle's
//! (version 2 of the format, which every reader takes). Norms and convolution taps stay in f32, as llama.cpp's own
//! converter leaves them. The trajectory format is no part of GGUF: it goes into `orion.format` and
//! `orion.retriever_choice`, and normalisation before the vocabulary, as orion-nano's change of case, into
//! `orion.normalizer`. This project reads them back; other programs ignore them, so a tokenizer that normalises is
//! reported: text has to be lower-cased by whoever uses the file elsewhere.

use crate::checkpoint;
use crate::error::{Result, TrainError};
use crate::{nano, terminal};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use orion_policy::{Checkpoint, Config, FormatSpec, LayerKind, NumberFormat, TrajectoryFormat, gguf_tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number format of the matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Numbers {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Eight bits in blocks of 32 with a shared scale; GGUF only.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Arguments of `orion-train export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train export --model target/grpo/final --gguf policy.gguf --numbers q8_0
  orion-train export --model target/grpo/final --folder shipped --numbers f16")]
#[command(group(clap::ArgGroup::new("to").required(true).args(["gguf", "folder"])))]
pub struct ExportArguments {
    /// Policy folder: config.json, orion.json, tokenizer.json, model.safetensors.
    #[arg(long)]
    model: PathBuf,
    /// GGUF file to write.
    #[arg(long)]
    gguf: Option<PathBuf>,
    /// Policy folder to write.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Number format of the matrices.
    #[arg(long, value_enum, default_value_t = Numbers::F16)]
    numbers: Numbers,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// The parts of a `tokenizer.json` that GGUF has room for.
#[derive(Deserialize)]
struct TokenizerFile {
    normalizer: Option<serde_json::Value>,
    added_tokens: Vec<AddedToken>,
    model: BpeModel,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct BpeModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge in either of the two ways in which files have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

fn model_metadata(config: &Config, name: &str) -> Vec<(String, Value)> {
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let heads = config.layers.iter().map(|kind| match kind {
        LayerKind::Attention => Value::I32(config.key_value_heads as i32),
        LayerKind::Convolution => Value::I32(0),
    });
    let own = [
        ("vocab_size", number(config.vocabulary_size)),
        ("context_length", number(config.max_positions)),
        ("embedding_length", number(config.hidden_size)),
        ("block_count", number(config.layers.len())),
        ("feed_forward_length", number(config.feed_forward_size)),
        ("attention.head_count", number(config.attention_heads)),
        ("attention.head_count_kv", Value::Array(heads.collect())),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.norm_epsilon)),
        ("rope.freq_base", Value::F32(config.rope_base)),
        ("shortconv.l_cache", number(config.convolution_length)),
    ];
    let mut all = vec![
        ("general.architecture".to_owned(), Value::String("lfm2".into())),
        ("general.name".to_owned(), Value::String(name.into())),
    ];
    all.extend(own.into_iter().map(|(name, value)| (format!("lfm2.{name}"), value)));
    all
}

fn format_metadata(spec: &FormatSpec) -> Result<Vec<(String, Value)>> {
    let format = serde_json::to_value(spec.format)
        .map_err(|error| TrainError::content("orion.json", "a format with a name", error))?;
    let mut all = vec![
        ("orion.format".into(), Value::String(format.as_str().unwrap_or("full").into())),
        ("orion.retriever_choice".into(), Value::Bool(spec.retriever_choice)),
        ("orion.grounded_queries".into(), Value::Bool(spec.grounded_queries)),
    ];
    if let Some(calibration) = spec.self_assessment {
        all.extend([
            (
                "orion.self_assessment.middle_log_perplexity".into(),
                Value::F32(calibration.middle_log_perplexity),
            ),
            (
                "orion.self_assessment.log_perplexity_width".into(),
                Value::F32(calibration.log_perplexity_width),
            ),
        ]);
    }
    Ok(all)
}

fn tokenizer_metadata(path: &Path, config: &Config) -> Result<(Vec<(String, Value)>, bool)> {
    let file: TokenizerFile = serde_json::from_slice(&checkpoint::read(path)?)
        .map_err(|error| TrainError::content(path, "a byte-level BPE tokenizer", error))?;
    if file.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        let got = file.model.kind.unwrap_or_default();
        return Err(TrainError::content(path, "a byte-level BPE tokenizer", got));
    }
    let mut tokens: Vec<(String, i32)> =
        (0..config.vocabulary_size).map(|id| (format!("[PAD{id}]"), UNUSED)).collect();
    let vocabulary = file.model.vocab.into_iter().map(|(token, id)| (id, token, NORMAL));
    let added = file.added_tokens.into_iter().map(|token| {
        let kind = if token.special { CONTROL } else { NORMAL };
        (token.id, token.content, kind)
    });
    for (id, token, kind) in vocabulary.chain(added) {
        let Some(place) = tokens.get_mut(id as usize) else {
            let expected = format!("token ids below {}", config.vocabulary_size);
            return Err(TrainError::content(path, expected, id));
        };
        *place = (token, kind);
    }
    let merges = file.model.merges.into_iter().map(|merge| {
        Value::String(match merge {
            Merge::Joined(text) => text,
            Merge::Pair(left, right) => format!("{left} {right}"),
        })
    });
    let mut all = vec![
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        // LFM2's own split; orion-nano's is GPT-2's, which differs for digits and contractions only.
        (
            "tokenizer.ggml.pre",
            Value::String(if config.vocabulary_size == 65536 { "lfm2" } else { "gpt-2" }.into()),
        ),
        (
            "tokenizer.ggml.tokens",
            Value::Array(tokens.iter().map(|(text, _)| Value::String(text.clone())).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(tokens.iter().map(|(_, kind)| Value::I32(*kind)).collect()),
        ),
        ("tokenizer.ggml.merges", Value::Array(merges.collect())),
        ("tokenizer.ggml.add_bos_token", Value::Bool(config.bos_token.is_some())),
    ];
    let special = [
        ("tokenizer.ggml.bos_token_id", config.bos_token),
        ("tokenizer.ggml.eos_token_id", config.eos_token),
        ("tokenizer.ggml.padding_token_id", config.pad_token),
    ];
    all.extend(special.into_iter().filter_map(|(name, id)| Some((name, Value::U32(id?)))));
    let normalizer = file.normalizer.filter(|normalizer| !normalizer.is_null());
    if let Some(value) = &normalizer {
        all.push(("orion.normalizer", Value::String(value.to_string())));
    }
    Ok((all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), normalizer.is_some()))
}

/// The format of one tensor: small ones stay whole, and blocks of 32 need rows that they divide.
fn dtype_of(shape: &[usize], is_taps: bool, numbers: Numbers) -> GgmlDType {
    if shape.len() < 2 || is_taps {
        return GgmlDType::F32;
    }
    match numbers {
        Numbers::F32 => GgmlDType::F32,
        Numbers::F16 => GgmlDType::F16,
        Numbers::Bf16 => GgmlDType::BF16,
        Numbers::Q8_0 if shape.last().is_some_and(|width| width.is_multiple_of(32)) => GgmlDType::Q8_0,
        Numbers::Q8_0 => GgmlDType::F16,
    }
}

/// Writes the policy in `folder` as a GGUF file, through a file beside it that is renamed when complete; gives whether
/// its tokenizer normalises text, which GGUF cannot say.
///
/// # Errors
/// A folder that does not read; a tokenizer that is no byte-level BPE; a tensor that llama.cpp has no name for.
pub fn gguf(folder: &Path, out: &Path, numbers: Numbers) -> Result<bool> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let opened = Checkpoint::open(folder).map_err(policy_error)?;
    let config = opened.config();
    let format = TrajectoryFormat::load(folder, config).map_err(policy_error)?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("orion");
    let (words, normalises) = tokenizer_metadata(&folder.join("tokenizer.json"), config)?;
    let metadata: Vec<(String, Value)> =
        [model_metadata(config, name), format_metadata(format.spec())?, words].concat();
    let mut tensors = Vec::new();
    for (name, shape) in config.tensors() {
        let (own, shape) = gguf_tensor(&name, &shape).ok_or_else(|| {
            TrainError::content(folder, "tensors that GGUF has names for", format!("`{name}`"))
        })?;
        let is_taps = name.ends_with("conv.conv.weight");
        let data = opened.tensor(&name).map_err(policy_error)?.data;
        let dtype = dtype_of(&shape, is_taps, numbers);
        tensors.push((own, QTensor::quantize(&Tensor::from_vec(data, shape, &Device::Cpu)?, dtype)?));
    }
    let partial = out.with_extension("partial");
    let mut file = std::io::BufWriter::new(
        std::fs::File::create(&partial).map_err(TrainError::file("create", &partial))?,
    );
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut file, &metadata, &tensors)?;
    std::io::Write::flush(&mut file).map_err(TrainError::file("write", &partial))?;
    std::fs::rename(&partial, out).map_err(TrainError::file("write", out))?;
    Ok(normalises)
}

fn copy(folder: &Path, out: &Path, numbers: NumberFormat) -> Result<()> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let opened = Checkpoint::open(folder).map_err(policy_error)?;
    let format = TrajectoryFormat::load(folder, opened.config()).map_err(policy_error)?;
    let weights = opened.weights().map_err(policy_error)?;
    let tokenizer = folder.join("tokenizer.json");
    nano::export_weights(&weights, opened.config(), &tokenizer, format.spec(), out, numbers)
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written<'a> {
    model: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    gguf: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<&'a Path>,
    /// Whether the tokenizer normalises text, which GGUF cannot say.
    normalises: bool,
}

/// Runs the command: the path of what was written, or JSON, to stdout.
pub fn command(arguments: &ExportArguments) -> Result<()> {
    let numbers = arguments.numbers;
    let mut normalises = false;
    if let Some(path) = &arguments.gguf {
        normalises = gguf(&arguments.model, path, numbers)?;
        if normalises {
            eprintln!("note: this tokenizer changes text before it splits it (case), which GGUF cannot say");
        }
    }
    if let Some(out) = &arguments.folder {
        let format = match numbers {
            Numbers::F32 => NumberFormat::F32,
            Numbers::F16 => NumberFormat::F16,
            Numbers::Bf16 => NumberFormat::Bf16,
            Numbers::Q8_0 => {
                let (expected, got) = ("f32, f16 or bf16 for a folder".into(), "q8_0".into());
                return Err(TrainError::Setting { name: "numbers", expected, got });
            }
        };
        copy(&arguments.model, out, format)?;
    }
    let (gguf, folder) = (arguments.gguf.as_deref(), arguments.folder.as_deref());
    let paths = gguf.into_iter().chain(folder).map(|path| format!("{}\n", path.display()));
    let text: String = paths.collect();
    terminal::print(&Written { model: &arguments.model, gguf, folder, normalises }, &text, arguments.json)
}
