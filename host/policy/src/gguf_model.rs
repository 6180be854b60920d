//! What the metadata of a GGUF say of an LFM2 policy: its shape, its tokenizer, its trajectory format, and the names of
//! its tensors.
//!
//! Names are those of llama.cpp for the architecture `lfm2`; `orion.format`, `orion.retriever_choice` and
//! `orion.normalizer` are this project's own, and a file without them is a checkpoint that does not say.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::checkpoint::map_file;
use crate::config::{Config, LayerKind};
use crate::error::CheckpointError;
use crate::format::{Calibration, FormatKind, FormatSpec};
use crate::gguf::{Gguf, Value};
use crate::tokenizer::PolicyTokenizer;

/// Kinds of tokens, as llama.cpp numbers them.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// How LFM2 cuts text before the byte pairs: contractions, words, up to three digits, punctuation, white space.
const LFM2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Whether a path stands for a GGUF file and not for a folder.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && !path.is_dir()
}

/// Reads the head of a file.
pub(crate) fn read(path: &Path) -> Result<(Gguf, String), CheckpointError> {
    let file = map_file(path)?;
    Ok((Gguf::parse(file.bytes(), &file.name)?, file.name))
}

/// llama.cpp's name of a tensor in GGUF files, and the shape that it has there; `None` for what such files do not hold.
pub fn gguf_tensor(name: &str, shape: &[usize]) -> Option<(String, Vec<usize>)> {
    let fixed = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.embedding_norm.weight" => "token_embd_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some((fixed.to_owned(), shape.to_vec()));
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let own = match part {
        "operator_norm" => "attn_norm",
        "ffn_norm" => "ffn_norm",
        "feed_forward.w1" => "ffn_gate",
        "feed_forward.w2" => "ffn_down",
        "feed_forward.w3" => "ffn_up",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.out_proj" => "attn_output",
        "self_attn.q_layernorm" => "attn_q_norm",
        "self_attn.k_layernorm" => "attn_k_norm",
        "conv.conv" => "shortconv.conv",
        "conv.in_proj" => "shortconv.in_proj",
        "conv.out_proj" => "shortconv.out_proj",
        _ => return None,
    };
    // Depth-wise taps [hidden, 1, length] lose the axis of one.
    let shape =
        if part == "conv.conv" && kind == "weight" { vec![shape[0], shape[2]] } else { shape.to_vec() };
    Some((format!("blk.{layer}.{own}.{kind}"), shape))
}

/// Metadata with their errors.
struct Entries<'a> {
    gguf: &'a Gguf,
    file: &'a str,
}

impl<'a> Entries<'a> {
    fn fault(&self, name: &str, expected: &str, got: &str) -> CheckpointError {
        let reason = format!("metadata `{name}`: expected {expected}, got {got}");
        CheckpointError::Malformed { file: self.file.to_owned(), reason }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.gguf.metadata.get(name)
    }

    fn wrong(&self, name: &str, expected: &str) -> CheckpointError {
        let got = self.get(name).map_or_else(|| "nothing".to_owned(), Value::describe);
        self.fault(name, expected, &got)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, CheckpointError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, CheckpointError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "a flag")),
        }
    }

    /// A size; an array of equal sizes counts as one.
    fn size(&self, name: &str) -> Result<Option<usize>, CheckpointError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Integer(number)) => *number,
            Some(Value::Integers(all)) if all.first().is_some_and(|first| all.iter().all(|n| n == first)) => {
                all[0].into()
            }
            Some(_) => return Err(self.wrong(name, "a number")),
        };
        match usize::try_from(number) {
            Ok(size) if size <= 1 << 32 => Ok(Some(size)),
            _ => Err(self.wrong(name, "a number up to 4294967296")),
        }
    }

    fn needed_size(&self, name: &str) -> Result<usize, CheckpointError> {
        self.size(name)?.ok_or_else(|| self.wrong(name, "a number"))
    }

    fn float(&self, name: &str) -> Result<Option<f32>, CheckpointError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number as f32)),
            Some(_) => Err(self.wrong(name, "a float")),
        }
    }

    fn token(&self, name: &str) -> Result<Option<u32>, CheckpointError> {
        match self.get(name) {
            // -1 stands for none in some files.
            None | Some(Value::Integer(-1)) => Ok(None),
            Some(Value::Integer(id)) => {
                u32::try_from(*id).map(Some).map_err(|_| self.wrong(name, "a token's id"))
            }
            Some(_) => Err(self.wrong(name, "a token's id")),
        }
    }
}

