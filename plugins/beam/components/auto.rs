//! The component `auto`.

orion_sdk::export!(orion_beam::Auto);
