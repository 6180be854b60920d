//! Data sets of other layouts, brought into the one layout that everything here reads.
//!
//! A reader ([`crate::bright`], or [`crate::trec`] with a corpus of one's own) gives an [`Imported`], which is written as
//! a BEIR folder. Documents that a query must not be answered with keep their own file, because BEIR has no place for
//! them, and are taken out of a run by [`without_excluded`] before it is scored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{
    dataset::{CorpusDocument, Judgements, Query},
    error::EvalError,
    lines::NumberedLines,
    run::Run,
};

/// Query id → ids of documents that must not count for it.
pub type Excluded = BTreeMap<String, BTreeSet<String>>;

/// A data set in memory, whatever its layout was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// Documents in file order.
    pub documents: Vec<CorpusDocument>,
    /// Queries in file order.
    pub queries: Vec<Query>,
    /// Judgements.
    pub judgements: Judgements,
    /// Documents to be left out of rankings.
    pub excluded: Excluded,
}

impl Imported {
    /// Writes a BEIR folder: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv` and, where there is something to leave
    /// out, `excluded/SPLIT.tsv`. Files that are there are replaced.
    pub fn write(&self, folder: &Path, split: &str) -> Result<(), EvalError> {
        write_lines(folder.join("corpus.jsonl"), self.documents.iter().map(json_line))?;
        write_lines(folder.join("queries.jsonl"), self.queries.iter().map(json_line))?;
        let grades = self.judgements.iter().flat_map(|(query, documents)| {
            documents.iter().map(move |(document, grade)| format!("{query}\t{document}\t{grade}"))
        });
        let heading = "query-id\tcorpus-id\tscore".to_owned();
        let file = format!("{split}.tsv");
        write_lines(folder.join("qrels").join(&file), std::iter::once(heading).chain(grades))?;
        if !self.excluded.is_empty() {
            let pairs = self.excluded.iter().flat_map(|(query, documents)| {
                documents.iter().map(move |document| format!("{query}\t{document}"))
            });
            let heading = "query-id\tcorpus-id".to_owned();
            write_lines(folder.join("excluded").join(&file), std::iter::once(heading).chain(pairs))?;
        }
        Ok(())
    }
}

/// What [`Imported::write`] wrote as `excluded/SPLIT.tsv`; nothing where the set has no such file.
pub fn read_excluded(folder: &Path, split: &str) -> Result<Excluded, EvalError> {
    let path = folder.join("excluded").join(format!("{split}.tsv"));
    let mut excluded = Excluded::new();
    if !path.is_file() {
        return Ok(excluded);
    }
    let mut lines = NumberedLines::open(&path)?;
    let mut is_first = true;
    while let Some(line) = lines.next_line()? {
        let is_heading = std::mem::take(&mut is_first) && line == "query-id\tcorpus-id";
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

/// The run without the documents that must not count; order is kept.
pub fn without_excluded(mut run: Run, excluded: &Excluded) -> Run {
    for (query, ranking) in &mut run {
        if let Some(documents) = excluded.get(query) {
            ranking.retain(|document| !documents.contains(&document.id));
        }
    }
    run
}

fn json_line(value: &impl serde::Serialize) -> String {
    // Strings and maps of JSON values: there is nothing in them that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

fn write_lines(path: PathBuf, lines: impl Iterator<Item = String>) -> Result<(), EvalError> {
    let fail = |source| EvalError::Io { attempted: "writing", path: path.clone(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut file = BufWriter::new(File::create(&path).map_err(fail)?);
    for line in lines {
        writeln!(file, "{line}").map_err(fail)?;
    }
    file.flush().map_err(fail)
}
