//! The lexical half: schema, analysis, free-text queries, and per-segment tables from document number to key and id.
//!
//! BM25 is tantivy's (k1 1.2, b 0.75; Robertson and Zaragoza 2009). A query is free text: every word of it is
//! optional, a repeated word counts as often as it occurs, and no character means anything but itself.

use crate::error::{IndexError, Result};
use crate::selection::Selection;
use crate::settings::{IndexSettings, Language};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tantivy::collector::TopDocs;
use tantivy::directory::MmapDirectory;
use tantivy::index::SegmentId;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, JsonObjectOptions, STORED, STRING, Schema, TextFieldIndexing,
    TextOptions,
};
use tantivy::tokenizer::{
    LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer, TokenizerManager,
};
use tantivy::{DocAddress, SegmentReader, Term};

/// Words longer than this are noise (base64, long numbers); tantivy's own default.
const LONGEST_WORD_BYTES: usize = 40;
/// Name of the analysis in tantivy's schema.
const ANALYSIS: &str = "orion";

/// The fields of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    /// Stable 64-bit key of this version of the document; the vectors carry the same one.
    pub(crate) key: Field,
    pub(crate) id: Field,
    pub(crate) title: Field,
    pub(crate) text: Field,
    /// Title and text as one searched field.
    pub(crate) body: Field,
    /// Metadata as columns, for filters.
    pub(crate) columns: Field,
    /// Metadata as JSON, for handing out; a second value is the client's own source.
    pub(crate) metadata: Field,
    /// The first of the numbered fields; the others follow it.
    pub(crate) first_numbered: u32,
}

impl Fields {
    /// The numbered field `number`, which the settings have.
    pub(crate) fn numbered(&self, number: u8) -> Field {
        Field::from_field_id(self.first_numbered + u32::from(number))
    }
}

/// Where tantivy keeps the column of a metadata name: a dot in it is a part of the name.
pub(crate) fn column_path(name: &str) -> String {
    format!("columns.{}", name.replace('.', "\\."))
}

pub(crate) fn schema(settings: &IndexSettings) -> (Schema, Fields) {
    let mut builder = Schema::builder();
    // Positions are left out: free text has no phrases.
    let body =
        TextFieldIndexing::default().set_tokenizer(ANALYSIS).set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        key: builder.add_u64_field("key", FAST | INDEXED),
        id: builder.add_text_field("id", STRING.set_fast("raw")),
        title: builder.add_text_field("title", STORED),
        text: builder.add_text_field("text", STORED),
        body: builder.add_text_field("body", TextOptions::default().set_indexing_options(body)),
        columns: builder.add_json_field("columns", JsonObjectOptions::default().set_fast("raw")),
        metadata: builder.add_text_field("metadata", STORED),
        // Fields are numbered in the order in which they are added.
        first_numbered: 7,
    };
    let numbered = TextFieldIndexing::default()
        .set_tokenizer(ANALYSIS)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    for number in 0..settings.fields {
        let options = TextOptions::default().set_indexing_options(numbered.clone());
        let field = builder.add_text_field(&format!("f{number}"), options);
        debug_assert_eq!(field, fields.numbered(number));
    }
    (builder.build(), fields)
}

/// The analysis of an index: words of letters and digits, lower case, stop words, stems.
pub(crate) fn analysis(settings: &IndexSettings) -> TextAnalyzer {
    let words = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD_BYTES))
        .filter(LowerCaser)
        .dynamic();
    let Some(language) = stemmer_language(settings.language) else {
        return words.build();
    };
    let words = match StopWordFilter::new(language) {
        Some(stop_words) if settings.stop_words => words.filter_dynamic(stop_words),
        _ => words,
    };
    words.filter_dynamic(Stemmer::new(language)).build()
}

