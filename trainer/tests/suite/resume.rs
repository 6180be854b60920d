//! A run that was cut off and resumed equals an uninterrupted one bit for bit, whatever the number of workers; its
//! metrics hold every step once, as lines and as TensorBoard records.

use orion_policy::{Weights, tiny_config};
use orion_trainer::checkpoint;
use orion_trainer::data::{Example, LossOn};
use orion_trainer::events;
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

/// CRC-32C by table, a byte at a time, as its specification (RFC 3720, appendix B.4) describes it.
fn crc32c_twin(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc % 2 == 1 { (crc / 2) ^ 0x82f6_3b78 } else { crc / 2 }))
        .collect();
    !bytes.iter().fold(u32::MAX, |crc, byte| table[((crc ^ u32::from(*byte)) & 255) as usize] ^ (crc >> 8))
}

fn masked_twin(bytes: &[u8]) -> u32 {
    // Rotated by 15 to the right, plus the format's constant.
    crc32c_twin(bytes).rotate_left(17).wrapping_add(0xa282_ead8)
}

/// The events of a file; every length and checksum is looked at.
fn read_events(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(number(8), masked_twin(&bytes[..8]));
        let event = &bytes[12..12 + length];
        assert_eq!(number(12 + length), masked_twin(event));
        events.push(event.to_vec());
        bytes = &bytes[16 + length..];
    }
    events
}

#[test]
fn a_metric_becomes_one_record_with_its_numbers() {
    // The standard's check values.
    assert_eq!(crc32c_twin(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c_twin(&[0; 32]), 0x8a91_36aa);
    let metric = serde_json::json!({
        "step": 300, "seconds": 2.5, "loss": 0.5, "dev": { "reward": -1 }, "name": "no number"
    });
    let file = [events::header(), events::of_metric(&metric)].concat();
    let found = read_events(&file);
    assert_eq!(found.len(), 2);
    assert!(found[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    let event = &found[1];
    assert_eq!(event[..9], [&[0x09][..], &2.5f64.to_le_bytes()].concat());
    assert_eq!(event[9..12], [0x10, 0xac, 0x02]);
    let loss = [&b"\x0a\x04loss\x15"[..], &0.5f32.to_le_bytes()].concat();
    let reward = [&b"\x0a\x0adev/reward\x15"[..], &(-1f32).to_le_bytes()].concat();
    for entry in [loss, reward] {
        assert!(event.windows(entry.len()).any(|window| window == entry));
    }
    assert!(events::of_metric(&serde_json::json!({ "step": 1, "seconds": 1.0 })).is_empty());
}

#[test]
fn a_resumed_run_writes_every_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let steps = |run: &Path| -> Vec<u64> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line.get("loss").is_some()).map(|line| line["step"].as_u64().unwrap()).collect()
    };
    train(folder.path(), &settings(2), false);
    let (last, newest) = checkpoint::list(folder.path()).unwrap().pop().unwrap();
    std::fs::remove_dir_all(newest).unwrap();
    train(folder.path(), &settings(2), true);
    assert_eq!(steps(folder.path()), (1..=last).collect::<Vec<u64>>());
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let file = std::fs::read(folder.path().join(events::FILE)).unwrap();
    // The header, and one for each line.
    assert_eq!(read_events(&file).len(), 1 + text.lines().count());
}
