//! The forward pass: equal to its twin on random shapes, and bit-equal to itself however the work is cut.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use orion_kernels::Threads;
use proptest::prelude::*;

use super::reference::Reference;
use crate::checkpoint::{Checkpoint, Weights};
use crate::config::{Config, LayerKind};
use crate::matrices::WeightFormat;
use crate::model::{Feed, Model, Scratch};
use crate::random::{Random, random_weights, tiny_config};
use crate::state::{Sequence, State};

/// Weights in which nothing is neutral: norms are not 1, biases not 0, and all large enough to matter.
pub(crate) fn lively_weights(config: &Config, seed: u64) -> Weights {
    let mut weights = random_weights(config, seed);
    let mut random = Random::new(seed ^ 0x5eed);
    for (name, tensor) in &mut weights.tensors {
        for value in &mut tensor.data {
            if name.ends_with("norm.weight") || name.ends_with(".bias") {
                *value += (0.3 * random.truncated_normal()) as f32;
            } else {
                *value *= 8.0;
            }
        }
    }
    weights
}

fn model_of(config: &Config, weights: &Weights, threads: usize) -> Model {
    model_in(WeightFormat::AsStored, config, weights, threads)
}

fn model_in(format: WeightFormat, config: &Config, weights: &Weights, threads: usize) -> Model {
    let checkpoint = Checkpoint::from_weights(config.clone(), weights).unwrap();
    Model::load(&checkpoint, 256, format, Some(Arc::new(Threads::new(threads)))).unwrap()
}

