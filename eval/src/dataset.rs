//! BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`.
//!
//! Opening a folder reads nothing but names. The corpus is streamed; judgements are read only by
//! [`Dataset::judgements`], and [`Dataset::split_query_ids`] gives the queries of a split without looking at
//! which document was judged how, so that a run can be made by code that never sees a judgement.
//! Neighbours: [`crate::split`] decides what may be trained on, [`crate::measures`] reads [`Judgements`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::EvalError,
    import::{Excluded, read_excluded},
    lines::NumberedLines,
    split,
};

/// Query id → document id → grade; grades above 0 are relevant, higher is better, negative ones exist.
pub type Judgements = BTreeMap<String, BTreeMap<String, i32>>;

/// One query of `queries.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// The id that judgements and runs use.
    #[serde(rename = "_id")]
    pub id: String,
    /// What the user typed.
    pub text: String,
}

/// One document of `corpus.jsonl`; read under the names of other collections of JSON lines, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorpusDocument {
    /// The id that judgements and runs use.
    #[serde(rename = "_id", alias = "id")]
    pub id: String,
    /// May be empty.
    #[serde(default)]
    pub title: String,
    /// The body.
    #[serde(default, alias = "contents")]
    pub text: String,
    /// Whatever else the collection says of the document.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// A folder in BEIR layout.
#[derive(Debug, Clone)]
pub struct Dataset {
    folder: PathBuf,
    name: String,
}

impl Dataset {
    /// Names the folder; fails where it has no `corpus.jsonl` or `queries.jsonl`.
    pub fn open(folder: &Path) -> Result<Self, EvalError> {
        for file in ["corpus.jsonl", "queries.jsonl"] {
            let path = folder.join(file);
            std::fs::metadata(&path).map_err(|source| EvalError::Io {
                attempted: "opening",
                path: path.clone(),
                source,
            })?;
        }
        let name = folder.file_name().map_or_else(|| "data".to_owned(), |n| n.to_string_lossy().into_owned());
        Ok(Self { folder: folder.to_owned(), name })
    }

    /// The folder's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the documents are.
    pub fn corpus_path(&self) -> PathBuf {
        self.folder.join("corpus.jsonl")
    }

    /// The lowest grade that binary measures count as relevant: 2 for TREC deep learning judgements over
    /// MS MARCO passages (their grade 1 means "related", and the track's binary measures leave it out), else 1.
    pub fn relevance_threshold(&self) -> i32 {
        if self.name.starts_with("msmarco-dl") { 2 } else { 1 }
    }

    /// Streams the documents in file order.
    pub fn corpus(&self) -> Result<Corpus, EvalError> {
        Corpus::open(&self.corpus_path())
    }

    /// All queries in file order, of every split. Two queries with one id are an error.
    pub fn queries(&self) -> Result<Vec<Query>, EvalError> {
        let mut lines = NumberedLines::open(&self.folder.join("queries.jsonl"))?;
        let mut seen = BTreeSet::new();
        let mut queries = Vec::new();
        while let Some(line) = lines.next_line()? {
            let query: Query = serde_json::from_str(&line)
                .map_err(|_| lines.malformed("an object with `_id` and `text`", &line))?;
            if !seen.insert(query.id.clone()) {
                return Err(lines.malformed("each query id once", &query.id));
            }
            queries.push(query);
        }
        Ok(queries)
    }

