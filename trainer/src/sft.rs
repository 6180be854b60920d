//! Supervised fine-tuning: the loop around model, data and optimiser.
//!
//! A step is a few micro-batches of whole sequences. Workers take micro-batches in turn, each on one thread of its
//! own; gradients are added in micro-batch order. So a run is a function of its data and settings alone, whatever
//! the number of workers, and a resumed run equals an uninterrupted one bit for bit. `command` is its command line.

pub mod command;

use crate::checkpoint::{self, Progress};
use crate::data::{Example, LossOn, Padded, plan_epoch};
use crate::error::{Result, TrainError};
use crate::metrics::Metrics;
use crate::model::Lfm2;
use crate::optim::{AdamW, AdamWSettings, Gradients, Schedule};
use crate::terminal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// Settings of one training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftSettings {
    /// Order of the examples.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Stops after so many steps; the schedule ends there too.
    pub steps: Option<u64>,
    /// Longer examples are cut to this many tokens.
    pub max_tokens: usize,
    /// Tokens of a micro-batch, padding included.
    pub micro_tokens: usize,
    /// Micro-batches of a step.
    pub accumulation: usize,
    /// Micro-batches computed at once.
    pub workers: usize,
    /// Which tokens carry loss.
    pub loss: LossOn,
    /// Learning rate.
    pub schedule: Schedule,
    /// Optimiser.
    pub adamw: AdamWSettings,
    /// Largest gradient norm.
    pub clip: f64,
    /// Steps between held-out losses; 0 for only before and after.
    pub eval_every: u64,
    /// Held-out examples looked at during training, at most.
    pub eval_examples: usize,
    /// Steps between checkpoints; 0 for only at the end.
    pub checkpoint_every: u64,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 1,
            steps: None,
            max_tokens: 1024,
            micro_tokens: 2048,
            accumulation: 2,
            workers: 2,
            loss: LossOn::Masked,
            schedule: Schedule::default(),
            adamw: AdamWSettings::default(),
            clip: 1.0,
            eval_every: 100,
            eval_examples: 64,
            checkpoint_every: 200,
        }
    }
}

impl SftSettings {
    fn check(&self) -> Result<()> {
        let positive = [
            ("max-tokens", self.max_tokens),
            ("micro-tokens", self.micro_tokens),
            ("accumulation", self.accumulation),
            ("workers", self.workers),
        ];
        for (name, value) in positive {
            if value == 0 {
                let (expected, got) = ("at least 1".into(), "0".into());
                return Err(TrainError::Setting { name, expected, got });
            }
        }
        Ok(())
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Steps of the whole run.
    pub steps: u64,
    /// Real tokens seen.
    pub tokens: u64,
    /// Held-out loss in nats a learned token before the first step of this call.
    pub held_out_before: Option<f64>,
    /// The same after the last step, over all held-out examples.
    pub held_out_after: Option<f64>,
    /// Mean training loss over the last tenth of the steps.
    pub train_loss: f64,
    /// Wall-clock seconds of this call.
    pub seconds: f64,
}

impl Outcome {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} steps, {} tokens, {:.0} s; loss {:.4}",
            self.steps, self.tokens, self.seconds, self.train_loss
        );
        if let (Some(before), Some(after)) = (self.held_out_before, self.held_out_after) {
            text.push_str(&format!(", held out {after:.4}, before {before:.4}"));
        }
        text.push('\n');
        text
    }
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Serialize)]
struct Metric {
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gradient_norm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out_loss: Option<f64>,
    tokens: u64,
    seconds: f64,
}

/// Threads for whole micro-batches. Each worker is a pool of one, so that no operation inside waits for another core.
pub struct Workers {
    pools: Vec<rayon::ThreadPool>,
}

impl Workers {
    /// `count` workers.
    pub fn new(count: usize) -> Result<Self> {
        let pools = (0..count.max(1))
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| TrainError::Setting {
                name: "workers",
                expected: "threads that start".into(),
                got: error.to_string(),
            })?;
        Ok(Self { pools })
    }

    /// `work` for each item; results in the order of the items.
    pub fn map<I: Sync, O: Send>(
        &self,
        items: &[I],
        work: impl Fn(&I) -> Result<O> + Sync,
    ) -> Result<Vec<O>> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let slots: Vec<Mutex<Option<Result<O>>>> = items.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    pool.install(|| {
                        loop {
                            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            let Some(item) = items.get(index) else { break };
                            let result = work(item);
                            if let Ok(mut slot) = slots[index].lock() {
                                *slot = Some(result);
                            }
                        }
                    });
                });
            }
        });
        slots
            .into_iter()
            .map(|slot| {
                slot.into_inner().ok().flatten().unwrap_or_else(|| {
                    Err(TrainError::Setting {
                        name: "workers",
                        expected: "every micro-batch done".into(),
                        got: "a worker that stopped".into(),
                    })
                })
            })
            .collect()
    }
}

