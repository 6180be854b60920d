//! The contract, generated from `wit/orion.wit`, and the export of this guest.
#![expect(clippy::too_many_arguments, reason = "generated; records cross the boundary field by field")]
#![cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "generated exports"))]

wit_bindgen::generate!({
    path: "../../../wit",
    world: "strategy",
    export_macro_name: "export_hostile",
});

#[cfg(target_arch = "wasm32")]
use super::Hostile;
#[cfg(target_arch = "wasm32")]
export_hostile!(Hostile with_types_in self);
