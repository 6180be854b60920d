//! The BRIGHT benchmark (Su et al., arXiv:2407.12883): questions whose answers need reasoning to be found.
//!
//! One task is two tables: documents (`id`, `content`) and examples (`id`, `query`, `gold_ids`, `gold_ids_long`,
//! `excluded_ids`), as Parquet files, which is how they are published, or as JSON lines. In a copy of the benchmark each
//! table has a folder and each task in it one file or several parts, as [`BrightTask::files`] lists them.
//! Excluded documents (a question's own page, for instance) are taken out of a ranking before it is scored.
//! Neighbour: [`crate::import`] writes what is read here as a BEIR folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    dataset::{CorpusDocument, Query},
    error::EvalError,
    import::{BeirWriter, Judged},
    lines::NumberedLines,
    parquet_rows::{Kind, ParquetRows, Wanted},
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

const fn wanted(name: &'static str, kind: Kind, needed: bool) -> Wanted {
    Wanted { name, kind, needed }
}

const DOCUMENT: [Wanted; 2] = [wanted("id", Kind::Text, true), wanted("content", Kind::Text, true)];
const EXAMPLE: [Wanted; 5] = [
    wanted("id", Kind::Text, true),
    wanted("query", Kind::Text, true),
    wanted("gold_ids", Kind::Texts, false),
    wanted("gold_ids_long", Kind::Texts, false),
    wanted("excluded_ids", Kind::Texts, false),
];
/// Bytes of text that a table gives at most: documents go to a disk, examples into memory.
const MOST_DOCUMENT_BYTES: u64 = 32 << 30;
const MOST_EXAMPLE_BYTES: u64 = 1 << 30;

/// One file of a table.
enum Table {
    Lines(NumberedLines),
    Rows(Box<ParquetRows>),
}

impl Table {
    fn open(path: &Path, columns: &[Wanted], most_bytes: u64) -> Result<Self, EvalError> {
        if path.extension().is_some_and(|ending| ending == "parquet") {
            Ok(Self::Rows(Box::new(ParquetRows::open(path, columns, most_bytes)?)))
        } else {
            Ok(Self::Lines(NumberedLines::open(path)?))
        }
    }

    fn next<T: DeserializeOwned>(&mut self, expected: &'static str) -> Result<Option<T>, EvalError> {
        match self {
            Self::Lines(lines) => {
                let Some(line) = lines.next_line()? else { return Ok(None) };
                serde_json::from_str(&line).map(Some).map_err(|_| lines.malformed(expected, &line))
            }
            Self::Rows(rows) => {
                let Some(row) = rows.next_row()? else { return Ok(None) };
                let read = serde_json::from_value(serde_json::Value::Object(row));
                read.map(Some).map_err(|error| rows.malformed(expected, &error.to_string().replace('`', "")))
            }
        }
    }

    /// An error at what was read last.
    fn malformed(&self, expected: &'static str, got: &str) -> EvalError {
        match self {
            Self::Lines(lines) => lines.malformed(expected, got),
            Self::Rows(rows) => rows.malformed(expected, got),
        }
    }
}

impl BrightTask<'_> {
    /// Copies the documents into `set` and gives the rest; `progress` hears of each document.
    ///
    /// # Errors
    /// A missing file or part; a line or row that is no document or example; an id twice; a gold id without a document, or
    /// one that is excluded; an example without any gold id. Each names the file and the place in it.
    pub fn copy(&self, set: &mut BeirWriter, progress: &mut dyn FnMut()) -> Result<Judged, EvalError> {
        // Both are looked for before the documents are read, which may take long.
        let (documents, examples) = (self.files(self.documents.table())?, self.files(self.examples)?);
        for path in documents {
            let mut table = Table::open(&path, &DOCUMENT, MOST_DOCUMENT_BYTES)?;
            while let Some(DocumentLine { id, content }) = table.next("an object with `id` and `content`")? {
                let (title, metadata) = (String::new(), serde_json::Map::new());
                if !set.document(CorpusDocument { id: id.clone(), title, text: content, metadata })? {
                    return Err(table.malformed("each document id once, and none that is empty", &id));
                }
                progress();
            }
        }
        let mut judged = Judged::default();
        for path in examples {
            let mut table = Table::open(&path, &EXAMPLE, MOST_EXAMPLE_BYTES)?;
            while let Some(example) = table.next("an object with `id`, `query` and lists of ids")? {
                self.take(example, set, &mut judged)
                    .map_err(|(expected, got)| table.malformed(expected, &got))?;
            }
        }
        Ok(judged)
    }

    /// The files of a table, in order. Of a task they are the first of these that there is: `TASK.jsonl`, `TASK.parquet`,
    /// all of `TASK-00000-of-00002.parquet` and so on, all Parquet files in a folder `TASK`; without a task, `TABLE.jsonl`
    /// or `TABLE.parquet`.
    ///
    /// # Errors
    /// None of these; some of several parts.
    pub fn files(&self, table: &str) -> Result<Vec<PathBuf>, EvalError> {
        let (folder, stem) = match self.task {
            Some(task) => (self.folder.join(table), task),
            None => (self.folder.to_owned(), table),
        };
        let whole = ["jsonl", "parquet"].map(|ending| folder.join(format!("{stem}.{ending}")));
        if let Some(path) = whole.into_iter().find(|path| path.is_file()) {
            return Ok(vec![path]);
        }
        let (names, inner) = (names(&folder)?, folder.join(stem));
        let parts: Vec<(usize, usize, &String)> = names
            .iter()
            .filter_map(|name| part(name).map(|(own, place, count)| (own, place, count, name)))
            .filter(|(own, ..)| *own == stem)
            .map(|(_, place, count, name)| (place, count, name))
            .collect();
        if let Some((_, count, _)) = parts.first() {
            let are_all = parts.len() == *count
                && parts.iter().enumerate().all(|(at, (place, of, _))| (at, count) == (*place, of));
            if !are_all {
                return Err(EvalError::Table {
                    place: format!("task `{stem}`"),
                    expected: "all parts of its table",
                    got: format!("{} of {count}", parts.len()),
                    path: folder,
                });
            }
            return Ok(parts.into_iter().map(|(_, _, name)| folder.join(name)).collect());
        }
        if self.task.is_some() && inner.is_dir() {
            let paths: Vec<PathBuf> = self::names(&inner)?
                .into_iter()
                .filter(|name| name.ends_with(".parquet"))
                .map(|name| inner.join(name))
                .collect();
            if !paths.is_empty() {
                return Ok(paths);
            }
        }
        let known = |name: &String| {
            let file = name.strip_suffix(".jsonl").or(name.strip_suffix(".parquet"));
            let task = part(name).map(|(own, ..)| own).or(file);
            let is_folder = || self.task.is_some() && folder.join(name).is_dir();
            task.map(str::to_owned).or_else(|| is_folder().then(|| name.clone()))
        };
        let available: BTreeSet<String> = names.iter().filter_map(known).collect();
        let available = available.into_iter().collect();
        Err(EvalError::NoTable { name: stem.to_owned(), available, folder })
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

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, EvalError> {
    let entries = std::fs::read_dir(folder).map_err(EvalError::io("listing", folder))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// `TASK-00000-of-00002.parquet` as its task, its place from 0, and how many there are.
fn part(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".parquet")?.rsplit_once("-of-")?;
    let (task, place) = rest.rsplit_once('-')?;
    Some((task, place.parse().ok()?, count.parse().ok()?))
}
