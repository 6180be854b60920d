//! The search policy: an LFM2 language model that thinks, then writes a search query.
//!
//! `config` and `checkpoint` read Hugging Face folders; `tokenizer` and `format` turn trajectories into tokens, for
//! serving and training alike; `random` makes weights from seeds. This crate knows nothing of plugins or indexes.

mod checkpoint;
mod config;
mod error;
mod format;
mod prompt;
mod random;
mod tokenizer;

pub use checkpoint::{Checkpoint, NumberFormat, Tensor, Weights};
pub use config::{Config, LayerKind, feed_forward_width};
pub use error::{CheckpointError, PolicyError};
pub use format::{
    FormatKind, FormatSpec, Retriever, SPECIAL_TOKENS, Segment, Snippet, Span, TrajectoryFormat,
};
pub use random::{Random, byte_tokenizer_json, random_checkpoint, random_weights, tiny_config, tiny_policy};
pub use tokenizer::PolicyTokenizer;
