//! The component `adaptive-context-learner`.

orion_sdk::export!(orion_archetypes::AdaptiveContextLearner);
