//! Batches of whole sequences, grouped by length to waste little on padding.

use super::Example;
use crate::model::Rectangle;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Sequences that are sorted by length together. Larger wastes less padding; smaller mixes lengths better.
const WINDOW: usize = 128;

/// The micro-batches of one epoch as lists of example numbers; every example occurs once.
///
/// A function of its arguments alone, so that a resumed run finds its place again. No micro-batch exceeds
/// `token_limit` tokens, padding included, unless a single example does.
pub fn plan_epoch(lengths: &[usize], token_limit: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut rng);
    let mut batches = Vec::new();
    for window in order.chunks_mut(WINDOW) {
        window.sort_by_key(|index| lengths[*index]);
        let mut batch: Vec<usize> = Vec::new();
        for index in window {
            // Sorted: the newcomer is the longest.
            if !batch.is_empty() && (batch.len() + 1) * lengths[*index] > token_limit {
                batches.push(std::mem::take(&mut batch));
            }
            batch.push(*index);
        }
        batches.push(batch);
    }
    batches.shuffle(&mut rng);
    batches
}

/// Examples as one rectangle, with the tokens to predict.
#[derive(Debug, Clone)]
pub struct Padded {
    /// The model's input.
    pub input: Rectangle,
    /// `(row, token)`: the logits at `row` should predict `token`.
    pub wanted: Vec<(u32, u32)>,
    /// Tokens that are not padding.
    pub real_tokens: usize,
}

impl Padded {
    /// Pads `examples` on the right with `pad`. The last token of an example is never an input that predicts.
    pub fn new(examples: &[&Example], pad: u32) -> Self {
        let time = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let mut tokens = Vec::with_capacity(time * examples.len());
        let mut wanted = Vec::new();
        for (sequence, example) in examples.iter().enumerate() {
            let start = sequence * time;
            for position in 1..example.tokens.len() {
                if example.learn[position] {
                    wanted.push(((start + position - 1) as u32, example.tokens[position]));
                }
            }
            tokens.extend_from_slice(&example.tokens);
            tokens.resize(start + time, pad);
        }
        let real_tokens = examples.iter().map(|example| example.tokens.len()).sum();
        Self { input: Rectangle { tokens, batch: examples.len(), time }, wanted, real_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_example_once_within_the_limit() {
        let lengths: Vec<usize> = (0..500).map(|i| 10 + (i * 37) % 200).collect();
        let plan = plan_epoch(&lengths, 1000, 7, 3);
        let mut seen: Vec<usize> = plan.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        for batch in &plan {
            let longest = batch.iter().map(|index| lengths[*index]).max().unwrap_or(0);
            assert!(batch.len() * longest <= 1000, "{batch:?}");
        }
        assert_eq!(plan, plan_epoch(&lengths, 1000, 7, 3));
        assert_ne!(plan, plan_epoch(&lengths, 1000, 7, 4));
    }

    #[test]
    fn padding_keeps_rows_and_targets_apart() {
        let a = Example { tokens: vec![5, 6, 7], learn: vec![false, false, true] };
        let b = Example { tokens: vec![8, 9], learn: vec![false, true] };
        let padded = Padded::new(&[&a, &b], 0);
        assert_eq!(padded.input.tokens, [5, 6, 7, 8, 9, 0]);
        assert_eq!(padded.wanted, [(1, 7), (3, 9)]);
        assert_eq!(padded.real_tokens, 5);
    }
}
