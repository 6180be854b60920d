//! An immutable snapshot of an index: both halves as of one commit, tied together by the documents' keys.
//!
//! The lexical half says which documents live; a vector row lives where its key belongs to a living document. So
//! the halves cannot disagree, and a snapshot stays what it is while writers go on.

use crate::dense::{self, Asked};
use crate::document::{Kind, StoredDocument};
use crate::embed::Embedder;
use crate::error::{IndexError, Result};
use crate::filter::Filter;
use crate::fusion::{FUSION_DEPTH, Fusion, fuse};
use crate::index::Shared;
use crate::lexical::{self, Fields, Table};
use crate::manifest::Manifest;
use crate::scan::{PlacedSegment, Slot};
use crate::selection::Selection;
use crate::settings::{DenseSearch, DenseSettings, VectorSource};
use crate::vectors::{self, Segment};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tantivy::collector::DocSetCollector;
use tantivy::query::TermQuery;
use tantivy::schema::{IndexRecordOption, Value as _};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{DocAddress, TantivyDocument, Term};

/// One ranked document; higher scores are better and comparable within one ranking only.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The document's id.
    pub id: String,
    /// Always finite.
    pub score: f32,
}

/// How a query is answered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Mode {
    /// BM25 over title and text.
    Lexical,
    /// Cosine over embeddings that an encoder made.
    Dense,
    /// Both, fused over the best [`FUSION_DEPTH`] of each.
    Hybrid(Fusion),
    /// [`Mode::Hybrid`] where the index keeps vectors and has an encoder, else [`Mode::Lexical`].
    #[default]
    Best,
}

/// One query of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Free text.
    pub text: String,
    /// How it is answered.
    pub mode: Mode,
    /// How many hits are wanted.
    pub k: usize,
    /// Which documents may appear.
    pub filter: Option<Filter>,
}

impl Query {
    /// The best ten by `mode`, unfiltered.
    pub fn new(text: impl Into<String>, mode: Mode) -> Self {
        Self { text: text.into(), mode, k: 10, filter: None }
    }
}

/// Filters evaluated lately, by expression; few, because a service asks the same few again and again.
const KEPT_SELECTIONS: usize = 16;

/// An immutable snapshot; `Send + Sync`, shared by reference counting.
pub struct Searcher {
    pub(crate) dir: PathBuf,
    pub(crate) fields: Fields,
    /// How many of [`Fields::numbered`] there are.
    pub(crate) numbered_fields: u8,
    pub(crate) manifest: Manifest,
    pub(crate) lexical: tantivy::Searcher,
    pub(crate) analysis: TextAnalyzer,
    pub(crate) tables: Vec<Arc<Table>>,
    vectors: Vec<PlacedSegment>,
    /// The dense half; `None` in a lexical index.
    pub(crate) dense: Option<DenseSettings>,
    embedder: Option<Embedder>,
    cache: Option<Arc<crate::cache::EmbeddingCache>>,
    selections: Mutex<Vec<(String, Selection)>>,
}

