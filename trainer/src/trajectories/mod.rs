//! Trajectories made by rules: what a small policy is taught before it can teach itself.
//!
//! `sets` says what may be learned from; `moves` is the pool of reformulations and `thoughts` puts their reasons into
//! words that stand in the results; `copies` strings them over random passages and `walk` over real retrieval results,
//! choosing by what they do to the rank of a judged document. `collection` is a set with its index, `rules` the same
//! reformulations without sight of any judgement.

pub mod collection;
pub mod copies;
mod moves;
pub mod rules;
mod sets;
pub mod snippets;
mod thoughts;
pub mod walk;
pub mod words;

pub use moves::Rule;
pub use sets::{PermittedSet, Source};
pub use thoughts::reflection;
