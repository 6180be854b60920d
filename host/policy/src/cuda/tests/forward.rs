//! The forward pass on the emulated device: golden numbers, a naive twin, and bits that do not depend on how the work
//! is cut.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::model::DeviceModel;
use super::emulated::Emulated;
use super::{MEMORY, NUMBERS, on_device, options, uneven_config};
use crate::backend::Backend;
use crate::check::{check_model, read_golden};
use crate::checkpoint::{Checkpoint, NumberFormat};
use crate::config::{Config, LayerKind};
use crate::cuda::DeviceError;
use crate::embedded::EmbeddedCheckpoint;
use crate::error::PolicyError;
use crate::format::Segment;
use crate::model::{Feed, Scratch};
use crate::random::{Random, tiny_config};
use crate::state::{Sequence, State};
use crate::tests::data::fixture;
use crate::tests::model::{bits, lively_weights};
use crate::tests::reference::Reference;

/// A checkpoint with its numbers rounded.
fn checkpoint_in(numbers: NumberFormat, config: &Config, seed: u64) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    lively_weights(config, seed).save(config, folder.path(), numbers).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(9);
    (0..count).map(|_| (random.next_u64() % vocabulary as u64) as u32).collect()
}

/// Logits after each token, the tokens fed in chunks of the given sizes (the last size repeats).
fn logits_in_chunks(model: &Backend, tokens: &[u32], sizes: &[usize]) -> Vec<f32> {
    let mut sequence = Sequence::new(model.sizes(), None);
    let (mut scratch, mut logits, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    let (mut rest, mut step) = (tokens, 0);
    while !rest.is_empty() {
        let size = sizes[step.min(sizes.len() - 1)].clamp(1, rest.len());
        let (chunk, later) = rest.split_at(size);
        let feed = Feed { sequence: &mut sequence, tokens: chunk, wanted_from: 0 };
        model.forward(&mut [feed], &mut scratch).unwrap();
        model.logits(&scratch, 0..chunk.len(), &mut logits).unwrap();
        all.extend_from_slice(&logits);
        (rest, step) = (later, step + 1);
    }
    all
}

#[test]
fn golden_numbers() {
    let Some(folder) = fixture("lfm2-tiny") else { return };
    let Some(device) = Emulated::new(MEMORY) else { return };
    let stored = Checkpoint::open(&folder).unwrap();
    // Rounding the weights alone moves a logit by up to 0.024 in f16. All cases would take a minute here.
    let halves = [(NumberFormat::F16, Some(0.05), 1), (NumberFormat::Bf16, Some(0.4), 1)];
    for (numbers, room, cases) in std::iter::once((NumberFormat::F32, None, 2)).chain(halves) {
        let copy = tempfile::tempdir().unwrap();
        stored.weights().unwrap().save(stored.config(), copy.path(), numbers).unwrap();
        std::fs::write(copy.path().join("config.json"), stored.config().to_json()).unwrap();
        let model = on_device(&device, &Checkpoint::open(copy.path()).unwrap());
        assert_eq!(model.numbers(), numbers);
        let mut golden = read_golden(&folder.join("cases.json")).unwrap();
        golden.tolerance_abs = room.unwrap_or(golden.tolerance_abs);
        golden.cases.truncate(cases);
        let report = check_model(&Backend::Cuda(Box::new(model)), &golden).unwrap();
        assert!(report.passed, "{numbers:?}: {report:#?}");
    }
    assert_eq!(device.blocks(), 0, "all memory is given back");
}

#[test]
fn any_shape_is_near_its_twin() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let shapes = [
        uneven_config(),
        Config { convolution_length: 1, layers: vec![LayerKind::Convolution], ..uneven_config() },
        Config { head_size: 128, attention_heads: 8, key_value_heads: 1, ..tiny_config() },
        Config { hidden_size: 288, feed_forward_size: 520, convolution_length: 6, ..tiny_config() },
    ];
    for (seed, config) in shapes.into_iter().enumerate() {
        let tokens = tokens(19, config.vocabulary_size);
        for (numbers, room) in
            [(NumberFormat::F32, 1e-5), (NumberFormat::F16, 2e-3), (NumberFormat::Bf16, 0.016)]
        {
            let (_folder, checkpoint) = checkpoint_in(numbers, &config, seed as u64);
            let weights = checkpoint.weights().unwrap();
            let exact = Reference { config: &config, weights: &weights }.logits(&tokens);
            let model = Backend::Cuda(Box::new(on_device(&device, &checkpoint)));
            let got = logits_in_chunks(&model, &tokens, &[19]);
            let exact: Vec<f64> = exact.into_iter().flatten().collect();
            let spread = (exact.iter().map(|value| value * value).sum::<f64>() / exact.len() as f64).sqrt();
            let gap = (got.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>()
                / exact.len() as f64)
                .sqrt();
            assert!(gap < room * spread, "shape {seed} in {numbers:?}: {gap} of {spread}");
        }
    }
}

