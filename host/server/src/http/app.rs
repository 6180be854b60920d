//! What all requests share: the engine, the open indexes, pipelines, cursors, keys, bounds, counters.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use orion_host::index::{Catalog, EmbedCounts, EmbeddingCache, IndexSettings, MOST_FIELDS, OpenOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{
    collection::{Collection, Meta, WriteBounds},
    config::Config,
    cursors::Cursors,
    error::ApiError,
    keys::Key,
    metrics::Metrics,
    pipelines::Pipelines,
    repositories::Repositories,
    spans::Spans,
};
use crate::{
    adapters::backends::Backends,
    engine::{Engine, LoadedPolicy},
    failure::{Explain, Failure},
    meant::PolicyChoice,
};

/// Memory that a writer gathers segments in; every index that is written to has one.
const WRITER_MEMORY_BYTES: usize = 48 << 20;
/// Blocking searches at once: a few more than processors, so that one that waits for a disk does not hold up others.
const BLOCKING_SEARCHES: usize = 8;

/// Bytes of bodies are counted in these.
const BODY_UNIT: u64 = 1_024;
/// Bodies of the largest size that fit into memory at once; more small ones do.
const LARGEST_BODIES: usize = 4;

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes / BODY_UNIT + 1).unwrap_or(u32::MAX)
}

/// The server's state.
pub struct App {
    /// Strategies, policies, the encoder, the host.
    pub engine: Engine<'static>,
    /// The configuration of the moment.
    config: RwLock<Arc<Config>>,
    keys: RwLock<Arc<Vec<Arc<Key>>>>,
    catalog: Catalog,
    cache: Option<Arc<EmbeddingCache>>,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    /// Held while an index is made or deleted: one at a time.
    changing: Mutex<()>,
    /// Other engines.
    pub backends: Backends,
    /// Search pipelines.
    pub pipelines: Pipelines,
    /// Snapshot repositories.
    pub repositories: Repositories,
    /// Scrolls and points in time.
    pub cursors: Cursors,
    /// Counters.
    pub metrics: Metrics,
    /// Spans, where a collector is named.
    pub spans: Option<Spans>,
    blocking: Semaphore,
    /// Room for bodies, in units of [`BODY_UNIT`].
    bodies: Arc<Semaphore>,
    adaptive: Semaphore,
    adaptive_waiting: AtomicUsize,
    adaptive_most: usize,
    /// Whether requests other than health checks are answered.
    pub ready: AtomicBool,
    /// Whether only tools are offered, over a data folder that other processes change.
    pub only_tools: bool,
}

impl App {
    /// Everything but the indexes, which [`App::open_indexes`] opens.
    pub fn new(
        engine: Engine<'static>,
        config: Config,
        data: PathBuf,
        catalog: Catalog,
        cache: PathBuf,
        only_tools: bool,
    ) -> Result<Self, Failure> {
        let most = config.bounds.adaptive_searches as usize;
        let backends = Backends::open(&config)?;
        let salt = format!("{} {}", super::now_ms(), std::process::id());
        let cache = match engine.encoder()? {
            Some(_) => Some(Arc::new(EmbeddingCache::open(&cache).attempt("opening the embedding cache")?)),
            None => None,
        };
        Ok(Self {
            engine,
            keys: RwLock::new(Arc::new(keys_of(&config))),
            catalog,
            cache,
            collections: RwLock::default(),
            changing: Mutex::new(()),
            backends,
            pipelines: Pipelines::open(data.join("pipelines.json"))?,
            repositories: Repositories::open(config.snapshots.clone(), data.join("repositories.json"))?,
            cursors: Cursors::new(config.bounds.cursors as usize, salt),
            metrics: Metrics::default(),
            spans: config.traces.as_deref().map(Spans::start).transpose()?,
            blocking: Semaphore::new(BLOCKING_SEARCHES),
            bodies: Arc::new(Semaphore::new(units(config.bounds.body_bytes) as usize * LARGEST_BODIES)),
            adaptive: Semaphore::new(most),
            adaptive_waiting: AtomicUsize::new(0),
            adaptive_most: most,
            ready: AtomicBool::new(false),
            only_tools,
            config: RwLock::new(Arc::new(config)),
        })
    }

