//! Reading checkpoints: both config dialects, all number formats, shards, and files that are wrong.

use std::collections::BTreeMap;
use std::path::Path;

use orion_policy::{
    Checkpoint, CheckpointError, Config, EmbeddedCheckpoint, LayerKind, NumberFormat, Policy, PolicyError,
    PolicyOptions, Source, Weights, feed_forward_width, random_checkpoint, random_weights, tiny_config,
};

fn published(hidden: usize, width: usize, heads: usize) -> String {
    format!(
        r#"{{ "model_type": "lfm2", "block_auto_adjust_ff_dim": true, "block_dim": {hidden},
        "block_ff_dim": {width}, "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
        "block_norm_eps": 1e-05, "bos_token_id": 1, "conv_L_cache": 3, "conv_bias": false,
        "eos_token_id": 7, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": {hidden},
        "max_position_embeddings": 128000, "norm_eps": 1e-05, "num_attention_heads": {heads},
        "num_heads": {heads}, "num_hidden_layers": 16, "num_key_value_heads": 8, "pad_token_id": 0,
        "rope_theta": 1000000.0, "vocab_size": 65536 }}"#
    )
}

#[test]
fn published_configs_in_the_older_dialect() {
    for (hidden, width, heads, real, parameters) in [
        (1024, 6656, 16, 4608, 354_483_968),
        (1536, 10240, 24, 6912, 742_489_344),
        (2048, 12288, 32, 8192, 1_170_340_608),
    ] {
        let config = Config::parse(published(hidden, width, heads).as_bytes(), "config.json").unwrap();
        assert_eq!(config.feed_forward_size, real);
        let attention: Vec<usize> =
            (0..16).filter(|index| config.layers[*index] == LayerKind::Attention).collect();
        assert_eq!(attention, [2, 5, 8, 10, 12, 14]);
        assert_eq!((config.head_size, config.convolution_length, config.tied_head), (64, 3, true));
        assert_eq!((config.rope_base, config.norm_epsilon, config.eos_token), (1e6, 1e-5, Some(7)));
        assert_eq!(config.parameters(), parameters);
        // Written in the newer dialect, it reads as the same model.
        assert_eq!(Config::parse(config.to_json().as_bytes(), "again").unwrap(), config);
    }
}

#[test]
fn both_ways_of_sizing_the_feed_forward_part() {
    assert_eq!(feed_forward_width(192, true, 1.0, 16), 128);
    assert_eq!(feed_forward_width(192, false, 1.0, 16), 192);
    assert_eq!(feed_forward_width(100, true, 1.5, 32), 128);
}

#[test]
fn unusable_configs_name_the_field() {
    let good = tiny_config().to_json();
    for (from, to, field) in [
        ("\"model_type\": \"lfm2\"", "\"model_type\": \"llama\"", "model_type"),
        ("\"hidden_size\": 32", "\"hidden_size\": 0", "hidden_size"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads"),
        ("\"head_dim\": 8", "\"head_dim\": 7", "head_dim"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "layer_types"),
        ("\"full_attention\"", "\"mamba\"", "layer_types"),
        ("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "rope_type"),
        ("\"norm_eps\": 0.00001", "\"norm_eps\": -1", "norm_eps"),
        ("\"vocab_size\": 272", "\"vocab_size\": 2", "eos_token_id"),
        ("\"conv_L_cache\": 3", "\"conv_L_cache\": 100000", "conv_L_cache"),
        ("\"hidden_size\": 32,", "", "hidden_size"),
    ] {
        let wrong = good.replace(from, to);
        let wrong = if wrong == good { good.replace("1e-5", "-1") } else { wrong };
        assert_ne!(wrong, good, "{from}");
        let error = Config::parse(wrong.as_bytes(), "x/config.json").unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("x/config.json"), "{from}: {error}");
    }
    assert!(matches!(Config::parse(b"{", "c"), Err(CheckpointError::Malformed { .. })));
}

fn save(config: &Config, weights: &Weights, folder: &Path, format: NumberFormat) {
    weights.save(config, folder, format).unwrap();
}

#[test]
fn every_number_format_loads() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_config();
    let weights = random_weights(&config, 1);
    for (format, room) in [(NumberFormat::F32, 0.0), (NumberFormat::F16, 1e-3), (NumberFormat::Bf16, 8e-3)] {
        save(&config, &weights, folder.path(), format);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.config(), &config);
        let read = checkpoint.weights().unwrap();
        assert_eq!(read.tensors.keys().collect::<Vec<_>>(), weights.tensors.keys().collect::<Vec<_>>());
        for (name, tensor) in &weights.tensors {
            assert_eq!(read.tensors[name].shape, tensor.shape);
            for (a, b) in read.tensors[name].data.iter().zip(&tensor.data) {
                assert!((a - b).abs() <= room * b.abs() + 1e-7 * room.signum(), "{name}: {a} {b}");
            }
        }
    }
}

