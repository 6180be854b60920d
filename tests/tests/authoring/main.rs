//! What strategy authors rely on: scripted worlds, recordings that replay, and the agreement of both kinds of tests.
//!
//! Needs no data and no model: the real `beam` runs in the real host against scripts.

mod frozen;
mod replay;
mod twins;
mod world;
