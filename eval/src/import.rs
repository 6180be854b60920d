//! Data sets of other layouts, brought into the one layout that everything here reads.
//!
//! [`crate::bright`] and [`crate::trec`] read; a [`BeirWriter`] takes document after document, so that a collection need
//! not fit into memory, then everything else of the set, and the folder appears. Documents that a query must not be
//! answered with keep their own file, because BEIR has no place for them ([`Dataset::excluded`]), and are taken out of a
//! run by [`without_excluded`] before it is scored.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    dataset::{CorpusDocument, Dataset, Judgements, Query},
    error::EvalError,
    lines::NumberedLines,
    run::Run,
    staged::StagedFolder,
};

/// Query id → ids of documents that must not count for it.
pub type Excluded = BTreeMap<String, BTreeSet<String>>;

/// What a set holds beside its documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Queries in file order.
    pub queries: Vec<Query>,
    /// Judgements.
    pub judgements: Judgements,
    /// Documents to be left out of rankings.
    pub excluded: Excluded,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Documents.
    pub documents: usize,
    /// Queries.
    pub queries: usize,
    /// Those of them that are judged.
    pub judged_queries: usize,
    /// Judgements.
    pub judgements: usize,
    /// Pairs of a query and a document that must not count for it.
    pub excluded: usize,
    /// Judged documents that are not in the collection: they count as missed.
    pub absent_documents: usize,
}

/// A BEIR folder in the making: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv` and, where there is something to leave
/// out, `excluded/SPLIT.tsv`. It appears at [`BeirWriter::finish`], whole; dropped before, it leaves nothing.
///
/// Run files divide columns by blanks, so blanks in ids become `_`, in every file alike.
pub struct BeirWriter {
    staged: StagedFolder,
    folder: PathBuf,
    corpus_path: PathBuf,
    corpus: BufWriter<File>,
    ids: BTreeSet<String>,
}

impl BeirWriter {
    /// Begins a folder, which must not be there yet, or be empty.
    pub fn create(folder: &Path) -> Result<Self, EvalError> {
        let staged = StagedFolder::create(folder)?;
        let corpus_path = staged.path().join("corpus.jsonl");
        let file = File::create(&corpus_path).map_err(EvalError::io("writing", &corpus_path))?;
        let corpus = BufWriter::with_capacity(1 << 18, file);
        Ok(Self { staged, folder: folder.to_owned(), corpus_path, corpus, ids: BTreeSet::new() })
    }

    /// Writes a document; false where its id was there before, or is empty, and nothing was written.
    pub fn document(&mut self, mut document: CorpusDocument) -> Result<bool, EvalError> {
        if let Cow::Owned(plain) = plain(&document.id) {
            document.id = plain;
        }
        if document.id.is_empty() || self.ids.contains(&document.id) {
            return Ok(false);
        }
        let line = json_line(&document);
        writeln!(self.corpus, "{line}").map_err(EvalError::io("writing", &self.corpus_path))?;
        self.ids.insert(document.id);
        Ok(true)
    }

