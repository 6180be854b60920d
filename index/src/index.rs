//! An index on disk: creation, opening with recovery, the current snapshot.
//!
//! ```text
//! orion.json     settings under a format number and a checksum   (settings.rs)
//! LOCK           the writer's lock                               (files.rs)
//! log/           acknowledged changes after the last commit      (log.rs)
//! lexical/       tantivy; its meta.json carries the manifest     (lexical.rs, manifest.rs)
//! vectors/       immutable vector segments                       (vectors.rs)
//!                and beside them codes and graphs                (codes.rs, graph.rs, derive.rs)
//! ```

use crate::cache::EmbeddingCache;
use crate::document::Kind;
use crate::embed::Embedder;
use crate::error::{IndexError, Result};
use crate::files;
use crate::lexical::{self, Fields};
use crate::log::{self, Log};
use crate::phase::Hook;
use crate::searcher::Searcher;
use crate::settings::{DenseSearch, IndexSettings, VectorSource};
use crate::vectors::Segment;
use crate::writer::Writer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{IndexReader, ReloadPolicy};

/// Called with the numbers of texts encoded and of texts known so far.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// What an index is opened with; nothing of it is kept on disk.
#[derive(Clone)]
pub struct OpenOptions {
    /// Encodes documents without a vector, and queries. Without one, an index still answers lexical queries and
    /// queries by vector, and takes documents that bring their own vectors. Indexes of [`crate::VectorSource::Client`]
    /// leave it alone.
    pub encoder: Option<Embedder>,
    /// Embeddings shared with other indexes.
    pub cache: Option<Arc<EmbeddingCache>>,
    /// Told how encoding gets on.
    pub progress: Option<Progress>,
    /// Whether opening reads every file and compares checksums. Costs about a second for five gigabytes.
    pub verify: bool,
    /// Memory that a writer gathers lexical segments in; more means fewer, larger segments.
    pub writer_memory_bytes: usize,
    /// Whether a writer leaves texts unencoded until [`Writer::encode_some`] or a commit: adding then costs no more
    /// than the log, and who adds has to bound what waits. What a crash left is then published at opening, unencoded too.
    pub defer_encoding: bool,
    /// For crash tests.
    #[doc(hidden)]
    pub hook: Hook,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            encoder: None,
            cache: None,
            progress: None,
            verify: true,
            // Holds the postings of some hundred thousand passages; tantivy's least is 15 MB.
            writer_memory_bytes: 128 << 20,
            defer_encoding: false,
            hook: Hook::default(),
        }
    }
}

/// What all handles on one open index share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) lexical_dir: PathBuf,
    pub(crate) vector_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) settings: IndexSettings,
    pub(crate) settings_crc32: u32,
    pub(crate) embedder: Option<Embedder>,
    pub(crate) cache: Option<Arc<EmbeddingCache>>,
    pub(crate) progress: Option<Progress>,
    pub(crate) writer_memory_bytes: usize,
    pub(crate) defer_encoding: bool,
    pub(crate) hook: Hook,
    pub(crate) fields: Fields,
    pub(crate) lexical: tantivy::Index,
    pub(crate) reader: IndexReader,
    pub(crate) analysis: TextAnalyzer,
    current: RwLock<Option<Arc<Searcher>>>,
}

/// An open index; cheap to clone.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

/// Sizes of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexStats {
    /// Living documents.
    pub documents: u64,
    /// Living vectors.
    pub vectors: u64,
    /// Rows of replaced and deleted documents that a merge will drop.
    pub dead_vectors: u64,
    /// Lexical segments.
    pub lexical_segments: usize,
    /// Vector segments.
    pub vector_segments: usize,
    /// How vectors are searched; `None` where there are none.
    pub dense_search: Option<DenseSearch>,
    /// Rows that can be searched by short codes.
    pub quantised_vectors: u64,
    /// Rows that can be searched by a graph.
    pub graph_vectors: u64,
    /// What lies beside the vectors and could not be read, with the reason. Such segments are searched without it, and
    /// the next commit makes it anew.
    pub damage: Vec<String>,
    /// Changes that are acknowledged but not committed, or not with all vectors.
    pub pending_changes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Metadata names and their types.
    pub metadata: BTreeMap<String, Kind>,
    /// The encoder that made the vectors.
    pub encoder: Option<String>,
}

impl Shared {
    /// The committed payload, to see whether the state has moved on.
    pub(crate) fn payload(&self) -> Result<(Option<String>, u64)> {
        let failed = IndexError::lexical("read the committed state", &self.lexical_dir);
        let metas = self.lexical.load_metas().map_err(failed)?;
        Ok((metas.payload, metas.opstamp))
    }

