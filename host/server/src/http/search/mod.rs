//! `_search` and its relatives: from a body to a reply.

pub mod body;
pub mod compile;
pub mod dsl;
mod highlight;
mod hits;
mod knn;
mod run;
mod strings;

pub use hits::{filtered, is_like};
pub use run::{COUNTING, PARAMETERS, SEVERAL, Seen, count, envelope, msearch, plain, ranked_hits, search};
