//! The component `hybrid`.

orion_sdk::export!(orion_plain::Hybrid);
