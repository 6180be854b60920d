//! A strategy that misbehaves on request: option `behaviour` chooses how.
//!
//! It exists in wasm alone; a native build of it is empty. Expected outcomes stand in `host/tests/suite/hostile.rs`.

#[cfg(target_arch = "wasm32")]
#[macro_use]
mod behaviours;
#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod guest;
