//! The component `dense`.

orion_sdk::export!(orion_plain::Dense);
