//! Recording and replay: every answer that a guest got from outside, in order.
//!
//! The seam is the service call, not the host function: limits and budgets run again at replay, so a recording also
//! replays the stop of a greedy guest. The clock is recorded where a guest reads it. Neighbour: `state.rs` calls
//! [`Journal::run`] around each service call.
use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::limits::Limits;
use crate::outcome::{Degraded, Request};
use crate::services::ServiceError;

/// The call that looks the plain ranking up.
pub(crate) const PLAIN_CALL: &str = "plain.search";

/// Format number of [`Recording`].
pub const RECORDING_VERSION: u32 = 1;

/// The host calls of one search, with their answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// [`RECORDING_VERSION`] of the writer.
    pub version: u32,
    /// SHA-256 of the component, in hexadecimal; a replay under another component is refused.
    pub component: String,
    /// What was asked.
    pub request: Request,
    /// Under which limits.
    pub limits: Limits,
    /// Whether there was a policy.
    pub has_policy: bool,
    /// How the search ended, where neither the guest nor its limits but the clock, the caller or the host ended it.
    pub ended: Option<Degraded>,
    /// The calls in order.
    pub calls: Vec<RecordedCall>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCall {
    /// Interface and function.
    pub call: String,
    /// SHA-256 of the arguments in their JSON form, first 16 hexadecimal digits.
    pub arguments: String,
    /// The arguments themselves, for people and for [`Divergence`]; `arguments` decides.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub asked: serde_json::Value,
    /// The answer.
    pub answer: RecordedAnswer,
}

/// Where a replayed guest first did something else than the recorded one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// 1-based number among the recorded calls.
    pub call: usize,
    /// What was recorded; `None` where the recording had ended.
    pub expected: Option<MadeCall>,
    /// What the guest did; `None` where it ended without this call.
    pub got: Option<MadeCall>,
}

/// A call without its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeCall {
    /// Interface and function.
    pub call: String,
    /// Its arguments; null in recordings that kept only their digest.
    pub asked: serde_json::Value,
}

impl From<&RecordedCall> for MadeCall {
    fn from(recorded: &RecordedCall) -> Self {
        Self { call: recorded.call.clone(), asked: recorded.asked.clone() }
    }
}

/// What the guest was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedAnswer {
    /// The service's value.
    Value(serde_json::Value),
    /// `unavailable`.
    Unavailable(String),
    /// `invalid-input`, as the service said it.
    InvalidInput(String),
    /// `cancelled`.
    Cancelled,
    /// The deadline came before the answer.
    OutOfTime,
    /// `other`.
    Fault {
        /// The code.
        code: String,
        /// The message.
        message: String,
    },
}

/// What a service call gave: a value, its error, or that time was up.
#[derive(Clone, Debug)]
pub(crate) enum CallError {
    Service(ServiceError),
    OutOfTime,
}

impl From<&CallError> for RecordedAnswer {
    fn from(error: &CallError) -> Self {
        match error.clone() {
            CallError::OutOfTime => Self::OutOfTime,
            CallError::Service(ServiceError::Unavailable(what)) => Self::Unavailable(what),
            CallError::Service(ServiceError::InvalidInput(what)) => Self::InvalidInput(what),
            CallError::Service(ServiceError::Cancelled) => Self::Cancelled,
            CallError::Service(ServiceError::Fault { code, message }) => Self::Fault { code, message },
        }
    }
}

/// Off, writing or reading.
#[derive(Debug, Default)]
pub(crate) enum Journal {
    #[default]
    Off,
    Write(Vec<RecordedCall>),
    Read {
        calls: Vec<RecordedCall>,
        next: usize,
        ended: Option<Degraded>,
        diverged: Option<Divergence>,
    },
}

impl Journal {
    pub(crate) fn read(recording: &Recording) -> Self {
        // A guest that still answered after its cancellation was not stopped: no plain ranking was looked up.
        let was_stopped = recording.calls.last().is_some_and(|call| call.call == PLAIN_CALL);
        let ended = recording.ended.clone().filter(|_| was_stopped);
        Self::Read { calls: recording.calls.clone(), next: 0, ended, diverged: None }
    }