/// Negative log-likelihoods of each example's learned tokens, in nats, in the order of `examples`.
pub fn example_losses(
    model: &Lfm2,
    examples: &[Example],
    micro_tokens: usize,
    pad: u32,
    workers: &Workers,
) -> Result<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
    let batches = plan_epoch(&lengths, micro_tokens, 0, 0);
    let results = workers.map(&batches, |indices| {
        let members: Vec<&Example> = indices.iter().map(|index| &examples[*index]).collect();
        let padded = Padded::new(&members, pad);
        if padded.wanted.is_empty() {
            return Ok(vec![Vec::new(); members.len()]);
        }
        let losses = model.token_losses(&padded.input, &padded.wanted)?.to_vec1::<f32>()?;
        let mut by_example = vec![Vec::new(); members.len()];
        for ((row, _), loss) in padded.wanted.iter().zip(losses) {
            by_example[*row as usize / padded.input.time].push(loss);
        }
        Ok(by_example)
    })?;
    let mut losses = vec![Vec::new(); examples.len()];
    for (indices, by_example) in batches.iter().zip(results) {
        for (index, values) in indices.iter().zip(by_example) {
            losses[*index] = values;
        }
    }
    Ok(losses)
}

/// Mean loss over all learned tokens of the examples.
pub fn mean_loss(
    model: &Lfm2,
    examples: &[Example],
    micro_tokens: usize,
    pad: u32,
    workers: &Workers,
) -> Result<Option<f64>> {
    let losses = example_losses(model, examples, micro_tokens, pad, workers)?;
    let count: usize = losses.iter().map(Vec::len).sum();
    let sum: f64 = losses.iter().flatten().map(|loss| f64::from(*loss)).sum();
    Ok((count > 0).then(|| sum / count as f64))
}

/// Loss and summed gradients of one step.
fn step_gradients(model: &Lfm2, batches: &[Padded], workers: &Workers) -> Result<(f64, Gradients)> {
    let wanted: usize = batches.iter().map(|batch| batch.wanted.len()).sum();
    let scale = 1.0 / wanted.max(1) as f64;
    let parts = workers.map(batches, |batch| {
        if batch.wanted.is_empty() {
            return Ok(None);
        }
        let loss = (model.token_losses(&batch.input, &batch.wanted)?.sum_all()? * scale)?;
        let mut gradients = Gradients::default();
        gradients.add(&loss.backward()?, model.variables())?;
        Ok(Some((f64::from(loss.to_scalar::<f32>()?), gradients)))
    })?;
    let mut loss = 0.0;
    let mut total = Gradients::default();
    for (part_loss, gradients) in parts.into_iter().flatten() {
        loss += part_loss;
        total.merge(gradients);
    }
    Ok((loss, total))
}

/// All micro-batches of a run, as places of examples: every pass over everything, or, with lessons, every pass over one
/// lesson before the next.
///
/// # Errors
/// Another number of lessons than of lengths.
pub fn plan(lengths: &[usize], lessons: Option<&[usize]>, settings: &SftSettings) -> Result<Vec<Vec<usize>>> {
    let everything = vec![0; lengths.len()];
    let lessons = lessons.unwrap_or(&everything);
    if lessons.len() != lengths.len() {
        return Err(TrainError::Setting {
            name: "lessons",
            expected: format!("one for each of {} examples", lengths.len()),
            got: lessons.len().to_string(),
        });
    }
    let mut plan = Vec::new();
    for lesson in lessons.iter().copied().collect::<BTreeSet<usize>>() {
        let members: Vec<usize> = (0..lengths.len()).filter(|place| lessons[*place] == lesson).collect();
        let own: Vec<usize> = members.iter().map(|place| lengths[*place]).collect();
        for epoch in 0..settings.epochs {
            let batches = plan_epoch(&own, settings.micro_tokens, settings.seed, epoch);
            plan.extend(
                batches.into_iter().map(|batch| batch.into_iter().map(|place| members[place]).collect()),
            );
        }
    }
    Ok(plan)
}

/// What a run works on and where it leaves its traces.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Examples to learn from.
    pub train: &'a [Example],
    /// Examples to measure on.
    pub held_out: &'a [Example],
    /// How.
    pub settings: &'a SftSettings,
    /// Padding token.
    pub pad: u32,
    /// Lesson of each of `train`, from 0, for a curriculum: see [`crate::variants`].
    pub lessons: Option<&'a [usize]>,
    /// Folder of metrics and checkpoints.
    pub run: &'a Path,
    /// Whether the folder's newest checkpoint replaces the given model.
    pub resume: bool,
    /// Whether to draw a progress bar on stderr.
    pub show: bool,
}

