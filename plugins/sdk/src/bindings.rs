//! The contract's types and imports, generated from `wit/orion.wit` for the world `strategy`.
//!
//! Nothing here is written by hand; [`crate::Host`] and [`crate::Strategy`] are the faces to use. Outside wasm the
//! imports exist but cannot be called.
#![expect(missing_docs, reason = "generated; the contract's own comments come along where it has them")]
#![expect(clippy::too_many_arguments, reason = "generated; records cross the boundary field by field")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "strategy",
    additional_derives: [PartialEq],
    generate_unused_types: true,
    pub_export_macro: true,
    export_macro_name: "export_strategy_world",
    default_bindings_module: "orion_sdk::bindings",
});
