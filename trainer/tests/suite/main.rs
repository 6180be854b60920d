//! The tests of training, as one program, for the sake of linking time.

mod adapters;
mod common;
mod fixture_parity;
mod grpo;
mod leakage;
mod mask;
mod resume;
mod serving_parity;
mod tiny;
mod variants;