/// Trains `model` as the job says.
pub fn run(mut model: Lfm2, job: Job<'_>) -> Result<(Lfm2, Outcome)> {
    let Job { train, held_out, settings, pad, lessons, run, resume, show } = job;
    settings.check()?;
    std::fs::create_dir_all(run).map_err(TrainError::file("create", run))?;
    let prepare = |examples: &[Example], loss: LossOn| -> Vec<Example> {
        examples.iter().map(|example| example.clone().prepared(settings.max_tokens, loss)).collect()
    };
    let train = prepare(train, settings.loss);
    let held_out = prepare(held_out, LossOn::Masked);
    let lengths: Vec<usize> = train.iter().map(|example| example.tokens.len()).collect();
    let plan = plan(&lengths, lessons, settings)?;
    let whole = plan.len().div_ceil(settings.accumulation) as u64;
    let steps = settings.steps.map_or(whole, |limit| limit.min(whole));
    let workers = Workers::new(settings.workers)?;
    let mut optimiser = AdamW::new(settings.adamw.clone());
    let mut progress = Progress { step: 0, tokens: 0 };
    if resume && let Some((_, folder)) = checkpoint::list(run)?.pop() {
        (model, optimiser, progress) = checkpoint::restore(&folder, model, settings.adamw.clone())?;
    }
    let mut metrics = Metrics::open(run, Some(progress.step).filter(|step| 0 < *step))?;
    let mut record = |metric: &Metric| metrics.record(metric);
    let few = &held_out[..held_out.len().min(settings.eval_examples)];
    let started = Instant::now();
    let tokens_before = progress.tokens;
    let evaluate =
        |model: &Lfm2, examples: &[Example]| mean_loss(model, examples, settings.micro_tokens, pad, &workers);
    let held_out_before = evaluate(&model, few)?;
    let metric = |step, held_out_loss, tokens| Metric {
        step,
        loss: None,
        gradient_norm: None,
        rate: None,
        held_out_loss,
        tokens,
        seconds: started.elapsed().as_secs_f64(),
    };
    record(&metric(progress.step, held_out_before, progress.tokens))?;
    let bar = terminal::steps_bar(steps, show);
    bar.set_position(progress.step);
    let tail_start = steps.saturating_sub((steps / 10).max(1));
    let (mut tail_sum, mut tail_count) = (0.0, 0u32);
    let mut latest_held_out = held_out_before;
    while progress.step < steps {
        let first = progress.step as usize * settings.accumulation;
        let batches: Vec<Padded> = plan[first..plan.len().min(first + settings.accumulation)]
            .iter()
            .map(|indices| Padded::new(&indices.iter().map(|i| &train[*i]).collect::<Vec<_>>(), pad))
            .collect();
        let (loss, mut gradients) = step_gradients(&model, &batches, &workers)?;
        let norm = gradients.clip(settings.clip);
        if !loss.is_finite() || !norm.is_finite() {
            let (loss, norm) = (loss as f32, norm as f32);
            return Err(TrainError::Diverged { step: progress.step, loss, norm });
        }
        let rate = settings.schedule.rate(progress.step, steps);
        optimiser.update(model.variables(), &gradients, rate)?;
        progress.step += 1;
        progress.tokens += batches.iter().map(|batch| batch.real_tokens as u64).sum::<u64>();
        if tail_start < progress.step {
            tail_sum += loss;
            tail_count += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        record(&Metric {
            step: progress.step,
            loss: Some(loss),
            gradient_norm: Some(norm),
            rate: Some(rate),
            held_out_loss: None,
            tokens: progress.tokens,
            seconds,
        })?;
        let due = |every: u64| every > 0 && progress.step.is_multiple_of(every) && progress.step < steps;
        if due(settings.eval_every) {
            latest_held_out = evaluate(&model, few)?;
            record(&metric(progress.step, latest_held_out, progress.tokens))?;
        }
        if due(settings.checkpoint_every) {
            checkpoint::save(run, &model, &optimiser, progress)?;
        }
        let speed = (progress.tokens - tokens_before) as f64 / seconds;
        bar.set_position(progress.step);
        bar.set_message(format!(
            "loss {loss:.3} held-out {:.3} {speed:.0} tokens/s",
            latest_held_out.unwrap_or(f64::NAN)
        ));
    }
    checkpoint::save(run, &model, &optimiser, progress)?;
    bar.finish();
    let held_out_after = evaluate(&model, &held_out)?;
    record(&metric(progress.step, held_out_after, progress.tokens))?;
    let outcome = Outcome {
        steps: progress.step,
        tokens: progress.tokens,
        held_out_before,
        held_out_after,
        train_loss: tail_sum / f64::from(tail_count.max(1)),
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok((model, outcome))
}