/// The policy that ships, in its own f16, on words.
#[test]
fn nano_is_near_the_cpu_s() {
    let Ok(nano) = EmbeddedCheckpoint::nano() else {
        println!("skipped: this build carries no policy");
        return;
    };
    let Some(device) = Emulated::new(MEMORY) else { return };
    let (checkpoint, format) = nano.open().unwrap();
    let question = Segment::UserQuery("who made the lens that sends one thin ray through the gap".to_owned());
    let tokens: Vec<u32> = format.encode(&[question]).into_iter().flat_map(|span| span.tokens).collect();
    let (cpu, _) = Backend::load(&checkpoint, 512, &options()).unwrap();
    let expected = logits_in_chunks(&cpu, &tokens, &[tokens.len()]);
    let got =
        logits_in_chunks(&Backend::Cuda(Box::new(on_device(&device, &checkpoint))), &tokens, &[tokens.len()]);
    let square =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let spread = square(&mut expected.iter().map(|value| f64::from(*value)));
    let gap = square(&mut expected.iter().zip(&got).map(|(a, b)| f64::from(a - b)));
    assert!(gap < 2e-3 * spread, "{gap} of {spread}");
}

#[test]
fn bits_do_not_depend_on_chunks() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let config = uneven_config();
    // Long enough for two runs of attention.
    let tokens = tokens(262, config.vocabulary_size);
    for numbers in NUMBERS {
        let (_folder, checkpoint) = checkpoint_in(numbers, &config, 3);
        let model = Backend::Cuda(Box::new(on_device(&device, &checkpoint)));
        let whole = logits_in_chunks(&model, &tokens, &[262]);
        let cut = logits_in_chunks(&model, &tokens, &[200, 1, 33, 7, 13, 1]);
        assert_eq!(bits(&whole), bits(&cut), "{numbers:?}");
    }
}

fn state_after(
    model: &DeviceModel,
    base: Option<&Arc<State>>,
    tokens: &[u32],
    gauge: &Arc<AtomicUsize>,
) -> (Arc<State>, Vec<f32>) {
    let mut sequence = Sequence::new(&model.sizes, base.and_then(|state| state.pin().ok()));
    model.forward(&mut [Feed { sequence: &mut sequence, tokens, wanted_from: tokens.len() - 1 }]).unwrap();
    let mut logits = Vec::new();
    model.logits(&[model.last_output(&mut sequence).unwrap()], &mut logits).unwrap();
    (sequence.finish(&model.sizes, gauge), logits)
}

#[test]
fn bits_do_not_depend_on_company_or_branching() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let config = uneven_config();
    let all = tokens(60, config.vocabulary_size);
    for numbers in NUMBERS {
        let (_folder, checkpoint) = checkpoint_in(numbers, &config, 5);
        let model = on_device(&device, &checkpoint);
        let gauge: Arc<AtomicUsize> = Arc::default();
        let (trunk, _) = state_after(&model, None, &all[..11], &gauge);
        let (twig, _) = state_after(&model, Some(&trunk), &all[11..12], &gauge);
        let parts = [&all[12..13], &all[12..40], &all[40..43], &all[13..14], &all[43..60]];
        let bases = [&twig, &trunk, &twig, &twig, &trunk];
        let alone: Vec<Vec<f32>> = parts
            .iter()
            .zip(bases)
            .map(|(part, base)| {
                let (state, logits) = state_after(&model, Some(base), part, &gauge);
                // Read again from the first token on, without the tree.
                let again = state_after(&model, None, &state.all_tokens(), &gauge).1;
                assert_eq!(bits(&logits), bits(&again), "{numbers:?}: branched = read again");
                logits
            })
            .collect();
        let mut sequences: Vec<Sequence> =
            bases.iter().map(|base| Sequence::new(&model.sizes, base.pin().ok())).collect();
        let mut feeds: Vec<Feed<'_>> = sequences
            .iter_mut()
            .zip(parts)
            .map(|(sequence, part)| Feed { sequence, tokens: part, wanted_from: part.len() - 1 })
            .collect();
        model.forward(&mut feeds).unwrap();
        drop(feeds);
        for (index, expected) in alone.iter().enumerate() {
            let mut logits = Vec::new();
            model.logits(&[model.wanted_output(index)], &mut logits).unwrap();
            assert_eq!(bits(expected), bits(&logits), "{numbers:?}: alone = batched");
            model.logits(&[model.last_output(&mut sequences[index]).unwrap()], &mut logits).unwrap();
            assert_eq!(bits(expected), bits(&logits), "{numbers:?}: the state keeps its output");
        }
        drop((sequences, trunk, twig));
        assert_eq!(model.held(), (0, 0), "what states held is free again");
    }
}

#[test]
fn shapes_that_the_kernels_do_not_compute_are_refused() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    for (config, expected) in [
        (Config { hidden_size: 36, ..tiny_config() }, "hidden size: expected a multiple of 8, got 36"),
        (Config { head_size: 136, ..tiny_config() }, "head size: expected at most 128, got 136"),
        (
            Config { attention_heads: 18, ..tiny_config() },
            "query heads of a key head: expected at most 8, got 9",
        ),
    ] {
        let (_folder, checkpoint) = checkpoint_in(NumberFormat::F32, &config, 1);
        let error = DeviceModel::load(device.clone(), &checkpoint, 64, &options()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let (_folder, checkpoint) = checkpoint_in(NumberFormat::F32, &tiny_config(), 1);
    for (memory, what) in [(50_000, "weights"), (200_000, "keys and values")] {
        let Some(small) = Emulated::new(memory) else { return };
        let error = DeviceModel::load(small, &checkpoint, 64, &options()).err().unwrap();
        assert!(
            matches!(&error, PolicyError::Device(DeviceError::Memory { what: got, .. }) if *got == what),
            "{error}"
        );
    }
}
