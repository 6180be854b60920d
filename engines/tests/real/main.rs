//! The engines against the real servers, on loopback: PostgreSQL with pgvector, and Sphinx with a distributed index.
//!
//! Both are fetched into the target folder by the first run (`servers.rs`) and stay there. Milvus, which is larger and
//! slower to start, is exercised with the same cases by `examples/milvus.rs`.

mod cases;
mod postgres;
mod searchd;
mod servers;
mod sphinx;
mod tls;
