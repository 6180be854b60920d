//! Trajectories as JSON lines: segments with where they came from.

use crate::error::{Result, TrainError};
use orion_policy::{Retriever, Segment};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::Path;

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Learned from.
    Train,
    /// Never learned from; its user queries occur in no training record.
    HeldOut,
}

/// One retrieved document, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// Title.
    pub title: String,
    /// Beginning of the text.
    pub text: String,
}

/// An issued query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchQuery {
    /// Its words.
    pub query: String,
    /// `lexical`, `dense` or `hybrid`; absent where the trajectory makes no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriever: Option<String>,
}

/// One segment of a trajectory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// What the user asked.
    UserQuery(String),
    /// A thought.
    Think(String),
    /// An action.
    SearchQuery(SearchQuery),
    /// What came back.
    TopKResponse(Vec<Snippet>),
}

/// What the maker knew about a turn; for statistics, never for the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnNote {
    /// Name of the rule that made the query.
    pub rule: String,
    /// 1-based rank of the best judged document; absent beyond the depth looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Whether a judged document is among the snippets shown.
    pub shown: bool,
    /// Turn (from 1) whose query this one reformulates, 0 for the user's own; absent where that was not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
}

/// One trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Unique within its file.
    pub id: String,
    /// Data set of the query.
    pub set: String,
    /// The query's id in that set.
    pub query_id: String,
    /// Training or held out.
    pub part: Part,
    /// The search behaviour that it shows, by the name of its archetype, where it shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archetype: Option<String>,
    /// The segments in order.
    pub segments: Vec<Piece>,
    /// One note for each turn.
    #[serde(default)]
    pub turns: Vec<TurnNote>,
}

impl Record {
    /// The segments as the policy's format encodes them; fails on an unknown retriever.
    pub fn policy_segments(&self) -> Result<Vec<Segment>> {
        self.segments.iter().map(|piece| piece.to_segment(&self.id)).collect()
    }

    /// What the policy would write, in order: thoughts and search queries; and before them the user's query.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|piece| match piece {
            Piece::UserQuery(text) | Piece::Think(text) => Some(text.as_str()),
            Piece::SearchQuery(issued) => Some(issued.query.as_str()),
            Piece::TopKResponse(_) => None,
        })
    }

    /// The issued queries in order.
    pub fn queries(&self) -> impl Iterator<Item = &SearchQuery> {
        self.segments.iter().filter_map(|piece| match piece {
            Piece::SearchQuery(issued) => Some(issued),
            _ => None,
        })
    }

    /// The user's query, empty where the record has none.
    pub fn user_query(&self) -> &str {
        self.segments
            .iter()
            .find_map(|piece| if let Piece::UserQuery(text) = piece { Some(text.as_str()) } else { None })
            .unwrap_or("")
    }
}

impl Piece {
    fn to_segment(&self, id: &str) -> Result<Segment> {
        Ok(match self {
            Self::UserQuery(text) => Segment::UserQuery(text.clone()),
            Self::Think(text) => Segment::Think(text.clone()),
            Self::SearchQuery(issued) => Segment::SearchQuery {
                query: issued.query.clone(),
                retriever: issued.retriever.as_deref().map(|name| retriever(name, id)).transpose()?,
            },
            Self::TopKResponse(snippets) => Segment::TopKResponse(
                snippets
                    .iter()
                    .map(|s| orion_policy::Snippet { title: s.title.clone(), text: s.text.clone() })
                    .collect(),
            ),
        })
    }
}

fn retriever(name: &str, id: &str) -> Result<Retriever> {
    match name {
        "lexical" => Ok(Retriever::Lexical),
        "dense" => Ok(Retriever::Dense),
        "hybrid" => Ok(Retriever::Hybrid),
        other => Err(TrainError::content(id, "`lexical`, `dense` or `hybrid` as retriever", other)),
    }
}

/// A retriever's name in records.
pub fn retriever_name(retriever: Retriever) -> &'static str {
    match retriever {
        Retriever::Lexical => "lexical",
        Retriever::Dense => "dense",
        Retriever::Hybrid => "hybrid",
    }
}

/// Reads a file of records; an error names the line.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let file = std::fs::File::open(path).map_err(TrainError::file("read", path))?;
    let mut records = Vec::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(TrainError::file("read", path))?;
        if line.trim().is_empty() {
            continue;
        }
        records.push(serde_json::from_str(&line).map_err(|error| {
            TrainError::content(path, format!("a trajectory on line {}", number + 1), error)
        })?);
    }
    Ok(records)
}

/// Writes records, one a line, atomically.
pub fn write_records(path: &Path, records: &[Record]) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut file = std::io::BufWriter::new(
        std::fs::File::create(&partial).map_err(TrainError::file("create", &partial))?,
    );
    for record in records {
        let line = serde_json::to_string(record)
            .map_err(|error| TrainError::content(path, "a record that is JSON", error))?;
        writeln!(file, "{line}").map_err(TrainError::file("write", &partial))?;
    }
    file.flush().map_err(TrainError::file("write", &partial))?;
    std::fs::rename(&partial, path).map_err(TrainError::file("write", path))
}
