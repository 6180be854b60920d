//! The component `perturb`.

orion_sdk::export!(orion_plain::Perturb);
