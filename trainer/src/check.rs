//! `orion-train check`: any checkpoint against golden numbers of a reference implementation, learning included.
//!
//! The file holds an `sft` part, a `grpo` part, or both. What is compared: the supervised loss, the gradient norm of
//! every tensor, their total, and the loss after each optimiser step; for GRPO the advantages, the log-probabilities
//! under the policy and under the reference, the divergence, the loss and the gradient norms. Log-probabilities at
//! sampling time are an input there (the loss cannot match without them). The numbers come out of the code that
//! trains: [`crate::sft`]'s loss, [`crate::optim`], [`crate::grpo::update`]. The policy crate's own check does the same
//! for logits and decoding.

use crate::checkpoint::{self, load_model};
use crate::data::{Example, Padded};
use crate::device::DeviceArguments;
use crate::error::{Result, TrainError};
use crate::grpo::advantage::advantages;
use crate::grpo::loss::Objective;
use crate::grpo::update::{self, Sample};
use crate::model::Lfm2;
use crate::optim::{AdamW, AdamWSettings, Gradients};
use crate::sft::{Workers, example_losses};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tokens of a micro-batch, more than any golden file has, so that it is computed in one.
const MICRO_TOKENS: usize = 1 << 16;

/// Largest deviations that count as equal. Relative ones are shares of the expected value.
///
/// Chosen at a few times what f32 sums in another order make on the project's own golden files.
mod tolerance {
    /// A loss, relative, and absolute below 1.
    pub(super) const LOSS: f64 = 2e-6;
    /// One tensor's gradient norm, relative.
    pub(super) const NORM: f64 = 5e-5;
    /// The total norm, relative.
    pub(super) const TOTAL_NORM: f64 = 1e-5;
    /// Losses after optimiser steps, relative: Adam divides small numbers by small numbers.
    pub(super) const STEPS: f64 = 1e-4;
    /// An advantage, absolute.
    pub(super) const ADVANTAGE: f64 = 1e-5;
    /// A log-probability, absolute.
    pub(super) const LOG_PROBABILITY: f64 = 2e-5;
    /// The divergence, absolute.
    pub(super) const DIVERGENCE: f64 = 1e-6;
}

#[derive(Debug, Deserialize)]
struct Golden {
    sft: Option<GoldenSft>,
    grpo: Option<GoldenGrpo>,
}

#[derive(Debug, Deserialize)]
struct GoldenSft {
    input_ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    value: f64,
    grad_norm_per_parameter: BTreeMap<String, f64>,
    grad_norm_total: f64,
    optimizer: GoldenOptimizer,
    loss_after_each_of_5_steps: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct GoldenOptimizer {
    name: String,
    decays: String,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip_grad_norm: f64,
}

#[derive(Debug, Deserialize)]
struct GoldenGrpo {
    input_ids: Vec<Vec<u32>>,
    prompt_length: usize,
    completion_lengths: Vec<usize>,
    rewards: Vec<f32>,
    beta: f64,
    clip_eps: f64,
    reference_model: String,
    advantages: Vec<f64>,
    old_logprobs: Vec<Vec<f32>>,
    policy_logprobs: Vec<Vec<f64>>,
    reference_logprobs: Vec<Vec<f64>>,
    value: f64,
    mean_kl: f64,
    grad_norm_total: f64,
    grad_norm_per_parameter: BTreeMap<String, f64>,
}

/// How far one quantity is from the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// `sft` or `grpo`, and what of it.
    pub quantity: String,
    /// Numbers compared.
    pub compared: usize,
    /// The largest deviation; a share of the expected value where `relative`.
    pub largest: f64,
    /// Where that is: a tensor, a step, a place.
    pub at: String,
    /// What it may be.
    pub tolerance: f64,
    /// Whether deviations are shares of the expected value.
    pub relative: bool,
    /// Whether all is well.
    pub ok: bool,
}

/// All quantities of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The golden file.
    pub golden: PathBuf,
    /// In the order in which they were computed.
    pub quantities: Vec<Deviation>,
}

impl CheckReport {
    /// Whether every quantity is within its tolerance.
    pub fn is_ok(&self) -> bool {
        self.quantities.iter().all(|quantity| quantity.ok)
    }

    /// The quantity of this name.
    pub fn quantity(&self, name: &str) -> Option<&Deviation> {
        self.quantities.iter().find(|quantity| quantity.quantity == name)
    }

