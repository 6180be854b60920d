//! What the tools take and give back. The schemas that clients see are derived from these types, so they cannot differ
//! from what is read and written.

use orion_host::Outcome;
use rmcp::{
    handler::server::common::{schema_for_input, schema_for_output},
    model::{Tool, ToolAnnotations},
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    adapters::backends::SplitRetriever,
    http::{adaptive, elsewhere, error::ApiError, search::Seen},
    lexical_only::OWN_VECTORS,
};

/// Characters of a document's text beside its id: enough to see whether it is worth fetching.
const SNIPPET_CHARS: usize = 300;
/// Documents that the tree names for each branch.
const BRANCH_DOCUMENTS: usize = 5;

/// The tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// One look.
    Search,
    /// Several, by a strategy.
    AdaptiveSearch,
    /// One document.
    FetchDocument,
}

impl Name {
    /// All of them, in the order that clients are shown.
    pub const ALL: [Self; 3] = [Self::Search, Self::AdaptiveSearch, Self::FetchDocument];

    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::AdaptiveSearch => "adaptive_search",
            Self::FetchDocument => "fetch_document",
        }
    }

    /// The tool of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// As clients are shown it.
    pub fn tool(self) -> Tool {
        let (help, input, output) = match self {
            Self::Search => (
                "Look up documents once, by words, by meaning, or by both. Milliseconds.",
                schema_for_input::<Search>(),
                schema_for_output::<Plain>(),
            ),
            Self::AdaptiveSearch => (
                "Search, read what came back and search again, along several branches, within a budget. Returns one \
                 ranking and the tree of queries behind it. About a second.",
                schema_for_input::<AdaptiveSearch>(),
                schema_for_output::<Adaptive>(),
            ),
            Self::FetchDocument => (
                "Get a whole document by its id.",
                schema_for_input::<FetchDocument>(),
                schema_for_output::<Document>(),
            ),
        };
        // Structs are objects, which is all that could be wrong; a test lists all tools.
        let input = input.unwrap_or_default();
        let reads_only = ToolAnnotations::new().read_only(true).idempotent(true).open_world(false);
        Tool::new(self.name(), help, input).with_raw_output_schema(output).with_annotations(reads_only)
    }
}

/// Where `search` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By words.
    Lexical,
    /// By meaning.
    Dense,
    /// By both.
    #[default]
    Hybrid,
}

impl Mode {
    /// The strategy that does that.
    pub fn strategy(self) -> &'static str {
        match self {
            Self::Lexical => "lexical",
            Self::Dense => "dense",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Arguments of `search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What to look for.
    pub query: String,
    /// The index; may be left out where there is only one.
    pub index: Option<String>,
    /// Documents wanted, 1 to 100; 10 unless given.
    #[schemars(range(min = 1, max = 100))]
    pub k: Option<u32>,
    /// Only documents whose metadata fit, such as `year >= 2019 AND lang:en`.
    pub filter: Option<String>,
    /// Where to look.
    #[serde(default)]
    pub mode: Mode,
}

/// What an adaptive search may spend; the server's own limits hold as well.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Milliseconds.
    pub ms: Option<u64>,
    /// Tokens that the model reads and writes.
    pub tokens: Option<u64>,
    /// Lookups.
    pub retrievals: Option<u64>,
}

/// Arguments of `adaptive_search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveSearch {
    /// What to look for, in the user's own words.
    pub query: String,
    /// The index; may be left out where there is only one.
    pub index: Option<String>,
    /// Documents wanted, 1 to 100; 10 unless given.
    #[schemars(range(min = 1, max = 100))]
    pub k: Option<u32>,
    /// Only documents whose metadata fit, such as `year >= 2019 AND lang:en`; holds for every lookup.
    pub filter: Option<String>,
    /// The strategy, such as `beam` or `auto`; the server's own choice unless given.
    pub strategy: Option<String>,
    /// Turns of search and reading.
    #[schemars(range(min = 1))]
    pub turns: Option<u32>,
    /// Branches that survive a turn.
    #[schemars(range(min = 1))]
    pub beam: Option<u32>,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// Seed of sampling: same seed, same search.
    pub seed: Option<u64>,
}

/// Arguments of `fetch_document`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchDocument {
    /// The document's id, as searches return it.
    pub id: String,
    /// The index; may be left out where there is only one.
    pub index: Option<String>,
    /// Longest text that is handed out, in characters; longer ones are cut. 50000 unless given.
    pub max_chars: Option<u32>,
}

/// One document of a ranking.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Found {
    /// 1 is best.
    pub rank: usize,
    /// Its id.
    pub id: String,
    /// Its score; comparable within one result.
    pub score: f32,
    /// Its title, where it has one.
    pub title: String,
    /// The beginning of its text.
    pub snippet: String,
}

