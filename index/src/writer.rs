//! The one writer of an index: log first, then both halves, then one commit point.
//!
//! A change goes to the log (`log.rs`), to tantivy's indexing thread, and as a text or a vector to a queue that is
//! encoded in batches into a vector segment. `sync` acknowledges. `commit` makes the vector segment durable and
//! then commits the lexical half with the manifest as its payload: that is the commit point. Before it, a crash
//! loses nothing because the log is replayed; after it, only files are left over that nobody names.
//!
//! `publish` does not wait for what is not encoded: such documents live without a vector for now, and the manifest names
//! a place in the log before all of them. From there the log is replayed after a crash, over a state that holds some of
//! its changes already: each puts or deletes a whole document, so the outcome is the same.
//!
//! After any failure the writer refuses further work: its memory may be ahead of the disk. The next writer starts
//! from the commit and the log.

use crate::backlog::{Backlog, Content, Entry};
use crate::derive::derive;
use crate::document::{Document, Value, check_id, joined};
use crate::error::{IndexError, Result};
use crate::files;
use crate::index::Shared;
use crate::lexical;
use crate::log::{self, Change, Log, Logged};
use crate::manifest::Manifest;
use crate::phase::Phase;
use crate::searcher::Searcher;
use crate::settings::VectorSource;
use crate::vectors::{self, SegmentEntry, SegmentWriter};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use tantivy::indexer::NoMergePolicy;
use tantivy::schema::OwnedValue;
use tantivy::{IndexWriter, TantivyDocument, Term};

/// Texts are gathered up to this number and encoded together; enough for an encoder to sort by length.
const ENCODE_BATCH: usize = 256;
/// More segments than this in either half, and the smaller ones are merged.
const MOST_SEGMENTS: usize = 8;
/// Vector segments are merged as well once this share of all rows is dead.
const MOST_DEAD: f64 = 0.3;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitInfo {
    /// Living documents after it.
    pub documents: u64,
    /// Changes that it made visible.
    pub changes: u64,
    /// Segments that were merged afterwards, of both halves.
    pub merged: usize,
}

/// What there is of a document's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    /// A document that brought no vector, where no encoder makes one.
    Bare,
    Whole,
}

/// The writer of one index; see [`crate::Index::writer`]. Dropping it gives up what is not committed in memory;
/// acknowledged changes stay in the log.
pub struct Writer {
    shared: Arc<Shared>,
    _lock: File,
    tantivy: IndexWriter,
    log: Log,
    /// The state as of the last commit.
    base: Arc<Searcher>,
    /// The state that the next commit will write.
    next: Manifest,
    /// Ids touched since the last commit.
    touched: BTreeMap<String, Presence>,
    /// The last change that the current snapshot shows.
    shown: u64,
    backlog: Backlog,
    segment: Option<SegmentWriter>,
    encoded: u64,
    to_encode: u64,
    failed: Option<String>,
}

impl Writer {
    /// Starts on the current snapshot; the caller holds the lock and has just reloaded.
    pub(crate) fn start(shared: Arc<Shared>, lock: File) -> Result<Self> {
        let base = match shared.current() {
            Some(searcher) => searcher,
            None => shared.reload(false)?,
        };
        shared.remove_orphans(&base)?;
        shared.remove_foreign_segments()?;
        let dir = &shared.lexical_dir;
        let failed = || IndexError::lexical("start a writer", dir);
        // One indexing thread: document order, and with it every tie, is then the order of arrival.
        let tantivy: IndexWriter =
            shared.lexical.writer_with_num_threads(1, shared.writer_memory_bytes).map_err(failed())?;
        tantivy.set_merge_policy(Box::new(NoMergePolicy));
        tantivy.garbage_collect_files().wait().map_err(failed())?;
        let committed = base.manifest.log_sequence;
        let log = Log::open(&shared.log_dir, committed, shared.hook.clone())?;
        let mut writer = Self {
            next: base.manifest.clone(),
            shared,
            _lock: lock,
            tantivy,
            log,
            base,
            touched: BTreeMap::new(),
            shown: committed,
            backlog: Backlog::default(),
            segment: None,
            encoded: 0,
            to_encode: 0,
            failed: None,
        };
        let log_dir = writer.shared.log_dir.clone();
        log::replay(&log_dir, committed, |sequence, change| writer.stage(sequence, change))?;
        Ok(writer)
    }