    /// `Ok` or the first failure as an error.
    pub fn verdict(&self) -> Result<()> {
        let Some(failed) = self.quantities.iter().find(|quantity| !quantity.ok) else { return Ok(()) };
        Err(TrainError::Deviates {
            path: self.golden.clone(),
            expected: format!("{} within {:.0e}", failed.quantity, failed.tolerance),
            got: failed.largest,
            at: failed.at.clone(),
        })
    }
}

/// Collects deviations; a pair of which either is no number deviates without bound.
struct Comparison<'a> {
    path: &'a Path,
    quantities: Vec<Deviation>,
}

impl Comparison<'_> {
    fn add(
        &mut self,
        quantity: &str,
        tolerance: f64,
        relative: bool,
        pairs: impl Iterator<Item = (String, f64, f64)>,
    ) -> Result<()> {
        let (mut compared, mut largest, mut at) = (0, -1.0, String::new());
        for (place, got, expected) in pairs {
            compared += 1;
            let apart = (got - expected).abs();
            let deviation = if relative { apart / expected.abs().max(f64::MIN_POSITIVE) } else { apart };
            let deviation = if deviation.is_finite() { deviation } else { f64::MAX };
            if largest < deviation {
                (largest, at) = (deviation, place);
            }
        }
        if compared == 0 {
            return Err(TrainError::content(self.path, format!("numbers to compare for {quantity}"), "none"));
        }
        let ok = largest <= tolerance;
        let quantity = quantity.to_owned();
        self.quantities.push(Deviation { quantity, compared, largest, at, tolerance, relative, ok });
        Ok(())
    }

    fn one(&mut self, quantity: &str, tolerance: f64, relative: bool, got: f64, expected: f64) -> Result<()> {
        self.add(quantity, tolerance, relative, std::iter::once(("its value".to_owned(), got, expected)))
    }

    fn norms(&mut self, part: &str, gradients: &Gradients, expected: &BTreeMap<String, f64>) -> Result<()> {
        let norms = gradients.norms();
        let (names, wanted): (Vec<&str>, Vec<&str>) =
            (norms.keys().copied().collect(), expected.keys().map(String::as_str).collect());
        if names != wanted {
            let missing = wanted.iter().find(|name| !names.contains(name));
            let strange = names.iter().find(|name| !wanted.contains(name));
            let got = match (missing, strange) {
                (Some(name), _) => format!("none for `{name}`"),
                (None, Some(name)) => format!("one for `{name}`, which the file does not know"),
                (None, None) => "others".to_owned(),
            };
            let expected = format!("a gradient of each of {} tensors in part `{part}`", wanted.len());
            return Err(TrainError::content(self.path, expected, got));
        }
        let pairs =
            norms.iter().zip(expected.values()).map(|((name, got), norm)| ((*name).to_owned(), *got, *norm));
        self.add(&format!("{part} gradient norms"), tolerance::NORM, true, pairs)
    }

    fn rows(&mut self, quantity: &str, got: &[Vec<f32>], expected: &[Vec<f64>]) -> Result<()> {
        let pairs = got.iter().zip(expected).enumerate().flat_map(|(row, (got, expected))| {
            got.iter().zip(expected).enumerate().map(move |(place, (got, expected))| {
                (format!("sequence {row}, token {place}"), f64::from(*got), *expected)
            })
        });
        self.add(quantity, tolerance::LOG_PROBABILITY, false, pairs)
    }
}

/// Mean loss over a batch's wanted tokens, with gradients.
pub fn loss_and_gradients(model: &Lfm2, batch: &Padded) -> Result<(f64, Gradients)> {
    let losses = model.token_losses(&batch.input, &batch.wanted)?;
    let loss = (losses.sum_all()? / batch.wanted.len().max(1) as f64)?;
    let mut gradients = Gradients::default();
    gradients.add(&loss.backward()?, model.variables())?;
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
}

