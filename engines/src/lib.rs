//! Indexes in other engines: OpenSearch, Elasticsearch, Milvus, Sphinx, Manticore, PostgreSQL with pgvector.
//!
//! A leaf that knows nothing of Orion's own index, plugins or server. An [`Engine`] answers text queries (the lexical
//! half of a search), vectors (the dense half), or both, reads documents by id, and takes documents with their vectors.
//! Each engine speaks its own protocol (`opensearch.rs`, `milvus.rs`, `sphinx.rs` over `mysql_wire.rs`, `postgres.rs`);
//! around all of them lies one guard (`guard.rs`): a deadline, retries with jitter, a breaker, bounded replies.
//!
//! Everything here blocks the calling thread, for at most the engine's `timeout`.
//!
//! Invariants:
//! - A [`Ranking`] is ordered by score descending, then id ascending; no id twice; finite scores; at most `k`.
//! - An engine that could look at a part of its documents only says so in [`Ranking::partial`].
//! - No clock, hash order or ambient randomness decides what a ranking contains.

mod condition;
mod document;
mod engine;
mod error;
mod guard;
mod milvus;
mod mysql_wire;
mod opensearch;
mod opensearch_filter;
mod postgres;
mod postgres_filter;
mod postgres_tls;
mod settings;
mod sphinx;
mod sphinx_filter;

pub use condition::{Condition, Operator};
pub use document::{Document, Hit, Kind, Ranking, Stored, Value};
pub use engine::Engine;
pub use error::EngineError;
pub use guard::GuardState;
pub use settings::{EngineKind, Fields, Half, Settings};