    /// Adds a document, or replaces the one with the same id. Not acknowledged before [`Writer::sync`] or
    /// [`Writer::commit`]; visible after [`Writer::commit`].
    ///
    /// # Errors
    /// A document that is not acceptable is refused and changes nothing; any other error ends this writer.
    pub fn add(&mut self, mut document: Document) -> Result<()> {
        self.alive()?;
        let vector = self.check_vector(&document.id, document.vector.take())?;
        // Last, because it declares the types of new metadata.
        document.check(&mut self.next.metadata)?;
        let Document { id, title, text, metadata, fields, source, .. } = document;
        if let Some(number) = fields.keys().find(|number| self.shared.settings.fields <= **number) {
            let expected =
                format!("fields below {}, as the index was created with", self.shared.settings.fields);
            return Err(IndexError::Document { id, expected, got: format!("field {number}") });
        }
        self.shared.hook.reached(Phase::Add);
        let change = Change::Add(Logged { id, title, text, metadata, fields, source, vector });
        self.guarded(|writer| {
            let sequence = writer.log.append(&change)?;
            writer.stage(sequence, change)
        })
    }

    /// Deletes a document; false where there is none with this id.
    pub fn delete(&mut self, id: &str) -> Result<bool> {
        self.alive()?;
        check_id(id)?;
        if !self.contains(id)? {
            return Ok(false);
        }
        let change = Change::Delete(id.to_owned());
        self.guarded(|writer| {
            let sequence = writer.log.append(&change)?;
            writer.stage(sequence, change)
        })?;
        Ok(true)
    }

    /// Acknowledges all changes so far: when this returns, they survive a crash.
    pub fn sync(&mut self) -> Result<()> {
        self.alive()?;
        self.guarded(|writer| writer.log.sync())
    }

    /// The number of the last change, from 1; every change since the index was created has its own.
    pub fn sequence(&self) -> u64 {
        self.log.sequence()
    }

    /// Texts that wait to be encoded.
    pub fn waiting_texts(&self) -> usize {
        self.backlog.texts()
    }

    /// The last change before all texts that wait: what came up to it will be whole with the next commit.
    pub fn encoded_through(&self) -> u64 {
        self.backlog.before_texts().unwrap_or_else(|| self.log.sequence())
    }

    /// Whether a document with this id lives, uncommitted changes included.
    pub fn contains(&self, id: &str) -> Result<bool> {
        Ok(self.presence(id)? != Presence::Absent)
    }

    /// Encodes at most the next `most` waiting documents, so that a commit has less to do.
    pub fn encode_some(&mut self, most: usize) -> Result<()> {
        self.alive()?;
        self.guarded(|writer| writer.encode_queue(most))
    }

    /// Makes all changes so far durable and visible, in both halves at once.
    pub fn commit(&mut self) -> Result<CommitInfo> {
        self.alive()?;
        self.guarded(|writer| {
            let changes = writer.commit_changes()?;
            writer.committed(changes)
        })
    }

    /// Makes all changes so far durable, and visible to all searches but those by vector, which find what is encoded
    /// already; the rest follows with a later commit. Where no text waits it is [`Writer::commit`].
    pub fn publish(&mut self) -> Result<CommitInfo> {
        self.alive()?;
        self.guarded(|writer| {
            writer.encode_queue(writer.backlog.leading_vectors())?;
            let changes = writer.commit_encoded()?;
            writer.committed(changes)
        })
    }

    /// Commits, then brings each half to one segment without dead rows. Returns how many segments were merged.
    pub fn merge(&mut self) -> Result<usize> {
        self.alive()?;
        self.guarded(|writer| {
            writer.commit_changes()?;
            let lexical = writer.base.lexical_segments();
            let vectors: Vec<usize> = (0..writer.base.vector_segments().len()).collect();
            let (rows, living) = writer.base.row_counts();
            let vectors = if vectors.len() < 2 && rows == living { Vec::new() } else { vectors };
            let lexical: Vec<_> = lexical.into_iter().map(|(segment, _)| segment).collect();
            writer.merge_segments(&lexical, &vectors)
        })
    }

    fn committed(&mut self, changes: u64) -> Result<CommitInfo> {
        let merged = self.merge_some()?;
        Ok(CommitInfo { documents: self.next.documents, changes, merged })
    }

