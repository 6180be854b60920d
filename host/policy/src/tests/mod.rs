//! Tests that look inside: the forward pass against a naive twin, and serving against the forward pass, with
//! memory enough and without.

pub(crate) mod data;
pub(crate) mod grounded;
pub(crate) mod model;
mod pressure;
pub(crate) mod reference;
pub(crate) mod serving;
// The examples need it too, and nothing that ships does.
#[path = "../../examples/support/waiting.rs"]
mod waiting;
