//! The rules of the house as ordinary tests: who may depend on whom, what files look like, which words stay out.
//!
//! Each rule that has exceptions lists them by name beside the rule. `arrows` reads `cargo metadata`, `sources` reads
//! the Rust files, `manifests` the `Cargo.toml` files, `words` every text file.

mod arrows;
mod manifests;
mod sources;
mod tree;
mod words;
