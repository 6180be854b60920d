//! From candidates with advantages to gradients: the forward and backward passes of one update.
//!
//! Neighbours: [`super::loss`] has the objective, [`super::rollout`] makes the samples, `sft` the workers.

use super::loss::{Objective, Term, TokenProbabilities, term};
use crate::data::{Example, Padded, plan_epoch};
use crate::error::{Result, TrainError};
use crate::model::Lfm2;
use crate::optim::Gradients;
use crate::sft::Workers;
use candle_core::Tensor;

/// One candidate as it enters the update.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its context and its own tokens; `learn` marks the sampled ones, which alone have terms in the loss.
    pub example: Example,
    /// From [`super::advantage::advantages`].
    pub advantage: f64,
    /// Log-probability of each sampled token when it was sampled; `None` takes the policy's own, which is the same
    /// as long as the weights are those that sampled.
    pub old: Option<Vec<f32>>,
    /// Log-probability of each sampled token under the reference.
    pub reference: Vec<f32>,
}

/// Numbers of one update; means over candidates of means over their tokens, unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// The loss.
    pub loss: f64,
    /// Divergence from the reference, in nats a token.
    pub divergence: f64,
    /// Share of clipped tokens.
    pub clipped: f64,
    /// Log-probability of each sampled token now, by sample.
    pub policy: Vec<Vec<f32>>,
}

/// What one micro-batch adds to an update.
struct Part {
    loss: f64,
    divergence: f64,
    clipped: f64,
    policy: Vec<Vec<f32>>,
    gradients: Gradients,
}

fn check(samples: &[Sample]) -> Result<()> {
    for (number, sample) in samples.iter().enumerate() {
        let learned = sample.example.learned();
        let old = sample.old.as_ref().map_or(learned, Vec::len);
        if learned == 0 || sample.reference.len() != learned || old != learned {
            return Err(TrainError::Policy(format!(
                "candidate {number}: expected at least 1 sampled token and a log-probability of each by every model, \
                 got {learned} tokens, {old} old and {} reference values",
                sample.reference.len()
            )));
        }
    }
    Ok(())
}

fn part(
    model: &Lfm2,
    samples: &[Sample],
    members: &[usize],
    pad: u32,
    objective: &Objective,
) -> Result<Part> {
    let examples: Vec<&Example> = members.iter().map(|index| &samples[*index].example).collect();
    let padded = Padded::new(&examples, pad);
    let losses = model.token_losses(&padded.input, &padded.wanted)?; // [sampled tokens]
    let mut values = losses.to_vec1::<f32>()?.into_iter();
    let mut slopes = Vec::with_capacity(values.len());
    let (mut loss, mut divergence, mut clipped) = (0.0, 0.0, 0.0);
    let mut policy = Vec::with_capacity(members.len());
    for index in members {
        let sample = &samples[*index];
        let own: Vec<f32> = values.by_ref().take(sample.reference.len()).map(|loss| -loss).collect();
        let weight = 1.0 / (samples.len() * own.len()) as f64;
        for (place, now) in own.iter().enumerate() {
            let token = TokenProbabilities {
                policy: f64::from(*now),
                old: f64::from(sample.old.as_ref().map_or(*now, |old| old[place])),
                reference: f64::from(sample.reference[place]),
            };
            let Term { value, slope, divergence: away, clipped: beyond } =
                term(token, sample.advantage, objective);
            loss += weight * value;
            divergence += weight * away;
            clipped += weight * f64::from(u8::from(beyond));
            // The model's token loss is minus the log-probability.
            slopes.push((-weight * slope) as f32);
        }
        policy.push(own);
    }
    let count = slopes.len();
    let slopes = Tensor::from_vec(slopes, count, losses.device())?;
    let weighted = (losses * slopes)?.sum_all()?;
    let mut gradients = Gradients::default();
    gradients.add(&weighted.backward()?, model.variables())?;
    Ok(Part { loss, divergence, clipped, policy, gradients })
}

/// Loss and gradients over all samples. Micro-batches hold at most `micro_tokens` tokens, padding included; their
/// gradients are added in a fixed order, so the result does not depend on the number of workers.
///
/// # Errors
/// A sample without a sampled token or with lists of other lengths; tensor failures.
pub fn gradients(
    model: &Lfm2,
    samples: &[Sample],
    objective: &Objective,
    micro_tokens: usize,
    pad: u32,
    workers: &Workers,
) -> Result<(Update, Gradients)> {
    check(samples)?;
    let lengths: Vec<usize> = samples.iter().map(|sample| sample.example.tokens.len()).collect();
    let batches = plan_epoch(&lengths, micro_tokens, 0, 0);
    let parts = workers.map(&batches, |members| part(model, samples, members, pad, objective))?;
    let mut total = Gradients::default();
    let mut update = Update { policy: vec![Vec::new(); samples.len()], ..Update::default() };
    for (members, part) in batches.iter().zip(parts) {
        update.loss += part.loss;
        update.divergence += part.divergence;
        update.clipped += part.clipped;
        for (index, own) in members.iter().zip(part.policy) {
            update.policy[*index] = own;
        }
        total.merge(part.gradients);
    }
    Ok((update, total))
}
