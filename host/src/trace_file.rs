//! A search in a file: what it answered, its tree, and every answer that it got from outside.
//!
//! `--trace FILE` writes it, `orion plugin replay` runs it again without index or model and compares. The format number
//! is [`TRACE_FILE_VERSION`]; a file of another one is refused by name. Neighbours: `record.rs` (the calls), `run.rs`
//! (the replay), `outcome.rs` (the answer).
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::load::Strategy;
use crate::outcome::Outcome;
use crate::record::{Divergence, Recording};
use crate::run::ReplayError;

/// Format number of [`TraceFile`]; the first member of each file is [`FORMAT`].
pub const TRACE_FILE_VERSION: u32 = 1;

/// What marks a file as one of these.
const FORMAT: &str = "orion-trace";

/// One recorded search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceFile {
    /// Always `orion-trace`.
    pub format: String,
    /// [`TRACE_FILE_VERSION`] of the writer.
    pub version: u32,
    /// The strategy, by the name that it gives itself.
    pub strategy: String,
    /// Its component's file as it was named, where it came from one; else it is a standard strategy.
    pub component_file: Option<PathBuf>,
    /// The answer, its cost and its tree.
    pub outcome: Outcome,
    /// What a replay needs.
    pub recording: Recording,
}

/// Why a trace file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFileError {
    /// The file itself.
    #[error("could not {attempted} trace `{path}`: {source}")]
    Io {
        /// `read` or `write`.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file ends in the middle.
    #[error("trace `{path}` is truncated: it ends at line {line}, column {column}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where it ends.
        line: usize,
        /// Where it ends.
        column: usize,
    },
    /// Not what a trace file looks like.
    #[error("trace `{path}` is not usable: {message}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        message: String,
    },
    /// Of another format number.
    #[error("trace `{path}`: expected format version {TRACE_FILE_VERSION}, got {got}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: String,
    },
}

impl TraceFile {
    /// A search of `strategy` and its recording.
    pub fn new(
        strategy: &Strategy,
        component_file: Option<&Path>,
        outcome: Outcome,
        recording: Recording,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: TRACE_FILE_VERSION,
            strategy: strategy.description().name.clone(),
            component_file: component_file.map(Path::to_owned),
            outcome,
            recording,
        }
    }

    /// Reads a file and checks that it is a whole trace of this version.
    pub fn read(path: &Path) -> Result<Self, TraceFileError> {
        let io = |source| TraceFileError::Io { attempted: "read", path: path.to_owned(), source };
        let format = |message: String| TraceFileError::Format { path: path.to_owned(), message };
        let bytes = std::fs::read(path).map_err(io)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| {
            if error.is_eof() {
                let (line, column) = (error.line(), error.column());
                return TraceFileError::Truncated { path: path.to_owned(), line, column };
            }
            format(format!("expected JSON: {error}"))
        })?;
        if value["format"] != FORMAT {
            return Err(format(format!("expected `\"format\": \"{FORMAT}\"`, got {}", value["format"])));
        }
        if value["version"] != TRACE_FILE_VERSION {
            return Err(TraceFileError::Version { path: path.to_owned(), got: value["version"].to_string() });
        }
        serde_json::from_value(value).map_err(|error| format(error.to_string()))
    }

    /// Writes the file: JSON, one line a member down to single calls.
    pub fn write(&self, path: &Path) -> Result<(), TraceFileError> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| TraceFileError::Format { path: path.to_owned(), message: error.to_string() })?;
        std::fs::write(path, json + "\n").map_err(|source| TraceFileError::Io {
            attempted: "write",
            path: path.to_owned(),
            source,
        })
    }
}

/// What a replay says.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What the component made of the recorded answers.
    pub outcome: Outcome,
    /// Whether it is the recorded component, byte for byte.
    pub is_same_component: bool,
    /// Whether ranking, confidence, options and degradation are equal.
    pub is_answer_identical: bool,
    /// Whether tree, noted calls and log are equal.
    pub is_trace_identical: bool,
    /// Whether instructions, memory and everything else that was counted are equal.
    pub is_cost_identical: bool,
    /// Where it first did something else than the recorded component.
    pub divergence: Option<Divergence>,
}

impl Replayed {
    /// Whether nothing at all differs. Another component may count otherwise: its own instructions are its affair.
    pub fn is_identical(&self) -> bool {
        self.divergence.is_none()
            && self.is_answer_identical
            && self.is_trace_identical
            && (self.is_cost_identical || !self.is_same_component)
    }
}

impl Host {
    /// Replays a trace file with a strategy, the recorded or another one, and compares. Blocks.
    pub fn replay_file(&self, strategy: &Strategy, file: &TraceFile) -> Result<Replayed, ReplayError> {
        let (outcome, divergence) = self.replay_blocking(strategy, &file.recording)?;
        let recorded = &file.outcome;
        let (old, new) = (&recorded.trace, &outcome.trace);
        let counted = |outcome: &Outcome| {
            let cost = &outcome.cost;
            let tokens = (cost.tokens_prefilled, cost.tokens_decoded);
            (cost.retrievals, tokens, cost.nodes, cost.host_calls, cost.fuel, cost.peak_memory_bytes)
        };
        Ok(Replayed {
            is_same_component: file.recording.component == strategy.component_sha256(),
            is_answer_identical: recorded.ranking == outcome.ranking
                && recorded.confidence == outcome.confidence
                && recorded.options == outcome.options
                && recorded.degraded == outcome.degraded,
            is_trace_identical: old.branches == new.branches
                && old.calls == new.calls
                && old.log == new.log
                && old.query == new.query,
            is_cost_identical: counted(recorded) == counted(&outcome),
            divergence,
            outcome,
        })
    }
}