/// What `search` returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plain {
    /// The index that was searched.
    pub index: String,
    /// Where it looked.
    pub mode: Mode,
    /// Best first.
    pub documents: Vec<Found>,
    /// Why this is not what was asked for, where it is not.
    pub note: Option<String>,
}

/// One branch of an adaptive search.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Step {
    /// Its number.
    pub branch: u32,
    /// The branch that it continues.
    pub parent: Option<u32>,
    /// Its turn.
    pub turn: u32,
    /// What the model thought.
    pub think: String,
    /// What it asked.
    pub query: String,
    /// Ids of the first documents that came back.
    pub found: Vec<String>,
    /// How sure the strategy was afterwards; it says itself which way is better.
    pub confidence: Option<f32>,
    /// Whether the branch was given up.
    pub pruned: bool,
    /// Whether it is part of the answer.
    pub in_answer: bool,
}

/// What an adaptive search spent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Spent {
    /// Lookups.
    pub retrievals: u64,
    /// Tokens that the model read.
    pub tokens_read: u64,
    /// Tokens that it wrote.
    pub tokens_written: u64,
    /// Milliseconds.
    pub ms: f64,
}

/// What `adaptive_search` returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Adaptive {
    /// The index that was searched.
    pub index: String,
    /// The strategy that answered.
    pub strategy: String,
    /// Best first.
    pub documents: Vec<Found>,
    /// The branches, in the order in which they were begun.
    pub tree: Vec<Step>,
    /// The strategy's confidence in its answer, 0 to 1, where it can say.
    pub confidence: Option<f32>,
    /// What it spent.
    pub spent: Spent,
    /// Whether a budget ran out before the strategy was done.
    pub partial: bool,
    /// Why this is the plain ranking and not the strategy's, where it is.
    pub degraded: Option<String>,
}

/// What `fetch_document` returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Document {
    /// The index.
    pub index: String,
    /// The document's id.
    pub id: String,
    /// The document as it was put there.
    pub document: Value,
    /// Whether a text in it was cut.
    pub cut: bool,
}

fn documents(seen: &Seen, split: Option<&SplitRetriever>, outcome: &Outcome) -> Result<Vec<Found>, ApiError> {
    let stored = match split {
        Some(split) => elsewhere::documents(split, &outcome.ranking.iter().collect::<Vec<_>>()),
        None => {
            let ids: Vec<&str> = outcome.ranking.iter().map(|hit| hit.id.as_str()).collect();
            seen.searcher.documents(&ids)?
        }
    };
    let found = outcome.ranking.iter().zip(stored).enumerate().map(|(place, (hit, document))| {
        let (title, text) = document.map(|document| (document.title, document.text)).unwrap_or_default();
        let snippet = first_chars(&text, SNIPPET_CHARS).map_or_else(|| text.clone(), |cut| format!("{cut}…"));
        Found { rank: place + 1, id: hit.id.clone(), score: hit.score, title, snippet }
    });
    Ok(found.collect())
}

