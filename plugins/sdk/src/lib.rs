//! Write Orion search strategies in Rust.