fn stemmer_language(language: Language) -> Option<tantivy::tokenizer::Language> {
    use tantivy::tokenizer::Language as Stem;
    Some(match language {
        Language::Plain => return None,
        Language::Arabic => Stem::Arabic,
        Language::Danish => Stem::Danish,
        Language::Dutch => Stem::Dutch,
        Language::English => Stem::English,
        Language::Finnish => Stem::Finnish,
        Language::French => Stem::French,
        Language::German => Stem::German,
        Language::Greek => Stem::Greek,
        Language::Hungarian => Stem::Hungarian,
        Language::Italian => Stem::Italian,
        Language::Norwegian => Stem::Norwegian,
        Language::Portuguese => Stem::Portuguese,
        Language::Romanian => Stem::Romanian,
        Language::Russian => Stem::Russian,
        Language::Spanish => Stem::Spanish,
        Language::Swedish => Stem::Swedish,
        Language::Tamil => Stem::Tamil,
        Language::Turkish => Stem::Turkish,
    })
}

/// The words of `text` under `analysis`, in order.
pub(crate) fn words(analysis: &TextAnalyzer, text: &str) -> Vec<String> {
    let mut analysis = analysis.clone();
    let mut stream = analysis.token_stream(text);
    let mut words = Vec::new();
    while stream.advance() {
        words.push(stream.token().text.clone());
    }
    words
}

fn tokenizers(settings: &IndexSettings) -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(ANALYSIS, analysis(settings));
    manager
}

/// Creates the files of an empty lexical half in an empty folder.
pub(crate) fn create(dir: &Path, settings: &IndexSettings) -> Result<()> {
    let (schema, _) = schema(settings);
    tantivy::Index::builder()
        .schema(schema)
        .tokenizers(tokenizers(settings))
        .create_in_dir(dir)
        .map(|_| ())
        .map_err(IndexError::lexical("create the lexical half", dir))
}

/// Opens the lexical half and checks that its schema is the one of this version.
pub(crate) fn open(dir: &Path, settings: &IndexSettings) -> Result<tantivy::Index> {
    let error = |source| IndexError::lexical("open the lexical half", dir)(source);
    let directory = MmapDirectory::open(dir).map_err(|source| error(source.into()))?;
    let mut index = tantivy::Index::open(directory).map_err(error)?;
    if index.schema() != schema(settings).0 {
        return Err(IndexError::corrupt(&dir.join("meta.json"), "the schema of format 1", "another schema"));
    }
    index.set_tokenizers(tokenizers(settings));
    Ok(index)
}

/// Verifies the checksum of every file of the committed segments.
pub(crate) fn verify(dir: &Path, index: &tantivy::Index) -> Result<()> {
    let metas = index.load_metas().map_err(IndexError::lexical("read the committed state", dir))?;
    let mut names: Vec<_> = metas.list_segment_files().into_iter().collect();
    names.sort();
    for name in names {
        // Which of the possible files exist depends on the segment; a needed one that is missing is an error when
        // its reader opens.
        let path = dir.join(&name);
        if !path.exists() {
            continue;
        }
        match index.directory().validate_checksum(&name) {
            Ok(true) => {}
            Ok(false) => return Err(IndexError::corrupt(&path, "a valid checksum", "another one")),
            Err(error) => return Err(IndexError::corrupt(&path, "a complete file", error.to_string())),
        }
    }
    Ok(())
}

/// Keys and ids of one segment by document number; immutable, shared by all snapshots that see the segment.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) segment: SegmentId,
    pub(crate) keys: Vec<u64>,
    /// For each document the place of its id in `ends`.
    ordinals: Vec<u32>,
    /// All ids, one after the other, in dictionary order.
    arena: String,
    ends: Vec<usize>,
}