fn check_sft(comparison: &mut Comparison<'_>, model: &Lfm2, golden: &GoldenSft) -> Result<()> {
    let path = comparison.path;
    let fits = golden.input_ids.len() == golden.labels.len()
        && golden.input_ids.iter().zip(&golden.labels).all(|(ids, labels)| {
            ids.len() == labels.len()
                && ids.iter().zip(labels).all(|(id, label)| *label == -100 || *label == i64::from(*id))
        });
    if !fits {
        let expected = "labels in part `sft` that are the input or -100, one for each token";
        return Err(TrainError::content(path, expected, "others"));
    }
    let examples: Vec<Example> = golden
        .input_ids
        .iter()
        .zip(&golden.labels)
        .map(|(ids, labels)| Example {
            tokens: ids.clone(),
            learn: labels.iter().map(|label| *label != -100).collect(),
        })
        .collect();
    let batch = Padded::new(&examples.iter().collect::<Vec<_>>(), 0);
    if batch.wanted.is_empty() {
        return Err(TrainError::content(path, "labels in part `sft`", "none that is not -100"));
    }
    let (loss, gradients) = loss_and_gradients(model, &batch)?;
    comparison.one("sft loss", tolerance::LOSS, true, loss, golden.value)?;
    comparison.norms("sft", &gradients, &golden.grad_norm_per_parameter)?;
    let total = gradients.total_norm();
    comparison.one("sft total norm", tolerance::TOTAL_NORM, true, total, golden.grad_norm_total)?;
    let GoldenOptimizer { lr, betas: [beta1, beta2], eps, weight_decay, clip_grad_norm, .. } =
        golden.optimizer;
    let GoldenOptimizer { name, decays, .. } = &golden.optimizer;
    if name != "AdamW" || decays != "every parameter" {
        let got = format!("{name} that decays {decays}");
        return Err(TrainError::content(path, "steps of AdamW that decays every parameter", got));
    }
    let settings = AdamWSettings { beta1, beta2, epsilon: eps, weight_decay, embedding_rate: 1.0 };
    let mut optimiser = AdamW::new(settings);
    let mut losses = Vec::new();
    for (step, expected) in golden.loss_after_each_of_5_steps.iter().enumerate() {
        let (_, mut gradients) = loss_and_gradients(model, &batch)?;
        gradients.clip(clip_grad_norm);
        optimiser.update(model.variables(), &gradients, lr)?;
        let (loss, _) = loss_and_gradients(model, &batch)?;
        losses.push((format!("step {}", step + 1), loss, *expected));
    }
    comparison.add("sft losses after steps", tolerance::STEPS, true, losses.into_iter())
}

/// How golden files make a reference out of the policy.
const REFERENCE_MODEL: &str =
    "the same weights with every parameter whose name ends in norm.weight multiplied by 1.05";

/// The reference model of [`REFERENCE_MODEL`].
fn reference(folder: &Path) -> Result<Lfm2> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let opened = orion_policy::Checkpoint::open(folder).map_err(policy_error)?;
    let mut weights = opened.weights().map_err(policy_error)?;
    for (name, tensor) in &mut weights.tensors {
        if name.ends_with("norm.weight") {
            tensor.data.iter_mut().for_each(|value| *value *= 1.05);
        }
    }
    Lfm2::frozen_from_weights(opened.config().clone(), weights)
}

fn check_grpo(
    comparison: &mut Comparison<'_>,
    model: &Lfm2,
    reference: &Lfm2,
    golden: &GoldenGrpo,
) -> Result<()> {
    let path = comparison.path;
    let group = golden.input_ids.len();
    let lists = [golden.completion_lengths.len(), golden.rewards.len(), golden.advantages.len()];
    let rows = [&golden.policy_logprobs, &golden.reference_logprobs];
    let fits = lists.iter().all(|length| *length == group)
        && golden.prompt_length > 0
        && golden.old_logprobs.iter().map(Vec::len).eq(golden.completion_lengths.iter().copied())
        && rows.iter().all(|rows| rows.iter().map(Vec::len).eq(golden.completion_lengths.iter().copied()))
        && golden
            .input_ids
            .iter()
            .zip(&golden.completion_lengths)
            .all(|(ids, length)| *length > 0 && golden.prompt_length + length <= ids.len());
    if !fits {
        let expected = "one reward, advantage and completion for each sequence in part `grpo`, with a \
                        log-probability of each completion token";
        return Err(TrainError::content(path, expected, "lists of other lengths"));
    }
    if golden.reference_model != REFERENCE_MODEL {
        let expected = format!("a reference that is {REFERENCE_MODEL}");
        return Err(TrainError::content(path, expected, &golden.reference_model));
    }
    let advantages = advantages(&golden.rewards)?;
    let pairs = advantages.iter().zip(&golden.advantages).enumerate();
    let pairs = pairs.map(|(place, (got, expected))| (format!("candidate {place}"), *got, *expected));
    comparison.add("grpo advantages", tolerance::ADVANTAGE, false, pairs)?;
    let examples: Vec<Example> = golden
        .input_ids
        .iter()
        .zip(&golden.completion_lengths)
        .map(|(ids, length)| {
            let end = golden.prompt_length + length;
            Example {
                tokens: ids[..end].to_vec(),
                learn: (0..end).map(|place| golden.prompt_length <= place).collect(),
            }
        })
        .collect();
    let workers = Workers::new(1)?;
    let negative = example_losses(reference, &examples, MICRO_TOKENS, 0, &workers)?;
    let referred: Vec<Vec<f32>> =
        negative.into_iter().map(|losses| losses.into_iter().map(|loss| -loss).collect()).collect();
    let samples: Vec<Sample> = examples
        .into_iter()
        .zip(&advantages)
        .zip(golden.old_logprobs.iter().zip(&referred))
        .map(|((example, advantage), (old, reference))| Sample {
            example,
            advantage: *advantage,
            old: Some(old.clone()),
            reference: reference.clone(),
        })
        .collect();
    let objective = Objective { clip: golden.clip_eps, beta: golden.beta };
    let (made, gradients) = update::gradients(model, &samples, &objective, MICRO_TOKENS, 0, &workers)?;
    comparison.rows("grpo policy log-probabilities", &made.policy, &golden.policy_logprobs)?;
    comparison.rows("grpo reference log-probabilities", &referred, &golden.reference_logprobs)?;
    comparison.one("grpo divergence", tolerance::DIVERGENCE, false, made.divergence, golden.mean_kl)?;
    comparison.one("grpo loss", tolerance::LOSS, false, made.loss, golden.value)?;
    comparison.norms("grpo", &gradients, &golden.grad_norm_per_parameter)?;
    let total = gradients.total_norm();
    comparison.one("grpo total norm", tolerance::TOTAL_NORM, true, total, golden.grad_norm_total)
}

