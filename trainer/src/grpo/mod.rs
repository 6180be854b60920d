//! Turn-level GRPO: candidates from the policy as it serves, rewards from the sandbox, group-relative updates.
//!
//! A step: [`rollout`] plays episodes on the weights of the moment over [`grounds`], [`advantage`] compares each
//! candidate with its siblings, [`update`] makes gradients of the [`loss`], the optimiser moves the weights,
//! [`collapse`] watches, [`measure`] counts, `trainee` holds what moves. This file is the loop around it, with checkpoints and resume; [`settings`]
//! has its numbers and [`command`] its command line. `sft` made the policy that this starts from.
//!
//! A step depends on the weights, the settings and its own number alone, so a run that was killed and resumed equals
//! an uninterrupted one bit for bit, whatever the number of workers.
//!
//! Departures and choices (the paper's constants are lost in the text that this was written from):
//! 1. Log-probabilities at sampling time are recomputed with the trainer's forward pass; the gap to those of the
//!    serving engine is logged at every step.
//! 2. The reward's cosine is by default that of the candidate's query to its judged document, not to whatever it
//!    ranked first, which any fluent nonsense earns ([`settings::Similarity`]).
//! 3. Rank counts logarithmically by default (the reward plugin says why).
//! 4. What the candidates of all turns of all queries of a step add to the loss weighs the same.

pub mod advantage;
pub mod collapse;
pub mod command;
pub mod grounds;
pub mod loss;
pub mod measure;
pub mod rollout;
pub mod settings;
mod trainee;
pub mod update;

use crate::checkpoint;
use crate::error::{Result, TrainError};
use crate::metrics::Metrics;
use crate::model::Lfm2;
use crate::sft::Workers;
use crate::terminal;
use collapse::Collapse;
use grounds::{Grounds, Task};
use measure::DevMeasures;
use orion_policy::{Checkpoint, Policy, PolicyOptions, Random, TrajectoryFormat};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use settings::GrpoSettings;
use std::path::Path;
use std::time::Instant;
use trainee::{Trainee, UpdateMetric};

/// What a run works on and where it leaves its traces.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Queries to learn from; at least one.
    pub train: &'a [Task],
    /// Queries to measure on.
    pub held_out: &'a [Task],
    /// Collection and judge.
    pub grounds: &'a Grounds,
    /// The policy's format.
    pub format: &'a TrajectoryFormat,
    /// How.
    pub settings: &'a GrpoSettings,
    /// Padding token.
    pub pad: u32,
    /// Folder of metrics and checkpoints.
    pub run: &'a Path,
    /// Whether the folder's newest checkpoint replaces the given model.
    pub resume: bool,
    /// Whether to draw a progress bar on stderr.
    pub show: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Steps of the whole run.
    pub steps: u64,
    /// Sampled tokens of the whole run.
    pub sampled_tokens: u64,
    /// Greedy episodes over held-out queries before the first step of this call.
    pub before: Option<DevMeasures>,
    /// The same after the last.
    pub after: Option<DevMeasures>,
    /// Candidates of this call.
    pub candidates: usize,
    /// Candidates a second, everything included.
    pub candidates_per_second: f64,
    /// Wall-clock seconds of this call.
    pub seconds: f64,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Default, Serialize)]
struct Metric {
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    update: Option<UpdateMetric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<DevMeasures>,
    seconds: f64,
}

fn policy_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Policy(error.to_string())
}

/// The serving engine on the weights of the moment.
fn serve(model: &Lfm2, format: &TrajectoryFormat, workers: usize) -> Result<Policy> {
    let checkpoint =
        Checkpoint::from_weights(model.config().clone(), &model.to_weights()?).map_err(policy_error)?;
    let options = PolicyOptions { threads: workers, ..PolicyOptions::default() };
    Policy::serve("weights in training", &checkpoint, format.clone(), &options).map_err(policy_error)
}

/// The tasks of a step: the next of an endless list in which every pass over the queries has its own order.
fn tasks_of(step: u64, settings: &GrpoSettings, train: &[Task]) -> Vec<Task> {
    let start = step * settings.queries as u64;
    let count = train.len() as u64;
    let mut order: Vec<usize> = Vec::new();
    let mut pass = None;
    let places = start..start + settings.queries as u64;
    places
        .map(|place| {
            if pass != Some(place / count) {
                pass = Some(place / count);
                order = (0..train.len()).collect();
                let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
                rng.set_stream(place / count);
                order.shuffle(&mut rng);
            }
            train[order[(place % count) as usize]].clone()
        })
        .collect()
}

fn collapsed(step: u64, collapse: Collapse, run: &Path) -> Result<TrainError> {
    let kept = checkpoint::list(run)?.pop();
    Ok(TrainError::Collapsed {
        step,
        what: collapse.what,
        baseline: collapse.baseline,
        got: collapse.got,
        steps: collapse.steps,
        kept: kept.map_or_else(|| "none".to_owned(), |(_, path)| format!("`{}`", path.display())),
    })
}

