//! What can go wrong in training, as one small enum.

use std::path::PathBuf;

/// A failure of a training command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file could not be read or written.
    #[error("could not {action} `{}`: {source}", path.display())]
    File {
        /// `read`, `write`, `create`, ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("could not use `{}`: expected {expected}, got {got}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A setting is out of range or contradicts another.
    #[error("could not use setting `{name}`: expected {expected}, got {got}")]
    Setting {
        /// The setting, as written in the TOML file.
        name: &'static str,
        /// Accepted values.
        expected: String,
        /// The value given.
        got: String,
    },
    /// Training left the range of useful numbers.
    #[error("stopped at step {step}: expected a finite loss and gradient, got loss {loss} and norm {norm}")]
    Diverged {
        /// The optimiser step.
        step: u64,
        /// The loss of that step.
        loss: f32,
        /// The gradient norm of that step.
        norm: f32,
    },
    /// Training lost what it had learned to do; [`crate::grpo::collapse`] says how that is seen.
    #[error(
        "stopped at step {step}: expected {what} near its running value {baseline:.3}, got {got:.3} for {steps} steps; \
         the last good checkpoint is {kept}"
    )]
    Collapsed {
        /// The optimiser step.
        step: u64,
        /// The measure that left its range.
        what: &'static str,
        /// Its running value while all was well.
        baseline: f64,
        /// Its value now.
        got: f64,
        /// Steps in a row for which it was out of range.
        steps: u64,
        /// The newest checkpoint from before, as a path in backticks, or `none`.
        kept: String,
    },
    /// Numbers differ from the reference's by more than they may.
    #[error("checking `{}` failed: expected {expected}, got a deviation of {got:.2e} at {at}", path.display())]
    Deviates {
        /// The golden file.
        path: PathBuf,
        /// The first quantity that is out of tolerance, with the tolerance.
        expected: String,
        /// The largest deviation of that quantity.
        got: f64,
        /// Where it is.
        at: String,
    },
    /// A tensor operation failed: a defect of shape or memory.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The tokenizers library refused something.
    #[error("tokenizer failed: {0}")]
    Tokenizer(String),
    /// The policy crate refused something.
    #[error("policy checkpoint failed: {0}")]
    Policy(String),
    /// The index refused something.
    #[error("index failed: {0}")]
    Index(String),
    /// The host or one of its plugins refused something.
    #[error("host failed: {0}")]
    Host(String),
    /// An endpoint kept failing.
    #[error(
        "could not go on with `{url}`: expected an answer now and then, got {failures} failures in a row, the last: {last}"
    )]
    Endpoint {
        /// Its address.
        url: String,
        /// Requests that failed one after another.
        failures: usize,
        /// The last failure.
        last: String,
    },
    /// Nothing is left of what was asked for.
    #[error("could not make {what}: expected at least one, got none: {reason}")]
    Nothing {
        /// `traces`, `trajectories`, ….
        what: &'static str,
        /// Where they were lost.
        reason: String,
    },
}

/// Result of a training operation.
pub type Result<T> = std::result::Result<T, TrainError>;

impl TrainError {
    /// 1 where the work was done and its result is not good enough, 2 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Collapsed { .. } | Self::Deviates { .. } => 1,
            _ => 2,
        }
    }

    /// What to try next, where there is something to try.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Collapsed { .. } => {
                Some("go on from that checkpoint with a smaller `--rate` or a larger `--beta`")
            }
            Self::Diverged { .. } => Some("try a smaller learning rate"),
            Self::Endpoint { .. } => Some(
                "the same command goes on where it stopped: what was answered is kept and not asked again",
            ),
            Self::Nothing { .. } => Some("`--json` has the counts of what was dropped and why"),
            _ => None,
        }
    }

    /// Wraps an I/O error with what was attempted on which path.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// A content error.
    pub fn content(
        path: impl Into<PathBuf>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Content { path: path.into(), expected: expected.into(), got: got.to_string() }
    }
}
