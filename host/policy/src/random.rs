//! Random numbers from seeds, and checkpoints of random weights: the start of training, and models for tests.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::checkpoint::{NumberFormat, Tensor, Weights, to_bytes};
use crate::config::{Config, LayerKind};
use crate::error::CheckpointError;
use crate::format::{FormatKind, FormatSpec, SPECIAL_TOKENS};

/// A small generator of 64-bit numbers (splitmix64: a counter put through a bijective mix), enough for sampling and
/// initialisation. The same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Random {
    counter: u64,
}

impl Random {
    /// A generator for a seed.
    pub fn new(seed: u64) -> Self {
        Self { counter: mix(seed) }
    }

    /// The generator for one part of something: depends on the seed and all of `path`, in order.
    pub fn split(seed: u64, path: &[u64]) -> Self {
        let mut state = mix(seed);
        for part in path {
            state = mix(state ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        }
        Self { counter: state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.counter)
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A standard normal number, drawn again while it is beyond two deviations (Box and Muller's polar-free form).
    pub fn truncated_normal(&mut self) -> f64 {
        loop {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let value = radius * (std::f64::consts::TAU * self.unit()).cos();
            if value.abs() <= 2.0 {
                return value;
            }
        }
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let first = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

/// The numbers of one tensor of [`random_weights`]: `name`, and its place in [`Config::tensors`]. They never end.
pub fn random_numbers(name: &str, index: usize, seed: u64) -> impl Iterator<Item = f32> + use<> {
    let fixed = if name.ends_with("norm.weight") {
        Some(1.0)
    } else if name.ends_with(".bias") {
        Some(0.0)
    } else {
        None
    };
    let mut random = Random::split(seed, &[index as u64]);
    std::iter::repeat_with(move || fixed.unwrap_or_else(|| (0.02 * random.truncated_normal()) as f32))
}

/// Initial weights: norms 1, biases 0, all else truncated normal with deviation 0.02 (the reference's
/// `initializer_range`). Each tensor depends on the seed and its own place in the list only.
pub fn random_weights(config: &Config, seed: u64) -> Weights {
    let tensors = config.tensors().into_iter().enumerate().map(|(index, (name, shape))| {
        let data = random_numbers(&name, index, seed).take(shape.iter().product()).collect();
        (name, Tensor { shape, data })
    });
    Weights { tensors: tensors.collect() }
}

/// Writes `config.json` and `model.safetensors` (f32) with [`random_weights`] to `folder`.
pub fn random_checkpoint(config: &Config, seed: u64, folder: &Path) -> Result<(), CheckpointError> {
    random_checkpoint_in(NumberFormat::F32, config, seed, folder)
}

/// [`random_checkpoint`] with numbers rounded to `format`; `folder` is made if need be. Memory is bounded whatever the
/// size of the model; the weights file is written beside its place, then renamed.
pub fn random_checkpoint_in(
    format: NumberFormat,
    config: &Config,
    seed: u64,
    folder: &Path,
) -> Result<(), CheckpointError> {
    let path = folder.join("model.safetensors");
    let failed = |source| CheckpointError::Write { file: path.display().to_string(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let temporary = path.with_extension("partial");
    write_weights(config, seed, format, &temporary).map_err(failed)?;
    std::fs::write(folder.join("config.json"), config.to_json()).map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)
}

/// Numbers that are drawn and written at once.
const NUMBERS_AT_ONCE: usize = 1 << 16;

fn write_weights(config: &Config, seed: u64, format: NumberFormat, path: &Path) -> std::io::Result<()> {
    let dtype = match format {
        NumberFormat::F32 => "F32",
        NumberFormat::F16 => "F16",
        NumberFormat::Bf16 => "BF16",
    };
    let tensors = config.tensors();
    let mut head = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let start = end;
        end += shape.iter().product::<usize>() * format.size_bytes();
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        head.insert(name.clone(), entry);
    }
    let mut text = serde_json::Value::Object(head).to_string();
    // Spaces fill the head up, so that the data begin at a multiple of eight.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let mut left: usize = shape.iter().product();
        let mut numbers = random_numbers(name, index, seed);
        while left > 0 {
            let some: Vec<f32> = numbers.by_ref().take(left.min(NUMBERS_AT_ONCE)).collect();
            left -= some.len();
            out.write_all(&to_bytes(&some, format))?;
        }
    }
    out.into_inner()?.sync_all()
}

/// A `tokenizer.json` with [`SPECIAL_TOKENS`], one token for each byte, and one for each pair of bytes until there are
/// `vocabulary_size`: a vocabulary of the size of a real one, for models of random weights.
///
/// Sizes below 270 give 270 tokens, sizes above 65,806 that many.
pub fn byte_pair_tokenizer_json(vocabulary_size: usize) -> String {
    let bytes = SPECIAL_TOKENS.len() + 256;
    // Pairs of letters and digits come first, so that a small vocabulary has the useful ones.
    let mut order: Vec<u8> = (b'a'..=b'z').chain([b' ']).chain(b'0'..=b'9').collect();
    let rest: Vec<u8> = (0..=255u8).filter(|byte| !order.contains(byte)).collect();
    order.extend(rest);
    let place = |byte: u8| order.iter().position(|other| *other == byte).unwrap_or(0);
    let mut pairs: Vec<(u8, u8)> = (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))).collect();
    let places: Vec<usize> = (0..=255u8).map(place).collect();
    pairs.sort_by_key(|(a, b)| {
        let (first, second) = (places[usize::from(*a)], places[usize::from(*b)]);
        (first.max(second), first, second)
    });
    pairs.truncate(vocabulary_size.saturating_sub(bytes));
    let joined: Vec<[String; 2]> = pairs
        .iter()
        .map(|(a, b)| [byte_level_char(*a).to_string(), byte_level_char(*b).to_string()])
        .collect();
    tokenizer_json(&joined)
}

/// A `tokenizer.json` with [`SPECIAL_TOKENS`] and one token for each byte: for tests, and for models without a
/// tokenizer of their own. 270 tokens.
pub fn byte_tokenizer_json() -> String {
    tokenizer_json(&[])
}

fn tokenizer_json(merges: &[[String; 2]]) -> String {
    let special = SPECIAL_TOKENS.len();
    let mut vocabulary = serde_json::Map::new();
    for (id, name) in SPECIAL_TOKENS.iter().enumerate() {
        vocabulary.insert((*name).to_owned(), id.into());
    }
    for byte in 0..=255u8 {
        vocabulary.insert(byte_level_char(byte).to_string(), (special + usize::from(byte)).into());
    }
    for (index, merge) in merges.iter().enumerate() {
        vocabulary.insert(merge.concat(), (special + 256 + index).into());
    }
    let added: Vec<serde_json::Value> = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(id, name)| {
            serde_json::json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let byte_level = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    let value = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    format!("{value:#}\n")
}

/// The visible character that stands for a byte in byte-level vocabularies: itself where it is printable Latin-1,
/// else the next character from U+0100 on.
fn byte_level_char(byte: u8) -> char {
    let visible = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if visible(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&b| !visible(b)).count() as u32;
    char::from_u32(0x100 + earlier).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The shape of the model that [`tiny_policy`] writes.
pub fn tiny_config() -> Config {
    use LayerKind::{Attention, Convolution};
    Config {
        vocabulary_size: 272,
        hidden_size: 32,
        feed_forward_size: 48,
        layers: vec![Convolution, Attention, Convolution],
        attention_heads: 4,
        key_value_heads: 2,
        head_size: 8,
        max_positions: 4096,
        norm_epsilon: 1e-5,
        rope_base: 1e6,
        tied_head: true,
        convolution_bias: false,
        convolution_length: 3,
        pad_token: Some(0),
        bos_token: Some(1),
        eos_token: Some(2),
    }
}

/// Writes a complete policy folder with random weights and the byte tokenizer, a few hundred kilobytes: for tests of
/// what is built on the policy. Its proposals are gibberish in the right format.
pub fn tiny_policy(folder: &Path, seed: u64) -> Result<(), CheckpointError> {
    random_checkpoint(&tiny_config(), seed, folder)?;
    let spec = FormatSpec::new(FormatKind::Full, true);
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .map_err(|source| CheckpointError::Write { file: path.display().to_string(), source })
    };
    write("tokenizer.json", byte_tokenizer_json())?;
    write("orion.json", serde_json::to_string_pretty(&spec).unwrap_or_default() + "\n")
}
