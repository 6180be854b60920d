//! The world `reward` of the contract, generated; what it shares with the world `strategy` is [`crate::bindings`]'s.
//!
//! Nothing here is written by hand; [`crate::Reward`] is the face to use.
#![expect(missing_docs, reason = "generated; the contract's own comments come along where it has them")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "reward",
    with: {
        "orion:search/types@0.1.0": crate::bindings::orion::search::types,
        "orion:search/about@0.1.0": crate::bindings::orion::search::about,
        "orion:search/log@0.1.0": crate::bindings::orion::search::log,
    },
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_reward_world",
    default_bindings_module: "orion_sdk::reward_bindings",
});
