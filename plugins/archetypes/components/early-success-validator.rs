//! The component `early-success-validator`.

orion_sdk::export!(orion_archetypes::EarlySuccessValidator);
