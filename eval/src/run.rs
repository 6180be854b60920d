//! Rankings as TREC run files: `query Q0 document rank score tag`, one line a document.
//!
//! A run file is the border of honesty: strategies write it, [`crate::measures`] reads it, and judgements are
//! only on the second side. Ranks in the file are for people; like trec_eval, measures order by score.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufWriter, Write},
    path::Path,
};

use crate::{error::EvalError, lines::NumberedLines};

/// One document of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedDocument {
    /// The document's id.
    pub id: String,
    /// Higher is better; finite; comparable within one ranking only.
    pub score: f32,
}

/// Query id → ranking, in the order it was given.
pub type Run = BTreeMap<String, Vec<RankedDocument>>;

/// Writes a run file; `tag` names the system in the last column (blanks become `_`).
///
/// The file appears whole or not at all: it is written beside its place, then renamed.
pub fn write_run(path: &Path, run: &Run, tag: &str) -> Result<(), EvalError> {
    let failed = |source| EvalError::Io { attempted: "writing", path: path.to_owned(), source };
    let tag: String = tag.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut out = BufWriter::new(std::fs::File::create(&partial).map_err(failed)?);
    for (query, ranking) in run {
        for (position, document) in ranking.iter().enumerate() {
            // Shortest digits that read back as the same f32.
            writeln!(out, "{query} Q0 {} {} {} {tag}", document.id, position + 1, document.score)
                .map_err(failed)?;
        }
    }
    out.flush().map_err(failed)?;
    drop(out);
    std::fs::rename(&partial, path).map_err(failed)
}

/// Reads a run file. A score that is no finite number, or a document twice under one query, is an error.
pub fn read_run(path: &Path) -> Result<Run, EvalError> {
    let mut lines = NumberedLines::open(path)?;
    let mut run = Run::new();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    while let Some(line) = lines.next_line()? {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [query, _, document, _, score, _] = fields[..] else {
            return Err(lines.malformed("six columns: query, Q0, document, rank, score, tag", &line));
        };
        let score: f32 = match score.parse::<f32>() {
            Ok(score) if score.is_finite() => score,
            _ => return Err(lines.malformed("a finite score in column 5", score)),
        };
        if !seen.insert((query.to_owned(), document.to_owned())) {
            return Err(lines.malformed("each document once a query", document));
        }
        run.entry(query.to_owned()).or_default().push(RankedDocument { id: document.to_owned(), score });
    }
    Ok(run)
}
