//! Indexes whose halves are in other engines, as the services that strategies search with.
//!
//! Each half of a search, lexical or dense, is asked of its engine or of the embedded index; both rankings are fused here,
//! as the embedded index fuses its own, and queries are encoded here. A half that fails gives way to the other one, and a
//! search over a half that answered for a part of its documents goes on; both are told in [`Notes`], which the reply
//! carries. Neighbours: `orion-engines` speaks the protocols, [`crate::http::config`] says what is where.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use orion_engines::{Document as PushedDocument, Engine, Ranking, Stored};
use orion_host::{
    BoxFuture, EmbeddedRetriever, Retrieve, ServiceError,
    contract::{Document, Hit, Query, Retriever},
    index::{
        Condition, Embedder, Filter, Fusion, Hit as IndexHit, IndexError, Operator, Searcher, StoredDocument,
        Value, format_date, fuse,
    },
};
use serde_json::{Map, Value as Json, json};

use crate::{
    failure::{Explain, Failure},
    http::{
        collection::Kept,
        config::{BackendConfig, Config},
    },
};

/// Whole texts, for replies.
const ALL_CHARS: usize = usize::MAX;

/// Engines by name, and which of them is which half of which index.
#[derive(Debug, Default)]
pub struct Backends {
    engines: BTreeMap<String, Arc<Engine>>,
    indices: BTreeMap<String, Arc<Halves>>,
}

/// Where the halves of one index are; `None` is the embedded index.
#[derive(Debug)]
pub struct Halves {
    lexical: Option<Arc<Engine>>,
    dense: Option<Arc<Engine>>,
    depth: usize,
}

impl Backends {
    /// Prepares what a configuration names; nothing is sent yet.
    ///
    /// # Errors
    /// Settings that cannot work, and secrets that cannot be read.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let mut engines = BTreeMap::new();
        for (name, backend) in &config.backends {
            engines.insert(name.clone(), Arc::new(open(name, backend)?));
        }
        let engine = |name: &Option<String>| name.as_ref().and_then(|name| engines.get(name).cloned());
        let mut indices = BTreeMap::new();
        for (name, index) in &config.indices {
            let halves =
                Halves { lexical: engine(&index.lexical), dense: engine(&index.dense), depth: index.depth };
            indices.insert(name.clone(), Arc::new(halves));
        }
        Ok(Self { engines, indices })
    }

    /// The halves that `FILE[#INDEX]` stands for; without a name, those of the index `usual`.
    ///
    /// # Errors
    /// A configuration that does not read, or has no such index.
    pub fn named(text: &str, usual: &str) -> Result<Arc<Halves>, Failure> {
        let (file, name) = text.split_once('#').unwrap_or((text, usual));
        let config = Config::read(Path::new(file))?;
        let backends = Self::open(&config)?;
        backends.halves(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = config.indices.keys().map(String::as_str).collect();
            Failure::new(format!(
                "choosing `--backends {text}`: index `{name}` has no half in another engine"
            ))
            .hint(format!("`[indices]` of `{file}` has: {}", known.join(", ")))
        })
    }

    /// All engines, by name.
    pub fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        self.engines.values()
    }

    /// An engine by name.
    pub fn engine(&self, name: &str) -> Option<&Arc<Engine>> {
        self.engines.get(name)
    }

    /// The halves of an index, where any of them is elsewhere.
    pub fn halves(&self, index: &str) -> Option<&Arc<Halves>> {
        self.indices.get(index).filter(|halves| halves.lexical.is_some() || halves.dense.is_some())
    }
}

fn open(name: &str, backend: &BackendConfig) -> Result<Engine, Failure> {
    let mut settings = backend.settings.clone();
    if let Some(file) = &backend.secret_file {
        let attempted = format!("reading the secret of backend `{name}` from `{}`", file.display());
        settings.secret = Some(std::fs::read_to_string(file).attempt(attempted)?.trim().to_owned());
    }
    Engine::new(name, &settings).attempt(format!("preparing backend `{name}`"))
}

impl Halves {
    /// Whether documents are kept elsewhere alone: such an index takes no changes.
    pub fn is_whole(&self) -> bool {
        self.lexical.is_some() && self.dense.is_some()
    }

    /// One document of an index that is elsewhere alone.
    pub fn document(&self, id: &str) -> Result<Option<StoredDocument>, ServiceError> {
        let Some(keeper) = self.keeper() else { return Ok(None) };
        let found = keeper.documents(&[id], ALL_CHARS).map_err(unavailable)?;
        Ok(found.into_iter().next().flatten().map(to_stored))
    }

