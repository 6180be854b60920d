//! The BRIGHT benchmark (Su et al., arXiv:2407.12883): questions whose answers need reasoning to be found.
//!
//! One task is two tables: documents (`id`, `content`) and examples (`id`, `query`, `gold_ids`, `gold_ids_long`,
//! `excluded_ids`), as files of JSON lines. They lie in one folder as `documents.jsonl` and `examples.jsonl`, or in the
//! folder of the whole benchmark, a folder a table, as `documents/TASK.jsonl` and `examples/TASK.jsonl`.
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
    import::{BeirWriter, Judged},
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
    fn table(self) -> &'static str {
        match self {
            Self::Passages => "documents",
            Self::Pages => "long_documents",
        }
    }
}

/// Where a task lies, and what of it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct BrightTask<'a> {
    /// The benchmark's folder, or the task's own.
    pub folder: &'a Path,
    /// The task; without it, the files lie in `folder` itself.
    pub task: Option<&'a str>,
    /// Which documents.
    pub documents: BrightDocuments,
    /// The table of questions: `examples`, or one in which a model has rewritten them.
    pub examples: &'a str,
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

impl BrightTask<'_> {
    /// Copies the documents into `set` and gives the rest; `progress` hears of each document.
    ///
    /// # Errors
    /// A missing file; a line that is no document or example; an id twice; a gold id without a document, or one that is
    /// excluded; an example without any gold id. Each names file and line.
    pub fn copy(&self, set: &mut BeirWriter, progress: &mut dyn FnMut()) -> Result<Judged, EvalError> {
        let mut lines = NumberedLines::open(&self.file(self.documents.table())?)?;
        while let Some(line) = lines.next_line()? {
            let DocumentLine { id, content } = serde_json::from_str(&line)
                .map_err(|_| lines.malformed("an object with `id` and `content`", &line))?;
            let (title, metadata) = (String::new(), serde_json::Map::new());
            if !set.document(CorpusDocument { id: id.clone(), title, text: content, metadata })? {
                return Err(lines.malformed("each document id once, and none that is empty", &id));
            }
            progress();
        }
        let mut judged = Judged::default();
        let mut lines = NumberedLines::open(&self.file(self.examples)?)?;
        while let Some(line) = lines.next_line()? {
            let example: ExampleLine = serde_json::from_str(&line)
                .map_err(|_| lines.malformed("an object with `id`, `query` and lists of ids", &line))?;
            self.take(example, set, &mut judged)
                .map_err(|(expected, got)| lines.malformed(expected, &got))?;
        }
        Ok(judged)
    }

    fn file(&self, table: &str) -> Result<PathBuf, EvalError> {
        let Some(task) = self.task else {
            return Ok(self.folder.join(format!("{table}.jsonl")));
        };
        let folder = self.folder.join(table);
        let path = folder.join(format!("{task}.jsonl"));
        if path.is_file() {
            return Ok(path);
        }
        let names = std::fs::read_dir(&folder).map_err(EvalError::io("listing", &folder))?;
        let mut available: Vec<String> = names
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned()))
            .collect();
        available.sort();
        Err(EvalError::NoTask { folder, task: task.to_owned(), available })
    }

    /// Adds an example; where it cannot be taken, what was expected and what there was.
    fn take(
        &self,
        example: ExampleLine,
        set: &BeirWriter,
        judged: &mut Judged,
    ) -> Result<(), (&'static str, String)> {
        let gold = match self.documents {
            BrightDocuments::Passages => example.gold_ids,
            BrightDocuments::Pages => example.gold_ids_long,
        };
        // An excluded id without a document changes no ranking.
        let excluded: BTreeSet<String> =
            example.excluded_ids.into_iter().filter(|id| id != NONE && set.has(id)).collect();
        let grades = judged.judgements.entry(example.id.clone()).or_default();
        if !grades.is_empty() {
            return Err(("each example id once", example.id));
        }
        for id in gold.into_iter().filter(|id| id != NONE) {
            if !set.has(&id) {
                return Err(("gold ids of documents that are there", id));
            }
            if excluded.contains(&id) {
                return Err(("gold ids that are not excluded", id));
            }
            grades.insert(id, 1);
        }
        if grades.is_empty() {
            return Err(("at least one gold id", example.id));
        }
        if !excluded.is_empty() {
            judged.excluded.insert(example.id.clone(), excluded);
        }
        judged.queries.push(Query { id: example.id, text: example.query });
        Ok(())
    }
}
