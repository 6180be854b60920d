//! Whole searches: the bundled corpus in a real index, standard strategies as components in a real host.
//!
//! `world` builds what all tests share, once. The dense half needs the sentence encoder; see [`orion_tests::minilm`].

mod adaptive;
mod archetypes;
mod degraded;
mod one_shot;
mod rewards;
mod world;
