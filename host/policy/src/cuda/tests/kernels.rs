//! Single kernels against what they stand for, and the PTX against its sources.

use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::super::launcher::{Buffer, Launcher, bytes_of_floats, bytes_of_words};
use super::super::steps::arguments;
use super::MEMORY;
use super::emulated::Emulated;
use crate::random::Random;
use crate::sampling::{Allowed, Choice, LogSoftmax, pick};

/// Asks the kernel for one token of each row of logits.
fn sampled(
    device: &Arc<Emulated>,
    rows: &[Vec<f32>],
    allowed: &[bool],
    extra: u32,
    choice: Choice,
    units: &[f64],
) -> Vec<(u32, f32)> {
    let launcher: Arc<dyn Launcher> = device.clone();
    let count = allowed.len();
    let logits = Buffer::holding(&launcher, "logits", &bytes_of_floats(&rows.concat())).unwrap();
    let lists: Vec<u8> = [vec![0; count], allowed.iter().map(|one| u8::from(*one)).collect()].concat();
    let lists = Buffer::holding(&launcher, "lists", &lists).unwrap();
    let words: Vec<u32> = units
        .iter()
        .flat_map(|unit| {
            let bits = unit.to_bits();
            let mut words = [0; 16];
            words[..8].copy_from_slice(&[
                1,
                0,
                1,
                extra,
                choice.temperature.to_bits(),
                choice.top_p.to_bits(),
                bits as u32,
                (bits >> 32) as u32,
            ]);
            words
        })
        .collect();
    let requests = Buffer::holding(&launcher, "requests", &bytes_of_words(&words)).unwrap();
    let weights = Buffer::new(&launcher, "weights", rows.len() * count * 12).unwrap();
    let answers = Buffer::new(&launcher, "answers", rows.len() * 8).unwrap();
    let list = [&logits, &requests, &lists].map(Buffer::address);
    let list = [list[0], list[1], list[2], count as u64, weights.address(), answers.address()];
    device.launch("sample", [rows.len() as u32, 1, 1], 1024, &arguments(&list)).unwrap();
    let mut bytes = vec![0; rows.len() * 8];
    device.download(answers.address(), &mut bytes).unwrap();
    let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four)).collect();
    words.as_chunks::<2>().0.iter().map(|[token, bits]| (*token, f32::from_bits(*bits))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn sampling_is_the_cpu_s(
        count in 2usize..3000, seed: u64, spread in 0.1f64..8.0, steps in 0u32..3,
        temperature in prop_oneof![Just(0.0f32), 0.2f32..3.0],
        top_p in prop_oneof![Just(1.0f32), 0.05f32..0.999],
    ) {
        let Some(device) = Emulated::new(MEMORY) else { return Ok(()) };
        let mut random = Random::new(seed);
        // Coarse steps make many equal logits: ties at the nucleus's border and at the draw.
        let coarse = |value: f64| match steps { 0 => value, 1 => value.round(), _ => (value * 4.0).round() / 4.0 };
        let rows: Vec<Vec<f32>> = (0..4)
            .map(|_| (0..count).map(|_| coarse(spread * random.truncated_normal()) as f32).collect())
            .collect();
        let extra = (random.next_u64() % count as u64) as u32;
        let share = random.unit();
        let allowed: Vec<bool> = (0..count).map(|_| random.unit() < share).collect();
        let choice = Choice { temperature, top_p };
        let draws: Vec<u64> = (0..4).map(|_| random.next_u64()).collect();
        let units: Vec<f64> = draws.iter().map(|draw| Random::new(*draw).unit()).collect();
        let got = sampled(&device, &rows, &allowed, extra, choice, &units);
        for ((row, draw), (token, log_probability)) in rows.iter().zip(&draws).zip(got) {
            let both = Allowed::Table(&allowed, Some(extra));
            let expected = pick(row, both, choice, &mut Random::new(*draw), &mut Vec::new());
            prop_assert_eq!(token, expected);
            let normaliser = LogSoftmax::of(row);
            let exact = normaliser.log_probability(row[token as usize]);
            prop_assert!((log_probability - exact).abs() <= 1e-6 * exact.abs().max(1.0));
        }
    }
}

#[test]
fn a_row_that_is_no_row_of_numbers_has_no_token() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let rows = vec![vec![f32::NAN; 40], vec![1.0; 40]];
    let choice = Choice { temperature: 1.0, top_p: 0.9 };
    let got = sampled(&device, &rows, &[true; 40], u32::MAX, choice, &[0.5, 0.0]);
    assert!(40 <= got[0].0, "{got:?}");
    assert_eq!(got[1].0, 0);
}

#[test]
fn a_kernel_that_is_not_there_and_threads_that_miss_each_other_are_errors() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let error = device.launch("nothing", [1, 1, 1], 32, &arguments(&[])).unwrap_err().to_string();
    assert!(error.contains("`nothing`: code 1"), "{error}");
    let error = device.launch("stream", [1, 1, 1], 2000, &arguments(&[])).unwrap_err().to_string();
    assert!(error.contains("code 2"), "{error}");
}

#[test]
fn copying_copies() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let launcher: Arc<dyn Launcher> = device.clone();
    let from =
        Buffer::holding(&launcher, "numbers", &(0..=255).cycle().take(16_000).collect::<Vec<u8>>()).unwrap();
    let to = Buffer::new(&launcher, "numbers", 16_000).unwrap();
    device.launch("stream", [3, 1, 1], 256, &arguments(&[from.address(), to.address(), 1000, 3])).unwrap();
    let mut bytes = vec![0; 16_000];
    device.download(to.address(), &mut bytes).unwrap();
    assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == index as u8));
}

/// The PTX in the tree names the sources that it was made from by their hashes; `cuda/generate.py` makes it anew.
#[test]
fn the_ptx_is_of_these_sources() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let ptx = std::fs::read_to_string(folder.join("kernels.ptx")).unwrap();
    let named: Vec<(&str, &str)> = ptx
        .lines()
        .map_while(|line| line.strip_prefix("// "))
        .filter_map(|line| line.strip_prefix("sha256 ")?.split_once(' '))
        .collect();
    let names: Vec<&str> = named.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, ["device.h", "kernels.cu", "linear.inc", "sample.inc", "typed.inc"]);
    for (hash, name) in named {
        let digest = Sha256::digest(std::fs::read(folder.join(name)).unwrap());
        let got: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(got, hash, "`{name}` has changed since kernels.ptx was made: run cuda/generate.py");
    }
}

/// What the driver is told to run is there, in the PTX and in the emulator alike.
#[test]
fn the_ptx_has_the_kernels_that_the_emulator_has() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let ptx = std::fs::read_to_string(folder.join("kernels.ptx")).unwrap();
    let entries: Vec<&str> =
        ptx.lines().filter_map(|line| line.strip_prefix(".visible .entry ")?.strip_suffix('(')).collect();
    assert_eq!(entries.len(), 4 + 3 * 9 + 4);
    let Some(device) = Emulated::new(MEMORY) else { return };
    for name in entries {
        assert!(device.has(name), "{name}");
    }
}
