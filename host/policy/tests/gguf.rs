//! Reading GGUF: every number format against a writer of its own, and files that are wrong.

#[path = "../examples/support/gguf_writer.rs"]
mod gguf_writer;

use std::path::{Path, PathBuf};

use gguf_writer::{Head, Kind, gguf_name};
use orion_kernels::{BlockFormat, widen_blocks};
use orion_policy::{
    Calibration, Checkpoint, CheckpointError, Config, FormatKind, FormatSpec, LayerKind, NumberFormat,
    Policy, PolicyOptions, PolicyTokenizer, Source, TrajectoryFormat, byte_pair_tokenizer_json,
    byte_tokenizer_json, random_checkpoint_in, random_numbers, random_weights, tiny_config,
};
use proptest::prelude::*;

/// Rows of whole blocks of 256.
fn config() -> Config {
    Config {
        vocabulary_size: 290,
        hidden_size: 256,
        feed_forward_size: 512,
        layers: vec![LayerKind::Convolution, LayerKind::Attention],
        head_size: 64,
        tied_head: false,
        ..tiny_config()
    }
}

fn write(path: &Path, version: u32, config: &Config, kind: impl Fn(&str, &[usize]) -> Kind) {
    write_with(path, version, config, &[], kind);
}

/// A file with further metadata.
fn write_with(
    path: &Path,
    version: u32,
    config: &Config,
    floats: &[(&str, f32)],
    kind: impl Fn(&str, &[usize]) -> Kind,
) {
    let (tokenizer, format) = (byte_tokenizer_json(), Some(("no-think", true)));
    let head = Head { version, config, tokenizer: &tokenizer, pre: "gpt-2", format, floats };
    let sizes = config.tensors();
    let mut file = std::fs::File::create(path).unwrap();
    gguf_writer::write(&mut file, &head, kind, |name, index| {
        random_numbers(name, index, 7).take(sizes[index].1.iter().product())
    })
    .unwrap();
}

/// What comes back of numbers that were stored in a format.
fn stored(kind: Kind, numbers: &[f32]) -> Vec<f32> {
    let bytes = kind.encode(numbers);
    let mut out = vec![0.0; numbers.len()];
    match kind {
        Kind::F32 => out.copy_from_slice(numbers),
        Kind::F16 => {
            for (pair, value) in bytes.chunks(2).zip(&mut out) {
                *value = half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
            }
        }
        Kind::Bf16 => {
            for (pair, value) in bytes.chunks(2).zip(&mut out) {
                *value = half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32();
            }
        }
        Kind::Blocks(format) => widen_blocks(format, &bytes, &mut out),
    }
    out
}

const KINDS: [Kind; 7] = [
    Kind::F32,
    Kind::F16,
    Kind::Bf16,
    Kind::Blocks(BlockFormat::Q8_0),
    Kind::Blocks(BlockFormat::Q4_0),
    Kind::Blocks(BlockFormat::Q4K),
    Kind::Blocks(BlockFormat::Q6K),
];

#[test]
fn every_format_and_version_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let weights = random_weights(&config, 7);
    for (i, kind) in KINDS.into_iter().enumerate() {
        let path = folder.path().join("model.gguf");
        write(&path, 2 + i as u32 % 2, &config, |_, _| kind);
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.config(), &config);
        assert_eq!(Config::load(&path).unwrap(), config);
        let read = checkpoint.weights().unwrap();
        assert_eq!(read.tensors.len(), weights.tensors.len());
        for (name, tensor) in &weights.tensors {
            let own = if tensor.shape.len() == 2 { kind } else { Kind::F32 };
            assert_eq!(read.tensors[name].shape, tensor.shape, "{name}");
            assert_eq!(read.tensors[name].data, stored(own, &tensor.data), "{name} in {kind:?}");
        }
        let format = TrajectoryFormat::load(&path, &config).unwrap();
        assert_eq!(format.spec(), &FormatSpec::new(FormatKind::NoThink, true));
        let text = "Why  does <think> ice float?\n1234 don't – ça";
        let plain = PolicyTokenizer::parse(byte_tokenizer_json().as_bytes(), "x").unwrap();
        assert_eq!(format.tokenizer().encode(text), plain.encode(text));
        assert_eq!(format.tokenizer().decode(&plain.encode(text)), text);
        assert_eq!(format.tokenizer().special("<think>"), plain.special("<think>"));
        Policy::load(&Source::Folder(path), &PolicyOptions::default()).unwrap();
    }
}

