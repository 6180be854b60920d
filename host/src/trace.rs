//! The search tree: what a strategy said it did, checked for shape, with what each host call cost.
//!
//! Deterministic: the same search gives the same trace. Durations are therefore elsewhere
//! ([`crate::Outcome::call_ms`]). Neighbours: `calls/observe.rs` receives the events and tells a [`BranchObserver`].
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::contract::{Event, Hit, Level, Retriever, Setting};
use crate::fault::Fault;
use crate::limits::Limits;
use crate::services::Usage;

/// Format number of [`SearchTrace`].
pub const TRACE_VERSION: u32 = 1;

/// A whole search, as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchTrace {
    /// [`TRACE_VERSION`] of the writer.
    pub version: u32,
    /// Name of the strategy.
    pub strategy: String,
    /// SHA-256 of the component, in hexadecimal.
    pub component: String,
    /// The user's query.
    pub query: String,
    /// Branches in the order of their numbers.
    pub branches: Vec<Branch>,
    /// Every host call in order, but `budget`, `trace` and `log`.
    pub calls: Vec<CallRecord>,
    /// What the guest logged.
    pub log: Vec<LogLine>,
}

/// One branch of the tree: one turn of one trajectory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// The strategy's number for it.
    pub branch: u32,
    /// The branch it continues.
    pub parent: Option<u32>,
    /// 1-based depth, as the strategy counts it.
    pub turn: u32,
    /// The thought.
    pub think: String,
    /// The search query.
    pub query: String,
    /// Where it was looked up.
    pub retriever: Retriever,
    /// What came back: at most the first hundred hits.
    pub hits: Vec<Hit>,
    /// What the strategy made of it; it says itself which way is better.
    pub confidence: Option<f32>,
    /// Further numbers of the judgement.
    pub judged: Vec<Setting>,
    /// Whether the branch was cut off.
    pub pruned: bool,
    /// Whether the branch contributes to the answer.
    pub chosen: bool,
}

/// One host call and what it used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Interface and function, such as `retrieval.search`.
    pub call: String,
    /// Elements of the argument list.
    pub items: u64,
    /// What the model read and wrote.
    pub usage: Usage,
    /// The error that the guest saw, as text.
    pub error: Option<String>,
}

/// One line that the guest logged: no control characters, bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// How grave.
    pub level: Level,
    /// What it said.
    pub message: String,
}

/// Told of every branch as it stands after each event about it, on the search's own path: it has to return at once,
/// and keeps what its reader has not fetched yet (the limits of a search bound how much that can be).
pub type BranchObserver = Arc<dyn Fn(&Branch) + Send + Sync>;

/// Hits of one branch that are kept: more than any page shows, less than would let a guest fill memory.
const BRANCH_HITS: usize = 100;

/// The tree while it grows.
#[derive(Debug, Default)]
pub(crate) struct TreeBuilder {
    branches: BTreeMap<u32, Branch>,
    events: u64,
    bytes: u64,
}

impl TreeBuilder {
    /// Applies one event; the branch that it is about, as it is now.
    ///
    /// Errors: more events or bytes than the limits; an event about a branch that was never expanded; a number expanded twice; a
    /// parent that is unknown.
    pub(crate) fn apply(&mut self, event: Event, limits: &Limits) -> Result<&Branch, Fault> {
        self.events += 1;
        self.bytes = self.bytes.saturating_add(text_bytes(&event));
        if self.events > limits.trace_events {
            return Err(Fault::Flood { what: "trace events", limit: limits.trace_events });
        }
        if self.bytes > limits.trace_bytes {
            return Err(Fault::Flood { what: "trace bytes", limit: limits.trace_bytes });
        }
        match event {
            Event::Expanded(expanded) => {
                if self.branches.contains_key(&expanded.branch) {
                    return Err(Fault::TraceOrder(format!("branch {} was expanded twice", expanded.branch)));
                }
                if let Some(parent) = expanded.parent {
                    self.find(parent)?;
                }
                let branch = Branch {
                    branch: expanded.branch,
                    parent: expanded.parent,
                    turn: expanded.turn,
                    think: expanded.think,
                    query: expanded.query,
                    retriever: expanded.retriever,
                    hits: Vec::new(),
                    confidence: None,
                    judged: Vec::new(),
                    pruned: false,
                    chosen: false,
                };
                Ok(self.branches.entry(branch.branch).or_insert(branch))
            }
            Event::Retrieved(retrieved) => {
                let mut hits = retrieved.hits;
                hits.truncate(BRANCH_HITS);
                let branch = self.find(retrieved.branch)?;
                branch.hits = hits;
                Ok(branch)
            }
            Event::Judged(judged) => {
                let branch = self.find(judged.branch)?;
                // JSON has no NaN, and "cannot say" is what it means.
                branch.confidence = Some(judged.confidence).filter(|confidence| confidence.is_finite());
                branch.judged = judged.options;
                branch.judged.truncate(BRANCH_HITS);
                Ok(branch)
            }
            Event::Pruned(number) => {
                let branch = self.find(number)?;
                branch.pruned = true;
                Ok(branch)
            }
            Event::Chosen(number) => {
                let branch = self.find(number)?;
                branch.chosen = true;
                Ok(branch)
            }
        }
    }

    fn find(&mut self, number: u32) -> Result<&mut Branch, Fault> {
        self.branches
            .get_mut(&number)
            .ok_or_else(|| Fault::TraceOrder(format!("branch {number} was never expanded")))
    }

    pub(crate) fn finish(self) -> Vec<Branch> {
        self.branches.into_values().collect()
    }
}

/// Bytes of an event's strings, whether or not they are kept.
fn text_bytes(event: &Event) -> u64 {
    let bytes: usize = match event {
        Event::Expanded(expanded) => expanded.think.len() + expanded.query.len(),
        Event::Retrieved(retrieved) => retrieved.hits.iter().map(|hit| hit.id.len()).sum(),
        Event::Judged(judged) => {
            judged.options.iter().map(|option| option.name.len() + option.value.len()).sum()
        }
        Event::Pruned(_) | Event::Chosen(_) => 0,
    };
    bytes as u64
}

/// `text` without what lies beyond `limit_bytes`, cut at a character and marked with an ellipsis.
pub(crate) fn cut(mut text: String, limit_bytes: u32) -> String {
    let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    if text.len() > limit_bytes {
        text.truncate(text.floor_char_boundary(limit_bytes));
        text.push('…');
    }
    text
}

/// A guest's text as one harmless line: control characters (terminal escapes, line breaks) become spaces.
pub(crate) fn one_line(text: &str, limit_bytes: u32) -> String {
    let plain: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    cut(plain, limit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(cut("aä".into(), 2), "a…");
        assert_eq!(cut("aä".into(), 3), "aä");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(one_line("a\u{1b}[31m\nb", 100), "a [31m b");
    }
}