    /// Runs `work` and notes its answer, or reads the answer that was noted.
    ///
    /// Errors: a replayed guest that does something else than the recorded one.
    pub(crate) async fn run<A, T>(
        &mut self,
        call: &str,
        arguments: &A,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Result<T, CallError>, Fault>
    where
        A: Serialize,
        T: Serialize + DeserializeOwned,
    {
        match self {
            Self::Off => Ok(work.await),
            Self::Write(calls) => {
                let asked = serde_json::to_value(arguments).map_err(unrecordable)?;
                let arguments = digest(arguments)?;
                let result = work.await;
                let answer = match &result {
                    Ok(value) => RecordedAnswer::Value(serde_json::to_value(value).map_err(unrecordable)?),
                    Err(error) => error.into(),
                };
                calls.push(RecordedCall { call: call.to_owned(), arguments, asked, answer });
                Ok(result)
            }
            Self::Read { calls, next, diverged, .. } => {
                let index = *next;
                let got = format!("{call} {}", digest(arguments)?);
                let recorded = calls.get(index);
                let expected = recorded.map(|recorded| format!("{} {}", recorded.call, recorded.arguments));
                if expected.as_ref() != Some(&got) && diverged.is_none() {
                    let asked = serde_json::to_value(arguments).map_err(unrecordable)?;
                    let made = MadeCall { call: call.to_owned(), asked };
                    let expected = recorded.map(MadeCall::from);
                    *diverged = Some(Divergence { call: index + 1, expected, got: Some(made) });
                }
                let (Some(recorded), Some(expected)) = (recorded, expected) else {
                    return Err(Fault::ReplayEnded { index, got });
                };
                if expected != got {
                    return Err(Fault::ReplayDiverged { index, expected, got });
                }
                *next += 1;
                recall(&recorded.answer)
            }
        }
    }

    /// How the recorded search was ended from outside, once its guest's last call is replayed: what the guest computed
    /// after that depended on the clock.
    pub(crate) fn stopped(&self) -> Option<Degraded> {
        let Self::Read { calls, next, ended, .. } = self else { return None };
        let is_past = calls.get(*next).is_none_or(|call| call.call == PLAIN_CALL);
        ended.clone().filter(|_| is_past)
    }

    pub(crate) fn is_replay(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    /// Where a replay left the recording, if it did: calls that it never made count.
    pub(crate) fn divergence(self) -> Option<Divergence> {
        let Self::Read { calls, next, diverged, .. } = self else { return None };
        let unmade = || calls.get(next).map(|recorded| (next + 1, MadeCall::from(recorded)));
        diverged.or_else(|| {
            unmade().map(|(call, expected)| Divergence { call, expected: Some(expected), got: None })
        })
    }

    /// The calls that were written.
    pub(crate) fn finish(self) -> Option<Vec<RecordedCall>> {
        match self {
            Self::Write(calls) => Some(calls),
            Self::Off | Self::Read { .. } => None,
        }
    }
}

fn recall<T: DeserializeOwned>(answer: &RecordedAnswer) -> Result<Result<T, CallError>, Fault> {
    Ok(Err(CallError::Service(match answer.clone() {
        RecordedAnswer::Value(value) => return Ok(Ok(serde_json::from_value(value).map_err(unrecordable)?)),
        RecordedAnswer::OutOfTime => return Ok(Err(CallError::OutOfTime)),
        RecordedAnswer::Unavailable(what) => ServiceError::Unavailable(what),
        RecordedAnswer::InvalidInput(what) => ServiceError::InvalidInput(what),
        RecordedAnswer::Cancelled => ServiceError::Cancelled,
        RecordedAnswer::Fault { code, message } => ServiceError::Fault { code, message },
    })))
}

fn digest(arguments: &impl Serialize) -> Result<String, Fault> {
    let bytes = serde_json::to_vec(arguments).map_err(unrecordable)?;
    Ok(hexadecimal(&Sha256::digest(&bytes)[..8]))
}

fn unrecordable(error: serde_json::Error) -> Fault {
    Fault::Recording(error.to_string())
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
