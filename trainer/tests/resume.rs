//! A run that was cut off and resumed equals an uninterrupted one bit for bit, whatever the number of workers.

use orion_policy::{Weights, tiny_config};
use orion_trainer::checkpoint;
use orion_trainer::data::{Example, LossOn};
use orion_trainer::model::{Initial, Lfm2};
use orion_trainer::optim::{Decay, Schedule};
use orion_trainer::sft::{self, Job, SftSettings};
use std::path::Path;

fn examples() -> Vec<Example> {
    (0..24u32)
        .map(|number| {
            let length = 6 + (number as usize * 5) % 17;
            let tokens = (0..length as u32).map(|place| 3 + (number * 31 + place * place * 7) % 40).collect();
            Example { tokens, learn: (0..length).map(|place| place % 3 != 1).collect() }
        })
        .collect()
}

fn settings(workers: usize) -> SftSettings {
    SftSettings {
        epochs: 3,
        micro_tokens: 80,
        workers,
        loss: LossOn::Masked,
        schedule: Schedule { peak: 1e-2, warmup_steps: 2, decay: Decay::Cosine, floor: 0.1 },
        eval_every: 3,
        checkpoint_every: 4,
        ..SftSettings::default()
    }
}

fn train(run: &Path, settings: &SftSettings, resume: bool) -> Weights {
    let model = Lfm2::random(tiny_config(), &Initial::default(), 11).unwrap();
    let data = examples();
    let job =
        Job { train: &data, held_out: &data[..4], settings, pad: 0, lessons: None, run, resume, show: false };
    let (model, outcome) = sft::run(model, job).unwrap();
    assert!(outcome.held_out_after.unwrap().is_finite());
    model.to_weights().unwrap()
}

#[test]
fn resumed_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let whole = train(&folder.path().join("whole"), &settings(2), false);
    // A cut-off run: everything after the checkpoint of step 4 is lost, the schedule is the same.
    let cut = folder.path().join("cut");
    train(&cut, &settings(1), false);
    let saved = checkpoint::list(&cut).unwrap();
    let (last, newest) = saved.last().unwrap().clone();
    assert!(saved.len() == 2 && saved[0].0 < last);
    std::fs::remove_dir_all(newest).unwrap();
    let resumed = train(&cut, &settings(2), true);
    assert_eq!(resumed, whole);
}

#[test]
fn a_checkpoint_reads_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let weights = train(folder.path(), &settings(2), false);
    let (_, newest) = checkpoint::list(folder.path()).unwrap().pop().unwrap();
    let (model, optimiser, progress) = checkpoint::load(&newest, settings(2).adamw).unwrap();
    assert_eq!(model.to_weights().unwrap(), weights);
    assert_eq!(optimiser.steps, progress.step);
    assert!(optimiser.moments.values().all(|moments| moments.second.iter().all(|value| *value >= 0.0)));
}
