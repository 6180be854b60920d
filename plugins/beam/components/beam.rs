//! The component `beam`.

orion_sdk::export!(orion_beam::Beam);