impl Searcher {
    /// Loads the committed state, reusing what `previous` has loaded already.
    pub(crate) fn load(shared: &Shared, previous: Option<&Searcher>, verify: bool) -> Result<Self> {
        // Another process may commit and remove files while this one reads: then the state has moved on, and the
        // newer one is read instead. A handful of tries outlasts any real succession of commits.
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = shared.payload()?;
            match Self::load_once(shared, previous, verify) {
                Ok(Some(searcher)) => return Ok(searcher),
                Ok(None) if attempt < 8 => {}
                Err(_) if attempt < 8 && shared.payload()? != before => {}
                Err(error) => return Err(error),
                Ok(None) => {
                    return Err(IndexError::corrupt(
                        &shared.lexical_dir,
                        "a state that both halves agree on",
                        "a state that changes all the time",
                    ));
                }
            }
        }
    }

    /// `None` where the lexical half moved on between reading the manifest and opening its segments.
    fn load_once(shared: &Shared, previous: Option<&Searcher>, verify: bool) -> Result<Option<Self>> {
        let dir = &shared.lexical_dir;
        let failed = || IndexError::lexical("open the committed state", dir);
        let metas = shared.lexical.load_metas().map_err(failed())?;
        let meta_file = dir.join("meta.json");
        let manifest = match &metas.payload {
            Some(payload) => Manifest::unseal(payload, &meta_file)?,
            None if metas.segments.is_empty() && metas.opstamp == 0 => {
                Manifest::initial(shared.settings_crc32, shared.settings.metadata.clone())
            }
            None => return Err(IndexError::corrupt(&meta_file, "a sealed manifest", "none")),
        };
        if manifest.settings_crc32 != shared.settings_crc32 {
            let (expected, got) = ("a state of this index's settings", "one of other settings");
            return Err(IndexError::corrupt(&meta_file, expected, got));
        }
        if let (Some(known), Some(embedder)) = (&manifest.encoder, &shared.embedder)
            && known != embedder.fingerprint()
        {
            let (expected, got) = (known.clone(), embedder.fingerprint().to_owned());
            return Err(IndexError::Invalid { what: "encoder", expected, got });
        }
        shared.reader.reload().map_err(failed())?;
        let lexical = shared.reader.searcher();
        let committed: BTreeMap<_, _> =
            metas.segments.iter().map(|segment| (segment.id(), segment.delete_opstamp())).collect();
        if &committed != lexical.generation().segments() {
            return Ok(None);
        }
        if lexical.num_docs() != manifest.documents {
            let expected = format!("{} documents", manifest.documents);
            return Err(IndexError::corrupt(&meta_file, expected, lexical.num_docs().to_string()));
        }
        let known = previous.map_or(&[][..], |previous| &previous.tables);
        let mut tables = Vec::new();
        for reader in lexical.segment_readers() {
            let loaded = known.iter().find(|table| table.segment == reader.segment_id());
            tables.push(match loaded {
                Some(table) => Arc::clone(table),
                None => Arc::new(Table::load(dir, reader)?),
            });
        }
        let vectors = place(shared, previous, verify, &manifest, &lexical, &tables)?;
        Ok(Some(Self {
            dir: dir.clone(),
            fields: shared.fields,
            numbered_fields: shared.settings.fields,
            manifest,
            lexical,
            analysis: shared.analysis.clone(),
            tables,
            vectors,
            dense: shared.settings.dense.clone(),
            embedder: shared.embedder.clone(),
            cache: shared.cache.clone(),
            selections: Mutex::new(Vec::new()),
        }))
    }

    /// Number of documents.
    pub fn len(&self) -> u64 {
        self.manifest.documents
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether dense and hybrid searches over texts can be answered.
    pub fn can_encode(&self) -> bool {
        self.dense.is_some() && self.embedder.is_some()
    }

    /// Metadata names and their types.
    pub fn metadata(&self) -> &BTreeMap<String, Kind> {
        &self.manifest.metadata
    }

    /// All ids, ascending. For tests and exports: as long as the collection.
    pub fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for (reader, table) in self.lexical.segment_readers().iter().zip(&self.tables) {
            ids.extend(reader.doc_ids_alive().map(|document| table.id(document).to_owned()));
        }
        ids.sort();
        ids
    }

    /// Documents whose text waits to be encoded: searches by vector do not find them yet.
    pub fn unencoded(&self) -> u64 {
        if self.client_half().is_some() { 0 } else { self.manifest.without_vector }
    }

    /// Ids of the living vector rows, ascending; equal to [`Searcher::ids`] wherever an encoder has made all vectors.
    pub fn vector_ids(&self) -> Vec<String> {
        let slots = self.vectors.iter().flat_map(|segment| segment.slots.iter().flatten());
        let mut ids: Vec<String> = slots.map(|&slot| self.id(slot).to_owned()).collect();
        ids.sort();
        ids
    }

    pub(crate) fn id(&self, slot: Slot) -> &str {
        self.tables[slot.segment as usize].id(slot.document)
    }

    /// The best `k` by BM25: score descending, then id ascending. Documents without any of the words are absent.
    pub fn lexical(&self, text: &str, k: usize, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        let selection = self.selection(filter)?;
        self.lexical_selected(text, k, selection.as_ref())
    }

    fn lexical_selected(&self, text: &str, k: usize, selection: Option<&Selection>) -> Result<Vec<Hit>> {
        let found = lexical::search(
            &self.lexical,
            &self.tables,
            &self.analysis,
            self.fields.body,
            text,
            k,
            selection,
        )
        .map_err(IndexError::lexical("search", &self.dir))?;
        let hit = |(score, address): (f32, DocAddress)| {
            let slot = Slot { segment: address.segment_ord, document: address.doc_id };
            Hit { id: self.id(slot).to_owned(), score }
        };
        Ok(found.into_iter().map(hit).collect())
    }

    /// For each text the best `k` by cosine: score descending, then id ascending.
    pub fn dense(&self, texts: &[&str], k: usize, filter: Option<&Filter>) -> Result<Vec<Vec<Hit>>> {
        let selection = self.selection(filter)?;
        let vectors = self.encode("search by embedding", texts)?;
        let search = self.dense_half("search by embedding")?.search;
        self.dense_selected(&vectors, k, selection.as_ref(), search)
    }

    /// The best `k` by likeness to the client's own vector, as [`crate::Space`] says; documents without a vector are absent.
    pub fn dense_vector(&self, vector: &[f32], k: usize, filter: Option<&Filter>) -> Result<Vec<Hit>> {
        let search = self.dense_half("search by vector")?.search;
        self.dense_vector_by(vector, k, filter, search)
    }

    /// [`Searcher::dense_vector`] in a way of the caller's choice, as far as the index keeps what it takes: without a
    /// graph, segments are searched by codes, without codes exactly.
    pub fn dense_vector_by(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<&Filter>,
        search: DenseSearch,
    ) -> Result<Vec<Hit>> {
        let selection = self.selection(filter)?;
        self.nearest_selected(vector, k, selection.as_ref(), search)
    }

    pub(crate) fn nearest_selected(
        &self,
        vector: &[f32],
        k: usize,
        selection: Option<&Selection>,
        search: DenseSearch,
    ) -> Result<Vec<Hit>> {
        let dense = self.dense_half("search by vector")?;
        let vector = vectors::accepted(vector.to_vec(), dense).map_err(|got| {
            let expected = vectors::acceptable(dense);
            IndexError::Invalid { what: "query vector", expected, got }
        })?;
        let found = self.dense_selected(&[vector], k, selection, search)?.pop();
        Ok(found.unwrap_or_default())
    }

    fn dense_selected(
        &self,
        vectors: &[Vec<f32>],
        k: usize,
        selection: Option<&Selection>,
        search: DenseSearch,
    ) -> Result<Vec<Vec<Hit>>> {
        let dense = self.dense_half("search by embedding")?;
        if k == 0 {
            return Ok(vec![Vec::new(); vectors.len()]);
        }
        let wanted = |slot: Slot| {
            selection.is_none_or(|selection| {
                selection.contains(self.tables[slot.segment as usize].segment, slot.document)
            })
        };
        let tie = |left: Slot, right: Slot| self.id(left).cmp(self.id(right));
        let asked = Asked {
            queries: &vectors.concat(),
            dimensions: dense.dimensions,
            space: dense.space,
            k,
            search,
            oversampling: dense.oversampling as usize,
            wanted: selection.is_some().then_some(&wanted),
            share: selection.map_or(1.0, Selection::share),
            tie: &tie,
        };
        let found = dense::search(&self.vectors, &asked);
        let hit = |(score, slot): (f32, Slot)| Hit { id: self.id(slot).to_owned(), score };
        Ok(found.into_iter().map(|ranking| ranking.into_iter().map(hit).collect()).collect())
    }

    pub(crate) fn dense_half(&self, attempted: &'static str) -> Result<&DenseSettings> {
        let reason = "the index keeps no vectors";
        self.dense.as_ref().ok_or(IndexError::NoEncoder { attempted, reason })
    }

    /// One unit vector for each text: [texts, dimensions].
    fn encode(&self, attempted: &'static str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let reason = match self.dense_half(attempted)?.source {
            VectorSource::Encoder => "the index was opened without an encoder",
            VectorSource::Client => {
                "the index's documents bring their own vectors, which no text can be compared with"
            }
        };
        let embedder = self.embedder.as_ref().ok_or(IndexError::NoEncoder { attempted, reason })?;
        embedder.embed_queries(texts, self.cache.as_deref())
    }

    /// One ranking for each query. Texts are encoded in one batch and vectors read once for queries that share a
    /// filter; the results are those of the queries alone.
    pub fn search(&self, queries: &[Query]) -> Result<Vec<Vec<Hit>>> {
        let mut selections = Vec::with_capacity(queries.len());
        for query in queries {
            selections.push(self.selection(query.filter.as_ref())?);
        }
        let modes: Vec<Mode> = queries
            .iter()
            .map(|query| match query.mode {
                Mode::Best if self.can_encode() => Mode::Hybrid(Fusion::default()),
                Mode::Best => Mode::Lexical,
                mode => mode,
            })
            .collect();
        let dense = self.dense_batch(queries, &modes, &selections)?;
        let lexical: Vec<Mutex<Result<Vec<Hit>>>> =
            queries.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
        orion_kernels::Threads::global().run(queries.len(), |place| {
            let depth = match modes[place] {
                Mode::Dense => return,
                Mode::Hybrid(_) => FUSION_DEPTH,
                _ => queries[place].k,
            };
            let found = self.lexical_selected(&queries[place].text, depth, selections[place].as_ref());
            *lexical[place].lock().unwrap_or_else(PoisonError::into_inner) = found;
        });
        let mut rankings = Vec::with_capacity(queries.len());
        for (((query, mode), lexical), dense) in queries.iter().zip(modes).zip(lexical).zip(dense) {
            let lexical = lexical.into_inner().unwrap_or_else(PoisonError::into_inner)?;
            rankings.push(match mode {
                Mode::Dense => dense,
                Mode::Hybrid(fusion) => fuse(&lexical, &dense, fusion, query.k),
                _ => lexical,
            });
        }
        Ok(rankings)
    }

    /// The dense rankings of a batch, empty for queries that need none.
    fn dense_batch(
        &self,
        queries: &[Query],
        modes: &[Mode],
        selections: &[Option<Selection>],
    ) -> Result<Vec<Vec<Hit>>> {
        let mut rankings = vec![Vec::new(); queries.len()];
        let mut groups: BTreeMap<(Option<&str>, usize), Vec<usize>> = BTreeMap::new();
        let mut places = Vec::new();
        for (place, (query, mode)) in queries.iter().zip(modes).enumerate() {
            let depth = match mode {
                Mode::Dense => query.k,
                Mode::Hybrid(_) => FUSION_DEPTH,
                _ => continue,
            };
            groups
                .entry((query.filter.as_ref().map(Filter::expression), depth))
                .or_default()
                .push(places.len());
            places.push(place);
        }
        if places.is_empty() {
            return Ok(rankings);
        }
        let texts: Vec<&str> = places.iter().map(|&place| queries[place].text.as_str()).collect();
        let vectors = self.encode("search by embedding", &texts)?;
        let search = self.dense_half("search by embedding")?.search;
        for ((_, depth), members) in groups {
            let group: Vec<Vec<f32>> = members.iter().map(|&member| vectors[member].clone()).collect();
            let selection = selections[places[members[0]]].as_ref();
            for (member, ranking) in
                members.iter().zip(self.dense_selected(&group, depth, selection, search)?)
            {
                rankings[places[*member]] = ranking;
            }
        }
        Ok(rankings)
    }

    /// The stored documents with these ids, `None` for an unknown id.
    pub fn documents(&self, ids: &[&str]) -> Result<Vec<Option<StoredDocument>>> {
        ids.iter().map(|id| self.find(id)?.map(|address| self.stored(id, address)).transpose()).collect()
    }

    /// Whether a document with this id exists.
    pub fn contains(&self, id: &str) -> Result<bool> {
        Ok(self.find(id)?.is_some())
    }

    pub(crate) fn find(&self, id: &str) -> Result<Option<DocAddress>> {
        let term = TermQuery::new(Term::from_field_text(self.fields.id, id), IndexRecordOption::Basic);
        let found = self.lexical.search(&term, &DocSetCollector);
        Ok(found.map_err(IndexError::lexical("look up an id", &self.dir))?.into_iter().next())
    }

    fn stored(&self, id: &str, address: DocAddress) -> Result<StoredDocument> {
        let document: TantivyDocument =
            self.lexical.doc(address).map_err(IndexError::lexical("read a document", &self.dir))?;
        let text =
            |field| document.get_first(field).and_then(|value| value.as_str()).unwrap_or("").to_owned();
        let metadata = text(self.fields.metadata);
        let source = document.get_all(self.fields.metadata).nth(1);
        let source = source.and_then(|value| value.as_str()).map(str::to_owned);
        let metadata = match metadata.as_str() {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json).map_err(|error| {
                let expected = format!("stored metadata of document `{id}`");
                IndexError::corrupt(&self.dir, expected, error.to_string())
            })?,
        };
        Ok(StoredDocument {
            id: id.to_owned(),
            title: text(self.fields.title),
            text: text(self.fields.text),
            metadata,
            source,
        })
    }

    /// Cosine similarity of each pair of texts, in [-1, 1]. A text that occurs in several pairs is encoded once.
    pub fn similarity(&self, pairs: &[(&str, &str)]) -> Result<Vec<f32>> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut texts = Vec::new();
        for text in pairs.iter().flat_map(|&(left, right)| [left, right]) {
            places.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            });
        }
        let vectors = self.encode("compare texts", &texts)?;
        let cosine = |&(left, right): &(&str, &str)| {
            orion_kernels::dot(&vectors[places[left]], &vectors[places[right]]).clamp(-1.0, 1.0)
        };
        Ok(pairs.iter().map(cosine).collect())
    }

    pub(crate) fn selection(&self, filter: Option<&Filter>) -> Result<Option<Selection>> {
        let Some(filter) = filter else { return Ok(None) };
        let mut kept = self.selections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, selection)) = kept.iter().find(|(expression, _)| expression == filter.expression()) {
            return Ok(Some(selection.clone()));
        }
        drop(kept);
        let readers = self.lexical.segment_readers();
        let selection = Selection::evaluate(filter, &self.dir, readers, self.metadata(), &self.analysis)?;
        kept = self.selections.lock().unwrap_or_else(PoisonError::into_inner);
        if KEPT_SELECTIONS <= kept.len() {
            kept.remove(0);
        }
        kept.push((filter.expression().to_owned(), selection.clone()));
        Ok(Some(selection))
    }

    /// Rows of all vector segments, and how many of them live.
    pub(crate) fn row_counts(&self) -> (u64, u64) {
        let rows = self.vectors.iter().map(|segment| segment.slots.len() as u64).sum();
        let living = self.vectors.iter().map(|segment| segment.living as u64).sum();
        (rows, living)
    }

    /// The vector segments, for merging.
    pub(crate) fn vector_segments(&self) -> &[PlacedSegment] {
        &self.vectors
    }

    /// Lexical segments and their living documents.
    pub(crate) fn lexical_segments(&self) -> Vec<(tantivy::index::SegmentId, u32)> {
        let readers = self.lexical.segment_readers();
        readers.iter().map(|reader| (reader.segment_id(), reader.num_docs())).collect()
    }
}

