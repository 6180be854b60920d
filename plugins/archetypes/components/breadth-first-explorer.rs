//! The component `breadth-first-explorer`.

orion_sdk::export!(orion_archetypes::BreadthFirstExplorer);
