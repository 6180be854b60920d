//! Why an engine did not answer, and whether it might answer the next time.

use std::time::Duration;

/// A failure of an engine. `engine` is the name that the operator gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Settings that cannot work.
    #[error("engine `{engine}`: {reason}")]
    Settings {
        /// Which engine.
        engine: String,
        /// What was expected and what was there.
        reason: String,
    },
    /// The engine cannot do this at all.
    #[error("engine `{engine}`: {what} is not what {kind} does")]
    Unsupported {
        /// Which engine.
        engine: String,
        /// What was asked for.
        what: &'static str,
        /// What kind of engine it is.
        kind: &'static str,
    },
    /// The engine said no, and will say so again.
    #[error("engine `{engine}`: {attempted}: refused: {reason}")]
    Refused {
        /// Which engine.
        engine: String,
        /// What was asked for.
        attempted: &'static str,
        /// What it said.
        reason: String,
    },
    /// No answer, a broken one, or one that asks for patience.
    #[error("engine `{engine}`: {attempted}: {reason}")]
    Failed {
        /// Which engine.
        engine: String,
        /// What was asked for.
        attempted: &'static str,
        /// What happened.
        reason: String,
    },
    /// It failed so often lately that it is left alone for a while.
    #[error("engine `{engine}`: {attempted}: left alone for a while, after {failures} failures in a row")]
    Resting {
        /// Which engine.
        engine: String,
        /// What was asked for.
        attempted: &'static str,
        /// How many.
        failures: u32,
    },
}

/// What became of one attempt; the guard makes an [`EngineError`] of it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The same next time.
    Refused(String),
    /// Nothing that lasts.
    Failed {
        reason: String,
        /// How long the engine asks to be left alone.
        after: Option<Duration>,
    },
}

impl Fault {
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), after: None }
    }

    /// An answer that is not what the protocol says: another attempt may meet a healthy node.
    pub(crate) fn broken(expected: &str, got: &str) -> Self {
        Self::failed(format!("expected {expected}, got `{}`", orion_endpoint::shortened(got)))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
