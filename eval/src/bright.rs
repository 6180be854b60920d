//! The BRIGHT benchmark (Su et al., arXiv:2407.12883): questions whose answers need reasoning to be found.
//!
//! One task is two files of JSON lines, as exported from its published tables: documents (`id`, `content`) and examples
//! (`id`, `query`, `gold_ids`, `gold_ids_long`, `excluded_ids`). They lie in one folder as `documents.jsonl` and
//! `examples.jsonl`, or as `documents/TASK.jsonl` and `examples/TASK.jsonl` in the folder of the whole benchmark.
//! Excluded documents (a question's own page, for instance) are taken out of a ranking before it is scored.
//! Neighbour: [`crate::import`] writes what is read here as a BEIR folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    dataset::{CorpusDocument, Query},
    error::EvalError,
    import::Imported,
    lines::NumberedLines,
};

/// What the files write where a list is empty.
const NONE: &str = "N/A";

/// Which documents are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrightDocuments {
    /// Passages, judged by `gold_ids`.
    Passages,
    /// Whole pages (`long_documents`), judged by `gold_ids_long`.
    Pages,
}

impl BrightDocuments {
    fn stem(self) -> &'static str {
        match self {
            Self::Passages => "documents",
            Self::Pages => "long_documents",
        }
    }
}

#[derive(Deserialize)]
struct DocumentLine {
    id: String,
    content: String,
}

#[derive(Deserialize)]
struct ExampleLine {
    id: String,
    query: String,
    #[serde(default)]
    gold_ids: Vec<String>,
    #[serde(default)]
    gold_ids_long: Vec<String>,
    #[serde(default)]
    excluded_ids: Vec<String>,
}

/// Reads one task; without a task's name, the files lie in `folder` itself.
///
/// # Errors
/// A missing file; a line that is no document or example; an id twice; a gold id without a document; an example without
/// any gold id. Each names file and line.
pub fn read_bright(folder: &Path, task: Option<&str>, which: BrightDocuments) -> Result<Imported, EvalError> {
    let file = |stem: &str| -> PathBuf {
        match task {
            Some(task) => folder.join(stem).join(format!("{task}.jsonl")),
            None => folder.join(format!("{stem}.jsonl")),
        }
    };
    let mut imported = Imported::default();
    let mut known = BTreeSet::new();
    let mut lines = NumberedLines::open(&file(which.stem()))?;
    while let Some(line) = lines.next_line()? {
        let DocumentLine { id, content } = serde_json::from_str(&line)
            .map_err(|_| lines.malformed("an object with `id` and `content`", &line))?;
        if !known.insert(id.clone()) {
            return Err(lines.malformed("each document id once", &id));
        }
        imported.documents.push(CorpusDocument {
            id,
            title: String::new(),
            text: content,
            metadata: serde_json::Map::new(),
        });
    }
    let mut lines = NumberedLines::open(&file("examples"))?;
    while let Some(line) = lines.next_line()? {
        let example: ExampleLine = serde_json::from_str(&line)
            .map_err(|_| lines.malformed("an object with `id`, `query` and lists of ids", &line))?;
        let gold = match which {
            BrightDocuments::Passages => example.gold_ids,
            BrightDocuments::Pages => example.gold_ids_long,
        };
        let grades = imported.judgements.entry(example.id.clone()).or_default();
        if !grades.is_empty() {
            return Err(lines.malformed("each example id once", &example.id));
        }
        for id in gold.into_iter().filter(|id| id != NONE) {
            if !known.contains(&id) {
                return Err(lines.malformed("gold ids of documents that are there", &id));
            }
            grades.insert(id, 1);
        }
        if grades.is_empty() {
            return Err(lines.malformed("at least one gold id", &example.id));
        }
        // An excluded id without a document changes no ranking.
        let excluded: BTreeSet<String> = example.excluded_ids.into_iter().filter(|id| id != NONE).collect();
        if !excluded.is_empty() {
            imported.excluded.insert(example.id.clone(), excluded);
        }
        imported.queries.push(Query { id: example.id, text: example.query });
    }
    Ok(imported)
}
