//! The component `rm3`.

orion_sdk::export!(orion_plain::Rm3);
