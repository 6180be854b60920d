//! The tests of this crate, as one program: linking the sandbox's compiler a dozen times costs more than running them.

mod common;
mod evil;
mod evolution;
mod failures;
mod hostile;
mod loading;
mod manifest;
mod own_services;
mod plugins;
mod reward;
mod search;
mod trust;
