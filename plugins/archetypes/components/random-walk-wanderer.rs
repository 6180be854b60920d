//! The component `random-walk-wanderer`.

orion_sdk::export!(orion_archetypes::RandomWalkWanderer);
