//! Random numbers from seeds, and checkpoints of random weights: the start of training, and models for tests.

use std::path::Path;

use crate::checkpoint::{NumberFormat, Tensor, Weights};
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

/// Initial weights: norms 1, biases 0, all else truncated normal with deviation 0.02 (the reference's
/// `initializer_range`). Each tensor depends on the seed and its own place in the list only.
pub fn random_weights(config: &Config, seed: u64) -> Weights {
    let tensors = config.tensors().into_iter().enumerate().map(|(index, (name, shape))| {
        let mut random = Random::split(seed, &[index as u64]);
        let count = shape.iter().product();
        let data = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else if name.ends_with(".bias") {
            vec![0.0; count]
        } else {
            (0..count).map(|_| (0.02 * random.truncated_normal()) as f32).collect()
        };
        (name, Tensor { shape, data })
    });
    Weights { tensors: tensors.collect() }
}

/// Writes `config.json` and `model.safetensors` (f32) with [`random_weights`] to `folder`.
pub fn random_checkpoint(config: &Config, seed: u64, folder: &Path) -> Result<(), CheckpointError> {
    random_weights(config, seed).save(config, folder, NumberFormat::F32)
}

/// A `tokenizer.json` with [`SPECIAL_TOKENS`] and one token for each byte: for tests, and for models without a
/// tokenizer of their own. 270 tokens.
pub fn byte_tokenizer_json() -> String {
    let special = SPECIAL_TOKENS.len();
    let mut vocabulary = serde_json::Map::new();
    for (id, name) in SPECIAL_TOKENS.iter().enumerate() {
        vocabulary.insert((*name).to_owned(), id.into());
    }
    for byte in 0..=255u8 {
        vocabulary.insert(byte_level_char(byte).to_string(), (special + usize::from(byte)).into());
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
            "vocab": vocabulary, "merges": [],
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
    let spec = FormatSpec { version: FormatSpec::VERSION, format: FormatKind::Full, retriever_choice: true };
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .map_err(|source| CheckpointError::Write { file: path.display().to_string(), source })
    };
    write("tokenizer.json", byte_tokenizer_json())?;
    write("orion.json", serde_json::to_string_pretty(&spec).unwrap_or_default() + "\n")
}
