//! One open index: its mapping, its one writer on a thread of its own, and what that has acknowledged but not committed.
//!
//! Changes go through a bounded queue to `writing.rs`, which answers once they are in the write-ahead log; commits and
//! embedding follow between two jobs. Until the commit a document is got from `pending`, so that what was put can be got at
//! once; then searches by words see it, and, once it is embedded, searches by vector.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use orion_host::index::{Index, Searcher, StoredDocument};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::adapters::backends::Halves;

use super::{error::ApiError, mapping::Mapping, persist::write_whole, vectors, writing};

/// Name of the mapping's file in the index's folder.
pub const MAPPING_FILE: &str = "mapping.json";
/// Settings of an index that the command line made, whose mapping follows from what is in it.
pub const SETTINGS_FILE: &str = "settings.json";
/// Jobs that may wait for the writer; each holds one request's documents, whose bytes the body limit bounds.
const QUEUE_JOBS: usize = 32;
/// Rejections tell clients to come back after this long, where the queue is full of embedding work.
const BUSY_SECONDS: u64 = 2;

/// What is kept beside an index: what OpenSearch's clients set and the index itself does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The fields.
    pub mapping: Mapping,
    /// Settings as they were given, flat, without `index.`.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
}

/// One version of a document as it is kept: version, sequence number, the client's source.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// From 1, rising with every change of the document.
    pub version: u64,
    /// The change's own number in its index, from 0.
    pub sequence: u64,
    /// The source, as JSON text.
    pub source: String,
}

impl Kept {
    /// As the index stores it.
    pub fn to_stored(&self) -> String {
        format!("{} {}\n{}", self.version, self.sequence, self.source)
    }

    /// Of what the index stored; of documents that the command line added, what there is of them.
    pub fn of_document(document: StoredDocument) -> Self {
        let parsed = document.source.as_deref().and_then(|stored| {
            let (head, source) = stored.split_once('\n')?;
            let (version, sequence) = head.split_once(' ')?;
            Some(Self {
                version: version.parse().ok()?,
                sequence: sequence.parse().ok()?,
                source: source.to_owned(),
            })
        });
        parsed.unwrap_or_else(|| {
            use orion_host::index::Value as Stored;
            let mut source = Map::new();
            source.insert("title".to_owned(), json!(document.title));
            source.insert("text".to_owned(), json!(document.text));
            fn shown(value: &Stored) -> Value {
                match value {
                    Stored::Keyword(text) | Stored::Text(text) => json!(text),
                    Stored::Keywords(words) => json!(words),
                    Stored::Number(number) => json!(number),
                    Stored::Date(seconds) => json!(orion_host::index::format_date(*seconds)),
                    Stored::Boolean(boolean) => json!(boolean),
                    Stored::Several(values) => values.iter().map(shown).collect(),
                    _ => Value::Null,
                }
            }
            for (name, value) in document.metadata {
                source.insert(name, shown(&value));
            }
            Self { version: 1, sequence: 0, source: Value::Object(source).to_string() }
        })
    }

    /// The source as an object.
    pub fn object(&self) -> Map<String, Value> {
        match serde_json::from_str(&self.source) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        }
    }
}

/// What is to be done to one document.
#[derive(Debug, Clone)]
pub enum Change {
    /// Put, whatever is there.
    Index(Map<String, Value>),
    /// Put, where nothing is there.
    Create(Map<String, Value>),
    /// Change in parts.
    Update(Map<String, Value>),
    /// Delete.
    Delete,
}

/// One change of one document.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Which; `None` for a new one.
    pub id: Option<String>,
    /// What.
    pub change: Change,
    /// Only if the document's last change had this number.
    pub if_sequence: Option<u64>,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub struct Done {
    /// The document.
    pub id: String,
    /// `created`, `updated`, `deleted`, `not_found` or `noop`.
    pub result: &'static str,
    /// Its version and sequence number.
    pub version: u64,
    /// Its number in the index.
    pub sequence: u64,
}

/// The outcomes of a job, in the order of its operations.
pub type Outcomes = Vec<Result<Done, (String, ApiError)>>;

