//! Holds a checkpoint against a file of golden numbers.
//!
//! Each case is run three ways: its prompt as a whole, in chunks of several sizes, and token by token from the cache
//! along its greedy continuation. Logits, guesses and log-probabilities must agree with the file within its tolerance.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Device};
use crate::checkpoint::Checkpoint;
use crate::error::{CheckpointError, PolicyError};
use crate::matrices::WeightFormat;
use crate::model::{Feed, Model, Scratch};
use crate::sampling::LogSoftmax;
use crate::session::PolicyOptions;
use crate::state::Sequence;

/// Chunk sizes that prompts are cut into: one token, fewer than a convolution sees, and some that divide nothing.
const CHUNK_SIZES: [usize; 5] = [1, 2, 3, 7, 16];

/// Tolerances above this would pass any model.
const LARGEST_TOLERANCE: f64 = 0.5;

/// Why a check could not be made; a check that was made and failed is a [`CheckReport`] that says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The checkpoint did not load.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model did not run.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The file of cases could not be read.
    #[error("reading `{file}` failed: {source}")]
    Read {
        /// Path.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of cases is no such file, or checks nothing.
    #[error("`{file}` is malformed: {what}: expected {expected}, got {got}")]
    Malformed {
        /// Path.
        file: String,
        /// Where in the file.
        what: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
}

#[derive(Deserialize)]
pub(crate) struct GoldenFile {
    pub(crate) tolerance_abs: f64,
    pub(crate) cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenCase {
    input_ids: Vec<u32>,
    last_logits: Vec<f32>,
    argmax_per_position: Vec<u32>,
    greedy: Vec<u32>,
    greedy_logprobs: Vec<f32>,
}

/// The outcome of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the continuation.
    pub greedy_tokens: usize,
    /// Largest deviation of the last logits, the prompt read as a whole.
    pub prefill_deviation: f64,
    /// The same, over all ways of cutting the prompt into chunks.
    pub chunked_deviation: f64,
    /// Positions, over all ways of reading the prompt, whose likeliest token is not the expected one. Where the two
    /// are nearer to each other than the tolerance, either will do.
    pub argmax_mismatches: usize,
    /// Tokens of the continuation that greedy decoding from the cache would not choose, with the same allowance.
    pub greedy_mismatches: usize,
    /// Largest deviation of the log-probability of a token of the continuation.
    pub log_probability_deviation: f64,
    /// Whether all of it is within the tolerance.
    pub passed: bool,
}

/// The outcome of all cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The tolerance of the file, absolute.
    pub tolerance: f64,
    /// One entry for each case, in the order of the file.
    pub cases: Vec<CaseReport>,
    /// Whether every case passed. There is at least one.
    pub passed: bool,
}

/// Checks the checkpoint in `folder` against the file `cases`.
///
/// # Errors
/// Where the checkpoint does not load, or the file is not readable, malformed, or without cases.
pub fn check_cases(folder: &Path, cases: &Path) -> Result<CheckReport, CheckError> {
    check_cases_on(Device::Cpu, folder, cases, None)
}

/// [`check_cases`] on some device, with the tolerance of the file or another: half precision needs a larger one.
///
/// # Errors
/// As there, and where the device cannot be used.
pub fn check_cases_on(
    device: Device,
    folder: &Path,
    cases: &Path,
    tolerance: Option<f64>,
) -> Result<CheckReport, CheckError> {
    let mut golden = read_golden(cases)?;
    golden.tolerance_abs = tolerance.unwrap_or(golden.tolerance_abs);
    let checkpoint = Checkpoint::open(folder)?;
    validate(&golden, checkpoint.config().vocabulary_size, cases)?;
    let longest =
        golden.cases.iter().map(|case| case.input_ids.len() + case.greedy.len()).max().unwrap_or_default();
    let options = PolicyOptions { device, ..PolicyOptions::default() };
    let (model, _) = Backend::load(&checkpoint, longest, &options)?;
    check_model(&model, &golden)
}