    /// The names of the splits that have a file, sorted.
    pub fn splits(&self) -> Result<Vec<String>, EvalError> {
        let folder = self.folder.join("qrels");
        let entries = std::fs::read_dir(&folder).map_err(|source| EvalError::Io {
            attempted: "listing",
            path: folder.clone(),
            source,
        })?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|source| EvalError::Io { attempted: "listing", path: folder.clone(), source })?
                .path();
            if path.extension().is_some_and(|e| e == "tsv")
                && let Some(stem) = path.file_stem()
            {
                names.push(stem.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Judgements of a split. `dev` of a set that has a train file but no dev file is the hashed fifth of its
    /// training queries ([`split::is_hashed_dev`]), less those whose text occurs in the test split.
    pub fn judgements(&self, split: &str) -> Result<Judgements, EvalError> {
        let mut judgements = self.read_split(split)?;
        if self.is_derived_dev(split) {
            let kept: BTreeSet<String> = self.derived_dev_ids()?.into_iter().collect();
            judgements.retain(|id, _| kept.contains(id));
        }
        Ok(judgements)
    }

    /// Documents that must not count for a query of a split, such as the page that the question was taken from; none for
    /// most sets. They are no judgements: a run may know them.
    pub fn excluded(&self, split: &str) -> Result<Excluded, EvalError> {
        read_excluded(&self.folder, if self.is_derived_dev(split) { "train" } else { split })
    }

    /// The queries of a split with their texts, ordered by id; see [`Dataset::judgements`] for `dev`.
    /// Reads the query column of the judgement file and nothing else of it.
    pub fn split_queries(&self, split: &str) -> Result<Vec<Query>, EvalError> {
        let ids = self.split_query_ids(split)?;
        self.with_texts(&ids)
    }

    /// The ids of the queries of a split, sorted. Which documents were judged is not kept.
    pub fn split_query_ids(&self, split: &str) -> Result<Vec<String>, EvalError> {
        if self.is_derived_dev(split) {
            return self.derived_dev_ids();
        }
        self.file_query_ids(split)
    }

    /// The queries that may be trained on: those of `train`, less those whose text occurs in the test split,
    /// less the hashed fifth where the set has no dev file of its own.
    pub fn training_queries(&self) -> Result<Vec<Query>, EvalError> {
        let mut queries = self.unleaked_train_queries()?;
        if !self.split_path("dev").is_file() {
            queries.retain(|query| !split::is_hashed_dev(&query.id));
        }
        Ok(queries)
    }

    fn split_path(&self, split: &str) -> PathBuf {
        self.folder.join("qrels").join(format!("{split}.tsv"))
    }

    fn is_derived_dev(&self, split: &str) -> bool {
        split == "dev" && !self.split_path("dev").is_file() && self.split_path("train").is_file()
    }

    fn derived_dev_ids(&self) -> Result<Vec<String>, EvalError> {
        let mut queries = self.unleaked_train_queries()?;
        queries.retain(|query| split::is_hashed_dev(&query.id));
        Ok(queries.into_iter().map(|query| query.id).collect())
    }

    fn unleaked_train_queries(&self) -> Result<Vec<Query>, EvalError> {
        let train = self.with_texts(&self.file_query_ids("train")?)?;
        let test = if self.split_path("test").is_file() {
            self.with_texts(&self.file_query_ids("test")?)?
        } else {
            Vec::new()
        };
        Ok(split::without_leaks(train, &test))
    }

    fn with_texts(&self, ids: &[String]) -> Result<Vec<Query>, EvalError> {
        let mut texts: BTreeMap<String, Query> =
            self.queries()?.into_iter().map(|query| (query.id.clone(), query)).collect();
        let missing: Vec<&String> = ids.iter().filter(|id| !texts.contains_key(*id)).collect();
        if let Some(first) = missing.first() {
            return Err(EvalError::MissingQuery {
                path: self.folder.join("queries.jsonl"),
                query: (*first).clone(),
                others: missing.len() - 1,
            });
        }
        Ok(ids.iter().filter_map(|id| texts.remove(id)).collect())
    }

    fn open_split(&self, split: &str) -> Result<NumberedLines, EvalError> {
        let effective = if self.is_derived_dev(split) { "train" } else { split };
        let path = self.split_path(effective);
        if !path.is_file() {
            return Err(EvalError::NoSplit {
                folder: self.folder.join("qrels"),
                split: split.to_owned(),
                available: self.splits()?,
            });
        }
        NumberedLines::open(&path)
    }

    fn file_query_ids(&self, split: &str) -> Result<Vec<String>, EvalError> {
        let mut ids = BTreeSet::new();
        read_qrels(self.open_split(split)?, |_, query, _, _| {
            ids.insert(query.to_owned());
            Ok(())
        })?;
        Ok(ids.into_iter().collect())
    }

    fn read_split(&self, split: &str) -> Result<Judgements, EvalError> {
        let mut judgements = Judgements::new();
        read_qrels(self.open_split(split)?, |lines, query, document, grade| {
            let earlier = judgements.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
            match earlier {
                Some(other) if other != grade => {
                    Err(lines.malformed("one grade a query and document", &format!("{other} and {grade}")))
                }
                _ => Ok(()),
            }
        })?;
        Ok(judgements)
    }
}

/// Calls `each(lines, query, document, grade)` for every judgement; the first line may be a header.
fn read_qrels(
    mut lines: NumberedLines,
    mut each: impl FnMut(&NumberedLines, &str, &str, i32) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    const EXPECTED: &str = "`query-id<TAB>corpus-id<TAB>score` with a whole score";
    let mut is_first = true;
    while let Some(line) = lines.next_line()? {
        let may_be_header = std::mem::take(&mut is_first);
        let mut fields = line.split('\t');
        let (Some(query), Some(document), Some(grade), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(lines.malformed(EXPECTED, &line));
        };
        match grade.trim().parse::<i32>() {
            Ok(grade) => each(&lines, query, document, grade)?,
            Err(_) if may_be_header && query == "query-id" => {}
            Err(_) => return Err(lines.malformed(EXPECTED, &line)),
        }
    }
    Ok(())
}

/// Streams documents, one JSON line each; see [`Dataset::corpus`].
pub struct Corpus {
    lines: NumberedLines,
}

impl Corpus {
    /// Streams a file of documents that lies anywhere.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        Ok(Self { lines: NumberedLines::open(path)? })
    }

    /// An error at the document that was read last.
    pub(crate) fn malformed(&self, expected: &'static str, got: &str) -> EvalError {
        self.lines.malformed(expected, got)
    }
}

impl Iterator for Corpus {
    type Item = Result<CorpusDocument, EvalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next_line() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        Some(serde_json::from_str(&line).map_err(|_| {
            self.lines
                .malformed("an object with `_id` and, where it has them, `title`, `text`, `metadata`", &line)
        }))
    }
}
