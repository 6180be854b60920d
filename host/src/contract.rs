//! The contract's types under short names: the vocabulary that services, traces and recordings share.
//!
//! Generated from `wit/orion.wit` (see `bindings.rs`); the WIT file documents each field. Whether a component fits it is
//! [`explain_mismatch`]'s to say.

pub use crate::bindings::orion::search::about::{Description, Kind, Parameter};
pub use crate::bindings::orion::search::feedback::Turn;
pub use crate::bindings::orion::search::log::Level;
pub use crate::bindings::orion::search::policy::{
    Candidate, Issued, JudgedText, Node, Sampling, Segment, Snippet,
};
pub use crate::bindings::orion::search::retrieval::{Document, Query};
pub use crate::bindings::orion::search::trace::Event;
pub use crate::bindings::orion::search::types::{Error, Hit, Retriever, Setting};
pub use crate::bindings::reward::Observation;
pub use crate::mismatch::{Mismatch, MismatchError, explain_mismatch};
pub use crate::world::World;

/// The contract's text, as this host was built with it.
pub const WIT: &str = include_str!("../../wit/orion.wit");
