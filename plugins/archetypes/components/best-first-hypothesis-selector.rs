//! The component `best-first-hypothesis-selector`.

orion_sdk::export!(orion_archetypes::BestFirstHypothesisSelector);
