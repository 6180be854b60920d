//! Makes new weights for the search policy.
//!
//! The line of the crate follows the data: `trajectories` walks retrieval results and writes records, `tokenizer`
//! learns a vocabulary, `data` encodes records with the policy crate's own trajectory format, `model` and `ops` are
//! the differentiable LFM2, `optim` moves its weights, `sft` is the loop with checkpoints and resume (`variants` says on
//! what, in which order and format), `grpo` reinforces what it made with rewards from real retrieval, `soup` merges,
//! `report` measures what was learned, and `nano` runs the whole line for the policy that ships. `check` holds all of it
//! against golden numbers; `metrics` and `events` are what a run writes down, `export` what leaves the trainer.
//!
//! A second line makes the data itself: `pool` collects traces of several rewriters (`endpoint` asks those behind an
//! OpenAI-compatible address), `synth` lets the archetypes walk them and writes trajectories, `select` picks a subset.
//! `journal` keeps what was made line by line, `ordered` shares work among threads, `terminal` prints.
//!
//! candle is a dependency of this crate alone: serving runs on the fixed-order kernels of `orion-kernels`, and a test
//! holds both forward passes together to 1e-5.

pub mod check;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod export;
pub mod grpo;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod nano;
pub mod ops;
pub mod optim;
pub mod ordered;
pub mod pool;
pub mod preview;
pub mod proposals;
pub mod report;
pub mod reward;
pub mod router;
pub mod select;
pub mod settings;
pub mod sft;
pub mod soup;
pub mod statistics;
pub mod synth;
pub mod terminal;
pub mod tokenizer;
pub mod trajectories;
pub mod variants;

pub use error::{Result, TrainError};
