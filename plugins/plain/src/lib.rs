//! One-shot strategies and the controls that need no tree.
//!
//! Adaptive search has to beat these at equal numbers of retrieval calls; `plugins/beam` holds the adaptive one and
//! its tree-shaped control. `components/` makes one component of each type here.

mod oneshot;
mod perturb;
mod rm3;
mod router;

pub use oneshot::{Dense, Hybrid, Lexical};
pub use perturb::Perturb;
pub use rm3::Rm3;
pub use router::Router;