    fn alive(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(cause) => Err(IndexError::WriterFailed { cause: cause.clone() }),
        }
    }

    /// Runs `action`; its failure is the end of this writer.
    fn guarded<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outcome = action(self);
        if let Err(error) = &outcome {
            self.failed = Some(error.to_string());
        }
        outcome
    }

    fn presence(&self, id: &str) -> Result<Presence> {
        if let Some(&presence) = self.touched.get(id) {
            return Ok(presence);
        }
        Ok(match self.base.find(id)? {
            None => Presence::Absent,
            Some(address) if self.base.client_half().is_some() && self.base.row_of(address).is_none() => {
                Presence::Bare
            }
            Some(_) => Presence::Whole,
        })
    }

    fn check_vector(&self, id: &str, vector: Option<Vec<f32>>) -> Result<Option<Vec<f32>>> {
        let refused =
            |expected: String, got: String| IndexError::Document { id: id.to_owned(), expected, got };
        match (&self.shared.settings.dense, vector) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(refused("no vector in a lexical index".to_owned(), "a vector".to_owned())),
            (Some(dense), Some(vector)) => {
                let expected = || format!("a vector of {}", vectors::acceptable(dense));
                vectors::accepted(vector, dense).map(Some).map_err(|got| refused(expected(), got))
            }
            (Some(dense), None) if dense.source == VectorSource::Client => Ok(None),
            (Some(_), None) if self.shared.embedder.is_none() => {
                let expected = "a vector, because the index was opened without an encoder";
                Err(refused(expected.to_owned(), "none".to_owned()))
            }
            (Some(_), None) => Ok(None),
        }
    }

    /// Takes a logged change into memory.
    fn stage(&mut self, sequence: u64, change: Change) -> Result<()> {
        match change {
            Change::Delete(id) => {
                self.turn(&id, Presence::Absent)?;
                Ok(())
            }
            Change::Add(document) => {
                // Types of replayed documents were checked when they were logged.
                for (name, value) in &document.metadata {
                    self.next.metadata.entry(name.clone()).or_insert(value.kind());
                }
                let is_bare = document.vector.is_none() && self.shared.settings.client_half().is_some();
                self.turn(&document.id, if is_bare { Presence::Bare } else { Presence::Whole })?;
                let key = self.next.next_key;
                self.next.next_key += 1;
                self.tantivy
                    .add_document(self.lexical_document(key, &document))
                    .map_err(IndexError::lexical("add a document", &self.shared.lexical_dir))?;
                if self.shared.settings.dense.is_some() && !is_bare {
                    self.enqueue(key, sequence, document)?;
                }
                Ok(())
            }
        }
    }

    /// Deletes earlier versions of a document and keeps the counts of living documents.
    fn turn(&mut self, id: &str, after: Presence) -> Result<()> {
        let before = self.presence(id)?;
        let lives = |presence: Presence| u64::from(presence != Presence::Absent);
        let is_bare = |presence: Presence| u64::from(presence == Presence::Bare);
        if before != Presence::Absent {
            self.tantivy.delete_term(Term::from_field_text(self.shared.fields.id, id));
        }
        self.next.documents = self.next.documents - lives(before) + lives(after);
        self.next.without_vector = self.next.without_vector - is_bare(before) + is_bare(after);
        self.touched.insert(id.to_owned(), after);
        self.backlog.forget(id);
        Ok(())
    }

    fn lexical_document(&self, key: u64, document: &Logged) -> TantivyDocument {
        let fields = self.shared.fields;
        let mut made = TantivyDocument::default();
        made.add_u64(fields.key, key);
        made.add_text(fields.id, &document.id);
        made.add_text(fields.title, &document.title);
        made.add_text(fields.text, &document.text);
        made.add_text(fields.body, joined(&document.title, &document.text));
        for (&number, text) in &document.fields {
            // Of a log that was written under the settings it is read under.
            made.add_text(fields.numbered(number), text);
        }
        if !document.metadata.is_empty() || document.source.is_some() {
            made.add_text(fields.metadata, serde_json::json!(document.metadata).to_string());
        }
        if let Some(source) = &document.source {
            made.add_text(fields.metadata, source);
        }
        if !document.metadata.is_empty() {
            let columns = document.metadata.iter().map(|(name, value)| (name.clone(), self.column(value)));
            made.add_object(fields.columns, columns.collect());
        }
        made
    }

    /// A metadata value as tantivy's columns hold it; text is held as its words.
    fn column(&self, value: &Value) -> OwnedValue {
        let strings =
            |words: Vec<String>| OwnedValue::Array(words.into_iter().map(OwnedValue::Str).collect());
        match value {
            Value::Keyword(word) => OwnedValue::Str(word.clone()),
            Value::Keywords(words) => strings(words.clone()),
            Value::Several(values) => {
                OwnedValue::Array(values.iter().map(|value| self.column(value)).collect())
            }
            Value::Text(text) => strings(lexical::words(&self.shared.analysis, text)),
            Value::Number(number) => OwnedValue::F64(*number),
            Value::Date(seconds) => OwnedValue::Date(tantivy::DateTime::from_timestamp_secs(*seconds)),
            Value::Boolean(boolean) => OwnedValue::Bool(*boolean),
        }
    }

    fn enqueue(&mut self, key: u64, sequence: u64, document: Logged) -> Result<()> {
        let content = match document.vector {
            Some(vector) => Content::Vector(vector),
            None => {
                self.to_encode += 1;
                Content::Text(joined(&document.title, &document.text))
            }
        };
        self.backlog.push(Entry { key, sequence, id: document.id, content });
        let texts = self.backlog.texts();
        let is_full = ENCODE_BATCH <= texts || 4 * ENCODE_BATCH <= self.backlog.len();
        // Writing what is a vector already is not worth deferring.
        if is_full && (!self.shared.defer_encoding || texts == 0) {
            self.encode_queue(usize::MAX)?;
        }
        Ok(())
    }

    /// Encodes the first `most` of what waits and appends it to the vector segment.
    fn encode_queue(&mut self, most: usize) -> Result<()> {
        let Some(dense) = self.shared.settings.dense.clone() else { return Ok(()) };
        let batch = self.backlog.take(most);
        let texts: Vec<&str> = batch.iter().filter_map(Entry::text).collect();
        let mut encoded = Vec::new();
        if !texts.is_empty() {
            let reason = "the index was opened without an encoder";
            let attempted = "encode logged documents";
            let embedder =
                self.shared.embedder.as_ref().ok_or(IndexError::NoEncoder { attempted, reason })?;
            let known = self.next.encoder.get_or_insert_with(|| embedder.fingerprint().to_owned());
            if known != embedder.fingerprint() {
                return Err(IndexError::Invalid {
                    what: "encoder",
                    expected: known.clone(),
                    got: embedder.fingerprint().to_owned(),
                });
            }
            encoded = embedder.embed(&texts, self.shared.cache.as_deref())?;
        }
        self.encoded += encoded.len() as u64;
        let mut encoded = encoded.into_iter();
        for Entry { key, content, .. } in batch {
            let vector = match content {
                Content::Vector(vector) => Some(vector),
                Content::Text(_) => encoded.next(),
            };
            let Some(vector) = vector else { unreachable!("the embedder returns one vector for each text") };
            let segment = match &mut self.segment {
                Some(segment) => segment,
                None => {
                    let number = self.next.next_segment;
                    self.next.next_segment += 1;
                    let hook = self.shared.hook.clone();
                    let dir = &self.shared.vector_dir;
                    let phase = Phase::VectorWrite;
                    self.segment.insert(SegmentWriter::create(dir, number, dense.dimensions, hook, phase)?)
                }
            };
            segment.push(key, &vector)?;
        }
        if let Some(progress) = &self.shared.progress {
            progress(self.encoded, self.to_encode);
        }
        Ok(())
    }

    /// The commit of all there is: see the head of this file.
    fn commit_changes(&mut self) -> Result<u64> {
        self.log.sync()?;
        // In bounded batches also where all of it was left for now.
        while 0 < self.backlog.len() {
            self.encode_queue(4 * ENCODE_BATCH)?;
        }
        self.commit_encoded()
    }

    /// The commit of all changes, with the vectors that there are.
    fn commit_encoded(&mut self) -> Result<u64> {
        self.log.sync()?;
        let changes = self.log.sequence() - self.shown;
        let finished = self.segment.take().map(SegmentWriter::finish).transpose()?;
        self.next.vectors.extend(finished);
        if !self.derive_missing()? && finished.is_none() && changes == 0 {
            return Ok(0);
        }
        self.next.log_sequence = self.backlog.before_all().unwrap_or_else(|| self.log.sequence());
        if self.shared.settings.has_encoded_vectors() {
            self.next.without_vector = self.backlog.living();
        }
        self.commit_manifest()?;
        self.shown = self.log.sequence();
        self.shared.hook.reached(Phase::Committed);
        self.touched.clear();
        self.log.trim(self.next.log_sequence)?;
        Ok(changes)
    }

    /// Makes what should lie beside the vector segments and does not; false where there is all of it.
    fn derive_missing(&mut self) -> Result<bool> {
        let mut any = false;
        for entry in &mut self.next.vectors {
            let placed = self.base.vector_segments().iter();
            let known = placed.map(|placed| &*placed.segment).find(|known| known.entry == *entry);
            if let Some(derived) = derive(&self.shared, *entry, known)? {
                (*entry, any) = (derived, true);
            }
        }
        Ok(any)
    }

    /// Makes `next` and all that was given to tantivy the committed state, and the current snapshot.
    fn commit_manifest(&mut self) -> Result<()> {
        if self.shared.settings.dense.is_some() {
            files::sync_dir(&self.shared.vector_dir)?;
        }
        let failed = || IndexError::lexical("commit", &self.shared.lexical_dir);
        self.shared.hook.reached(Phase::Prepare);
        let mut prepared = self.tantivy.prepare_commit().map_err(failed())?;
        prepared.set_payload(&self.next.seal());
        self.shared.hook.reached(Phase::Commit);
        prepared.commit().map_err(failed())?;
        self.base = self.shared.reload(false)?;
        Ok(())
    }

    /// Keeps the number of segments, and the share of dead rows, within bounds.
    fn merge_some(&mut self) -> Result<usize> {
        let smaller = |sizes: Vec<u64>| -> Vec<usize> {
            if sizes.len() <= MOST_SEGMENTS {
                return Vec::new();
            }
            // Merging the smaller ones down to half the bound touches each document some log(n) times.
            let mut places: Vec<usize> = (0..sizes.len()).collect();
            places.sort_by_key(|&place| (sizes[place], place));
            places.truncate(sizes.len() - MOST_SEGMENTS / 2 + 1);
            places.sort_unstable();
            places
        };
        let segments = self.base.lexical_segments();
        let sizes = segments.iter().map(|&(_, documents)| u64::from(documents)).collect();
        let lexical: Vec<_> = smaller(sizes).into_iter().map(|place| segments[place].0).collect();
        let (rows, living) = self.base.row_counts();
        let vector_segments = self.base.vector_segments();
        let vectors = if MOST_DEAD * (rows as f64) < (rows - living) as f64 {
            (0..vector_segments.len()).collect()
        } else {
            smaller(vector_segments.iter().map(|placed| placed.segment.entry.rows).collect())
        };
        self.merge_segments(&lexical, &vectors)
    }

    /// Merges the named segments of each half; nothing is staged when this runs.
    fn merge_segments(&mut self, lexical: &[tantivy::index::SegmentId], vectors: &[usize]) -> Result<usize> {
        if lexical.is_empty() && vectors.is_empty() {
            return Ok(0);
        }
        let shared = Arc::clone(&self.shared);
        let failed = || IndexError::lexical("merge", &shared.lexical_dir);
        if !lexical.is_empty() {
            shared.hook.reached(Phase::MergeLexical);
            // A commit point of its own, with the payload unchanged: keys survive the move.
            self.tantivy.merge(lexical).wait().map_err(failed())?;
        }
        if !vectors.is_empty() {
            let entry = self.merge_vectors(vectors)?;
            let merged: Vec<SegmentEntry> =
                vectors.iter().map(|&place| self.base.vector_segments()[place].segment.entry).collect();
            self.next.vectors.retain(|entry| !merged.contains(entry));
            self.next.vectors.extend(entry);
            self.commit_manifest()?;
        } else {
            self.base = shared.reload(false)?;
        }
        shared.hook.reached(Phase::Merged);
        self.tantivy.garbage_collect_files().wait().map_err(failed())?;
        shared.remove_orphans(&self.base)?;
        Ok(lexical.len() + vectors.len())
    }

    /// The living rows of some segments as one new segment; `None` where none lives.
    fn merge_vectors(&mut self, places: &[usize]) -> Result<Option<SegmentEntry>> {
        let Some(dense) = &self.shared.settings.dense else { return Ok(None) };
        let base = Arc::clone(&self.base);
        let mut rows = Vec::new();
        for &place in places {
            let placed = &base.vector_segments()[place];
            for (row, (&key, slot)) in placed.segment.keys().iter().zip(&placed.slots).enumerate() {
                if slot.is_some() {
                    rows.push((key, place, row));
                }
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        rows.sort_unstable();
        let number = self.next.next_segment;
        self.next.next_segment += 1;
        let hook = self.shared.hook.clone();
        let phase = Phase::MergeVectors;
        let mut merged =
            SegmentWriter::create(&self.shared.vector_dir, number, dense.dimensions, hook, phase)?;
        for (key, place, row) in rows {
            merged.push(key, base.vector_segments()[place].segment.row(row))?;
        }
        let entry = merged.finish()?;
        Ok(Some(derive(&self.shared, entry, None)?.unwrap_or(entry)))
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
