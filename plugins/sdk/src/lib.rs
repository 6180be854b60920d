//! Write Orion search strategies, and rewards for training them, in Rust.
//!
//! A strategy is a type that implements [`Strategy`]: it says what it is, and answers a request by calling the
//! [`Host`]. [`export!`] makes a component of it when the crate is built for `wasm32-unknown-unknown`; in a native
//! build the macro is inert, and the same code is unit-tested against [`mock::MockHost`]. `plugins/README.md` walks
//! through one.
//!
//! A reward is a type that implements [`Reward`] and is exported by [`export_reward!`]; it calls nothing.
//!
//! The types are those of the contract (`wit/orion.wit`), generated into [`bindings`] and named here; what the SDK
//! adds is parameters ([`parameters`], those that several strategies share in [`usual`]), fusion ([`fusion`]), seeded
//! randomness ([`random`]), words and snippets ([`text`], [`reading`]), blind query perturbation ([`mod@perturb`]) and what
//! two rankings say about a query ([`signals`]).
//!
//! Absences: a strategy sees no file, no clock, no network and no randomness but its request's seed.

pub mod bindings;
pub mod fusion;
mod guest;
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
pub mod parameters;
pub mod perturb;
pub mod random;
pub mod reading;
mod reward;
pub mod reward_bindings;
pub mod signals;
pub mod text;
pub mod usual;

pub use bindings::orion::search::about::{Description, Kind, Parameter};
pub use bindings::orion::search::budget::Remaining;
pub use bindings::orion::search::feedback::Turn;
pub use bindings::orion::search::log::Level;
pub use bindings::orion::search::policy::{Candidate, Issued, JudgedText, Node, Sampling, Segment, Snippet};
pub use bindings::orion::search::retrieval::{Document, Query};
pub use bindings::orion::search::trace::{Event, Expanded, Judged, Retrieved};
pub use bindings::orion::search::types::{Error, Hit, Retriever, Setting};
pub use bindings::{Outcome, Request};
#[doc(hidden)]
pub use guest::{Adapter, Imports};
pub use host::{Host, Strategy, retriever_name, setting};
pub use reward::Reward;
#[doc(hidden)]
pub use reward::RewardAdapter;
pub use reward_bindings::Observation;