/// Opens the vector segments of `manifest` and finds the document of each row.
fn place(
    shared: &Shared,
    previous: Option<&Searcher>,
    verify: bool,
    manifest: &Manifest,
    lexical: &tantivy::Searcher,
    tables: &[Arc<Table>],
) -> Result<Vec<PlacedSegment>> {
    let Some(dense) = &shared.settings.dense else { return Ok(Vec::new()) };
    let mut living: Vec<(u64, Slot)> = Vec::with_capacity(manifest.documents as usize);
    for (segment, (reader, table)) in lexical.segment_readers().iter().zip(tables).enumerate() {
        for document in reader.doc_ids_alive() {
            living.push((table.keys[document as usize], Slot { segment: segment as u32, document }));
        }
    }
    living.sort_unstable();
    let mut placed = Vec::with_capacity(manifest.vectors.len());
    let mut count = 0;
    for &entry in &manifest.vectors {
        let known = previous.and_then(|previous| {
            previous.vectors.iter().find(|known| known.segment.entry == entry).map(|known| &known.segment)
        });
        let segment = match known {
            Some(segment) if segment.damage().is_empty() => Arc::clone(segment),
            // What was found damaged once is read in full before it is believed.
            _ => {
                let verify = verify || known.is_some();
                Arc::new(Segment::open(&shared.vector_dir, entry, dense.dimensions, verify)?)
            }
        };
        let slots: Vec<Option<Slot>> = join(segment.keys(), &living);
        let own = slots.iter().flatten().count();
        count += own;
        placed.push(PlacedSegment { segment, slots, living: own });
    }
    let expected = (living.len() as u64).checked_sub(manifest.without_vector);
    if expected != Some(count as u64) {
        let expected = format!("vectors of {} documents", expected.unwrap_or_default());
        return Err(IndexError::corrupt(&shared.vector_dir, expected, format!("of {count}")));
    }
    Ok(placed)
}

/// For each of the rising `keys` its slot in `living`, which is sorted by key.
fn join(keys: &[u64], living: &[(u64, Slot)]) -> Vec<Option<Slot>> {
    let first = keys.first().map_or(0, |&key| living.partition_point(|&(other, _)| other < key));
    let mut rest = living[first..].iter().peekable();
    keys.iter()
        .map(|&key| {
            while rest.next_if(|(other, _)| *other < key).is_some() {}
            rest.next_if(|(other, _)| *other == key).map(|&(_, slot)| slot)
        })
        .collect()
}

impl std::fmt::Debug for Searcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dir: &Path = &self.dir;
        formatter
            .debug_struct("Searcher")
            .field("dir", &dir)
            .field("documents", &self.len())
            .finish_non_exhaustive()
    }
}