impl Table {
    pub(crate) fn load(dir: &Path, reader: &SegmentReader) -> Result<Self> {
        let failed = || IndexError::lexical("read ids and keys", dir);
        let io = |error: std::io::Error| failed()(error.into());
        let key_column = reader.fast_fields().u64("key").map_err(failed())?;
        let id_column = reader.fast_fields().str("id").map_err(failed())?;
        let damaged = |got: &str| {
            let file = dir.join(format!("{}.fast", reader.segment_id().uuid_string()));
            IndexError::corrupt(&file, "one key and one id for each document", got)
        };
        let id_column = id_column.ok_or_else(|| damaged("no ids"))?;
        let mut arena = String::new();
        let mut ends = Vec::with_capacity(id_column.num_terms());
        let mut terms = id_column.dictionary().stream().map_err(io)?;
        while terms.advance() {
            let id = std::str::from_utf8(terms.key()).map_err(|_| damaged("an id that is not UTF-8"))?;
            arena.push_str(id);
            ends.push(arena.len());
        }
        let mut keys = Vec::with_capacity(reader.max_doc() as usize);
        let mut ordinals = Vec::with_capacity(reader.max_doc() as usize);
        for document in 0..reader.max_doc() {
            let ordinal = id_column.ords().first(document).ok_or_else(|| damaged("a document without id"))?;
            if ends.len() as u64 <= ordinal {
                return Err(damaged("an id outside the dictionary"));
            }
            ordinals.push(ordinal as u32);
            keys.push(key_column.first(document).ok_or_else(|| damaged("a document without key"))?);
        }
        Ok(Self { segment: reader.segment_id(), keys, ordinals, arena, ends })
    }

    pub(crate) fn id(&self, document: u32) -> &str {
        let ordinal = self.ordinals[document as usize] as usize;
        let start = if ordinal == 0 { 0 } else { self.ends[ordinal - 1] };
        &self.arena[start..self.ends[ordinal]]
    }
}

/// The query for a free text, or `None` where no word of it is left after analysis.
pub(crate) fn query(analysis: &TextAnalyzer, body: Field, text: &str) -> Option<Box<dyn Query>> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for word in words(analysis, text) {
        *counts.entry(word).or_default() += 1;
    }
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::with_capacity(counts.len());
    for (word, count) in counts {
        let term = TermQuery::new(Term::from_field_text(body, &word), IndexRecordOption::WithFreqs);
        let clause: Box<dyn Query> =
            if count == 1 { Box::new(term) } else { Box::new(BoostQuery::new(Box::new(term), count as f32)) };
        clauses.push((Occur::Should, clause));
    }
    match clauses.len() {
        0 => None,
        1 => clauses.pop().map(|(_, only)| only),
        _ => Some(Box::new(BooleanQuery::new(clauses))),
    }
}

/// The best `k` documents for a free text: score descending, then id ascending.
pub(crate) fn search(
    searcher: &tantivy::Searcher,
    tables: &[Arc<Table>],
    analysis: &TextAnalyzer,
    body: Field,
    text: &str,
    k: usize,
    selection: Option<&Selection>,
) -> tantivy::Result<Vec<(f32, DocAddress)>> {
    let Some(query) = query(analysis, body, text) else { return Ok(Vec::new()) };
    let query: Box<dyn Query> = match selection {
        None => query,
        Some(selection) => Box::new(BooleanQuery::new(vec![
            (Occur::Must, Box::new(selection.clone()) as Box<dyn Query>),
            (Occur::Must, query),
        ])),
    };
    top(searcher, tables, query.as_ref(), k)
}

/// The best `k` documents of a query: score descending, then id ascending.
pub(crate) fn top(
    searcher: &tantivy::Searcher,
    tables: &[Arc<Table>],
    query: &dyn Query,
    k: usize,
) -> tantivy::Result<Vec<(f32, DocAddress)>> {
    let living = searcher.num_docs() as usize;
    let wanted = k.min(living);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    // tantivy breaks ties by address, which merges change. So take more than was asked for until the last score
    // is below the k-th: then every document that ties with the k-th is present, and the id decides.
    let mut limit = (wanted + 16).min(living);
    loop {
        let mut top = searcher.search(query, &TopDocs::with_limit(limit).order_by_score())?;
        let complete = top.len() < limit || limit == living || top[limit - 1].0 < top[wanted - 1].0;
        if complete {
            let id = |address: DocAddress| tables[address.segment_ord as usize].id(address.doc_id);
            top.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| id(left.1).cmp(id(right.1))));
            top.truncate(wanted);
            return Ok(top);
        }
        limit = (limit * 2).min(living);
    }
}
