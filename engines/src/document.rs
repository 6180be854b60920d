//! What engines are given and what they give back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

/// One ranked document.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The document's id.
    pub id: String,
    /// Higher is better; comparable within one ranking only.
    pub score: f32,
}

/// What an engine found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranking {
    /// Score descending, then id ascending; no id twice; finite scores.
    pub hits: Vec<Hit>,
    /// Why this is not all: shards that did not answer.
    pub partial: Option<String>,
}

impl Ranking {
    /// Puts what an engine sent into order: engines break ties by what differs between their copies.
    pub(crate) fn ordered(mut hits: Vec<Hit>, partial: Option<String>, k: usize) -> Self {
        hits.retain(|hit| hit.score.is_finite());
        hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
        let mut seen = BTreeSet::new();
        hits.retain(|hit| seen.insert(hit.id.clone()));
        hits.truncate(k);
        Self { hits, partial }
    }
}

/// A document as an engine keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its text, cut where the caller asked for less.
    pub text: String,
    /// All else but vectors.
    pub metadata: Map<String, Json>,
}

/// A document on its way into an engine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// Its id; one that is there already is replaced.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Typed values for filters.
    pub metadata: BTreeMap<String, Value>,
    /// Its vector, of unit length; engines of the dense half need one.
    pub vector: Option<Vec<f32>>,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Compared as a whole.
    Keyword(String),
    /// Several keywords.
    Keywords(Vec<String>),
    /// Compared word by word.
    Text(String),
    /// A finite number.
    Number(f64),
    /// A point in time.
    Date {
        /// Seconds since 1970-01-01 UTC.
        seconds: i64,
        /// The same in RFC 3339.
        text: String,
    },
    /// True or false.
    Boolean(bool),
    /// Several numbers, dates or booleans.
    Several(Vec<Value>),
}

/// The type of a metadata field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see the values")]
pub enum Kind {
    Keyword,
    Text,
    Number,
    Date,
    Boolean,
}

impl Value {
    /// As JSON, dates as text.
    pub(crate) fn with_dates(&self) -> Json {
        match self {
            Self::Date { text, .. } => json!(text),
            Self::Several(values) => values.iter().map(Self::with_dates).collect(),
            other => other.with_seconds(),
        }
    }

    /// As JSON, dates as seconds: for engines that compare them as numbers.
    pub(crate) fn with_seconds(&self) -> Json {
        match self {
            Self::Keyword(text) | Self::Text(text) => json!(text),
            Self::Keywords(words) => json!(words),
            Self::Number(number) => json!(number),
            Self::Date { seconds, .. } => json!(seconds),
            Self::Boolean(boolean) => json!(boolean),
            Self::Several(values) => values.iter().map(Self::with_seconds).collect(),
        }
    }
}

/// The beginning of a text, in Unicode scalar values.
pub(crate) fn first_chars(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
    text
}

/// Text of a JSON member; empty where there is none.
pub(crate) fn text_of(object: &Map<String, Json>, name: &str) -> String {
    object.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_are_ordered_by_score_then_id() {
        let hit = |id: &str, score| Hit { id: id.to_owned(), score };
        let hits = vec![hit("c", 1.0), hit("b", 2.0), hit("a", 1.0), hit("b", 0.5), hit("n", f32::NAN)];
        let ranking = Ranking::ordered(hits, None, 2);
        assert_eq!(ranking.hits, [hit("b", 2.0), hit("a", 1.0)]);
    }
}
