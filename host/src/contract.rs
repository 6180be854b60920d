//! The contract's types under short names: the vocabulary that services, traces and recordings share.
//!
//! Generated from `wit/orion.wit` (see `bindings.rs`); the WIT file documents each field.

pub use crate::bindings::orion::search::about::{Description, Kind, Parameter};
pub use crate::bindings::orion::search::feedback::Turn;
pub use crate::bindings::orion::search::log::Level;
pub use crate::bindings::orion::search::policy::{
    Candidate, Issued, JudgedText, Node, Sampling, Segment, Snippet,
};
pub use crate::bindings::orion::search::retrieval::{Document, Query};
pub use crate::bindings::orion::search::trace::Event;
pub use crate::bindings::orion::search::types::{Error, Hit, Retriever, Setting};
