//! The encoder against embeddings of the reference implementation, and its invariants.
//!
//! The golden file is made with the Python packages and settings that it names itself.

use std::path::{Path, PathBuf};

use orion_index::{Encoder, EncoderError, EncoderOptions};
use orion_kernels::Threads;

/// A folder or file beside the repository, or `None` with a line that says what is skipped; in CI its absence fails.
fn beside(relative: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(relative);
    if path.exists() {
        return Some(path);
    }
    #[expect(clippy::disallowed_methods, reason = "a test asks whether it runs in CI")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "`{}` is missing", path.display());
    println!("skipped: `{}` is missing", path.display());
    None
}

fn model_folder() -> Option<PathBuf> {
    beside("models/all-MiniLM-L6-v2")
}

fn uncached() -> EncoderOptions {
    EncoderOptions { cached_texts: 0, ..Default::default() }
}

struct Case {
    text: String,
    token_ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn cases() -> Option<Vec<Case>> {
    let bytes = std::fs::read(beside("../shared/fixtures/minilm/cases.json")?).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let read = |case: &serde_json::Value| Case {
        text: case["text"].as_str().unwrap().to_owned(),
        token_ids: serde_json::from_value(case["token_ids"].clone()).unwrap(),
        embedding: serde_json::from_value(case["embedding"].clone()).unwrap(),
    };
    let cases: Vec<Case> = file["cases"].as_array().unwrap().iter().map(read).collect();
    assert!(!cases.is_empty(), "the golden file holds no case");
    Some(cases)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn equals_the_reference_alone_and_batched() {
    let (Some(folder), Some(cases)) = (model_folder(), cases()) else { return };
    let encoder = Encoder::load_with(&folder, &uncached()).unwrap();
    assert_eq!(encoder.dimensions(), 384);
    let texts: Vec<&str> = cases.iter().map(|c| &c.text[..]).collect();
    let batched = encoder.encode(&texts).unwrap();
    let (one, three) = (Threads::new(1), Threads::new(3));
    for (case, in_batch) in cases.iter().zip(&batched) {
        assert_eq!(encoder.token_ids(&case.text).unwrap(), case.token_ids, "tokens of {:?}", case.text);
        let alone = &encoder.encode_on(&[&case.text], &one).unwrap()[0];
        let similarity = cosine(alone, &case.embedding);
        assert!(similarity >= 0.9999, "cosine {similarity} for {:?}", case.text);
        let norm: f32 = alone.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5, "length {norm}");
        assert_eq!(alone, in_batch, "alone and batched differ for {:?}", case.text);
        assert_eq!(alone, &encoder.encode_on(&[&case.text], &three).unwrap()[0]);
    }
    // Another order, and beyond the batch size that the cache looks at.
    let reversed: Vec<&str> = texts.iter().rev().chain(texts.iter().rev()).copied().collect();
    let again = encoder.encode_on(&reversed, &three).unwrap();
    for (vector, expected) in again.iter().zip(batched.iter().rev().chain(batched.iter().rev())) {
        assert_eq!(vector, expected);
    }
}

#[test]
fn the_cache_changes_nothing() {
    let Some(folder) = model_folder() else { return };
    let plain = Encoder::load_with(&folder, &uncached()).unwrap();
    let cached =
        Encoder::load_with(&folder, &EncoderOptions { cached_texts: 2, ..Default::default() }).unwrap();
    for texts in [&["red", "green", "red"][..], &["green", "blue"], &["red"], &[], &["green", "red", "blue"]]
    {
        assert_eq!(plain.encode(texts).unwrap(), cached.encode(texts).unwrap());
    }
}

#[test]
fn a_long_text_is_cut_as_if_it_were_tokenized_whole() {
    let Some(folder) = model_folder() else { return };
    let encoder = Encoder::load(&folder).unwrap();
    let far_apart = format!("start {} end", " ".repeat(50_000));
    assert_eq!(encoder.token_ids(&far_apart).unwrap().len(), 4);
    let words: Vec<String> = (0..40_000).map(|i| format!("w{i}é")).collect();
    let ids = encoder.token_ids(&words.join(" ")).unwrap();
    assert_eq!(ids.len(), 256);
    assert_eq!(ids, encoder.token_ids(&words[..300].join(" ")).unwrap());
    // One word without end is one unknown word.
    assert_eq!(encoder.token_ids(&"é".repeat(100_000)).unwrap(), [101, 100, 102]);
}

#[test]
fn fingerprints_tell_settings_apart() {
    let Some(folder) = model_folder() else { return };
    let load = |max_tokens| {
        Encoder::load_with(&folder, &EncoderOptions { max_tokens, ..Default::default() }).unwrap()
    };
    let encoder = load(256);
    assert_eq!(encoder.fingerprint().len(), 64);
    assert_eq!(encoder.fingerprint(), Encoder::load(&folder).unwrap().fingerprint());
    assert_ne!(encoder.fingerprint(), load(128).fingerprint());
    assert_eq!(load(8).token_ids("one two three four five six seven eight").unwrap().len(), 8);
}

/// Name, shape and values.
type Tensor = (String, Vec<usize>, Vec<f32>);

/// A tiny model's folder; `change` alters its files before they are written.
fn tiny_model(change: impl FnOnce(&mut serde_json::Value, &mut Vec<Tensor>)) -> tempfile::TempDir {
    let (hidden, wide, vocabulary) = (8usize, 16usize, 7usize);
    let mut config = serde_json::json!({
        "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": wide, "vocab_size": vocabulary, "max_position_embeddings": 12, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12
    });
    let layer = "encoder.layer.0";
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![vocabulary, hidden]),
        ("embeddings.position_embeddings.weight".into(), vec![12, hidden]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, hidden]),
    ];
    for norm in ["embeddings".to_owned(), format!("{layer}.attention.output"), format!("{layer}.output")] {
        shapes.push((format!("{norm}.LayerNorm.weight"), vec![hidden]));
        shapes.push((format!("{norm}.LayerNorm.bias"), vec![hidden]));
    }
    for (part, outputs, inputs) in [
        ("attention.self.query", hidden, hidden),
        ("attention.self.key", hidden, hidden),
        ("attention.self.value", hidden, hidden),
        ("attention.output.dense", hidden, hidden),
        ("intermediate.dense", wide, hidden),
        ("output.dense", hidden, wide),
    ] {
        shapes.push((format!("{layer}.{part}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{layer}.{part}.bias"), vec![outputs]));
    }
    let mut tensors: Vec<Tensor> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let values = (0..count).map(|i| ((i * 37 + name.len()) % 19) as f32 / 19.0 - 0.4).collect();
            (name, shape, values)
        })
        .collect();
    change(&mut config, &mut tensors);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "red": 3, "green": 4, "blue": 5, "##s": 6}}
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
        (name.clone(), view.unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

#[test]
fn batches_of_any_make_give_the_same_bits() {
    let folder = tiny_model(|_, _| {});
    let encoder = Encoder::load_with(folder.path(), &uncached()).unwrap();
    let words = ["red", "greens", "blue", "grey"];
    let texts: Vec<String> = (0..300)
        .map(|i| (0..i % 11).map(|j| words[(i * 7 + j * j) % 4]).collect::<Vec<_>>().join(" "))
        .collect();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let batched = encoder.encode_on(&refs, &Threads::new(3)).unwrap();
    for (text, vector) in refs.iter().zip(&batched) {
        assert_eq!(&encoder.encode(&[text]).unwrap()[0], vector, "{text:?}");
    }
}

#[test]
fn bad_folders_are_named() {
    let message = |folder: &Path| Encoder::load(folder).unwrap_err().to_string();
    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path()).contains("config.json"));

    let folder = tiny_model(|config, _| config["hidden_act"] = "relu".into());
    assert!(message(folder.path()).ends_with("expected `gelu` for `hidden_act`, got `relu`"));

    let folder = tiny_model(|config, _| config["num_attention_heads"] = 3.into());
    assert!(message(folder.path()).contains("a divisor of `hidden_size` 8"));

    let folder = tiny_model(|config, _| config["vocab_size"] = 6.into());
    assert!(message(folder.path()).contains("expected ids below `vocab_size` 6, got 6"));

    let folder = tiny_model(|config, _| config["intermediate_size"] = 20.into());
    let text = message(folder.path());
    assert!(text.contains("encoder.layer.0.intermediate.dense.weight") && text.contains("model.safetensors"));
    assert!(text.ends_with("expected [20, 8], got [16, 8]"), "{text}");

    let folder = tiny_model(|_, tensors| tensors.retain(|t| t.0 != "encoder.layer.0.output.dense.bias"));
    assert!(message(folder.path()).contains("no tensor `encoder.layer.0.output.dense.bias`"));

    let folder = tiny_model(|_, tensors| tensors[3].2[5] = f32::NAN);
    assert!(message(folder.path()).ends_with("expected finite numbers, got NaN at 5"));

    let folder = tiny_model(|_, _| {});
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 4, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let outcome = Encoder::load(folder.path());
        assert!(matches!(outcome, Err(EncoderError::Checkpoint { .. })), "{length} bytes");
    }
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(Encoder::load(folder.path()), Err(EncoderError::Tokenizer { .. })));
}
