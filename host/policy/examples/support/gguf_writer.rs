//! Writes an LFM2 checkpoint as GGUF, a few rows at a time: for tests of reading, and for benchmarks of the true size.
//!
//! The trainer's `export` is what users have; it holds a whole model in memory and knows no 4-bit blocks. This one is
//! written apart from the reader, so that a mistake in one is not repeated in the other.

use std::collections::BTreeMap;
use std::io::{Result, Write};

use half::{bf16, f16};
use orion_kernels::{BlockFormat, quantise_blocks};
use orion_policy::{Config, LayerKind};

/// Format of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain floats.
    F32,
    /// Half precision.
    F16,
    /// The upper half of f32.
    Bf16,
    /// Blocks.
    Blocks(BlockFormat),
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 30,
            Self::Blocks(BlockFormat::Q4_0) => 2,
            Self::Blocks(BlockFormat::Q8_0) => 8,
            Self::Blocks(BlockFormat::Q4K) => 12,
            Self::Blocks(BlockFormat::Q6K) => 14,
        }
    }

    fn bytes_of(self, numbers: usize) -> usize {
        match self {
            Self::F32 => 4 * numbers,
            Self::F16 | Self::Bf16 => 2 * numbers,
            Self::Blocks(format) => format.bytes_of(numbers).expect("whole blocks"),
        }
    }

    /// The bytes of some numbers.
    pub(crate) fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Self::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Self::Blocks(format) => quantise_blocks(format, numbers),
        }
    }
}

/// What to write besides the tensors.
pub(crate) struct Head<'a> {
    /// 2 or 3.
    pub(crate) version: u32,
    /// The shape.
    pub(crate) config: &'a Config,
    /// A `tokenizer.json`.
    pub(crate) tokenizer: &'a str,
    /// Name of the cut before the byte pairs.
    pub(crate) pre: &'a str,
    /// `orion.format` and `orion.retriever_choice`.
    pub(crate) format: Option<(&'a str, bool)>,
    /// Further metadata that are floats.
    pub(crate) floats: &'a [(&'a str, f32)],
}

/// Numbers handed over at once: whole blocks.
const CHUNK: usize = 1 << 20;

/// Writes a file. `kind` says the format of a matrix (norms and taps stay f32); `numbers` gives a tensor by its name and
/// place in [`Config::tensors`].
pub(crate) fn write<I: Iterator<Item = f32>>(
    out: &mut impl Write,
    head: &Head<'_>,
    kind: impl Fn(&str, &[usize]) -> Kind,
    mut numbers: impl FnMut(&str, usize) -> I,
) -> Result<()> {
    let tensors = head.config.tensors();
    let kind_of = |name: &str, shape: &[usize]| {
        if shape.len() == 2 { kind(name, shape) } else { Kind::F32 }
    };
    let entries = metadata(head);
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(head.version.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    entries.iter().for_each(|entry| bytes.extend(entry));
    let mut offset = 0usize;
    for (name, shape) in &tensors {
        text(&mut bytes, &gguf_name(name));
        // Taps lose the axis of one; sizes go innermost first.
        let own: Vec<usize> =
            shape.iter().rev().copied().filter(|size| shape.len() < 3 || *size != 1).collect();
        bytes.extend((own.len() as u32).to_le_bytes());
        own.iter().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        let own_kind = kind_of(name, shape);
        bytes.extend(own_kind.number().to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += own_kind.bytes_of(shape.iter().product()).next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    out.write_all(&bytes)?;
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let own_kind = kind_of(name, shape);
        let mut stream = numbers(name, index);
        let mut written = 0;
        loop {
            let chunk: Vec<f32> = stream.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            let encoded = own_kind.encode(&chunk);
            written += encoded.len();
            out.write_all(&encoded)?;
        }
        assert_eq!(written, own_kind.bytes_of(shape.iter().product()), "all numbers of {name}");
        out.write_all(&vec![0; written.next_multiple_of(32) - written])?;
    }
    Ok(())
}

/// llama.cpp's name of a tensor.
pub(crate) fn gguf_name(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.embedding_norm", "token_embd_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("operator_norm", "attn_norm"),
        ("feed_forward.w1", "ffn_gate"),
        ("feed_forward.w2", "ffn_down"),
        ("feed_forward.w3", "ffn_up"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.out_proj", "attn_output"),
        ("self_attn.q_layernorm", "attn_q_norm"),
        ("self_attn.k_layernorm", "attn_k_norm"),
        ("conv.conv", "shortconv.conv"),
        ("conv.in_proj", "shortconv.in_proj"),
        ("conv.out_proj", "shortconv.out_proj"),
    ];
    let mut own = name.to_owned();
    for (ours, theirs) in pairs {
        let (before, after) = (format!(".{own}."), format!(".{ours}."));
        own = before.replacen(&after, &format!(".{theirs}."), 1).trim_matches('.').to_owned();
    }
    own
}

fn text(bytes: &mut Vec<u8>, value: &str) {
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value.as_bytes());
}

fn entry(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    text(&mut bytes, name);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes
}

fn integer(name: &str, value: usize) -> Vec<u8> {
    entry(name, 4, &(value as u32).to_le_bytes())
}

fn word(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    text(&mut bytes, value);
    entry(name, 8, &bytes)
}

fn array(name: &str, kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| bytes.extend(item));
    entry(name, 9, &bytes)
}

