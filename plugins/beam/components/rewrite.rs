//! The component `rewrite`.

orion_sdk::export!(orion_beam::Rewrite);
