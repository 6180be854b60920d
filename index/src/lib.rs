//! Lexical and dense index with one atomic commit.
//!
//! Documents go in by one [`Writer`] (`writer.rs`: write-ahead log, vector segments, one commit point) and are
//! searched through immutable snapshots, [`Searcher`] (`searcher.rs`): BM25, cosine (of every vector, or by codes or a
//! graph, [`DenseSearch`]), or both fused, each with typed filters. Vectors are an encoder's, or those that documents
//! bring ([`VectorSource`]). Everything here is synchronous and knows nothing of plugins, models or servers.
//!
//! Invariants:
//! - A change is acknowledged once [`Writer::sync`] or [`Writer::commit`] returns, and is then never lost.
//! - Both halves of a snapshot hold the same documents, but for those that bring no vector where they could, and those
//!   whose text still waits to be encoded ([`Writer::publish`]).
//! - Rankings are ordered by score descending, then id ascending, and depend on the documents and the query alone,
//!   not on threads, batches, or how often segments were merged. (Scores of deleted documents' words linger in
//!   BM25's statistics until a merge, as in every search engine of this kind. And what a walk over a graph finds
//!   depends on how documents lie in segments; the same history gives the same graphs, to the bit.)
//! - No clock, no environment, no ambient randomness.

mod backlog;
mod cache;
mod catalog;
mod codes;
mod condition;
mod dense;
mod derive;
mod document;
mod embed;
mod error;
mod export;
mod files;
mod filter;
mod fusion;
mod graph;
mod index;
mod lexical;
mod log;
mod manifest;
mod mapped;
mod phase;
mod reader;
mod scan;
mod searcher;
mod selection;
mod settings;
mod snapshot;
mod sort;
mod structured;
mod tune;
mod vectors;
mod walk;
mod writer;

pub use cache::EmbeddingCache;
pub use catalog::Catalog;
pub use condition::Condition;
pub use document::{Document, Kind, MAX_ID_BYTES, StoredDocument, Value, format_date, parse_date};
pub use embed::{EmbedCounts, Embedder};
pub use error::{IndexError, Result};
pub use filter::{Filter, Operator};
pub use fusion::{FUSION_DEPTH, Fusion, fuse};
pub use index::{Index, IndexStats, OpenOptions, Progress};
#[doc(hidden)]
pub use phase::{Hook, Phase};
pub use reader::JsonLines;
pub use searcher::{Hit, Mode, Query, Searcher};
pub use settings::{
    DenseSearch, DenseSettings, FORMAT, IndexSettings, Language, MOST_DIMENSIONS, MOST_FIELDS, Space,
    VectorSource,
};
pub use snapshot::{Copied, CopiedFile, put_back};
pub use sort::{Order, SortKey, SortValue};
pub use structured::{Clause, Found, FoundHit, Searched};
pub use tune::{Relevance, Tuned, tune};
pub use writer::{CommitInfo, Writer};

/// The pool that searching and encoding run on, and the vector instructions found.
pub use orion_kernels::{Threads, cpu_level};

pub mod encoder;

pub use encoder::{Encoder, EncoderError, EncoderOptions};
