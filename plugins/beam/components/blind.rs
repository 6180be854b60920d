//! The component `blind`.

orion_sdk::export!(orion_beam::Blind);
