//! The weights of the moment with all that a checkpoint holds, and the two halves of a step.
//!
//! Preparing a step measures and moves nothing, finishing it moves the weights: in between, the loop in
//! [`super::run`] decides whether the weights are worth keeping.

use super::Job;
use super::collapse::{Monitor, Signals};
use super::measure::{self, StepMeasures};
use super::rollout::{self, Group};
use super::settings::{GrpoSettings, LookUp};
use super::update::{self, Sample, Update};
use crate::checkpoint::{self, Progress};
use crate::data::Example;
use crate::error::{Result, TrainError};
use crate::model::Lfm2;
use crate::optim::{AdamW, Gradients};
use crate::sft::{Workers, example_losses};
use orion_policy::Retriever;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// How far the trainer's log-probabilities are from those of the serving engine, over the learned tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct ServingGap {
    mean: f64,
    largest: f64,
}

/// A step's part of `metrics.jsonl`.
#[derive(Debug, Serialize)]
pub(super) struct UpdateMetric {
    loss: f64,
    clipped: f64,
    gradient_norm: f64,
    rate: f64,
    #[serde(flatten)]
    pub(super) measures: StepMeasures,
    #[serde(flatten)]
    pub(super) signals: Signals,
    serving_gap: ServingGap,
    trained_tokens: u64,
}

/// What a checkpoint holds beyond weights, optimiser and progress.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    settings: GrpoSettings,
    reference_sha256: String,
    /// Of the training queries with their targets, and of the number of documents of each collection.
    tasks_sha256: String,
    pub(super) monitor: Monitor,
}

