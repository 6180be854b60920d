//! The model on a CUDA device: the same forward pass as `model`, over states that lie in the device's memory.
//!
//! Loaded at run time: the program needs no CUDA to build or to start, and of a machine with a device only the driver.
//! `launcher` is the seam: memory and launches, on a device through `driver`, or, in tests, on the CPU through
//! `tests/emulated.rs`, which runs the very source of the kernels (`host/policy/cuda`). Above it nothing knows which: `memory` is
//! what states hold, `weights` the checkpoint in the device's memory, `steps` the launches of one step, `model` a step
//! as the scheduler asks for it, with `answers` the tokens and log-probabilities that come back.

mod answers;
mod driver;
mod error;
mod launcher;
mod memory;
mod model;
mod steps;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use answers::{AllowedOnDevice, Answer, Asked, RowRequest};
pub(crate) use driver::open;
pub use driver::{DeviceInfo, copy_bandwidth, devices};
pub use error::DeviceError;
pub(crate) use memory::{DeviceMemory, DeviceSequence};
pub(crate) use model::DeviceModel;