fn texts<'a>(name: &str, items: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let encoded: Vec<Vec<u8>> = items
        .map(|item| {
            let mut bytes = Vec::new();
            text(&mut bytes, item);
            bytes
        })
        .collect();
    array(name, 8, &encoded)
}

fn metadata(head: &Head<'_>) -> Vec<Vec<u8>> {
    let config = head.config;
    let heads: Vec<Vec<u8>> = config
        .layers
        .iter()
        .map(|kind| {
            let heads = if *kind == LayerKind::Attention { config.key_value_heads as i32 } else { 0 };
            heads.to_le_bytes().to_vec()
        })
        .collect();
    let mut entries = vec![
        word("general.architecture", "lfm2"),
        word("general.name", "random weights"),
        integer("lfm2.vocab_size", config.vocabulary_size),
        integer("lfm2.context_length", config.max_positions),
        integer("lfm2.embedding_length", config.hidden_size),
        integer("lfm2.block_count", config.layers.len()),
        integer("lfm2.feed_forward_length", config.feed_forward_size),
        integer("lfm2.attention.head_count", config.attention_heads),
        array("lfm2.attention.head_count_kv", 5, &heads),
        entry("lfm2.attention.layer_norm_rms_epsilon", 6, &config.norm_epsilon.to_le_bytes()),
        entry("lfm2.rope.freq_base", 6, &config.rope_base.to_le_bytes()),
        integer("lfm2.shortconv.l_cache", config.convolution_length),
        word("tokenizer.ggml.model", "gpt2"),
        word("tokenizer.ggml.pre", head.pre),
    ];
    let file: serde_json::Value = serde_json::from_str(head.tokenizer).expect("a tokenizer.json");
    let mut tokens: BTreeMap<usize, (String, i32)> =
        (0..config.vocabulary_size).map(|id| (id, (format!("[PAD{id}]"), 5))).collect();
    for (token, id) in file["model"]["vocab"].as_object().expect("a vocabulary") {
        tokens.insert(id.as_u64().expect("an id") as usize, (token.clone(), 1));
    }
    for token in file["added_tokens"].as_array().expect("added tokens") {
        let id = token["id"].as_u64().expect("an id") as usize;
        let kind = if token["special"] == true { 3 } else { 4 };
        tokens.insert(id, (token["content"].as_str().expect("a text").to_owned(), kind));
    }
    let merges = file["model"]["merges"].as_array().expect("merges").iter().map(|merge| match merge {
        serde_json::Value::Array(pair) => {
            pair.iter().filter_map(|x| x.as_str()).collect::<Vec<_>>().join(" ")
        }
        other => other.as_str().expect("a merge").to_owned(),
    });
    let merges: Vec<String> = merges.collect();
    let kinds: Vec<Vec<u8>> = tokens.values().map(|(_, kind)| kind.to_le_bytes().to_vec()).collect();
    entries.push(texts("tokenizer.ggml.tokens", tokens.values().map(|(token, _)| token.as_str())));
    entries.push(array("tokenizer.ggml.token_type", 5, &kinds));
    entries.push(texts("tokenizer.ggml.merges", merges.iter().map(String::as_str)));
    entries.push(entry("tokenizer.ggml.add_bos_token", 7, &[u8::from(config.bos_token.is_some())]));
    for (name, token) in [("bos", config.bos_token), ("eos", config.eos_token), ("padding", config.pad_token)]
    {
        if let Some(id) = token {
            entries.push(integer(&format!("tokenizer.ggml.{name}_token_id"), id as usize));
        }
    }
    if !file["normalizer"].is_null() {
        entries.push(word("orion.normalizer", &file["normalizer"].to_string()));
    }
    if let Some((format, choice)) = head.format {
        entries.push(word("orion.format", format));
        entries.push(entry("orion.retriever_choice", 7, &[u8::from(choice)]));
    }
    entries.extend(head.floats.iter().map(|(name, value)| entry(name, 6, &value.to_le_bytes())));
    entries
}
