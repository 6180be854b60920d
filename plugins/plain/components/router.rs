//! The component `router`.

orion_sdk::export!(orion_plain::Router);
