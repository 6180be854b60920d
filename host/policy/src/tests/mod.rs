//! Tests that look inside: the forward pass against a naive twin, and serving against the forward pass, with
//! memory enough and without.

pub(crate) mod data;
mod model;
mod pressure;
mod reference;
mod serving;