    /// Documents of an index that is elsewhere alone.
    pub fn count(&self) -> Result<u64, ServiceError> {
        self.keeper().map_or(Ok(0), |keeper| keeper.count().map_err(unavailable))
    }

    fn keeper(&self) -> Option<&Arc<Engine>> {
        self.lexical.as_ref()
    }
}

/// What a search should know of its backends: why an answer is not a whole one.
#[derive(Debug, Default)]
pub struct Notes(Mutex<BTreeSet<String>>);

impl Notes {
    /// Keeps a reason, and logs it the first time.
    pub fn add(&self, note: String) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.insert(note.clone()) {
            tracing::warn!("{note}");
        }
    }

    /// Each reason once, in alphabetical order.
    pub fn reasons(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// An index with halves elsewhere, as one search sees it.
#[derive(Clone)]
pub struct SplitRetriever {
    /// Where the halves are.
    pub halves: Arc<Halves>,
    /// The embedded index: the other half, types of metadata, similarities.
    pub embedded: Arc<Searcher>,
    /// Encodes queries.
    pub encoder: Option<Embedder>,
    /// What went wrong.
    pub notes: Arc<Notes>,
    /// Whether a half that fails ends the search: a measurement must be of what it says.
    pub strict: bool,
}

/// One ranking, or why there is none.
type Found = Result<Vec<IndexHit>, ServiceError>;

impl SplitRetriever {
    /// Runs work that waits for an engine or reads files, off the threads that serve.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let own = self.clone();
        match tokio::task::spawn_blocking(move || work(&own)).await {
            Ok(done) => done,
            Err(panic) => Err(fault(format!("a lookup did not end: {panic}"))),
        }
    }

    fn lexical(&self, text: &str, k: usize, filter: Option<&Filter>) -> Found {
        let Some(engine) = &self.halves.lexical else {
            return self.embedded.lexical(text, k, filter).map_err(service_error);
        };
        let condition = self.condition(filter)?;
        self.taken(engine.name(), engine.lexical(text, k, condition.as_ref()))
    }

    fn dense(&self, vector: &[f32], k: usize, filter: Option<&Filter>) -> Found {
        let Some(engine) = &self.halves.dense else {
            if self.embedded.client_half().is_some() {
                // Of another making than the encoder's, even where the lengths agree.
                let reason = "the embedded half has vectors that its documents brought, and no text can be compared with \
                              them";
                return Err(ServiceError::Unavailable(reason.to_owned()));
            }
            return self.embedded.dense_vector(vector, k, filter).map_err(service_error);
        };
        let condition = self.condition(filter)?;
        self.taken(engine.name(), engine.dense(vector, k, condition.as_ref()))
    }

    fn taken(&self, name: &str, answer: Result<Ranking, orion_engines::EngineError>) -> Found {
        let ranking = answer.map_err(unavailable)?;
        if let Some(partial) = ranking.partial {
            self.notes.add(format!("engine `{name}`: {partial}"));
            if self.strict {
                return Err(ServiceError::Unavailable(format!("engine `{name}`: {partial}")));
            }
        }
        Ok(ranking.hits.into_iter().map(|hit| IndexHit { id: hit.id, score: hit.score }).collect())
    }

    fn condition(&self, filter: Option<&Filter>) -> Result<Option<orion_engines::Condition>, ServiceError> {
        let typed = filter.map(|filter| filter.condition(self.embedded.metadata())).transpose();
        Ok(typed.map_err(service_error)?.as_ref().map(to_engine))
    }

    async fn one(&self, query: Query, vector: Option<Result<Vec<f32>, ServiceError>>) -> Found {
        let filter = query.filter.as_deref().map(Filter::parse).transpose().map_err(service_error)?;
        let (k, mode) = (query.k as usize, query.retriever);
        let depth = if mode == Retriever::Hybrid { self.halves.depth.max(k) } else { k };
        let lexical = async {
            let (text, filter) = (query.text.clone(), filter.clone());
            self.blocking(move |own| own.lexical(&text, depth, filter.as_ref())).await
        };
        let dense = async {
            let vector = match vector {
                Some(vector) => vector?,
                None => self.encoded(vec![query.text.clone()]).await?.swap_remove(0),
            };
            let filter = filter.clone();
            self.blocking(move |own| own.dense(&vector, depth, filter.as_ref())).await
        };
        match mode {
            Retriever::Hybrid => {
                let (lexical, dense) = futures_util::future::join(lexical, dense).await;
                let fusion = match query.dense_weight {
                    // The contract's NaN asks for reciprocal ranks.
                    weight if weight.is_nan() => Fusion::default(),
                    dense_weight => Fusion::Convex { dense_weight },
                };
                match (lexical, dense) {
                    (Ok(lexical), Ok(dense)) => Ok(fuse(&lexical, &dense, fusion, k)),
                    (Ok(rest), Err(error)) => self.without(error, "lexical", rest, k),
                    (Err(error), Ok(rest)) => self.without(error, "dense", rest, k),
                    (Err(error), Err(_)) => Err(error),
                }
            }
            Retriever::Lexical => match lexical.await {
                Err(error) if self.may_stand_in(&error) => match dense.await {
                    Ok(rest) => self.without(error, "dense", rest, k),
                    Err(_) => Err(error),
                },
                found => found,
            },
            Retriever::Dense => match dense.await {
                Err(error) if self.may_stand_in(&error) => match lexical.await {
                    Ok(rest) => self.without(error, "lexical", rest, k),
                    Err(_) => Err(error),
                },
                found => found,
            },
        }
    }

    /// A wrong question stays wrong, whoever is asked.
    fn may_stand_in(&self, error: &ServiceError) -> bool {
        !self.strict && !matches!(error, ServiceError::InvalidInput(_))
    }

    /// The ranking of the half that answered.
    fn without(&self, error: ServiceError, other: &str, mut rest: Vec<IndexHit>, k: usize) -> Found {
        if !self.may_stand_in(&error) {
            return Err(error);
        }
        self.notes.add(format!("{error}; the {other} half stands in"));
        rest.truncate(k);
        Ok(rest)
    }

    async fn encoded(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, ServiceError> {
        let Some(encoder) = self.encoder.clone() else {
            return Err(ServiceError::Unavailable("there is no dense encoder for the query".to_owned()));
        };
        self.blocking(move |_| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            encoder.embed(&texts, None).map_err(service_error)
        })
        .await
    }

    /// Whole documents, for replies: of the lexical half, or of the dense one where that keeps them.
    ///
    /// # Errors
    /// No half that keeps documents answers.
    pub fn stored(&self, ids: &[&str]) -> Result<Vec<Option<StoredDocument>>, ServiceError> {
        let Some(keeper) = self.halves.keeper() else {
            return self.embedded.documents(ids).map_err(service_error);
        };
        let found = self.kept(keeper, ids, ALL_CHARS)?;
        Ok(found.into_iter().map(|stored| stored.map(to_stored)).collect())
    }

    fn kept(&self, keeper: &Engine, ids: &[&str], chars: usize) -> Result<Vec<Option<Stored>>, ServiceError> {
        let error = match keeper.documents(ids, chars) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let other = self.halves.dense.as_ref().filter(|other| !self.strict && other.name() != keeper.name());
        match other.map(|other| other.documents(ids, chars)) {
            Some(Ok(found)) => {
                self.notes.add(format!("{error}; the dense half's documents stand in"));
                Ok(found)
            }
            _ => Err(ServiceError::Unavailable(error.to_string())),
        }
    }
}

