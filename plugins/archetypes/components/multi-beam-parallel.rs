//! The component `multi-beam-parallel`.

orion_sdk::export!(orion_archetypes::MultiBeamParallel);
