//! One engine behind its guard: the only way in.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    condition::Condition,
    document::{Document, Kind, Ranking, Stored},
    error::{EngineError, Fault},
    guard::{Guard, GuardState},
    milvus::Milvus,
    opensearch::OpenSearch,
    postgres::Postgres,
    settings::{EngineKind, Half, Settings},
    sphinx::Sphinx,
};

/// What an engine speaks.
enum Wire {
    OpenSearch(OpenSearch),
    Milvus(Milvus),
    Sphinx(Sphinx),
    Postgres(Box<Postgres>),
}

/// An index in another engine. Shared between threads; dropping it closes its connections.
pub struct Engine {
    name: String,
    kind: EngineKind,
    wire: Wire,
    guard: Guard,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Engine({} {})", self.kind.name(), self.name)
    }
}

impl Engine {
    /// Prepares an engine; nothing is sent yet. `name` is what messages call it.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(name: &str, settings: &Settings) -> Result<Self, EngineError> {
        let wire = match settings.kind {
            EngineKind::OpenSearch | EngineKind::Elasticsearch => {
                OpenSearch::new(settings).map(Wire::OpenSearch)
            }
            EngineKind::Milvus => Milvus::new(settings).map(Wire::Milvus),
            EngineKind::Sphinx => Sphinx::new(settings).map(Wire::Sphinx),
            EngineKind::Postgres => Postgres::new(settings).map(Box::new).map(Wire::Postgres),
        };
        Ok(Self {
            name: name.to_owned(),
            kind: settings.kind,
            wire: wire.map_err(|reason| EngineError::Settings { engine: name.to_owned(), reason })?,
            guard: Guard::new(name, settings),
        })
    }

    /// The name that the operator gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its protocol.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// How its calls went so far.
    pub fn state(&self) -> GuardState {
        self.guard.state()
    }

    fn cannot(&self, what: &'static str) -> EngineError {
        EngineError::Unsupported { engine: self.name.clone(), what, kind: self.kind.name() }
    }

    /// The best `k` documents for a text, of those that fit the filter.
    pub fn lexical(&self, text: &str, k: usize, filter: Option<&Condition>) -> Result<Ranking, EngineError> {
        if !self.kind.can_be(Half::Lexical) {
            return Err(self.cannot("searching by text"));
        }
        self.guard.call("searching by text", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.lexical(text, k, filter, time),
            Wire::Sphinx(wire) => wire.lexical(text, k, filter, time),
            Wire::Postgres(wire) => wire.lexical(text, k, filter, time),
            Wire::Milvus(_) => Err(impossible()),
        })
    }

    /// The best `k` documents for a vector of unit length, of those that fit the filter; scores are cosines.
    pub fn dense(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<&Condition>,
    ) -> Result<Ranking, EngineError> {
        if !self.kind.can_be(Half::Dense) {
            return Err(self.cannot("searching by vector"));
        }
        self.guard.call("searching by vector", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.dense(vector, k, filter, time),
            Wire::Milvus(wire) => wire.dense(vector, k, filter, time),
            Wire::Postgres(wire) => wire.dense(vector, k, filter, time),
            Wire::Sphinx(_) => Err(impossible()),
        })
    }

    /// The documents with these ids, `None` for an unknown id, texts cut at `most_chars` Unicode scalar values.
    pub fn documents(&self, ids: &[&str], most_chars: usize) -> Result<Vec<Option<Stored>>, EngineError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if self.kind == EngineKind::Milvus {
            return Err(self.cannot("keeping texts"));
        }
        self.guard.call("reading documents", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.documents(ids, most_chars, time),
            Wire::Sphinx(wire) => wire.documents(ids, most_chars, time),
            Wire::Postgres(wire) => wire.documents(ids, most_chars, time),
            Wire::Milvus(_) => Err(impossible()),
        })
    }

    /// Number of documents.
    pub fn count(&self) -> Result<u64, EngineError> {
        self.guard.call("counting documents", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.count(time),
            Wire::Milvus(wire) => wire.count(time),
            Wire::Sphinx(wire) => wire.count(time),
            Wire::Postgres(wire) => wire.count(time),
        })
    }

    /// Makes index, table or collection where it is not there; with `dimensions`, for vectors too.
    pub fn prepare(
        &self,
        dimensions: Option<usize>,
        metadata: &BTreeMap<String, Kind>,
    ) -> Result<(), EngineError> {
        self.guard.call("preparing the collection", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.prepare(dimensions, metadata, time),
            Wire::Milvus(wire) => wire.prepare(dimensions, time),
            Wire::Sphinx(wire) => wire.prepare(time),
            Wire::Postgres(wire) => wire.prepare(dimensions, time),
        })
    }

    /// Puts documents, each in place of the one with its id. No id may occur twice.
    pub fn push(&self, documents: &[Document]) -> Result<(), EngineError> {
        if documents.is_empty() {
            return Ok(());
        }
        self.guard.call("putting documents", |time| match &self.wire {
            Wire::OpenSearch(wire) => wire.push(documents, time),
            Wire::Milvus(wire) => wire.push(documents, time),
            Wire::Sphinx(wire) => wire.push(documents, time),
            Wire::Postgres(wire) => wire.push(documents, time),
        })
    }

    /// Makes what was put visible, where that is a step of its own.
    pub fn refresh(&self) -> Result<(), EngineError> {
        self.guard.call("refreshing", |time: Duration| match &self.wire {
            Wire::OpenSearch(wire) => wire.refresh(time),
            Wire::Milvus(_) | Wire::Sphinx(_) | Wire::Postgres(_) => Ok(()),
        })
    }
}

/// Kinds are checked before the wire is asked.
fn impossible() -> Fault {
    Fault::Refused("this engine does not do that".to_owned())
}