impl Retrieve for SplitRetriever {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Box::pin(async move {
            // Texts that need a vector are encoded in one batch.
            let places: Vec<usize> =
                (0..queries.len()).filter(|place| queries[*place].retriever != Retriever::Lexical).collect();
            let mut vectors: Vec<Option<Result<Vec<f32>, ServiceError>>> = vec![None; queries.len()];
            if !places.is_empty() {
                let texts = places.iter().map(|place| queries[*place].text.clone()).collect();
                match self.encoded(texts).await {
                    Ok(encoded) => {
                        for (place, vector) in places.iter().zip(encoded) {
                            vectors[*place] = Some(Ok(vector));
                        }
                    }
                    Err(error) => places.iter().for_each(|place| vectors[*place] = Some(Err(error.clone()))),
                }
            }
            let asked = queries.into_iter().zip(vectors).map(|(query, vector)| self.one(query, vector));
            let rankings = futures_util::future::try_join_all(asked).await?;
            let to_contract = |hit: IndexHit| Hit { id: hit.id, score: hit.score };
            Ok(rankings.into_iter().map(|hits| hits.into_iter().map(to_contract).collect()).collect())
        })
    }

    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        let Some(keeper) = self.halves.keeper().cloned() else {
            let embedded = EmbeddedRetriever(Arc::clone(&self.embedded));
            return Box::pin(async move { embedded.documents(ids, max_chars).await });
        };
        Box::pin(self.blocking(move |own| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let found = own.kept(&keeper, &ids, max_chars as usize)?;
            let to_contract =
                |stored: Stored| Document { id: stored.id, title: stored.title, text: stored.text };
            Ok(found.into_iter().map(|stored| stored.map(to_contract)).collect())
        }))
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        let embedded = EmbeddedRetriever(Arc::clone(&self.embedded));
        Box::pin(async move { embedded.similarity(pairs).await })
    }
}