/// Natural log-probability of each token after the first, given those before it, by the serving forward pass: what a
/// trainer's own forward pass is held against.
///
/// # Errors
/// Where the checkpoint does not load or an id is not in its vocabulary.
pub fn log_probabilities(checkpoint: &Checkpoint, tokens: &[u32]) -> Result<Vec<f32>, PolicyError> {
    let vocabulary = checkpoint.config().vocabulary_size;
    if let Some(id) = tokens.iter().find(|id| vocabulary <= **id as usize) {
        return Err(PolicyError::InvalidInput {
            what: "token",
            expected: format!("an id below {vocabulary}"),
            got: id.to_string(),
        });
    }
    let model = Model::load(checkpoint, tokens.len(), WeightFormat::AsStored, None)?;
    let (rows, _) = read_in_chunks(&Backend::Cpu(Box::new(model)), tokens, tokens.len().max(1))?;
    let after = tokens.iter().skip(1);
    let pairs = rows.iter().zip(after);
    Ok(pairs.map(|(row, token)| LogSoftmax::of(row).log_probability(row[*token as usize])).collect())
}

pub(crate) fn check_model(model: &Backend, golden: &GoldenFile) -> Result<CheckReport, CheckError> {
    let cases = golden
        .cases
        .iter()
        .map(|case| check_case(model, case, golden.tolerance_abs))
        .collect::<Result<Vec<CaseReport>, _>>()?;
    let passed = !cases.is_empty() && cases.iter().all(|case| case.passed);
    Ok(CheckReport { tolerance: golden.tolerance_abs, cases, passed })
}

pub(crate) fn read_golden(path: &Path) -> Result<GoldenFile, CheckError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| CheckError::Read { file: file.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| CheckError::Malformed {
        file,
        what: "JSON".to_owned(),
        expected: "`tolerance_abs` and `cases`".to_owned(),
        got: error.to_string(),
    })
}

fn validate(golden: &GoldenFile, vocabulary: usize, path: &Path) -> Result<(), CheckError> {
    let fault = |what: String, expected: String, got: String| {
        Err(CheckError::Malformed { file: path.display().to_string(), what, expected, got })
    };
    let tolerance = golden.tolerance_abs;
    if !(0.0 < tolerance && tolerance <= LARGEST_TOLERANCE) {
        let expected = format!("a number in (0, {LARGEST_TOLERANCE}]");
        return fault("tolerance_abs".to_owned(), expected, tolerance.to_string());
    }
    if golden.cases.is_empty() {
        return fault("cases".to_owned(), "at least one case".to_owned(), "none".to_owned());
    }
    for (index, case) in golden.cases.iter().enumerate() {
        let at = |field: &str| format!("case {index}, `{field}`");
        let lengths = [
            ("last_logits", case.last_logits.len(), vocabulary),
            ("argmax_per_position", case.argmax_per_position.len(), case.input_ids.len()),
            ("greedy_logprobs", case.greedy_logprobs.len(), case.greedy.len()),
        ];
        for (field, got, expected) in lengths {
            if got != expected {
                return fault(at(field), format!("{expected} entries"), got.to_string());
            }
        }
        for (field, ids) in [("input_ids", &case.input_ids), ("greedy", &case.greedy)] {
            if ids.is_empty() {
                return fault(at(field), "at least one token".to_owned(), "none".to_owned());
            }
            if let Some(id) = ids.iter().find(|id| vocabulary <= **id as usize) {
                return fault(at(field), format!("ids below {vocabulary}"), id.to_string());
            }
        }
        for (field, values) in
            [("last_logits", &case.last_logits), ("greedy_logprobs", &case.greedy_logprobs)]
        {
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return fault(at(field), "finite numbers".to_owned(), value.to_string());
            }
        }
    }
    Ok(())
}