impl Plain {
    /// Of a search's outcome.
    pub fn new(
        seen: &Seen,
        split: Option<&SplitRetriever>,
        mode: Mode,
        outcome: &Outcome,
    ) -> Result<Self, ApiError> {
        let is_substitute = mode != Mode::Lexical && !seen.searcher.can_encode();
        let note = match &outcome.degraded {
            Some(degraded) => Some(degraded.to_string()),
            None if is_substitute => {
                let reason = match seen.searcher.client_half() {
                    Some(_) => OWN_VECTORS,
                    None => "there is no dense encoder",
                };
                Some(format!("{reason}: searched by words"))
            }
            None => None,
        };
        let mode = if is_substitute { Mode::Lexical } else { mode };
        let found = documents(seen, split, outcome)?;
        // After the documents: reading them may have failed as well.
        let unanswered =
            split.map(|split| split.notes.reasons().join("; ")).filter(|reasons| !reasons.is_empty());
        let note = match (note, unanswered) {
            (Some(note), Some(reasons)) => Some(format!("{note}; {reasons}")),
            (note, unanswered) => note.or(unanswered),
        };
        Ok(Self { index: seen.collection.name.clone(), mode, documents: found, note })
    }
}

impl Adaptive {
    /// Of a search's outcome.
    pub fn new(seen: &Seen, split: Option<&SplitRetriever>, outcome: &Outcome) -> Result<Self, ApiError> {
        let step = |branch: &orion_host::Branch| Step {
            branch: branch.branch,
            parent: branch.parent,
            turn: branch.turn,
            think: branch.think.clone(),
            query: branch.query.clone(),
            found: branch.hits.iter().take(BRANCH_DOCUMENTS).map(|hit| hit.id.clone()).collect(),
            confidence: branch.confidence,
            pruned: branch.pruned,
            in_answer: branch.chosen,
        };
        Ok(Self {
            index: seen.collection.name.clone(),
            strategy: outcome.trace.strategy.clone(),
            documents: documents(seen, split, outcome)?,
            tree: outcome.trace.branches.iter().map(step).collect(),
            confidence: outcome.confidence,
            spent: Spent {
                retrievals: outcome.cost.retrievals,
                tokens_read: outcome.cost.tokens_prefilled,
                tokens_written: outcome.cost.tokens_decoded,
                ms: outcome.cost.total_ms,
            },
            partial: adaptive::is_partial(outcome)
                || split.is_some_and(|split| !split.notes.reasons().is_empty()),
            degraded: outcome.degraded.as_ref().map(ToString::to_string),
        })
    }
}

/// The first characters of a text, where it has more.
fn first_chars(text: &str, longest: usize) -> Option<&str> {
    text.char_indices().nth(longest).map(|(end, _)| &text[..end])
}

/// Cuts every text in a document; whether there was one to cut.
pub fn cut_texts(value: &mut Value, longest: usize) -> bool {
    match value {
        Value::String(text) => match first_chars(text, longest) {
            Some(cut) => {
                *text = format!("{cut}…");
                true
            }
            None => false,
        },
        // Counted to the end: every text is cut, not only the first.
        Value::Array(items) => {
            items.iter_mut().map(|item| cut_texts(item, longest)).filter(|was| *was).count() != 0
        }
        Value::Object(members) => {
            members.values_mut().map(|member| cut_texts(member, longest)).filter(|was| *was).count() != 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_cut_by_characters() {
        let mut document = json!({ "a": "äöü", "b": ["äö", { "c": "abcd" }], "n": 12345 });
        assert!(cut_texts(&mut document, 2));
        assert_eq!(document, json!({ "a": "äö…", "b": ["äö", { "c": "ab…" }], "n": 12345 }));
        assert!(!cut_texts(&mut json!({ "a": "äö" }), 2));
    }

    #[test]
    fn every_tool_has_schemas_of_objects_with_help() {
        for name in Name::ALL {
            let tool = name.tool();
            let properties = tool.input_schema["properties"].as_object().expect("properties");
            assert!(properties.values().all(|one| one.get("description").is_some()), "{properties:?}");
            assert_eq!(tool.input_schema["additionalProperties"], false);
            assert_eq!(tool.output_schema.expect("an output")["type"], "object");
            assert_eq!(Name::parse(name.name()), Some(name));
        }
    }
}