    /// The configuration of the moment.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of the moment.
    pub fn keys(&self) -> Arc<Vec<Arc<Key>>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another configuration; what needs a restart stays as it was.
    pub fn reconfigure(&self, config: Config) {
        self.cursors.set_most(config.bounds.cursors as usize);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys_of(&config));
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        for collection in self.all_collections() {
            collection.set_bounds(self.write_bounds());
        }
    }

    fn write_bounds(&self) -> WriteBounds {
        let bounds = &self.config().bounds;
        WriteBounds {
            waiting: bounds.waiting_documents as usize,
            refresh: Duration::from_millis(bounds.refresh_ms),
        }
    }

    fn open_options(&self) -> Result<OpenOptions, Failure> {
        Ok(OpenOptions {
            encoder: self.engine.encoder()?,
            cache: self.cache.clone(),
            writer_memory_bytes: WRITER_MEMORY_BYTES,
            // Who only offers tools leaves writing to others, and takes what they left whole.
            defer_encoding: !self.only_tools,
            ..OpenOptions::default()
        })
    }

    /// Opens all indexes of the data folder; what was acknowledged before a crash is committed on the way.
    pub fn open_indexes(&self) -> Result<(), Failure> {
        for name in self.catalog.names().attempt("listing indexes")? {
            self.open_index(&name)?;
        }
        super::elsewhere::attach(self)?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    fn open_index(&self, name: &str) -> Result<(), Failure> {
        let attempted = || format!("opening index `{name}`");
        let index = self.catalog.index(name, self.open_options()?).attempt(attempted())?;
        let collection = Collection::start(name, index, None, self.write_bounds());
        let collection =
            collection.map_err(|error| Failure::new(format!("{}: {}", attempted(), error.reason)))?;
        self.collections.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), collection);
        Ok(())
    }

    /// Where other processes write: opens indexes that are new, forgets those that are gone, and takes in what was
    /// committed to `name`. Nothing, where this process is the one that writes.
    pub fn follow(&self, name: Option<&str>) -> Result<(), ApiError> {
        if !self.only_tools {
            return Ok(());
        }
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.catalog.names()?;
        for known in self.all_collections() {
            if !names.contains(&known.name) {
                known.stop();
                let mut all = self.collections.write().unwrap_or_else(PoisonError::into_inner);
                all.remove(&known.name);
            }
        }
        for new in names.iter().filter(|name| self.find(name).is_none()) {
            self.open_index(new).map_err(|failure| ApiError::fault(failure.causes().join(": ")))?;
        }
        for known in self.all_collections() {
            if name.is_none_or(|name| name == known.name) {
                known.index.refresh()?;
            }
        }
        Ok(())
    }

    /// Ends all writers.
    pub fn stop(&self) {
        self.ready.store(false, Ordering::Release);
        self.all_collections().iter().for_each(|collection| collection.stop());
    }

    /// All open indexes, by name.
    pub fn all_collections(&self) -> Vec<Arc<Collection>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// An index by name.
    pub fn find(&self, name: &str) -> Option<Arc<Collection>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Exactly one index.
    pub fn one_collection(&self, name: &str) -> Result<Arc<Collection>, ApiError> {
        let mut found = self.collections(name)?;
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            count => Err(ApiError::illegal(format!(
                "[{name}] names {count} indices: only one can be searched at once"
            ))),
        }
    }

    /// The indexes that a list of names and patterns stands for.
    pub fn collections(&self, names: &str) -> Result<Vec<Arc<Collection>>, ApiError> {
        let all = self.collections.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: BTreeMap<&str, Arc<Collection>> = BTreeMap::new();
        for name in names.split(',') {
            if name == "_all" || name.contains('*') {
                let pattern = if name == "_all" { "*" } else { name };
                let fitting = all.iter().filter(|(known, _)| super::search_fits(pattern, known));
                found.extend(fitting.map(|(known, collection)| (known.as_str(), Arc::clone(collection))));
            } else {
                let (known, collection) = all.get_key_value(name).ok_or_else(|| ApiError::no_index(name))?;
                found.insert(known, Arc::clone(collection));
            }
        }
        Ok(found.into_values().collect())
    }

    /// Makes an index.
    pub fn create(&self, name: &str, meta: Meta) -> Result<Arc<Collection>, ApiError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(name).is_some() {
            let mut error = ApiError::new(
                StatusCode::BAD_REQUEST,
                "resource_already_exists_exception",
                format!("index [{name}] already exists"),
            );
            error.more.insert("index".to_owned(), serde_json::json!(name));
            return Err(error);
        }
        let options = self.open_options().map_err(|failure| ApiError::fault(failure.to_string()))?;
        let base = match meta.mapping.vector() {
            Some((_, vector)) => vector.settings(),
            None if options.encoder.is_some() => IndexSettings::default(),
            None => IndexSettings::lexical_only(),
        };
        let settings = IndexSettings { metadata: meta.mapping.kinds(), fields: MOST_FIELDS, ..base };
        let index = self.catalog.create(name, &settings, options)?;
        let collection = Collection::start(name, index, Some(meta), self.write_bounds())?;
        let mut all = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), Arc::clone(&collection));
        Ok(collection)
    }

    /// Whether an index can be called so.
    pub fn check_name(&self, name: &str) -> Result<(), ApiError> {
        Ok(self.catalog.path(name).map(drop)?)
    }

    /// Takes in an index that `make` puts among the others.
    pub fn adopt(
        &self,
        name: &str,
        make: impl FnOnce(&Catalog) -> Result<(), Failure>,
    ) -> Result<(), ApiError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = |failure: Failure| ApiError::fault(failure.causes().join(": "));
        make(&self.catalog).map_err(fault)?;
        self.open_index(name).map_err(|failure| {
            // Not one that this server can serve: made with another encoder, or damaged.
            let _ = self.catalog.delete(name);
            fault(failure)
        })
    }

    /// Deletes an index.
    pub fn delete(&self, name: &str) -> Result<(), ApiError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = self.collections.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let collection = removed.ok_or_else(|| ApiError::no_index(name))?;
        collection.stop();
        self.cursors.forget(name);
        if let Err(error) = self.catalog.delete(name) {
            // Still there, so still served.
            let index = collection.index.clone();
            let meta = (*collection.meta()).clone();
            let again = Collection::start(name, index, Some(meta), self.write_bounds())?;
            self.collections.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), again);
            return Err(error.into());
        }
        Ok(())
    }

    /// Runs work that computes or reads files, off the threads that serve.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let closed = |_| ApiError::fault("the server is stopping");
        let _permit = self.blocking.acquire().await.map_err(closed)?;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(panic) => Err(ApiError::fault(format!("the request did not end: {panic}"))),
        }
    }

    /// Room for a body of so many bytes, until it is dropped.
    pub fn body_room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.bodies).try_acquire_many_owned(units(bytes)).map_err(|_| {
            ApiError::overloaded("rejected execution: the requests at work have too many bytes of bodies")
        })
    }

    /// A place for an adaptive search; as many wait as run, the rest is refused.
    pub async fn adaptive_place(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        if let Ok(permit) = self.adaptive.try_acquire() {
            return Ok(permit);
        }
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.adaptive_waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.adaptive_waiting);
        if self.adaptive_most <= before {
            return Err(ApiError::overloaded(format!(
                "rejected execution: {0} adaptive searches run and {0} wait",
                self.adaptive_most
            )));
        }
        self.adaptive.acquire().await.map_err(|_| ApiError::fault("the server is stopping"))
    }

    /// Adaptive searches that run, and those that wait for a place.
    pub fn adaptive_load(&self) -> (usize, usize) {
        let running = self.adaptive_most.saturating_sub(self.adaptive.available_permits());
        (running, self.adaptive_waiting.load(Ordering::Relaxed))
    }

    /// What the encoder was asked for.
    pub fn embed_counts(&self) -> EmbedCounts {
        let encoder = self.engine.encoder().ok().flatten();
        encoder.map_or_else(EmbedCounts::default, |encoder| encoder.counts())
    }

    /// The name that requests use for a policy; its place, where they have none for it any more.
    pub fn policy_name(&self, choice: &PolicyChoice) -> String {
        let config = self.config();
        match (choice, config.adaptive.policies.iter().find(|(_, known)| *known == choice)) {
            (PolicyChoice::Nano, _) => "nano".to_owned(),
            (_, Some((name, _))) => name.clone(),
            (PolicyChoice::Folder(folder), None) => folder.display().to_string(),
            (other, None) => format!("{other:?}"),
        }
    }

    /// A policy by the name that requests may use.
    pub fn policy(&self, name: &str) -> Result<Option<LoadedPolicy>, ApiError> {
        let config = self.config();
        let choice = match name {
            "nano" => PolicyChoice::Nano,
            "none" => PolicyChoice::None,
            other => match config.adaptive.policies.get(other) {
                Some(choice) => choice.clone(),
                None => {
                    let mut known = vec!["nano", "none"];
                    known.extend(config.adaptive.policies.keys().map(String::as_str));
                    return Err(ApiError::illegal(format!(
                        "adaptive: policy: expected one of [{}], got [{other}]",
                        known.join(", ")
                    )));
                }
            },
        };
        self.engine.policy(&choice).map_err(|failure| ApiError::fault(failure.causes().join(": ")))
    }
}

fn keys_of(config: &Config) -> Vec<Arc<Key>> {
    config.keys.iter().cloned().map(|key| Arc::new(Key::new(key))).collect()
}
