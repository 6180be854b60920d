//! Retrieval over an index that has no encoder, as a service that never refuses a text query.
//!
//! Dense and hybrid queries are answered lexically, so that strategies which ask for them still search: on a machine
//! without MiniLM, and over an index whose documents bring their own vectors, an adaptive search is poorer, not
//! impossible. The user is told once ([`crate::engine`]), or with the answer; an evaluation never uses this, because its rows would not be what they are called. Neighbour: the host's own service.

use orion_host::{
    BoxFuture, EmbeddedRetriever, Retrieve, ServiceError,
    contract::{Document, Hit, Query, Retriever},
};

/// Why an index whose documents bring their vectors is searched so.
pub const OWN_VECTORS: &str =
    "documents of this index bring their own vectors, which no text can be compared with";

/// Answers every query lexically; comparing texts stays unavailable.
pub struct LexicalOnly(pub EmbeddedRetriever);

impl Retrieve for LexicalOnly {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        self.0.search(
            queries.into_iter().map(|query| Query { retriever: Retriever::Lexical, ..query }).collect(),
        )
    }

    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        self.0.documents(ids, max_chars)
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        self.0.similarity(pairs)
    }
}
