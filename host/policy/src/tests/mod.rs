//! Tests that look inside: the forward pass against a naive twin, and serving against the forward pass.

pub(crate) mod data;
mod model;
mod reference;
mod serving;
