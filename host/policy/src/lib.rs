//! The search policy: an LFM2 language model that thinks, then writes a search query.
//!
//! Reading: `config` and `checkpoint` read Hugging Face folders, `gguf` and `gguf_model` GGUF files, `embedded` the
//! checkpoint inside the program; `matrices` packs weights for the kernels, `random` makes some from seeds. Words: `tokenizer` and `format` turn trajectories into tokens, for serving and training alike;
//! `prompt` has the worked examples for models that never saw the format; `grounding` holds queries to words that were read. Numbers: `model` is the forward pass, `state`
//! what it remembers, as a tree; `sampling` turns logits into tokens. Serving: `session` is what users hold,
//! `scheduler` the one thread that owns the model, `backend` whether it runs on the CPU or, by `cuda`, on a device, `lane` and `generate` one sequence on its way, `room` makes room for states. `check` holds a
//! checkpoint against golden numbers.
//!
//! This crate knows nothing of plugins or indexes.

mod backend;
mod check;
mod checkpoint;
mod config;
mod counters;
mod cuda;
mod embedded;
mod error;
mod format;
mod generate;
mod gguf;
mod gguf_model;
mod grounding;
mod lane;
mod matrices;
mod model;
mod prompt;
mod random;
mod request;
mod room;
mod sampling;
mod scheduler;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use backend::{Device, UnknownDevice};
pub use check::{CaseReport, CheckError, CheckReport, check_cases, check_cases_on, log_probabilities};
pub use checkpoint::{Checkpoint, NumberFormat, Tensor, Weights};
pub use config::{Config, LayerKind, feed_forward_width};
pub use counters::PolicyCounters;
pub use cuda::{DeviceError, DeviceInfo, copy_bandwidth, devices};
pub use embedded::EmbeddedCheckpoint;
pub use error::{CheckpointError, PolicyError};
pub use format::{
    Calibration, FormatKind, FormatSpec, Retriever, SPECIAL_TOKENS, Segment, Snippet, Span, TrajectoryFormat,
};
pub use generate::Sampling;
pub use gguf_model::gguf_tensor;
pub use matrices::{UnknownWeightFormat, WeightFormat};
pub use random::{
    Random, byte_pair_tokenizer_json, byte_tokenizer_json, random_checkpoint, random_checkpoint_in,
    random_numbers, random_weights, tiny_config, tiny_policy,
};
pub use session::{
    Candidate, FedToken, JudgedText, NodeId, Policy, PolicyInfo, PolicyOptions, Session, Source, Usage,
};
pub use tokenizer::PolicyTokenizer;
