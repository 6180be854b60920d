//! The component `greedy-hill-climber`.

orion_sdk::export!(orion_archetypes::GreedyHillClimber);