/// Logits after each token, the tokens fed in chunks of the given sizes (the last size repeats).
fn logits_in_chunks(model: &Model, tokens: &[u32], sizes: &[usize]) -> Vec<f32> {
    let mut sequence = Sequence::new(&model.sizes, None);
    let (mut scratch, mut logits, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    let mut rest = tokens;
    let mut step = 0;
    while !rest.is_empty() {
        let size = sizes[step.min(sizes.len() - 1)].clamp(1, rest.len());
        let (chunk, later) = rest.split_at(size);
        model.forward(&mut [Feed { sequence: &mut sequence, tokens: chunk, wanted_from: 0 }], &mut scratch);
        model.logits(&scratch.hidden, &mut logits);
        all.extend_from_slice(&logits);
        rest = later;
        step += 1;
    }
    all
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

prop_compose! {
    fn configs()(
        layers in proptest::collection::vec(
            prop_oneof![Just(LayerKind::Convolution), Just(LayerKind::Attention)], 1..4),
        key_value_heads in 1usize..3, group in 1usize..4, half_head in 1usize..9,
        hidden_size in 3usize..40, feed_forward_size in 1usize..40, vocabulary_size in 5usize..60,
        convolution_length in 1usize..6, tied_head: bool, convolution_bias: bool,
    ) -> Config {
        Config {
            vocabulary_size, hidden_size, feed_forward_size, layers, key_value_heads,
            attention_heads: key_value_heads * group, head_size: 2 * half_head,
            convolution_length, tied_head, convolution_bias,
            ..tiny_config()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_shape_equals_its_twin_in_any_chunks(
        config in configs(), seed: u64, picks in proptest::collection::vec(any::<u32>(), 1..14),
        sizes in proptest::collection::vec(1usize..6, 1..5),
    ) {
        let weights = lively_weights(&config, seed);
        let tokens: Vec<u32> = picks.iter().map(|pick| pick % config.vocabulary_size as u32).collect();
        let model = model_of(&config, &weights, 2);
        let whole = logits_in_chunks(&model, &tokens, &[tokens.len()]);
        let exact = Reference { config: &config, weights: &weights }.logits(&tokens);
        for (got, expected) in whole.iter().zip(exact.iter().flatten()) {
            let room = 1e-3 * expected.abs().max(1.0);
            prop_assert!((f64::from(*got) - expected).abs() < room, "got {got}, expected {expected}");
        }
        let cut = logits_in_chunks(&model, &tokens, &sizes);
        prop_assert_eq!(bits(&whole), bits(&cut), "chunked = whole");
        let single = model_of(&config, &weights, 1);
        prop_assert_eq!(bits(&whole), bits(&logits_in_chunks(&single, &tokens, &[1])), "cached = uncached, any threads");
    }
}

/// Models for the invariance tests, one in each format, and some tokens.
fn setups() -> Vec<(Model, Vec<u32>)> {
    WeightFormat::ALL.into_iter().map(setup_in).collect()
}

fn setup() -> (Model, Vec<u32>) {
    setup_in(WeightFormat::AsStored)
}

/// Rows are whole blocks of 256 where the format asks for them.
fn setup_in(format: WeightFormat) -> (Model, Vec<u32>) {
    let wide = format != WeightFormat::AsStored;
    let config = Config {
        hidden_size: if wide { 256 } else { 32 },
        feed_forward_size: if wide { 512 } else { 48 },
        head_size: if wide { 64 } else { 8 },
        layers: vec![
            LayerKind::Convolution,
            LayerKind::Attention,
            LayerKind::Convolution,
            LayerKind::Attention,
        ],
        ..tiny_config()
    };
    let weights = lively_weights(&config, 3);
    let mut random = Random::new(9);
    let tokens = (0..50).map(|_| (random.next_u64() % 272) as u32).collect();
    (model_in(format, &config, &weights, 2), tokens)
}

#[test]
fn blocks_are_bit_equal_in_any_chunks_and_near_their_twin() {
    // Deviation of a logit from the exact one, against the spread of the logits.
    for (format, room) in [(WeightFormat::Q8_0, 0.05), (WeightFormat::Q4_0, 0.5), (WeightFormat::Q4K, 0.5)] {
        let (model, tokens) = setup_in(format);
        let tokens = &tokens[..24];
        let whole = logits_in_chunks(&model, tokens, &[24]);
        for sizes in [&[1][..], &[5, 1, 7, 2], &[3, 16]] {
            assert_eq!(bits(&whole), bits(&logits_in_chunks(&model, tokens, sizes)), "{format} in {sizes:?}");
        }
        let weights = lively_weights(&model.config, 3);
        let exact = Reference { config: &model.config, weights: &weights }.logits(tokens);
        let spread = exact.iter().flatten().map(|value| value.abs()).sum::<f64>() / whole.len() as f64;
        let gaps =
            whole.iter().zip(exact.iter().flatten()).map(|(got, value)| (f64::from(*got) - value).abs());
        let gap = gaps.sum::<f64>() / whole.len() as f64;
        assert!(0.0 < gap && gap < room * spread, "{format}: {gap} of {spread}");
    }
}

#[test]
fn blocks_take_the_room_that_they_promise() {
    let bits = |format| {
        let (model, _) = setup_in(format);
        let in_norms: u64 = model
            .config
            .tensors()
            .iter()
            .filter(|(_, shape)| shape.len() != 2)
            .map(|(_, shape)| shape.iter().product::<usize>() as u64)
            .sum();
        8.0 * model.weight_bytes() as f64 / (model.config.parameters() - in_norms) as f64
    };
    assert_eq!(bits(WeightFormat::Q8_0), 8.5);
    // The table of tokens has eight bits.
    assert!((4.5..5.0).contains(&bits(WeightFormat::Q4_0)));
    assert_eq!(bits(WeightFormat::Q4K), bits(WeightFormat::Q4_0));
    assert_eq!("q4_k".parse(), Ok(WeightFormat::Q4K));
    assert!("q5_0".parse::<WeightFormat>().unwrap_err().to_string().contains("got `q5_0`"));
}

fn state_after(
    model: &Model,
    base: Option<Arc<State>>,
    tokens: &[u32],
    gauge: &Arc<AtomicUsize>,
) -> Arc<State> {
    let mut sequence = Sequence::new(&model.sizes, base.and_then(|state| state.pin().ok()));
    let feed = Feed { sequence: &mut sequence, tokens, wanted_from: tokens.len() - 1 };
    model.forward(&mut [feed], &mut Scratch::default());
    sequence.finish(&model.sizes, gauge)
}

#[test]
fn branched_equals_read_again() {
    for (model, tokens) in setups() {
        let gauge = Arc::default();
        let trunk = state_after(&model, None, &tokens[..20], &gauge);
        let twig = state_after(&model, Some(trunk.clone()), &tokens[20..21], &gauge);
        for ranges in [[21..30, 30..40], [35..50, 21..22]] {
            let mut branch = twig.clone();
            let mut again: Vec<u32> = tokens[..21].to_vec();
            for range in ranges {
                branch = state_after(&model, Some(branch), &tokens[range.clone()], &gauge);
                again.extend_from_slice(&tokens[range]);
            }
            assert_eq!(branch.all_tokens(), again);
            assert_eq!(branch.length, again.len());
            let whole = state_after(&model, None, &again, &gauge);
            let [one, other] = [branch, whole].map(|state| state.memory().unwrap());
            assert_eq!(bits(&one.hidden), bits(&other.hidden));
            assert_eq!(bits(&one.convolutions), bits(&other.convolutions));
        }
    }
}

#[test]
fn alone_equals_batched() {
    for (model, tokens) in setups() {
        let gauge = Arc::default();
        let trunk = state_after(&model, None, &tokens[..11], &gauge);
        let parts = [&tokens[11..12], &tokens[12..40], &tokens[40..43], &tokens[11..12], &tokens[43..50]];
        let base = |index: usize| (index != 1).then(|| trunk.clone());
        let alone: Vec<Arc<State>> = parts
            .iter()
            .enumerate()
            .map(|(index, part)| state_after(&model, base(index), part, &gauge))
            .collect();
        let mut sequences: Vec<Sequence> = (0..parts.len())
            .map(|index| Sequence::new(&model.sizes, base(index).and_then(|state| state.pin().ok())))
            .collect();
        let mut feeds: Vec<Feed<'_>> = sequences
            .iter_mut()
            .zip(parts)
            .map(|(sequence, part)| Feed { sequence, tokens: part, wanted_from: part.len() - 1 })
            .collect();
        model.forward(&mut feeds, &mut Scratch::default());
        for (sequence, state) in sequences.into_iter().zip(&alone) {
            let batched = sequence.finish(&model.sizes, &gauge).memory().unwrap();
            let state = state.memory().unwrap();
            assert_eq!(bits(&batched.hidden), bits(&state.hidden));
            assert_eq!(bits(&batched.convolutions), bits(&state.convolutions));
            for (a, b) in batched.own.iter().zip(&state.own) {
                assert_eq!(bits(&a.keys), bits(&b.keys));
                assert_eq!(bits(&a.values), bits(&b.values));
            }
        }
    }
}

#[test]
fn rows_that_are_not_wanted_change_nothing() {
    for (model, tokens) in setups() {
        let mut all = Scratch::default();
        let mut some = Scratch::default();
        let mut none = Scratch::default();
        let run = |scratch: &mut Scratch, wanted_from: usize| {
            let mut sequence = Sequence::new(&model.sizes, None);
            model.forward(&mut [Feed { sequence: &mut sequence, tokens: &tokens, wanted_from }], scratch);
            sequence
        };
        let with_all = run(&mut all, 0);
        let with_some = run(&mut some, 37);
        let with_none = run(&mut none, 50);
        assert_eq!(bits(&all.hidden[37 * model.config.hidden_size..]), bits(&some.hidden));
        assert!(none.hidden.is_empty() && with_none.hidden.is_empty());
        for other in [&with_some, &with_none] {
            assert_eq!(bits(&with_all.convolutions), bits(&other.convolutions));
            for (a, b) in with_all.own.iter().zip(&other.own) {
                assert_eq!(bits(&a.keys), bits(&b.keys));
            }
        }
    }
}

#[test]
fn states_are_counted_and_long_chains_drop() {
    let (model, tokens) = setup();
    let gauge: Arc<AtomicUsize> = Arc::default();
    let read = || gauge.load(std::sync::atomic::Ordering::Relaxed);
    let trunk = state_after(&model, None, &tokens, &gauge);
    let before = read();
    assert_eq!(before, model.sizes.state_bytes(50));
    let branches: Vec<_> =
        (0..3).map(|i| state_after(&model, Some(trunk.clone()), &tokens[i..i + 1], &gauge)).collect();
    assert_eq!(read(), before + 3 * model.sizes.state_bytes(1));
    drop(trunk);
    assert_eq!(read(), before + 3 * model.sizes.state_bytes(1), "the branches keep their trunk");
    drop(branches);
    assert_eq!(read(), 0);
    // Far more than a stack could hold frames for, without the model, which would take long.
    let mut chain: Option<Arc<State>> = None;
    for _ in 0..200_000 {
        let mut sequence = Sequence::new(&model.sizes, None);
        sequence.follow(chain.take());
        sequence.note_tokens(&[1]);
        sequence.convolutions = Vec::new();
        sequence.hidden = Vec::new();
        chain = Some(sequence.finish(&model.sizes, &gauge));
    }
    drop(chain);
    assert_eq!(read(), 0);
}
