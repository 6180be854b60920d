//! The component `pseudo-document`.

orion_sdk::export!(orion_archetypes::PseudoDocument);