#[test]
fn plain_numbers_serve_like_the_folder_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { tied_head: true, ..config() };
    for (kind, numbers) in
        [(Kind::F32, NumberFormat::F32), (Kind::F16, NumberFormat::F16), (Kind::Bf16, NumberFormat::Bf16)]
    {
        random_checkpoint_in(numbers, &config, 7, folder.path()).unwrap();
        let path = folder.path().join("model.gguf");
        write(&path, 3, &config, |_, _| kind);
        let tokens: Vec<u32> = (20..60).collect();
        let [ours, theirs] = [folder.path(), path.as_path()].map(|place| {
            orion_policy::log_probabilities(&Checkpoint::open(place).unwrap(), &tokens).unwrap()
        });
        // Taps and norms of the folder are rounded too.
        let room = if kind == Kind::F32 { 0.0 } else { 0.02 };
        assert!(
            ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= room),
            "{kind:?}: {ours:?} {theirs:?}"
        );
    }
}

#[test]
fn formats_may_be_mixed_as_llama_cpp_mixes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.GGUF");
    write(&path, 3, &config(), |name, _| {
        let six = name.contains("v_proj") || name.contains("w2") || name.contains("embed");
        Kind::Blocks(if six { BlockFormat::Q6K } else { BlockFormat::Q4K })
    });
    let exact = folder.path().join("exact.gguf");
    write(&exact, 3, &config(), |_, _| Kind::F32);
    let tokens: Vec<u32> = (20..60).collect();
    let [mixed, full] = [&path, &exact]
        .map(|place| orion_policy::log_probabilities(&Checkpoint::open(place).unwrap(), &tokens).unwrap());
    let gap = mixed.iter().zip(&full).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(0.0 < gap && gap < 0.2, "{gap}");
}

#[test]
fn the_split_of_lfm2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let config = Config { vocabulary_size: 4096, ..tiny_config() };
    let tokenizer = byte_pair_tokenizer_json(4096);
    let sizes = config.tensors();
    for (pre, digits) in [("lfm2", 3), ("gpt-2", 2)] {
        let head =
            Head { version: 3, config: &config, tokenizer: &tokenizer, pre, format: None, floats: &[] };
        let mut file = std::fs::File::create(&path).unwrap();
        gguf_writer::write(
            &mut file,
            &head,
            |_, _| Kind::F16,
            |name, index| random_numbers(name, index, 7).take(sizes[index].1.iter().product()),
        )
        .unwrap();
        let format = TrajectoryFormat::load(&path, &config).unwrap();
        assert_eq!(format.spec().format, FormatKind::Full);
        assert_eq!(format.tokenizer().size(), 4096);
        // Runs of three digits against runs of any length, two digits a token at most.
        assert_eq!(format.tokenizer().encode("abc").len(), 2);
        assert_eq!(format.tokenizer().encode("1234").len(), digits, "{pre}");
    }
}

#[test]
fn normalisation_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let config = tiny_config();
    let mut json: serde_json::Value = serde_json::from_str(&byte_tokenizer_json()).unwrap();
    json["normalizer"] = serde_json::json!({ "type": "Lowercase" });
    let tokenizer = json.to_string();
    let head =
        Head { version: 3, config: &config, tokenizer: &tokenizer, pre: "gpt-2", format: None, floats: &[] };
    let sizes = config.tensors();
    let mut file = std::fs::File::create(&path).unwrap();
    gguf_writer::write(
        &mut file,
        &head,
        |_, _| Kind::F16,
        |name, index| random_numbers(name, index, 7).take(sizes[index].1.iter().product()),
    )
    .unwrap();
    let read = PolicyTokenizer::load(&path).unwrap();
    assert_eq!(read.decode(&read.encode("Why FLOAT?")), "why float?");
    std::fs::write(&path, replaced(&std::fs::read(&path).unwrap(), b"Lowercase", b"Lowermost")).unwrap();
    assert!(PolicyTokenizer::load(&path).err().unwrap().to_string().contains("model.gguf"));
}

fn tiny(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("tiny.gguf");
    write(
        &path,
        3,
        &tiny_config(),
        |_, shape| {
            if shape[1] == 32 { Kind::Blocks(BlockFormat::Q8_0) } else { Kind::F16 }
        },
    );
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

fn open(path: &Path) -> Result<(), CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.weights()?;
    TrajectoryFormat::load(path, checkpoint.config()).map(drop)
}

