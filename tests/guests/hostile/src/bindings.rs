//! The contract, generated from `wit/orion.wit`, and the export of this guest.
#![expect(clippy::too_many_arguments, reason = "generated; records cross the boundary field by field")]
#![expect(unsafe_code, reason = "generated exports")]

use crate::guest::Hostile;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "strategy",
    export_macro_name: "export_hostile",
});

export_hostile!(Hostile with_types_in self);