/// Holds the checkpoint in `folder` against a golden file.
///
/// # Errors
/// A checkpoint or file that does not read; a file without either part; lists that do not belong together. A number
/// that deviates is no error here: see [`CheckReport::verdict`].
pub fn check(folder: &Path, path: &Path) -> Result<CheckReport> {
    check_as(folder, path, &Ok)
}

/// [`check`] of what `prepare` makes of a model: the same on a device, or in composed operations.
///
/// # Errors
/// Those of [`check`] and of `prepare`.
pub fn check_as(folder: &Path, path: &Path, prepare: &dyn Fn(Lfm2) -> Result<Lfm2>) -> Result<CheckReport> {
    let bytes = checkpoint::read(path)?;
    let golden: Golden = serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::content(path, "golden numbers of training", error))?;
    if golden.sft.is_none() && golden.grpo.is_none() {
        return Err(TrainError::content(path, "a part `sft` or `grpo`", "neither"));
    }
    let mut comparison = Comparison { path, quantities: Vec::new() };
    // GRPO first: the steps of the supervised part move the weights.
    if let Some(part) = &golden.grpo {
        let (model, reference) = (prepare(load_model(folder)?)?, prepare(reference(folder)?)?);
        check_grpo(&mut comparison, &model, &reference, part)?;
    }
    if let Some(part) = &golden.sft {
        check_sft(&mut comparison, &prepare(load_model(folder)?)?, part)?;
    }
    Ok(CheckReport { golden: path.to_owned(), quantities: comparison.quantities })
}

/// Arguments of `orion-train check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orion-train check --model my-policy --golden training.json --json")]
pub struct CheckArguments {
    /// Checkpoint folder that the golden numbers were made with.
    #[arg(long)]
    model: PathBuf,
    /// JSON file with a part `sft`, a part `grpo`, or both.
    #[arg(long)]
    golden: PathBuf,
    #[command(flatten)]
    device: DeviceArguments,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the largest deviation of each quantity; fails where one is out of tolerance.
pub fn command(arguments: &CheckArguments) -> Result<()> {
    let device = arguments.device.open()?;
    let report = check_as(&arguments.model, &arguments.golden, &|model| model.on(&device))?;
    let mut text = String::new();
    for Deviation { quantity, compared, largest, at, tolerance, relative, ok } in &report.quantities {
        let (verdict, kind) =
            (if *ok { "ok  " } else { "FAIL" }, if *relative { "relative" } else { "absolute" });
        text.push_str(&format!(
            "{verdict} {quantity:34} {compared:5} compared, largest {kind} deviation {largest:.2e} of {tolerance:.0e} at {at}\n"
        ));
    }
    crate::terminal::print(&report, &text, arguments.json)?;
    report.verdict()
}