/// The shape of the model.
pub(crate) fn config(gguf: &Gguf, file: &str) -> Result<Config, CheckpointError> {
    let entries = Entries { gguf, file };
    if entries.text("general.architecture")? != Some("lfm2") {
        return Err(entries.wrong("general.architecture", "`lfm2`"));
    }
    let hidden_size = entries.needed_size("lfm2.embedding_length")?;
    let attention_heads = entries.needed_size("lfm2.attention.head_count")?;
    let layer_count = entries.needed_size("lfm2.block_count")?;
    let (layers, key_value_heads) = layers(&entries, layer_count)?;
    let vocabulary_size = match (entries.size("lfm2.vocab_size")?, entries.get("tokenizer.ggml.tokens")) {
        (Some(size), _) => size,
        (None, Some(Value::Texts(tokens))) => tokens.len(),
        (None, _) => return Err(entries.wrong("lfm2.vocab_size", "a number")),
    };
    let config = Config {
        vocabulary_size,
        hidden_size,
        feed_forward_size: entries.needed_size("lfm2.feed_forward_length")?,
        layers,
        attention_heads,
        key_value_heads,
        head_size: match entries.size("lfm2.attention.key_length")? {
            Some(size) => size,
            None => hidden_size.checked_div(attention_heads).unwrap_or(0),
        },
        max_positions: entries.needed_size("lfm2.context_length")?,
        norm_epsilon: entries.float("lfm2.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
        rope_base: entries.float("lfm2.rope.freq_base")?.unwrap_or(1e6),
        tied_head: !gguf.tensors.contains_key("output.weight"),
        convolution_bias: gguf.tensors.keys().any(|name| name.ends_with(".shortconv.conv.bias")),
        convolution_length: entries.needed_size("lfm2.shortconv.l_cache")?,
        pad_token: entries.token("tokenizer.ggml.padding_token_id")?,
        bos_token: entries.token("tokenizer.ggml.bos_token_id")?,
        eos_token: entries.token("tokenizer.ggml.eos_token_id")?,
    };
    config.checked(file)
}

/// Convolutions are the layers without key/value heads.
fn layers(entries: &Entries<'_>, count: usize) -> Result<(Vec<LayerKind>, usize), CheckpointError> {
    let name = "lfm2.attention.head_count_kv";
    if let Some(Value::Integers(heads)) = entries.get(name) {
        let most = heads.iter().copied().max().unwrap_or_default();
        let Some(key_value_heads) = usize::try_from(most).ok().filter(|heads| 0 < *heads) else {
            return Err(entries.fault(name, "a layer with heads", &format!("{heads:.40?}")));
        };
        if heads.len() != count || heads.iter().any(|own| *own != 0 && *own != most) {
            let expected = format!("{count} entries of 0 or one number");
            return Err(entries.fault(name, &expected, &format!("{} entries up to {most}", heads.len())));
        }
        let kind = |own: &i64| if *own == 0 { LayerKind::Convolution } else { LayerKind::Attention };
        return Ok((heads.iter().map(kind).collect(), key_value_heads));
    }
    // A million layers are refused with the rest of the shape.
    Ok((vec![LayerKind::Attention; count.min(1 << 20)], entries.needed_size(name)?))
}

/// The trajectory format, where the file says, else by its tokens.
pub(crate) fn format_spec(
    gguf: &Gguf,
    file: &str,
    tokenizer: &PolicyTokenizer,
) -> Result<FormatSpec, CheckpointError> {
    let entries = Entries { gguf, file };
    let Some(name) = entries.text("orion.format")? else { return Ok(FormatSpec::guess(tokenizer)) };
    let format: FormatKind = serde_json::from_value(json!(name))
        .map_err(|_| entries.wrong("orion.format", "`full`, `no-think`, `no-marker` or `prompt`"))?;
    let retriever_choice = entries.flag("orion.retriever_choice")?.unwrap_or(false);
    const MIDDLE: &str = "orion.self_assessment.middle_log_perplexity";
    const WIDTH: &str = "orion.self_assessment.log_perplexity_width";
    let self_assessment = match (entries.float(MIDDLE)?, entries.float(WIDTH)?) {
        (Some(middle_log_perplexity), Some(log_perplexity_width)) => {
            Some(Calibration { middle_log_perplexity, log_perplexity_width })
        }
        (None, None) => None,
        // One number alone says nothing; to go on without it would hide that it was lost.
        (Some(_), None) => return Err(entries.wrong(WIDTH, "a float, as `middle_log_perplexity` is there")),
        (None, Some(_)) => return Err(entries.wrong(MIDDLE, "a float, as `log_perplexity_width` is there")),
    };
    let grounded_queries = entries.flag("orion.grounded_queries")?.unwrap_or(false);
    FormatSpec { grounded_queries, self_assessment, ..FormatSpec::new(format, retriever_choice) }
        .checked(file)
}

/// The tokenizer, as the `tokenizer.json` that would say the same.
pub(crate) fn tokenizer(gguf: &Gguf, file: &str) -> Result<PolicyTokenizer, CheckpointError> {
    let entries = Entries { gguf, file };
    if entries.text("tokenizer.ggml.model")? != Some("gpt2") {
        return Err(entries.wrong("tokenizer.ggml.model", "`gpt2`, byte-level byte pairs"));
    }
    let texts = |name: &str| match entries.get(name) {
        Some(Value::Texts(texts)) => Ok(texts),
        _ => Err(entries.wrong(name, "an array of texts")),
    };
    let (tokens, merges) = (texts("tokenizer.ggml.tokens")?, texts("tokenizer.ggml.merges")?);
    let normal = Vec::new();
    let kinds = match entries.get("tokenizer.ggml.token_type") {
        None => &normal,
        Some(Value::Integers(kinds)) if kinds.len() == tokens.len() => kinds,
        Some(_) => {
            return Err(entries.wrong("tokenizer.ggml.token_type", &format!("{} integers", tokens.len())));
        }
    };
    let byte_level = |split: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": split });
    // Where LFM2 cuts, whole words are looked up before byte pairs are merged.
    let (cut, whole_words) = match entries.text("tokenizer.ggml.pre")? {
        Some("lfm2" | "llama-bpe" | "llama3") => {
            let split = json!({ "type": "Split", "pattern": { "Regex": LFM2_SPLIT }, "behavior": "Isolated", "invert": false });
            (json!({ "type": "Sequence", "pretokenizers": [split, byte_level(false)] }), true)
        }
        Some("gpt-2" | "gpt2") => (byte_level(true), false),
        _ => return Err(entries.wrong("tokenizer.ggml.pre", "`lfm2`, `llama-bpe` or `gpt-2`")),
    };
    let normalizer: serde_json::Value = match entries.text("orion.normalizer")? {
        None => serde_json::Value::Null,
        Some(text) => serde_json::from_str(text)
            .map_err(|error| entries.fault("orion.normalizer", "JSON", &error.to_string()))?,
    };
    let mut vocabulary = serde_json::Map::new();
    let mut added = Vec::new();
    let mut seen = BTreeSet::new();
    for (id, token) in tokens.iter().enumerate() {
        let kind = kinds.get(id).copied().unwrap_or(1);
        if kind == UNUSED {
            continue;
        }
        if !seen.insert(token) {
            let expected = "each token once";
            return Err(entries.fault(
                "tokenizer.ggml.tokens",
                expected,
                &format!("`{token}` again as {id}"),
            ));
        }
        vocabulary.insert(token.clone(), id.into());
        if [CONTROL, USER_DEFINED].contains(&kind) {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL,
            }));
        }
    }
    let merges: Option<Vec<[&str; 2]>> =
        merges.iter().map(|merge| merge.split_once(' ').map(|(left, right)| [left, right])).collect();
    let Some(pairs) = merges else {
        return Err(entries.fault("tokenizer.ggml.merges", "two tokens with a space between", "less"));
    };
    let value = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": cut, "post_processor": null, "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole_words,
            "vocab": vocabulary, "merges": pairs,
        },
    });
    PolicyTokenizer::parse(value.to_string().as_bytes(), file)
}
