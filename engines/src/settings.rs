//! What an operator says of an engine. Reading and checking a configuration file is the server's.

use std::time::Duration;

/// Which protocol an engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// OpenSearch: `_search` with `match` and with a `knn` query.
    OpenSearch,
    /// Elasticsearch: `_search` with `match` and with a `knn` member.
    Elasticsearch,
    /// Milvus over REST; dense only.
    Milvus,
    /// Sphinx or Manticore over SphinxQL; lexical only.
    Sphinx,
    /// PostgreSQL: `tsvector`, and pgvector.
    Postgres,
}

/// One half of a hybrid search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Text queries.
    Lexical,
    /// Vectors.
    Dense,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OpenSearch, Self::Elasticsearch, Self::Milvus, Self::Sphinx, Self::Postgres];

    /// The word in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSearch => "opensearch",
            Self::Elasticsearch => "elasticsearch",
            Self::Milvus => "milvus",
            Self::Sphinx => "sphinx",
            Self::Postgres => "postgres",
        }
    }

    /// Whether it can be this half of an index.
    pub fn can_be(self, half: Half) -> bool {
        match half {
            Half::Lexical => self != Self::Milvus,
            Half::Dense => self != Self::Sphinx,
        }
    }
}

/// Names of the fields that hold a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub struct Fields {
    pub id: String,
    pub title: String,
    pub text: String,
    pub vector: String,
    pub metadata: String,
}

impl Default for Fields {
    fn default() -> Self {
        let own = str::to_owned;
        Self {
            id: own("id"),
            title: own("title"),
            text: own("text"),
            vector: own("vector"),
            metadata: own("metadata"),
        }
    }
}

/// An engine and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its protocol.
    pub kind: EngineKind,
    /// `http://…` or `https://…`; `postgres://…`; `HOST:PORT` for SphinxQL.
    pub url: String,
    /// The index, table or collection.
    pub collection: String,
    /// User, where the engine asks for one.
    pub user: Option<String>,
    /// Password, API key or token.
    pub secret: Option<String>,
    /// Names of its fields.
    pub fields: Fields,
    /// Milvus: whether to speak version 1 of its interface, which releases before 2.4 have.
    pub old_interface: bool,
    /// Sphinx: where documents are written, each to one of these by its number; `HOST:PORT/INDEX`.
    pub shards: Vec<String>,
    /// PostgreSQL: the text search configuration.
    pub language: String,
    /// How long one call may take, retries included.
    pub timeout: Duration,
    /// Attempts of one call.
    pub attempts: u32,
    /// Calls in a row that fail before the engine is left alone.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_rest: Duration,
    /// Calls at once; more wait.
    pub connections: u32,
}

impl Settings {
    /// An engine with defaults for the rest.
    pub fn new(kind: EngineKind, url: impl Into<String>, collection: impl Into<String>) -> Self {
        Self {
            kind,
            url: url.into(),
            collection: collection.into(),
            user: None,
            secret: None,
            fields: Fields::default(),
            old_interface: false,
            shards: Vec::new(),
            language: "english".to_owned(),
            timeout: Duration::from_millis(2_000),
            attempts: 3,
            breaker_failures: 5,
            breaker_rest: Duration::from_millis(5_000),
            connections: 8,
        }
    }
}