fn check_case(model: &Backend, case: &GoldenCase, tolerance: f64) -> Result<CaseReport, PolicyError> {
    let prompt = &case.input_ids;
    let (whole, mut sequence) = read_in_chunks(model, prompt, prompt.len())?;
    let mut argmax_mismatches = count_mismatches(&whole, &case.argmax_per_position, tolerance);
    let last = |rows: &[Vec<f32>]| {
        rows.last().map_or(f64::INFINITY, |row| largest_deviation(row, &case.last_logits))
    };
    let prefill_deviation = last(&whole);
    let mut chunked_deviation = 0.0f64;
    for size in CHUNK_SIZES {
        let (rows, _) = read_in_chunks(model, prompt, size)?;
        argmax_mismatches += count_mismatches(&rows, &case.argmax_per_position, tolerance);
        chunked_deviation = worse(chunked_deviation, last(&rows));
    }
    // Along the expected continuation, whatever the model would choose: one slip is then counted once.
    let mut greedy_mismatches = 0;
    let mut log_probability_deviation = 0.0f64;
    let mut logits = whole.last().cloned().unwrap_or_default();
    let mut scratch = Scratch::default();
    for (token, expected) in case.greedy.iter().zip(&case.greedy_logprobs) {
        greedy_mismatches += count_mismatches(std::slice::from_ref(&logits), &[*token], tolerance);
        let normaliser = LogSoftmax::of(&logits);
        let got = normaliser.log_probability(logits[*token as usize]);
        log_probability_deviation = worse(log_probability_deviation, f64::from(got - expected).abs());
        let feed = Feed { sequence: &mut sequence, tokens: &[*token], wanted_from: 0 };
        model.forward(&mut [feed], &mut scratch)?;
        model.logits(&scratch, 0..1, &mut logits)?;
    }
    let deviations = [prefill_deviation, chunked_deviation, log_probability_deviation];
    Ok(CaseReport {
        prompt_tokens: prompt.len(),
        greedy_tokens: case.greedy.len(),
        prefill_deviation,
        chunked_deviation,
        argmax_mismatches,
        greedy_mismatches,
        log_probability_deviation,
        passed: argmax_mismatches == 0
            && greedy_mismatches == 0
            && deviations.iter().all(|deviation| *deviation <= tolerance),
    })
}

/// Logits after each token, and the sequence to go on from.
fn read_in_chunks(
    model: &Backend,
    tokens: &[u32],
    size: usize,
) -> Result<(Vec<Vec<f32>>, Sequence), PolicyError> {
    let mut sequence = Sequence::new(model.sizes(), None);
    let (mut scratch, mut logits) = (Scratch::default(), Vec::new());
    let mut rows = Vec::with_capacity(tokens.len());
    for chunk in tokens.chunks(size) {
        model
            .forward(&mut [Feed { sequence: &mut sequence, tokens: chunk, wanted_from: 0 }], &mut scratch)?;
        model.logits(&scratch, 0..chunk.len(), &mut logits)?;
        rows.extend(logits.chunks_exact(model.config().vocabulary_size).map(<[f32]>::to_vec));
    }
    Ok((rows, sequence))
}

fn largest_deviation(got: &[f32], expected: &[f32]) -> f64 {
    got.iter().zip(expected).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, worse)
}