/// Trains `model` as the job says, held near `reference`, which is only read.
///
/// # Errors
/// Settings out of range; a run folder that belongs to another run; a collapse or a divergence, after which the newest
/// checkpoint is from before it began; failures of policy, index, reward, files.
pub fn run(model: Lfm2, reference: &Lfm2, job: Job<'_>) -> Result<(Lfm2, Outcome)> {
    let Job { train, held_out, grounds, format, settings, run, .. } = job;
    settings.check()?;
    grounds.check_options(&settings.rollout)?;
    if train.is_empty() || train.iter().chain(held_out).any(|task| task.targets.is_empty()) {
        let (expected, got) = ("training queries with judged documents".into(), train.len().to_string());
        return Err(TrainError::Setting { name: "train", expected, got });
    }
    std::fs::create_dir_all(run).map_err(TrainError::file("create", run))?;
    let workers = Workers::new(settings.workers)?;
    let mut trainee = Trainee::start(model, reference, &job)?;
    let mut metrics = Metrics::open(run, Some(trainee.progress.step).filter(|step| 0 < *step))?;
    let started = Instant::now();
    let few = &held_out[..held_out.len().min(settings.eval_queries)];
    let look = |policy: &Policy| -> Result<Option<DevMeasures>> {
        if few.is_empty() {
            Ok(None)
        } else {
            measure::dev(policy, grounds, few, &settings.rollout).map(Some)
        }
    };
    let bar = terminal::steps_bar(settings.steps, job.show);
    bar.set_position(trainee.progress.step);
    let mut policy = serve(&trainee.model, format, settings.workers)?;
    let before = look(&policy)?;
    let mut latest = before.clone();
    if trainee.progress.step == 0 && before.is_some() {
        let seconds = started.elapsed().as_secs_f64();
        metrics.record(&Metric { dev: before.clone(), seconds, ..Metric::default() })?;
    }
    let mut candidates = 0;
    let due =
        |every: u64, step: u64| every > 0 && 0 < step && step.is_multiple_of(every) && step < settings.steps;
    while trainee.progress.step < settings.steps {
        let step = trainee.progress.step;
        let tasks = tasks_of(step, settings, train);
        let seed = Random::split(settings.seed, &[step]).next_u64();
        let groups = rollout::roll_out(&policy, grounds, &tasks, &settings.rollout, seed)?;
        if groups.is_empty() {
            return Err(TrainError::Setting {
                name: "rollout.max_context_tokens",
                expected: "room for one turn of a query".into(),
                got: settings.rollout.max_context_tokens.to_string(),
            });
        }
        let prepared = trainee.prepare(&groups, reference, &job, &workers)?;
        let monitor = trainee.state.monitor.clone();
        let collapse = trainee.state.monitor.observe(&prepared.signals, &settings.collapse);
        if let Some(collapse) = collapse.filter(|_| settings.collapse.stop) {
            return Err(collapsed(step, collapse, run)?);
        }
        // Weights are kept once their own candidates have been seen to be sound; a run that goes on from there makes
        // the same candidates again.
        if due(settings.checkpoint_every, step) && trainee.state.monitor.is_healthy() {
            trainee.save(run, &monitor)?;
        }
        let made = trainee.finish(&groups, prepared, &job, &workers)?;
        let step = trainee.progress.step;
        candidates += made.measures.candidates;
        let seconds = started.elapsed().as_secs_f64();
        bar.set_position(step);
        bar.set_message(format!(
            "reward {:.3} best {:.3} divergence {:.4} dev {:.3} {:.1} candidates/s",
            made.measures.reward,
            made.measures.best_reward,
            made.signals.divergence,
            latest.as_ref().map_or(f64::NAN, |dev| dev.reward),
            candidates as f64 / seconds
        ));
        metrics.record(&Metric { step, update: Some(made), dev: None, seconds })?;
        policy = serve(&trainee.model, format, settings.workers)?;
        if due(settings.eval_every, step) {
            latest = look(&policy)?;
            let seconds = started.elapsed().as_secs_f64();
            metrics.record(&Metric { step, update: None, dev: latest.clone(), seconds })?;
        }
    }
    let monitor = trainee.state.monitor.clone();
    trainee.save(run, &monitor)?;
    bar.finish();
    let after = look(&policy)?;
    let seconds = started.elapsed().as_secs_f64();
    if after.is_some() {
        metrics.record(&Metric { step: trainee.progress.step, update: None, dev: after.clone(), seconds })?;
    }
    let outcome = Outcome {
        steps: trainee.progress.step,
        sampled_tokens: trainee.progress.tokens,
        before,
        after,
        candidates,
        candidates_per_second: candidates as f64 / seconds,
        seconds,
    };
    Ok((trainee.model, outcome))
}
