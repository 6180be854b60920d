//! The one error of this crate: what was read or written, where, and what was expected.
//!
//! Neighbours: every module that touches a file returns it.

use std::path::{Path, PathBuf};

/// A data set, run or table could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The file system refused.
    #[error("{attempted} `{}`", path.display())]
    Io {
        /// What was attempted, as a gerund: `reading`, `writing`.
        attempted: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A line of a text file does not have the expected form.
    #[error("reading `{}` line {line}: expected {expected}, got {got}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based line number.
        line: u64,
        /// The form that was expected.
        expected: &'static str,
        /// What was there, shortened.
        got: String,
    },
    /// A table is not what it should be.
    #[error("reading `{}` {place}: expected {expected}, got {got}", path.display())]
    Table {
        /// The file or folder.
        path: PathBuf,
        /// Where in it: a row, a column.
        place: String,
        /// What was expected.
        expected: &'static str,
        /// What was there, shortened.
        got: String,
    },
    /// An archive is not what it should be.
    #[error("unpacking `{}` entry `{entry}`: expected {expected}, got {got}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The entry's name; empty for the archive as a whole.
        entry: String,
        /// What was expected.
        expected: &'static str,
        /// What was there, shortened.
        got: String,
    },
    /// A set cannot be written as it is.
    #[error("writing the set `{}`: expected {expected}, got {got}", folder.display())]
    Set {
        /// The folder to be.
        folder: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What was there.
        got: String,
    },
    /// A folder has no table of that name.
    #[error(
        "looking for the table of `{name}` in `{}`: expected one of {}, got no such file",
        folder.display(),
        names(available)
    )]
    NoTable {
        /// The folder.
        folder: PathBuf,
        /// The task or the table asked for.
        name: String,
        /// What has tables there, sorted.
        available: Vec<String>,
    },
    /// Judgements that belong to no topic at hand.
    #[error(
        "reading `{}`: expected judgements of the topics, whose first is {topic}, got those of others, whose first is {judged}",
        qrels.display()
    )]
    Strangers {
        /// The judgements.
        qrels: PathBuf,
        /// A topic's id, in backticks.
        topic: String,
        /// A judged query's id, in backticks.
        judged: String,
    },
    /// A folder holds no judgements of that name.
    #[error(
        "looking for split `{split}` in `{}`: expected one of {}, got no such file",
        folder.display(),
        names(available)
    )]
    NoSplit {
        /// The data set's folder.
        folder: PathBuf,
        /// The split asked for.
        split: String,
        /// The splits that exist, sorted.
        available: Vec<String>,
    },
    /// Judged queries whose text is not in `queries.jsonl`.
    #[error(
        "reading `{}`: expected the text of every judged query, got none for `{query}` and {others} more",
        path.display()
    )]
    MissingQuery {
        /// The queries file.
        path: PathBuf,
        /// The first id without a text.
        query: String,
        /// How many more lack one.
        others: usize,
    },
    /// A measure's name is not known.
    #[error(
        "parsing measure `{got}`: expected map, recip_rank, P_k, recall_k, ndcg, ndcg_cut_k or success_k with k from 1"
    )]
    UnknownMeasure {
        /// The name that was given.
        got: String,
    },
}

impl EvalError {
    /// Says what was attempted on which path, in front of the system's own reason.
    pub(crate) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempted, path, source }
    }
}

fn names(available: &[String]) -> String {
    if available.is_empty() { "(none)".to_owned() } else { format!("`{}`", available.join("`, `")) }
}

/// The first 60 characters of `text`, in backticks.
pub(crate) fn shortened(text: &str) -> String {
    let mut cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{cut}`")
}
