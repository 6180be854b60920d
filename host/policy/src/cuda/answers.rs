//! What comes back from the device: not logits but, for each row, a token and its log-probability.
//!
//! The draw is the CPU's: the host draws the number in [0, 1), the device finds the token that it falls on, by the
//! definitions of `sampling`.

use super::error::DeviceError;
use super::launcher::{Buffer, bytes_of_words};
use super::model::DeviceModel;
use super::steps::{Finish, Product, arguments, multiply};
use crate::sampling::Choice;

/// Rows of logits at once: 16 MiB of LFM2's vocabulary.
const ROWS_AT_ONCE: usize = 64;

/// Words of a request (`sample.inc`).
const REQUEST_WORDS: usize = 16;

/// Which tokens may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedOnDevice {
    /// What may stand inside a thought or a query, and an end marker.
    Content(Option<u32>),
    /// What may begin a query.
    Opening,
    /// One of three.
    Only([u32; 3]),
}

/// What is wanted of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    /// The log-probability of this token.
    LogProbability(u32),
    /// A token, by a number in [0, 1).
    Token { allowed: AllowedOnDevice, choice: Choice, unit: f64 },
}

/// A question about the logits after an output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowRequest {
    /// Where the output lies.
    pub(crate) output: u64,
    pub(crate) asked: Asked,
}

/// The answer to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Answer {
    pub(crate) token: u32,
    /// Under the unmodified model.
    pub(crate) log_probability: f32,
}

fn words_of(asked: &Asked) -> [u32; REQUEST_WORDS] {
    let mut words = [0; REQUEST_WORDS];
    match asked {
        Asked::LogProbability(token) => words[1] = *token,
        Asked::Token { allowed, choice, unit } => {
            words[0] = 1;
            words[3] = u32::MAX;
            match allowed {
                AllowedOnDevice::Content(end) => words[3] = end.unwrap_or(u32::MAX),
                AllowedOnDevice::Opening => words[2] = 1,
                AllowedOnDevice::Only(ids) => {
                    words[2] = 2;
                    words[8..12].copy_from_slice(&[ids[0], ids[1], ids[2], ids[2]]);
                }
            }
            (words[4], words[5]) = (choice.temperature.to_bits(), choice.top_p.to_bits());
            let bits = unit.to_bits();
            (words[6], words[7]) = (bits as u32, (bits >> 32) as u32);
        }
    }
    words
}

/// Working memory of the head and of sampling.
pub(crate) struct HeadBuffers {
    /// How many rows, then their addresses.
    outputs: Buffer,
    requests: Buffer,
    gathered: Buffer,
    logits: Buffer,
    weights: Buffer,
    answers: Buffer,
}

/// Bytes before the addresses.
const COUNT_BYTES: u64 = 16;

impl HeadBuffers {
    pub(crate) fn new(model: &DeviceModel) -> Result<Self, DeviceError> {
        let (hidden, vocabulary) = (model.config.hidden_size, model.config.vocabulary_size);
        let buffer = |each: usize| Buffer::new(&model.launcher, "working memory", ROWS_AT_ONCE * each);
        Ok(Self {
            outputs: buffer(COUNT_BYTES as usize + size_of::<u64>())?,
            requests: buffer(REQUEST_WORDS * size_of::<u32>())?,
            gathered: buffer(hidden * model.weights.numbers.size_bytes())?,
            logits: buffer(vocabulary * size_of::<f32>())?,
            weights: buffer(3 * vocabulary * size_of::<f32>())?,
            answers: buffer(2 * size_of::<u32>())?,
        })
    }

    /// Logits of the outputs at these addresses, at most [`ROWS_AT_ONCE`], into `self.logits`.
    fn multiply(&self, model: &DeviceModel, addresses: &[u64]) -> Result<(), DeviceError> {
        let mut bytes = vec![0; COUNT_BYTES as usize];
        bytes[..4].copy_from_slice(&(addresses.len() as u32).to_le_bytes());
        bytes.extend(addresses.iter().flat_map(|address| address.to_le_bytes()));
        model.launcher.upload(&bytes, self.outputs.address())?;
        let live = self.outputs.address();
        let list = [live + COUNT_BYTES, self.gathered.address(), model.config.hidden_size as u64, live];
        let name = model.kernels.name("collect");
        model.launcher.launch(&name, [addresses.len() as u32, 1, 1], 256, &arguments(&list))?;
        let product = Product {
            x: self.gathered.address(),
            matrix: model.weights.head(),
            bias: 0,
            out: self.logits.address(),
            rows: addresses.len(),
            live,
            finish: Finish::Stored,
        };
        multiply(&*model.launcher, &model.kernels, &product)
    }

    /// Answers requests in their order; `lists` holds the tokens that may stand in content and at a query's beginning.
    pub(crate) fn answer(
        &self,
        model: &DeviceModel,
        lists: u64,
        requests: &[RowRequest],
    ) -> Result<Vec<Answer>, DeviceError> {
        let mut answers = Vec::with_capacity(requests.len());
        let vocabulary = model.config.vocabulary_size;
        for some in requests.chunks(ROWS_AT_ONCE) {
            let addresses: Vec<u64> = some.iter().map(|request| request.output).collect();
            self.multiply(model, &addresses)?;
            let words: Vec<u32> = some.iter().flat_map(|request| words_of(&request.asked)).collect();
            model.launcher.upload(&bytes_of_words(&words), self.requests.address())?;
            let list = [
                self.logits.address(),
                self.requests.address(),
                lists,
                vocabulary as u64,
                self.weights.address(),
                self.answers.address(),
            ];
            model.launcher.launch("sample", [some.len() as u32, 1, 1], 1024, &arguments(&list))?;
            let mut bytes = vec![0; some.len() * 8];
            model.launcher.download(self.answers.address(), &mut bytes)?;
            for pair in bytes.as_chunks::<8>().0 {
                let [a, b, c, d, e, f, g, h] = *pair;
                let token = u32::from_le_bytes([a, b, c, d]);
                if vocabulary <= token as usize {
                    let reason = "the logits are no numbers".to_owned();
                    return Err(DeviceError::Failed { operation: "sampling", reason });
                }
                let log_probability = f32::from_bits(u32::from_le_bytes([e, f, g, h]));
                answers.push(Answer { token, log_probability });
            }
        }
        Ok(answers)
    }

    /// All logits of the outputs at these addresses, copied to the host.
    pub(crate) fn logits(
        &self,
        model: &DeviceModel,
        addresses: &[u64],
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        out.clear();
        let row_bytes = model.config.vocabulary_size * size_of::<f32>();
        for some in addresses.chunks(ROWS_AT_ONCE) {
            self.multiply(model, some)?;
            let mut bytes = vec![0; some.len() * row_bytes];
            model.launcher.download(self.logits.address(), &mut bytes)?;
            out.extend(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)));
        }
        Ok(())
    }
}