/// What perplexities mean is two numbers: both, or neither. One alone is told, not passed over.
#[test]
fn half_a_self_assessment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let (middle, width) =
        ("orion.self_assessment.middle_log_perplexity", "orion.self_assessment.log_perplexity_width");
    let read = |floats: &[(&str, f32)]| {
        write_with(&path, 3, &tiny_config(), floats, |_, _| Kind::F16);
        let checkpoint = Checkpoint::open(&path).unwrap();
        TrajectoryFormat::load(&path, checkpoint.config())
            .map(|format| format.spec().self_assessment)
            .map_err(|error| error.to_string())
    };
    let both = Calibration { middle_log_perplexity: 0.25, log_perplexity_width: 0.5 };
    assert_eq!(read(&[(middle, 0.25), (width, 0.5)]), Ok(Some(both)));
    assert_eq!(read(&[]), Ok(None));
    for (there, missing) in [(middle, width), (width, middle)] {
        let error = read(&[(there, 0.5)]).unwrap_err();
        let (_, short) = there.rsplit_once('.').unwrap();
        let expected = format!("metadata `{missing}`: expected a float, as `{short}` is there, got nothing");
        assert!(error.contains(&expected) && error.contains("tiny.gguf"), "{error}");
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (path, good) = tiny(folder.path());
    open(&path).unwrap();
    let u32_entry =
        |name: &str, value: u32| [name.as_bytes(), &4u32.to_le_bytes(), &value.to_le_bytes()].concat();
    let heads = |value: u32| u32_entry("lfm2.attention.head_count", value);
    for (from, to, expected) in [
        (b"GGUF".to_vec(), b"GGML".to_vec(), "expected to begin with `GGUF`"),
        (b"GGUF\x03".to_vec(), b"GGUF\x01".to_vec(), "expected version 2 or 3, got 1"),
        (b"GGUF\x03\0\0\0".to_vec(), b"GGUF\0\0\0\x03".to_vec(), "a big-endian file"),
        (b"\x04\0\0\0\0\0\0\0lfm2".to_vec(), b"\x04\0\0\0\0\0\0\0gpt3".to_vec(), "general.architecture"),
        (heads(4), heads(0), "num_attention_heads"),
        (b"gpt2".to_vec(), b"bert".to_vec(), "tokenizer.ggml.model"),
        (b"gpt-2".to_vec(), b"gpt-9".to_vec(), "tokenizer.ggml.pre"),
        (b"no-think".to_vec(), b"no-thank".to_vec(), "orion.format"),
        (b"blk.0.ffn_up.weight".to_vec(), b"blk.0.ffn_xx.weight".to_vec(), "blk.0.ffn_up.weight"),
        (b"blk.1.attn_q.weight".to_vec(), b"blk.1.attn_k.weight".to_vec(), "stands there twice"),
        (u32_entry("lfm2.embedding_length", 32), u32_entry("lfm2.embedding_length", 64), "expected shape"),
    ] {
        std::fs::write(&path, replaced(&good, &from, &to)).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("tiny.gguf"), "{expected}: {error}");
    }
    // The type of a tensor stands behind its name, the number of its sizes, and its two sizes.
    let name = gguf_name("model.layers.0.conv.in_proj.weight");
    let at = good.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() + name.len() + 4;
    for (place, value, expected) in [
        (at + 16, 3u64, "expected dtype F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K, got type 3"),
        (at, 33, "whole blocks"),
        (at + 8, u64::MAX, "whole blocks"),
        (at + 20, 1 << 40, "bytes from"),
        (at + 20, 7, "in steps of 32"),
    ] {
        let mut broken = good.clone();
        let length = if place == at + 16 { 4 } else { 8 };
        broken[place..place + length].copy_from_slice(&value.to_le_bytes()[..length]);
        std::fs::write(&path, &broken).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&name), "{expected}: {error}");
    }
    // A scale that is no number is found when the weights are read.
    let mut broken = good.clone();
    let last = broken.len() - 34;
    broken[last..].fill(0xff);
    std::fs::write(&path, &broken).unwrap();
    assert!(Checkpoint::open(&path).is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(open(&path), Err(CheckpointError::Read { .. })));
}

#[test]
fn scales_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write(&path, 3, &config(), |_, _| Kind::Blocks(BlockFormat::Q4_0));
    let mut bytes = std::fs::read(&path).unwrap();
    // The head is the last tensor: its last block begins 18 bytes before the end.
    let last = bytes.len() - 18;
    bytes[last + 1] = 0x7c;
    bytes[last] = 0;
    std::fs::write(&path, bytes).unwrap();
    let error = Policy::load(&Source::Folder(path), &PolicyOptions::default()).err().unwrap().to_string();
    assert!(error.contains("lm_head.weight") && error.contains("expected finite numbers"), "{error}");
}

#[test]
fn truncated_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (path, good) = tiny(folder.path());
    for length in (0..good.len()).step_by(97).chain(0..64) {
        std::fs::write(&path, &good[..length]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains("tiny.gguf"), "{length}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn mutated_files_never_panic(
        places in proptest::collection::vec((0usize..14_000, any::<u8>()), 1..6), cut in proptest::option::of(0usize..14_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut bytes) = tiny(folder.path());
        for (place, value) in places {
            let at = place % bytes.len();
            bytes[at] = value;
        }
        if let Some(at) = cut {
            bytes.remove(at);
        }
        std::fs::write(&path, bytes).unwrap();
        // Either outcome will do; a panic fails the test.
        let _ = open(&path);
    }
}
