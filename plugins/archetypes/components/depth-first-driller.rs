//! The component `depth-first-driller`.

orion_sdk::export!(orion_archetypes::DepthFirstDriller);