#[test]
fn shards_load_and_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_config();
    let weights = random_weights(&config, 1);
    let mut shards = [Weights::default(), Weights::default()];
    let mut map = BTreeMap::new();
    for (index, (name, tensor)) in weights.tensors.iter().enumerate() {
        shards[index % 2].tensors.insert(name.clone(), tensor.clone());
        map.insert(name.clone(), format!("model-{}.safetensors", index % 2));
    }
    for (index, shard) in shards.iter().enumerate() {
        let bytes = shard.to_safetensors(NumberFormat::F32).unwrap();
        std::fs::write(folder.path().join(format!("model-{index}.safetensors")), bytes).unwrap();
    }
    std::fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().weights().unwrap(), weights);

    let outside = serde_json::json!({ "weight_map": { "a": "../model-0.safetensors" } });
    std::fs::write(&index, outside.to_string()).unwrap();
    let error = Checkpoint::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("plain file name"), "{error}");
}

#[test]
fn errors_name_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_config();
    let open_with = |change: &dyn Fn(&mut Weights)| {
        let mut weights = random_weights(&config, 1);
        change(&mut weights);
        save(&config, &weights, folder.path(), NumberFormat::F32);
        Checkpoint::open(folder.path()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let name = "model.layers.0.feed_forward.w2.weight";
    let missing = open_with(&|weights| {
        weights.tensors.remove(name);
    });
    assert!(
        missing.contains(name) && missing.contains("missing") && missing.contains("[32, 48]"),
        "{missing}"
    );
    let shape = open_with(&|weights| {
        weights.tensors.get_mut(name).unwrap().shape = vec![48, 32];
    });
    assert!(shape.contains("expected shape [32, 48], got [48, 32]"), "{shape}");
    assert!(shape.contains("model.safetensors"), "{shape}");
    // A bias that the config does not announce would be dropped silently.
    let unknown = open_with(&|weights| {
        let bias = weights.tensors["model.embedding_norm.weight"].clone();
        weights.tensors.insert("model.layers.0.conv.in_proj.bias".to_owned(), bias);
    });
    assert!(unknown.contains("conv.in_proj.bias") && unknown.contains("not part"), "{unknown}");
    assert_eq!(open_with(&|_| ()), "");

    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() - 1], &whole[..7], &whole[..40], b""] {
        std::fs::write(&path, damaged).unwrap();
        let error = Checkpoint::open(folder.path()).err().unwrap();
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("model.safetensors"));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Checkpoint::open(folder.path()), Err(CheckpointError::Read { .. })));
}

#[test]
fn integers_are_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(&tiny_config(), 1, folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = text.find("\"F32\"").unwrap();
    let mut wrong = bytes.clone();
    wrong[at..at + 5].copy_from_slice(b"\"I32\"");
    std::fs::write(&path, wrong).unwrap();
    let error = Checkpoint::open(folder.path()).err().unwrap();
    assert!(matches!(&error, CheckpointError::Dtype { got, .. } if got == "I32"), "{error}");
}

#[test]
fn random_checkpoints_depend_on_the_seed_alone() {
    let (a, b, c) = (
        random_weights(&tiny_config(), 1),
        random_weights(&tiny_config(), 1),
        random_weights(&tiny_config(), 2),
    );
    assert_eq!(a, b);
    assert_ne!(a, c);
    let spread = &a.tensors["model.embed_tokens.weight"].data;
    let mean = spread.iter().sum::<f32>() / spread.len() as f32;
    let deviation = (spread.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / spread.len() as f32).sqrt();
    assert!(mean.abs() < 1e-3 && (0.016..0.019).contains(&deviation), "{mean} {deviation}");
    assert!(spread.iter().all(|v| v.abs() <= 0.04));
}

#[test]
fn the_embedded_policy_loads_or_says_that_there_is_none() {
    match EmbeddedCheckpoint::nano() {
        Ok(nano) => {
            let policy = Policy::load(&Source::Embedded(nano), &PolicyOptions::default()).unwrap();
            assert!(policy.describe().warnings.is_empty());
        }
        Err(error) => assert!(error.to_string().starts_with("no embedded policy"), "{error}"),
    }
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { vocabulary_size: 100, ..tiny_config() };
    random_checkpoint(&config, 1, folder.path()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), orion_policy::byte_tokenizer_json()).unwrap();
    let error =
        Policy::load(&Source::Folder(folder.path().to_owned()), &PolicyOptions::default()).err().unwrap();
    assert!(matches!(&error, PolicyError::Checkpoint(CheckpointError::Tokenizer { .. })), "{error}");
    assert!(error.to_string().contains("expected at most 100 tokens, got 270"), "{error}");
}
