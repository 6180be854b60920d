//! The errors of this crate: one for reading checkpoints, one for serving.

use std::io;

use crate::cuda::DeviceError;

/// Why a checkpoint did not load. Every case names the file, and the tensor or field where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("reading `{file}` failed: {source}")]
    Read {
        /// Path.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("writing `{file}` failed: {source}")]
    Write {
        /// Path.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what its name promises.
    #[error("`{file}` is malformed: {reason}")]
    Malformed {
        /// Path.
        file: String,
        /// What the parser said.
        reason: String,
    },
    /// A field of a JSON file has an unusable value.
    #[error("`{file}`: field `{field}`: expected {expected}, got {got}")]
    Config {
        /// Path.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A tensor that the config calls for is not in the file.
    #[error("`{file}`: tensor `{tensor}` of shape {expected:?} is missing")]
    MissingTensor {
        /// Path.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Shape by the config.
        expected: Vec<usize>,
    },
    /// A tensor does not fit the config.
    #[error("`{file}`: tensor `{tensor}`: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// Path.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Shape by the config.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error("`{file}`: tensor `{tensor}`: expected dtype {expected}, got {got}")]
    Dtype {
        /// Path.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Formats that are read from such a file.
        expected: &'static str,
        /// Format in the file.
        got: String,
    },
    /// A tensor holds NaN or an infinity.
    #[error("`{file}`: tensor `{tensor}`: expected finite numbers, got {got} at offset {offset}")]
    NotFinite {
        /// Path.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The number.
        got: f32,
        /// Its place, row by row.
        offset: usize,
    },
    /// The file holds a tensor that the config does not know: the two do not belong together.
    #[error(
        "`{file}`: tensor `{tensor}` of shape {got:?} is not part of the model that the config describes"
    )]
    UnknownTensor {
        /// Path.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// The tokenizer lacks something that the trajectory format needs, or does not fit the model.
    #[error("`{file}`: {what}: expected {expected}, got {got}")]
    Tokenizer {
        /// Path.
        file: String,
        /// What was looked for.
        what: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The program was built without the embedded policy.
    #[error("no embedded policy: this build does not carry one; expected a checkpoint folder instead")]
    NoEmbeddedPolicy,
}

/// Why the policy did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The checkpoint did not load.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The thread that owns the model could not be started.
    #[error("starting the policy thread failed: {0}")]
    Start(std::io::Error),
    /// A sequence would become too long.
    #[error("context is full: expected at most {limit_tokens} tokens, got {needed_tokens}")]
    ContextFull {
        /// Length that the request could need.
        needed_tokens: usize,
        /// The limit.
        limit_tokens: usize,
    },
    /// The session would hold too many nodes.
    #[error("too many nodes: expected at most {limit} in a session, got {needed}")]
    TooManyNodes {
        /// Number that the request would need.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// A trajectory would not fit into memory, were it the only one.
    #[error("policy memory is full: expected at most {limit_bytes} bytes of states, got {needed_bytes}")]
    MemoryFull {
        /// Bytes of its states.
        needed_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The node does not belong to this session.
    #[error("unknown node: expected one of this session's, got `{0}`")]
    UnknownNode(u64),
    /// An argument is out of range.
    #[error("{what}: expected {expected}, got {got}")]
    InvalidInput {
        /// Name of the argument.
        what: &'static str,
        /// What would do.
        expected: String,
        /// What came.
        got: String,
    },
    /// The device could not be used, or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The policy has stopped; only after a fault inside it.
    #[error("the policy has stopped")]
    Stopped,
}