/// A document of an engine as the index would keep it, with its source.
fn to_stored(stored: Stored) -> StoredDocument {
    let mut source: Map<String, Json> = stored.metadata;
    source.insert("title".to_owned(), json!(stored.title));
    source.insert("text".to_owned(), json!(stored.text));
    let kept = Kept { version: 1, sequence: 0, source: Json::Object(source).to_string() };
    StoredDocument {
        id: stored.id,
        title: stored.title,
        text: stored.text,
        metadata: BTreeMap::new(),
        source: Some(kept.to_stored()),
    }
}

/// A document of the index with its vector, on its way into an engine.
pub fn to_pushed(document: StoredDocument, vector: Option<Vec<f32>>) -> PushedDocument {
    let metadata =
        document.metadata.iter().filter_map(|(name, value)| Some((name.clone(), to_value(value)?)));
    PushedDocument {
        metadata: metadata.collect(),
        id: document.id,
        title: document.title,
        text: document.text,
        vector,
    }
}

/// `None` for a type that engines do not know.
fn to_value(value: &Value) -> Option<orion_engines::Value> {
    Some(match value {
        Value::Keyword(word) => orion_engines::Value::Keyword(word.clone()),
        Value::Keywords(words) => orion_engines::Value::Keywords(words.clone()),
        Value::Text(text) => orion_engines::Value::Text(text.clone()),
        Value::Several(values) => orion_engines::Value::Several(values.iter().filter_map(to_value).collect()),
        Value::Number(number) => orion_engines::Value::Number(*number),
        Value::Date(seconds) => {
            orion_engines::Value::Date { seconds: *seconds, text: format_date(*seconds).unwrap_or_default() }
        }
        Value::Boolean(boolean) => orion_engines::Value::Boolean(*boolean),
        _ => return None,
    })
}

fn to_engine(condition: &Condition) -> orion_engines::Condition {
    use orion_engines::Condition as Theirs;
    let all = |conditions: &[Condition]| conditions.iter().map(to_engine).collect();
    match condition {
        Condition::Or(conditions) => Theirs::Or(all(conditions)),
        Condition::And(conditions) => Theirs::And(all(conditions)),
        Condition::Not(inner) => Theirs::Not(Box::new(to_engine(inner))),
        Condition::Exists { name } => Theirs::Exists { name: name.clone() },
        Condition::Compare { name, operator, value } => {
            let operator = match operator {
                Operator::Equal => orion_engines::Operator::Equal,
                Operator::NotEqual => orion_engines::Operator::NotEqual,
                Operator::Less => orion_engines::Operator::Less,
                Operator::LessOrEqual => orion_engines::Operator::LessOrEqual,
                Operator::Greater => orion_engines::Operator::Greater,
                Operator::GreaterOrEqual => orion_engines::Operator::GreaterOrEqual,
            };
            match to_value(value) {
                Some(value) => Theirs::Compare { name: name.clone(), operator, value },
                // A type of tomorrow: nothing is known to fit it.
                None => Theirs::Or(Vec::new()),
            }
        }
    }
}

fn unavailable(error: orion_engines::EngineError) -> ServiceError {
    ServiceError::Unavailable(error.to_string())
}

fn service_error(error: IndexError) -> ServiceError {
    match &error {
        IndexError::Filter { .. } | IndexError::Invalid { .. } => {
            ServiceError::InvalidInput(error.to_string())
        }
        IndexError::NoEncoder { .. } => ServiceError::Unavailable(error.to_string()),
        _ => fault(error.to_string()),
    }
}

fn fault(message: String) -> ServiceError {
    ServiceError::Fault { code: "index".to_owned(), message }
}