    /// Whether a document of that id was written.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(plain(id).as_ref())
    }

    /// Writes the rest and gives the folder its name.
    ///
    /// # Errors
    /// No document, no judgement, or no judged document among those that were written: a set that could measure nothing.
    pub fn finish(mut self, split: &str, judged: &Judged) -> Result<Imported, EvalError> {
        self.corpus.flush().map_err(EvalError::io("writing", &self.corpus_path))?;
        let refuse =
            |expected, got: String| Err(EvalError::Set { folder: self.folder.clone(), expected, got });
        let judged_ids: BTreeSet<&str> =
            judged.judgements.values().flat_map(|grades| grades.keys().map(String::as_str)).collect();
        let absent = judged_ids.iter().filter(|id| !self.has(id)).count();
        if self.ids.is_empty() {
            return refuse("at least one document", "none".to_owned());
        }
        if judged_ids.is_empty() {
            return refuse("at least one judgement", "none".to_owned());
        }
        if let (true, Some(id)) = (absent == judged_ids.len(), judged_ids.first()) {
            return refuse("judged documents that are in the collection", format!("none, such as `{id}`"));
        }
        let folder = self.staged.path();
        let queries = judged
            .queries
            .iter()
            .map(|query| json_line(&Query { id: plain(&query.id).into_owned(), text: query.text.clone() }));
        write_lines(&folder.join("queries.jsonl"), queries)?;
        let grades = judged.judgements.iter().flat_map(|(query, grades)| {
            grades
                .iter()
                .map(move |(document, grade)| format!("{}\t{}\t{grade}", plain(query), plain(document)))
        });
        let file = format!("{split}.tsv");
        let heading = "query-id\tcorpus-id\tscore".to_owned();
        write_lines(&folder.join("qrels").join(&file), std::iter::once(heading).chain(grades))?;
        if !judged.excluded.is_empty() {
            let pairs = judged.excluded.iter().flat_map(|(query, documents)| {
                documents.iter().map(move |document| format!("{}\t{}", plain(query), plain(document)))
            });
            let lines = std::iter::once(EXCLUDED_HEADING.to_owned()).chain(pairs);
            write_lines(&folder.join("excluded").join(&file), lines)?;
        }
        // Reads back what was written: a query twice, or a judged one without a text, is found here.
        let dataset = Dataset::open(folder)?;
        dataset.split_queries(split)?;
        let imported = Imported {
            documents: self.ids.len(),
            queries: judged.queries.len(),
            judged_queries: judged.judgements.len(),
            judgements: judged.judgements.values().map(BTreeMap::len).sum(),
            excluded: judged.excluded.values().map(BTreeSet::len).sum(),
            absent_documents: absent,
        };
        self.staged.keep()?;
        Ok(imported)
    }
}

/// An id as run files can have it.
fn plain(id: &str) -> Cow<'_, str> {
    if id.contains(char::is_whitespace) {
        Cow::Owned(id.replace(char::is_whitespace, "_"))
    } else {
        Cow::Borrowed(id)
    }
}

const EXCLUDED_HEADING: &str = "query-id\tcorpus-id";

/// Reads `excluded/SPLIT.tsv`; nothing where the set has no such file.
pub(crate) fn read_excluded(folder: &Path, split: &str) -> Result<Excluded, EvalError> {
    let path = folder.join("excluded").join(format!("{split}.tsv"));
    let mut excluded = Excluded::new();
    if !path.is_file() {
        return Ok(excluded);
    }
    let mut lines = NumberedLines::open(&path)?;
    let mut is_first = true;
    while let Some(line) = lines.next_line()? {
        let is_heading = std::mem::take(&mut is_first) && line == EXCLUDED_HEADING;
        match line.split_once('\t') {
            _ if is_heading => {}
            Some((query, document)) if !query.is_empty() && !document.is_empty() => {
                excluded.entry(query.to_owned()).or_default().insert(document.to_owned());
            }
            _ => return Err(lines.malformed("`query-id<TAB>corpus-id`", &line)),
        }
    }
    Ok(excluded)
}

/// The run without the documents that must not count, each ranking cut at `depth`; order is kept.
pub fn without_excluded(mut run: Run, excluded: &Excluded, depth: usize) -> Run {
    for (query, ranking) in &mut run {
        if let Some(documents) = excluded.get(query) {
            ranking.retain(|document| !documents.contains(&document.id));
            ranking.truncate(depth);
        }
    }
    run
}

fn json_line(value: &impl Serialize) -> String {
    // Strings and maps of JSON values: there is nothing in them that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<(), EvalError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(EvalError::io("creating", folder))?;
    }
    let mut file = BufWriter::new(File::create(path).map_err(EvalError::io("writing", path))?);
    for line in lines {
        writeln!(file, "{line}").map_err(EvalError::io("writing", path))?;
    }
    file.flush().map_err(EvalError::io("writing", path))
}