/// What the writer is asked for.
pub enum Job {
    /// Change documents and acknowledge.
    Write(Vec<Operation>, oneshot::Sender<Outcomes>),
    /// Embed and commit what was acknowledged so far.
    Refresh(oneshot::Sender<Result<(), ApiError>>),
    /// End.
    Stop,
}

/// What may be set for all indexes.
#[derive(Debug, Clone, Copy)]
pub struct WriteBounds {
    /// Documents that may wait to be embedded.
    pub waiting: usize,
    /// How long changes wait to become visible.
    pub refresh: Duration,
}

/// One open index.
pub struct Collection {
    /// Its name.
    pub name: String,
    /// The index.
    pub index: Index,
    meta: RwLock<Arc<Meta>>,
    has_meta: bool,
    /// Where its halves are, if any is in another engine.
    pub elsewhere: OnceLock<Arc<Halves>>,
    /// Changes that are not committed yet: the document, or `None` where it was deleted.
    pub(super) pending: RwLock<BTreeMap<String, Option<Kept>>>,
    /// Documents that wait to be embedded.
    pub(super) waiting: AtomicUsize,
    /// Jobs in the queue.
    pub(super) queued: AtomicUsize,
    pub(super) bounds: RwLock<WriteBounds>,
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Collection {
    /// Takes over an open index; `meta` is given where it was just created.
    pub fn start(
        name: &str,
        index: Index,
        meta: Option<Meta>,
        bounds: WriteBounds,
    ) -> Result<Arc<Self>, ApiError> {
        let file = index.dir().join(MAPPING_FILE);
        let fault = |error: &dyn std::fmt::Display| {
            ApiError::fault(format!("index [{name}]: `{MAPPING_FILE}`: {error}"))
        };
        let (meta, has_meta) = match meta {
            Some(meta) => {
                save(&file, &meta).map_err(|error| fault(&error))?;
                (meta, true)
            }
            None => match std::fs::read_to_string(&file) {
                Ok(text) => (serde_json::from_str(&text).map_err(|error| fault(&error))?, true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let mapping = Mapping::of_index(&index);
                    let settings = kept_settings(&index.dir().join(SETTINGS_FILE)).map_err(|error| {
                        ApiError::fault(format!("index [{name}]: `{SETTINGS_FILE}`: {error}"))
                    })?;
                    (Meta { mapping, settings }, false)
                }
                Err(error) => return Err(fault(&error)),
            },
        };
        let (jobs, receiver) = sync_channel(QUEUE_JOBS);
        let collection = Arc::new(Self {
            name: name.to_owned(),
            index,
            meta: RwLock::new(Arc::new(meta)),
            has_meta,
            elsewhere: OnceLock::new(),
            pending: RwLock::default(),
            waiting: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            bounds: RwLock::new(bounds),
            jobs,
            thread: Mutex::new(None),
        });
        let writer = Arc::downgrade(&collection);
        let thread = std::thread::Builder::new()
            .name(format!("writer {name}"))
            .spawn(move || writing::run(&writer, &receiver))
            .map_err(|error| ApiError::fault(format!("index [{name}]: no thread for its writer: {error}")))?;
        *collection.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(collection)
    }

    /// Mapping and settings as they are now.
    pub fn meta(&self) -> Arc<Meta> {
        Arc::clone(&self.meta.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a changed mapping or setting, on disk before anything relies on it.
    pub fn set_meta(&self, meta: Meta) -> Result<(), ApiError> {
        if !self.has_meta && meta.mapping != self.meta().mapping {
            return Err(ApiError::illegal(format!(
                "index [{}] was made by the command line: its mapping cannot be changed",
                self.name
            )));
        }
        if meta.mapping.vector() != self.meta().mapping.vector() {
            return Err(ApiError::illegal(format!(
                "index [{}]: a {} field has to be in the mapping that the index is made with",
                self.name,
                vectors::KIND
            )));
        }
        let kept = if self.has_meta {
            save(&self.index.dir().join(MAPPING_FILE), &meta)
        } else {
            let text = format!("{:#}\n", json!(meta.settings));
            write_whole(&self.index.dir().join(SETTINGS_FILE), &text)
        };
        kept.map_err(|error| {
            ApiError::fault(format!("index [{}]: could not keep mapping or settings: {error}", self.name))
        })?;
        *self.meta.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(meta);
        Ok(())
    }

    /// Other bounds, from now on.
    pub fn set_bounds(&self, bounds: WriteBounds) {
        *self.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// The committed snapshot.
    pub fn searcher(&self) -> Arc<Searcher> {
        self.index.searcher()
    }

    /// Whether a refused job may be worth trying again, and the job's place in the queue.
    fn send(&self, job: Job) -> Result<(), ApiError> {
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|error| {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => ApiError::overloaded(format!(
                    "rejected execution on index [{}]: its queue of {QUEUE_JOBS} requests is full",
                    self.name
                )),
                TrySendError::Disconnected(_) => ApiError::no_index(&self.name),
            }
        })
    }

    /// Changes documents; answers once the changes are in the write-ahead log.
    pub async fn write(&self, operations: Vec<Operation>) -> Result<Outcomes, ApiError> {
        if self.elsewhere.get().is_some_and(|halves| halves.is_whole()) {
            return Err(ApiError::illegal(format!(
                "index [{}] is kept by other engines: `orion index push` fills them",
                self.name
            )));
        }
        let most = self.bounds.read().unwrap_or_else(PoisonError::into_inner).waiting;
        let waiting = self.waiting.load(Ordering::Relaxed);
        if most <= waiting {
            let mut error = ApiError::overloaded(format!(
                "rejected execution on index [{}]: {waiting} documents wait to be embedded, at most {most} may",
                self.name
            ));
            error.retry_after = Some(BUSY_SECONDS);
            return Err(error);
        }
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Write(operations, sender))?;
        receiver.await.map_err(|_| ApiError::no_index(&self.name))
    }

    /// Makes visible what was acknowledged so far.
    pub async fn refresh(&self) -> Result<(), ApiError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Refresh(sender))?;
        receiver.await.map_err(|_| ApiError::no_index(&self.name))?
    }

    /// The document as it was acknowledged last.
    pub fn get(&self, id: &str) -> Result<Option<Kept>, ApiError> {
        if let Some(pending) = self.pending.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(pending.clone());
        }
        if let Some(halves) = self.elsewhere.get().filter(|halves| halves.is_whole()) {
            return Ok(halves.document(id).map_err(super::elsewhere::api_error)?.map(Kept::of_document));
        }
        let searcher = self.searcher();
        let found = searcher.documents(&[id])?.pop().flatten();
        found.map(|document| self.kept(&searcher, document)).transpose()
    }

    /// A committed document as it is kept. The vector of one that the command line added is a part of its source, so
    /// that it is shown, and not lost where the document is changed in parts.
    pub fn kept(&self, searcher: &Searcher, document: StoredDocument) -> Result<Kept, ApiError> {
        let meta = self.meta();
        let field = meta.mapping.vector().filter(|_| document.source.is_none());
        let id = document.id.clone();
        let mut kept = Kept::of_document(document);
        if let Some((field, _)) = field
            && let Some(vector) = searcher.vector_of(&id)?
        {
            let mut source = kept.object();
            source.insert(field.to_owned(), json!(vector));
            kept.source = Value::Object(source).to_string();
        }
        Ok(kept)
    }

    /// Ends the writer: what is acknowledged is committed if that costs no embedding, else left to the log.
    pub fn stop(&self) {
        // A full queue drains: the writer goes on taking jobs until this one comes.
        let _ = self.jobs.send(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic was reported on its own thread.
            let _ = thread.join();
        }
    }
}

fn kept_settings(file: &Path) -> std::io::Result<BTreeMap<String, Value>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn save(file: &Path, meta: &Meta) -> std::io::Result<()> {
    write_whole(file, &format!("{:#}\n", json!(meta)))
}