    /// Names of segment files in the lexical half that belong to no committed segment.
    pub(crate) fn foreign_segment_files(&self) -> Result<Vec<String>> {
        let metas = self.lexical.load_metas();
        let metas = metas.map_err(IndexError::lexical("read the committed state", &self.lexical_dir))?;
        let segments: Vec<String> = metas.segments.iter().map(|segment| segment.id().uuid_string()).collect();
        let mut names = files::list(&self.lexical_dir)?;
        // Segment files are named by 32 hexadecimal digits; the rest is tantivy's own.
        names.retain(|name| {
            let stem = name.split('.').next().unwrap_or_default();
            stem.len() == 32 && !segments.iter().any(|segment| segment == stem)
        });
        Ok(names)
    }

    /// Removes files that no committed state names; the caller holds the lock.
    pub(crate) fn remove_orphans(&self, base: &Searcher) -> Result<()> {
        let named: Vec<String> = base.manifest.vectors.iter().flat_map(|entry| entry.file_names()).collect();
        for name in files::list(&self.vector_dir)? {
            if !named.contains(&name) {
                files::remove(&self.vector_dir.join(name))?;
            }
        }
        let temporary = |name: &str| name.ends_with(files::TEMPORARY) || name.starts_with(".tmp");
        for folder in [&self.dir, &self.log_dir, &self.lexical_dir] {
            for name in files::list(folder)? {
                if temporary(&name) {
                    files::remove(&folder.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Removes segment files of the lexical half that no committed state names. Only before tantivy's writer starts: later
    /// ones may be under way.
    pub(crate) fn remove_foreign_segments(&self) -> Result<()> {
        for name in self.foreign_segment_files()? {
            files::remove(&self.lexical_dir.join(name))?;
        }
        Ok(())
    }

    pub(crate) fn current(&self) -> Option<Arc<Searcher>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the committed state the current one.
    pub(crate) fn reload(&self, verify: bool) -> Result<Arc<Searcher>> {
        let previous = self.current();
        let fresh = Arc::new(Searcher::load(self, previous.as_deref(), verify)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Index {
    /// Creates an empty index in `dir`, which must not exist or be empty, and opens it.
    /// Either the whole index appears or nothing does.
    pub fn create(dir: &Path, settings: &IndexSettings, options: OpenOptions) -> Result<Self> {
        if dir.exists() && std::fs::read_dir(dir).map_err(IndexError::io("list", dir))?.next().is_some() {
            return Err(IndexError::AlreadyExists { path: dir.to_owned() });
        }
        let mut settings = settings.clone();
        if let (Some(dense), Some(encoder)) = (&mut settings.dense, &options.encoder)
            && dense.source == VectorSource::Encoder
        {
            dense.encoder.get_or_insert_with(|| encoder.fingerprint().to_owned());
        }
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(".creating");
        let draft = dir.with_file_name(name);
        if draft.exists() {
            std::fs::remove_dir_all(&draft).map_err(IndexError::io("remove", &draft))?;
        }
        for folder in ["lexical", "vectors", "log"] {
            let path = draft.join(folder);
            std::fs::create_dir_all(&path).map_err(IndexError::io("create", &path))?;
        }
        lexical::create(&draft.join("lexical"), &settings)?;
        Log::create(&draft.join("log"))?;
        settings.save(&draft)?;
        std::fs::rename(&draft, dir).map_err(IndexError::io("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files::sync_dir(parent)?;
        }
        Self::open(dir, options)
    }

    /// Opens the index in `dir`. Acknowledged changes that are not committed yet are committed now, unless a writer
    /// is at work on the index, or they need an encoder and there is none: then [`IndexStats::pending_changes`]
    /// counts them and the next [`Index::writer`] takes them in.
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Self> {
        let settings = IndexSettings::load(dir)?;
        // An encoder that has nothing to do with the vectors is not even compared with them.
        let encoder = options.encoder.filter(|_| settings.client_half().is_none());
        if let (Some(dense), Some(encoder)) = (&settings.dense, &encoder) {
            check_encoder(dense, encoder)?;
        }
        let lexical_dir = dir.join("lexical");
        let lexical = lexical::open(&lexical_dir, &settings)?;
        if options.verify {
            // Before anything of it is read: tantivy trusts its files.
            lexical::verify(&lexical_dir, &lexical)?;
        }
        let reader = lexical
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(IndexError::lexical("open the committed state", &lexical_dir))?;
        let shared = Shared {
            vector_dir: dir.join("vectors"),
            log_dir: dir.join("log"),
            dir: dir.to_owned(),
            settings_crc32: crc32fast::hash(serde_json::json!(settings).to_string().as_bytes()),
            embedder: encoder,
            cache: options.cache,
            progress: options.progress,
            writer_memory_bytes: options.writer_memory_bytes,
            defer_encoding: options.defer_encoding,
            hook: options.hook,
            fields: lexical::schema(&settings).1,
            analysis: lexical::analysis(&settings),
            lexical_dir,
            settings,
            lexical,
            reader,
            current: RwLock::new(None),
        };
        let index = Self { shared: Arc::new(shared) };
        index.shared.reload(options.verify)?;
        index.recover()?;
        Ok(index)
    }

    /// Commits the acknowledged tail of the log and removes what a crash left behind.
    fn recover(&self) -> Result<()> {
        let shared = &self.shared;
        let lock = match files::lock(&shared.dir.join("LOCK")) {
            Ok(lock) => lock,
            // A writer is at work, or the medium is read-only: the committed state is what can be had.
            Err(IndexError::Locked { .. }) => return Ok(()),
            Err(IndexError::Io { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let searcher = shared.reload(false)?;
        let mut needs_encoder = false;
        let pending = log::replay(&shared.log_dir, searcher.manifest.log_sequence, |_, change| {
            needs_encoder |= matches!(&change, log::Change::Add(document) if document.vector.is_none());
            Ok(())
        })?;
        needs_encoder &= shared.settings.has_encoded_vectors();
        if (needs_encoder && shared.embedder.is_none()) || (pending == 0 && !self.has_orphans()?) {
            return Ok(());
        }
        let mut writer = Writer::start(Arc::clone(shared), lock)?;
        if 0 < pending {
            if shared.defer_encoding {
                writer.publish()?
            } else {
                writer.commit()?
            };
        }
        Ok(())
    }

    fn has_orphans(&self) -> Result<bool> {
        let shared = &self.shared;
        let searcher = self.searcher();
        let named: Vec<String> =
            searcher.manifest.vectors.iter().flat_map(|entry| entry.file_names()).collect();
        let vectors = files::list(&shared.vector_dir)?;
        Ok(vectors.iter().any(|name| !named.contains(name)) || !shared.foreign_segment_files()?.is_empty())
    }

    /// The one writer of this index; an error where another one lives, here or in another process.
    /// Changes that are acknowledged but not committed become part of its first commit.
    pub fn writer(&self) -> Result<Writer> {
        let lock = files::lock(&self.shared.dir.join("LOCK"))?;
        self.shared.reload(false)?;
        Writer::start(Arc::clone(&self.shared), lock)
    }

    /// The current snapshot.
    pub fn searcher(&self) -> Arc<Searcher> {
        match self.shared.current() {
            Some(searcher) => searcher,
            None => unreachable!("open loads a snapshot before it hands out the index"),
        }
    }

    /// Takes in what another process has committed, and returns the snapshot.
    pub fn refresh(&self) -> Result<Arc<Searcher>> {
        self.shared.reload(false)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The settings the index was created with.
    pub fn settings(&self) -> &IndexSettings {
        &self.shared.settings
    }

    /// The folder of the index.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Sizes, as of the current snapshot.
    pub fn stats(&self) -> Result<IndexStats> {
        let searcher = self.searcher();
        let (rows, living) = searcher.row_counts();
        let pending = log::pending(&self.shared.log_dir, searcher.manifest.log_sequence)?;
        let mut disk_bytes = 0;
        for folder in
            [&self.shared.dir, &self.shared.lexical_dir, &self.shared.vector_dir, &self.shared.log_dir]
        {
            for name in files::list(folder)? {
                // A file may vanish between listing and looking; it then takes no space.
                disk_bytes += std::fs::metadata(folder.join(name))
                    .map_or(0, |data| if data.is_file() { data.len() } else { 0 });
            }
        }
        let segments = || searcher.vector_segments().iter().map(|placed| &placed.segment);
        let rows_with = |has: fn(&Segment) -> bool| {
            segments().filter(|segment| has(segment)).map(|segment| segment.entry.rows).sum()
        };
        Ok(IndexStats {
            dense_search: self.shared.settings.dense.as_ref().map(|dense| dense.search),
            quantised_vectors: rows_with(|segment| segment.codes().is_some()),
            graph_vectors: rows_with(|segment| segment.graph().is_some()),
            damage: segments().flat_map(|segment| segment.damage()).cloned().collect(),
            documents: searcher.len(),
            vectors: living,
            dead_vectors: rows - living,
            lexical_segments: searcher.lexical_segments().len(),
            vector_segments: searcher.vector_segments().len(),
            pending_changes: pending,
            disk_bytes,
            metadata: searcher.metadata().clone(),
            encoder: searcher.manifest.encoder.clone(),
        })
    }
}

fn check_encoder(dense: &crate::settings::DenseSettings, encoder: &Embedder) -> Result<()> {
    let wrong = |expected: String, got: String| IndexError::Invalid { what: "encoder", expected, got };
    if encoder.dimensions() != dense.dimensions {
        return Err(wrong(format!("{} dimensions", dense.dimensions), encoder.dimensions().to_string()));
    }
    match &dense.encoder {
        Some(name) if name != encoder.fingerprint() => {
            Err(wrong(name.clone(), encoder.fingerprint().to_owned()))
        }
        _ => Ok(()),
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Index").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