/// The larger; NaN counts as infinitely far.
fn worse(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// Rows whose expected token is not the likeliest, by more than the tolerance.
fn count_mismatches(rows: &[Vec<f32>], expected: &[u32], tolerance: f64) -> usize {
    let is_off = |(row, token): (&Vec<f32>, &u32)| {
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let gap = f64::from(best - row[*token as usize]);
        gap.is_nan() || tolerance < gap
    };
    rows.iter().zip(expected).filter(|pair| is_off(*pair)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fault;
    use crate::tests::data::fixture;

    #[test]
    fn the_reference_passes() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let report = check_cases(&folder, &folder.join("cases.json")).unwrap();
        assert!(report.passed, "{report:#?}");
        assert!(5 <= report.cases.len());
        assert!(report.cases.iter().all(|case| case.prefill_deviation < 1e-4), "{report:#?}");
    }

    #[test]
    fn log_probabilities_of_given_tokens() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let golden = read_golden(&folder.join("cases.json")).unwrap();
        for case in &golden.cases {
            let tokens: Vec<u32> = case.input_ids.iter().chain(&case.greedy).copied().collect();
            let got = log_probabilities(&checkpoint, &tokens).unwrap();
            assert_eq!(got.len(), tokens.len() - 1);
            for (a, b) in got[case.input_ids.len() - 1..].iter().zip(&case.greedy_logprobs) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
        assert!(log_probabilities(&checkpoint, &[]).unwrap().is_empty());
        assert!(matches!(log_probabilities(&checkpoint, &[512]), Err(PolicyError::InvalidInput { .. })));
    }

    #[test]
    fn a_dropped_convolution_state_fails() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let golden = read_golden(&folder.join("cases.json")).unwrap();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let mut model = Model::load(&checkpoint, 128, WeightFormat::AsStored, None).unwrap();
        model.fault = Fault::DroppedConvolutionState;
        let report = check_model(&Backend::Cpu(Box::new(model)), &golden).unwrap();
        assert!(!report.passed);
        // The first chunk has nothing to remember: only chunked and cached reading can notice.
        assert!(report.cases.iter().all(|case| case.prefill_deviation <= report.tolerance), "{report:#?}");
        assert!(report.cases.iter().any(|case| report.tolerance < case.chunked_deviation), "{report:#?}");
        assert!(report.cases.iter().any(|case| report.tolerance < case.log_probability_deviation));
    }

    #[test]
    fn a_wrong_feed_forward_width_fails() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let copy = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let wrong =
            config.replace("\"block_auto_adjust_ff_dim\": true", "\"block_auto_adjust_ff_dim\": false");
        assert_ne!(config, wrong);
        std::fs::write(copy.path().join("config.json"), wrong).unwrap();
        std::fs::copy(folder.join("model.safetensors"), copy.path().join("model.safetensors")).unwrap();
        let error = check_cases(copy.path(), &folder.join("cases.json")).unwrap_err().to_string();
        assert!(error.contains("feed_forward.w1.weight") && error.contains("[192, 64]"), "{error}");
        assert!(error.contains("model.safetensors"), "{error}");
    }

    #[test]
    fn empty_and_malformed_files_fail() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let mut broken = Vec::new();
        for (field, value) in [
            ("cases", serde_json::json!([])),
            ("tolerance_abs", serde_json::json!(1e9)),
            ("tolerance_abs", serde_json::json!(0.0)),
        ] {
            let mut file = golden.clone();
            file[field] = value;
            broken.push(file.to_string());
        }
        for (field, value) in [
            ("input_ids", serde_json::json!([])),
            ("input_ids", serde_json::json!([512])),
            ("last_logits", serde_json::json!([0.0])),
            ("greedy", serde_json::json!([])),
            ("argmax_per_position", serde_json::json!([])),
        ] {
            let mut file = golden.clone();
            file["cases"][0][field] = value;
            broken.push(file.to_string());
        }
        broken.extend([String::new(), "{}".to_owned(), "[]".to_owned(), "{\"cases\": []}".to_owned()]);
        let path = tempfile::tempdir().unwrap();
        for text in broken {
            let cases = path.path().join("cases.json");
            std::fs::write(&cases, &text).unwrap();
            let error = check_cases(&folder, &cases).unwrap_err();
            assert!(
                matches!(error, CheckError::Malformed { .. }),
                "{error} for {}",
                &text[..text.len().min(80)]
            );
        }
        assert!(matches!(check_cases(&folder, &path.path().join("none.json")), Err(CheckError::Read { .. })));
    }

    #[test]
    fn shifted_numbers_fail() {
        let Some(folder) = fixture("lfm2-tiny") else { return };
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let model = Model::load(&checkpoint, 128, WeightFormat::AsStored, None).unwrap();
        let mut golden = read_golden(&folder.join("cases.json")).unwrap();
        golden.cases[1].last_logits[7] += 0.01;
        golden.cases[2].greedy_logprobs[3] += 0.01;
        golden.cases[3].argmax_per_position[5] ^= 1;
        golden.cases[4].greedy[20] ^= 1;
        let report = check_model(&Backend::Cpu(Box::new(model)), &golden).unwrap();
        let passed: Vec<bool> = report.cases.iter().map(|case| case.passed).collect();
        assert_eq!(passed, [true, false, false, false, false]);
        assert!(!report.passed);
    }
}