/// Name of [`State`] in a checkpoint.
const STATE_FILE: &str = "grpo.json";

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fingerprint_of_tasks(job: &Job<'_>) -> String {
    let mut digest = Sha256::new();
    job.grounds.sizes().for_each(|documents| digest.update(documents.to_le_bytes()));
    for task in job.train {
        for text in [&task.id, &task.text].into_iter().chain(&task.targets) {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
        digest.update((task.targets.len() as u64).to_le_bytes());
    }
    hex(digest)
}

fn fingerprint(model: &Lfm2) -> Result<String> {
    let mut digest = Sha256::new();
    for (name, tensor) in &model.to_weights()?.tensors {
        digest.update(name.as_bytes());
        for value in &tensor.data {
            digest.update(value.to_le_bytes());
        }
    }
    Ok(hex(digest))
}

/// Negative log-likelihoods by another model become each sample's reference values.
fn refer(samples: &mut [Sample], reference: &Lfm2, job: &Job<'_>, workers: &Workers) -> Result<()> {
    let examples: Vec<Example> = samples.iter().map(|sample| sample.example.clone()).collect();
    let losses = example_losses(reference, &examples, job.settings.micro_tokens, job.pad, workers)?;
    for (sample, losses) in samples.iter_mut().zip(losses) {
        sample.reference = losses.into_iter().map(|loss| -loss).collect();
    }
    Ok(())
}

fn gap(trained: &[Vec<f32>], served: &[Vec<f32>]) -> ServingGap {
    let (mut sum, mut largest, mut count) = (0.0, 0.0f64, 0usize);
    for (trained, served) in trained.iter().flatten().zip(served.iter().flatten()) {
        let apart = f64::from((trained - served).abs());
        (sum, largest, count) = (sum + apart, largest.max(apart), count + 1);
    }
    ServingGap { mean: sum / count.max(1) as f64, largest }
}

/// The weights of the moment, and everything that a checkpoint holds.
pub(super) struct Trainee {
    pub(super) model: Lfm2,
    optimiser: AdamW,
    pub(super) progress: Progress,
    pub(super) state: State,
}

impl Trainee {
    /// From `model`, or from the run folder's newest checkpoint where the job resumes.
    pub(super) fn start(model: Lfm2, reference: &Lfm2, job: &Job<'_>) -> Result<Self> {
        let reference_sha256 = fingerprint(reference)?;
        let mut trainee = Self {
            model,
            optimiser: AdamW::new(job.settings.adamw.clone()),
            progress: Progress { step: 0, tokens: 0 },
            state: State {
                settings: job.settings.clone(),
                reference_sha256,
                tasks_sha256: fingerprint_of_tasks(job),
                monitor: Monitor::default(),
            },
        };
        let Some((_, folder)) = checkpoint::list(job.run)?.pop() else { return Ok(trainee) };
        if !job.resume {
            let expected = "a run folder without checkpoints, or `--resume`";
            return Err(TrainError::content(job.run, expected, format!("`{}`", folder.display())));
        }
        let path = folder.join(STATE_FILE);
        let stored: State = serde_json::from_slice(&checkpoint::read(&path)?)
            .map_err(|error| TrainError::content(&path, "the state of a GRPO run", error))?;
        if stored.settings.decisive() != job.settings.decisive() {
            let expected = "the settings that the run began with (workers and intervals may differ)";
            return Err(TrainError::content(&path, expected, "others"));
        }
        if stored.tasks_sha256 != trainee.state.tasks_sha256 {
            let expected = "the training queries and the collection that the run began with";
            return Err(TrainError::content(&path, expected, "others"));
        }
        if stored.reference_sha256 != trainee.state.reference_sha256 {
            return Err(TrainError::content(&path, "the reference that the run began with", "another"));
        }
        (trainee.model, trainee.optimiser, trainee.progress) =
            checkpoint::restore(&folder, trainee.model, job.settings.adamw.clone())?;
        trainee.state.monitor = stored.monitor;
        // AdamW's updates are not the steps where a step makes several.
        trainee.optimiser.steps = trainee.progress.step * u64::from(job.settings.updates);
        Ok(trainee)
    }

    /// Writes a checkpoint with the running values of the moment before the step that is next.
    pub(super) fn save(&self, run: &Path, monitor: &Monitor) -> Result<()> {
        let State { settings, reference_sha256, tasks_sha256, .. } = &self.state;
        let state = State {
            settings: settings.clone(),
            reference_sha256: reference_sha256.clone(),
            tasks_sha256: tasks_sha256.clone(),
            monitor: monitor.clone(),
        };
        let state = serde_json::to_vec(&state)
            .map_err(|error| TrainError::content(run, "a state that is JSON", error))?;
        checkpoint::save_with(run, &self.model, &self.optimiser, self.progress, &[(STATE_FILE, state)])?;
        Ok(())
    }

    /// First half of a step, on candidates that were rolled out with the present weights: nothing moves yet.
    pub(super) fn prepare(
        &self,
        groups: &[Group],
        reference: &Lfm2,
        job: &Job<'_>,
        workers: &Workers,
    ) -> Result<Prepared> {
        let ignored: Vec<u32> = match job.settings.rollout.look_up {
            LookUp::Dense => Retriever::ALL
                .into_iter()
                .filter_map(|retriever| job.format.tokenizer().special(retriever.marker()))
                .collect(),
            LookUp::Chosen | LookUp::Beside => Vec::new(),
        };
        let (mut samples, served): (Vec<Sample>, Vec<Vec<f32>>) =
            rollout::samples(groups, &ignored)?.into_iter().unzip();
        refer(&mut samples, reference, job, workers)?;
        let (update, gradients) = self.gradients(&samples, job, workers)?;
        for (sample, own) in samples.iter_mut().zip(&update.policy) {
            sample.old = Some(own.clone());
        }
        let serving_gap = gap(&update.policy, &served);
        let signals = measure::signals(groups, update.divergence);
        Ok(Prepared { samples, update, gradients, serving_gap, signals })
    }

    fn gradients(&self, samples: &[Sample], job: &Job<'_>, workers: &Workers) -> Result<(Update, Gradients)> {
        let GrpoSettings { objective, micro_tokens, .. } = job.settings;
        update::gradients(&self.model, samples, objective, *micro_tokens, job.pad, workers)
    }

    fn descend(
        &mut self,
        update: &Update,
        gradients: &mut Gradients,
        settings: &GrpoSettings,
    ) -> Result<f64> {
        let step = self.progress.step;
        let norm = gradients.clip(settings.clip_norm);
        if !update.loss.is_finite() || !norm.is_finite() {
            return Err(TrainError::Diverged { step, loss: update.loss as f32, norm: norm as f32 });
        }
        let rate = settings.schedule.rate(step, settings.steps);
        self.optimiser.update(self.model.variables(), gradients, rate)?;
        Ok(norm)
    }

    /// Second half of a step: moves the weights, as often as the settings say.
    pub(super) fn finish(
        &mut self,
        groups: &[Group],
        prepared: Prepared,
        job: &Job<'_>,
        workers: &Workers,
    ) -> Result<UpdateMetric> {
        let Prepared { samples, update, mut gradients, serving_gap, signals } = prepared;
        let settings = job.settings;
        let gradient_norm = self.descend(&update, &mut gradients, settings)?;
        let mut clipped = update.clipped;
        for _ in 1..settings.updates {
            let (update, mut gradients) = self.gradients(&samples, job, workers)?;
            self.descend(&update, &mut gradients, settings)?;
            clipped = update.clipped;
        }
        let measures = measure::step(groups);
        let rate = settings.schedule.rate(self.progress.step, settings.steps);
        self.progress.step += 1;
        self.progress.tokens += measures.sampled_tokens;
        let trained_tokens = samples.iter().map(|sample| sample.example.tokens.len() as u64).sum();
        let loss = update.loss;
        Ok(UpdateMetric {
            loss,
            clipped,
            gradient_norm,
            rate,
            measures,
            signals,
            serving_gap,
            trained_tokens,
        })
    }
}

/// A step half done.
pub(super) struct Prepared {
    samples: Vec<Sample>,
    update: Update,
    gradients: Gradients,
    serving_gap: ServingGap,
    pub(super) signals: Signals,
}
