//! What `wit/orion.wit` says, as Rust types and traits.
//!
//! Generated, so that the contract exists once. The types are the vocabulary of the whole host: services take and
//! return them, the trace and recordings store them. Neighbours: [`crate::contract`] re-exports the public part,
//! `calls/` implements the imported interfaces.
#![expect(missing_docs, reason = "generated; the WIT file carries the documentation")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "orion:search/strategy",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});

/// The world `reward`; what it shares with `strategy` is the same types.
pub(crate) mod reward {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "orion:search/reward",
        with: {
            "orion:search/types": crate::bindings::orion::search::types,
            "orion:search/about": crate::bindings::orion::search::about,
            "orion:search/log": crate::bindings::orion::search::log,
        },
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}
