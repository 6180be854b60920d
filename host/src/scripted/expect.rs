//! What a scenario expects, what came instead, and where the two differ.
//!
//! An expectation that is absent is not checked, except that a search must not degrade unless that is expected. One that
//! is marked (`"?"`) fails until `orion plugin test --update` has written it. Neighbour: `scenario.rs`.
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::scenario::ScriptedRetriever;
use crate::outcome::{DegradedKind, Outcome};
use crate::record::Recording;
use crate::trace::Branch;

/// Stands for a value that is not written yet.
const MARK: &str = "?";
/// Hits of a branch that an update writes.
const HITS_WRITTEN: usize = 3;

/// An expectation: absent, marked to be written, or a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Maybe<T> {
    /// Not checked.
    #[default]
    Absent,
    /// `"?"`
    Marked,
    /// What must come.
    Value(T),
}

impl<T> Maybe<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Marked => None,
        }
    }

    /// Whether it waits to be written.
    pub fn is_marked(&self) -> bool {
        matches!(self, Self::Marked)
    }

    /// Whether it is not checked.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Serialize> Serialize for Maybe<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Marked => serializer.serialize_str(MARK),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Maybe<T> {
    /// Forwards to `T`, so that its errors keep their line and field.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forward<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forward<T> {
            type Value = Maybe<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value or `\"?\"`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Maybe<T>, E> {
                if text == MARK {
                    return Ok(Maybe::Marked);
                }
                T::deserialize(text.to_owned().into_deserializer()).map(Maybe::Value)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Maybe<T>, E> {
                T::deserialize(number.into_deserializer()).map(Maybe::Value)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Maybe<T>, A::Error> {
                T::deserialize(value::SeqAccessDeserializer::new(list)).map(Maybe::Value)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Maybe<T>, A::Error> {
                T::deserialize(value::MapAccessDeserializer::new(map)).map(Maybe::Value)
            }
        }
        deserializer.deserialize_any(Forward(PhantomData))
    }
}

/// `[expect]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectations {
    /// Ids of the whole ranking, best first.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub ranking: Maybe<Vec<String>>,
    /// Ids at the beginning of the ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranking_begins: Option<Vec<String>>,
    /// Kind of the degradation, such as `trap` or `failed`; without it a search that degrades fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<DegradedKind>,
    /// A part of the reason why it degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// All queries that were looked up for the strategy, in order.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub searches: Maybe<Vec<ExpectedSearch>>,
    /// All branches of the tree, in the order of their numbers.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub branch: Maybe<Vec<ExpectedBranch>>,
}

/// A query that was looked up: its text alone, or more of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExpectedSearch {
    /// `"reversing valve"`
    Text(String),
    /// `{ query = "reversing valve", retriever = "dense" }`
    Full {
        /// Its text.
        query: String,
        /// Where.
        retriever: ScriptedRetriever,
    },
}

/// `[[expect.branch]]`; a field that is absent is not checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedBranch {
    /// The number of the branch that it continues, or `"none"`.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub parent: Maybe<ParentBranch>,
    /// Its turn.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub turn: Maybe<u32>,
    /// A part of its thought.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub thinks: Maybe<String>,
    /// Its search query.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub query: Maybe<String>,
    /// Where it looked.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub retriever: Maybe<ScriptedRetriever>,
    /// Ids at the beginning of what it found.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub finds: Maybe<Vec<String>>,
    /// What became of it.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub fate: Maybe<Fate>,
}

/// The parent of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParentBranch {
    /// Its number.
    Number(u32),
    /// It is a root.
    Root(NoParent),
}

/// `"none"`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "one word that says it")]
pub enum NoParent {
    None,
}

/// What became of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It contributes to the answer.
    Chosen,
    /// It was cut off.
    Pruned,
    /// Neither.
    Kept,
}

impl Fate {
    /// As the trace has it; a branch that was pruned and still contributes is chosen.
    pub fn of(branch: &Branch) -> Self {
        match (branch.chosen, branch.pruned) {
            (true, _) => Self::Chosen,
            (false, true) => Self::Pruned,
            (false, false) => Self::Kept,
        }
    }
}

/// One expectation that did not come true; both sides as lines of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The field of `[expect]`.
    pub what: &'static str,
    /// One line an item.
    pub expected: Vec<String>,
    /// One line an item, what is not checked left out or as expected.
    pub actual: Vec<String>,
}

/// A search held against its scenario.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What came.
    pub outcome: Outcome,
    /// All that a replay needs.
    pub recording: Recording,
    /// What differs; empty where the scenario holds.
    pub differences: Vec<Difference>,
    /// Fields of `[expect]` that are marked and wait to be written.
    pub marked: Vec<&'static str>,
    /// What came, in the words of `[expect]`: what an update writes.
    pub actual: Expectations,
}

impl Checked {
    pub(super) fn new(expected: &Expectations, outcome: Outcome, recording: Recording) -> Self {
        let seen = actual(&outcome, &recording, usize::MAX);
        let mut differences = Vec::new();
        let mut note = |what, expected: Vec<String>, actual: Vec<String>| {
            if expected != actual {
                differences.push(Difference { what, expected, actual });
            }
        };
        note("degraded", degraded_lines(expected, &outcome), degraded_seen(expected, &outcome));
        let ranking: Vec<String> = outcome.ranking.iter().map(|hit| hit.id.clone()).collect();
        if let Some(ids) = expected.ranking.value() {
            note("ranking", ids.clone(), ranking.clone());
        }
        if let Some(ids) = &expected.ranking_begins {
            note("ranking_begins", ids.clone(), ranking.iter().take(ids.len()).cloned().collect());
        }
        if let (Some(wanted), Some(seen)) = (expected.searches.value(), seen.searches.value()) {
            let both: Vec<(String, String)> =
                (0..wanted.len().max(seen.len())).map(|place| search_lines(wanted, seen, place)).collect();
            let lines = |side: fn(&(String, String)) -> &String| {
                both.iter().map(side).filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>()
            };
            note("searches", lines(|pair| &pair.0), lines(|pair| &pair.1));
        }
        if let (Some(wanted), Some(seen)) = (expected.branch.value(), seen.branch.value()) {
            let thoughts: Vec<&str> =
                outcome.trace.branches.iter().map(|branch| branch.think.as_str()).collect();
            let (wanted, seen) = tree_lines(wanted, seen, &thoughts);
            note("branch", wanted, seen);
        }
        let marked = marked(expected);
        let actual = actual(&outcome, &recording, HITS_WRITTEN);
        Self { outcome, recording, differences, marked, actual }
    }

    /// Whether everything expected came, and nothing waits to be written.
    pub fn holds(&self) -> bool {
        self.differences.is_empty() && self.marked.is_empty()
    }
}

fn marked(expected: &Expectations) -> Vec<&'static str> {
    let mut fields = Vec::new();
    if expected.ranking.is_marked() {
        fields.push("ranking");
    }
    if expected.searches.is_marked() {
        fields.push("searches");
    }
    let is_branch_marked = |branch: &ExpectedBranch| {
        branch.parent.is_marked()
            || branch.turn.is_marked()
            || branch.thinks.is_marked()
            || branch.query.is_marked()
            || branch.retriever.is_marked()
            || branch.finds.is_marked()
            || branch.fate.is_marked()
    };
    let has_marked = expected.branch.value().is_some_and(|branches| branches.iter().any(is_branch_marked));
    if expected.branch.is_marked() || has_marked {
        fields.push("branch");
    }
    fields
}

/// Everything that came, as an `[expect]` table would say it, with the first hits of each branch.
fn actual(outcome: &Outcome, recording: &Recording, hits: usize) -> Expectations {
    let searches = recording
        .calls
        .iter()
        .filter(|call| call.call == "retrieval.search")
        .flat_map(|call| call.asked.as_array().into_iter().flatten())
        .filter_map(|query| {
            let text = query.get("text")?.as_str()?.to_owned();
            let retriever: crate::contract::Retriever =
                serde_json::from_value(query.get("retriever")?.clone()).ok()?;
            Some(ExpectedSearch::Full { query: text, retriever: ScriptedRetriever::from_contract(retriever) })
        });
    let branches = outcome.trace.branches.iter().map(|branch| ExpectedBranch {
        parent: Maybe::Value(branch.parent.map_or(ParentBranch::Root(NoParent::None), ParentBranch::Number)),
        turn: Maybe::Value(branch.turn),
        thinks: if branch.think.is_empty() { Maybe::Absent } else { Maybe::Value(branch.think.clone()) },
        query: Maybe::Value(branch.query.clone()),
        retriever: Maybe::Value(ScriptedRetriever::from_contract(branch.retriever)),
        finds: Maybe::Value(branch.hits.iter().take(hits).map(|hit| hit.id.clone()).collect()),
        fate: Maybe::Value(Fate::of(branch)),
    });
    Expectations {
        ranking: Maybe::Value(outcome.ranking.iter().map(|hit| hit.id.clone()).collect()),
        ranking_begins: None,
        degraded: outcome.degraded.as_ref().map(|degraded| degraded.kind),
        reason: None,
        searches: Maybe::Value(searches.collect()),
        branch: Maybe::Value(branches.collect()),
    }
}

const NOT_DEGRADED: &str = "the strategy answers";

fn degraded_lines(expected: &Expectations, outcome: &Outcome) -> Vec<String> {
    let seen_kind = outcome.degraded.as_ref().map(|degraded| degraded.kind);
    match (expected.degraded, &expected.reason) {
        (None, None) => vec![NOT_DEGRADED.to_owned()],
        (kind, reason) => {
            let kind = kind.or(seen_kind).map_or_else(|| "degraded".to_owned(), |kind| kind.to_string());
            vec![reason.as_ref().map_or(kind.clone(), |reason| format!("{kind}: … {reason} …"))]
        }
    }
}

fn degraded_seen(expected: &Expectations, outcome: &Outcome) -> Vec<String> {
    let Some(degraded) = &outcome.degraded else { return vec![NOT_DEGRADED.to_owned()] };
    let is_kind = expected.degraded.is_none_or(|kind| kind == degraded.kind);
    let is_reason = expected.reason.as_ref().is_none_or(|part| degraded.reason.contains(part));
    let is_expected = expected.degraded.is_some() || expected.reason.is_some();
    if is_expected && is_kind && is_reason {
        return degraded_lines(expected, outcome);
    }
    vec![degraded.to_string()]
}

/// Line `place` of both lists; the retriever is shown only where it is expected.
fn search_lines(wanted: &[ExpectedSearch], seen: &[ExpectedSearch], place: usize) -> (String, String) {
    let full = |search: &ExpectedSearch| match search {
        ExpectedSearch::Text(query) => query.clone(),
        ExpectedSearch::Full { query, retriever } => format!("{query} · {}", word(retriever)),
    };
    let text = |search: &ExpectedSearch| match search {
        ExpectedSearch::Text(query) | ExpectedSearch::Full { query, .. } => query.clone(),
    };
    let has_retriever = !matches!(wanted.get(place), Some(ExpectedSearch::Text(_)));
    let line = |search: &ExpectedSearch| if has_retriever { full(search) } else { text(search) };
    (wanted.get(place).map(line).unwrap_or_default(), seen.get(place).map(line).unwrap_or_default())
}

/// Both trees as lines. What is not expected of a branch is drawn on both sides as it came, so that only what differs
/// differs.
fn tree_lines(
    wanted: &[ExpectedBranch],
    seen: &[ExpectedBranch],
    thoughts: &[&str],
) -> (Vec<String>, Vec<String>) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for place in 0..wanted.len().max(seen.len()) {
        // As many hits as are expected, or a few where none are.
        let shown_hits =
            wanted.get(place).and_then(|branch| branch.finds.value()).map_or(HITS_WRITTEN, Vec::len);
        let came = seen.get(place).map(|branch| cut(branch, shown_hits));
        let thought = thoughts.get(place).copied().unwrap_or_default();
        if let Some(branch) = wanted.get(place) {
            left.extend(branch_lines(place, &filled(branch, came.as_ref(), thought)));
        }
        if let Some(branch) = came {
            right.extend(branch_lines(place, &branch));
        }
    }
    (left, right)
}

fn cut(branch: &ExpectedBranch, hits: usize) -> ExpectedBranch {
    let mut shown = branch.clone();
    if let Maybe::Value(ids) = &mut shown.finds {
        ids.truncate(hits);
    }
    shown
}

/// An expected branch with what came wherever nothing, or a part that came true, is expected.
fn filled(branch: &ExpectedBranch, came: Option<&ExpectedBranch>, thought: &str) -> ExpectedBranch {
    fn or<T: Clone>(expected: &Maybe<T>, came: Option<&Maybe<T>>) -> Maybe<T> {
        match expected {
            Maybe::Value(_) => expected.clone(),
            Maybe::Absent | Maybe::Marked => came.cloned().unwrap_or_default(),
        }
    }
    let holds_part = branch.thinks.value().is_some_and(|part| thought.contains(part.as_str()));
    let thinks = if holds_part { &Maybe::Absent } else { &branch.thinks };
    ExpectedBranch {
        parent: or(&branch.parent, came.map(|came| &came.parent)),
        turn: or(&branch.turn, came.map(|came| &came.turn)),
        thinks: or(thinks, came.map(|came| &came.thinks)),
        query: or(&branch.query, came.map(|came| &came.query)),
        retriever: or(&branch.retriever, came.map(|came| &came.retriever)),
        finds: or(&branch.finds, came.map(|came| &came.finds)),
        fate: or(&branch.fate, came.map(|came| &came.fate)),
    }
}

fn branch_lines(number: usize, branch: &ExpectedBranch) -> Vec<String> {
    let mut heading = vec![format!("branch {number}")];
    if let Some(parent) = branch.parent.value() {
        heading.push(match parent {
            ParentBranch::Number(parent) => format!("after {parent}"),
            ParentBranch::Root(_) => "root".to_owned(),
        });
    }
    heading.extend(branch.turn.value().map(|turn| format!("turn {turn}")));
    heading.extend(branch.retriever.value().map(word));
    heading.extend(branch.fate.value().map(word));
    let mut lines = vec![heading.join(" · ")];
    lines.extend(
        branch.thinks.value().filter(|think| !think.is_empty()).map(|text| format!("  thinks {text}")),
    );
    lines.extend(branch.query.value().map(|text| format!("  asks   {text}")));
    lines.extend(branch.finds.value().map(|ids| format!("  finds  {}", ids.join(", "))));
    lines
}

/// A unit variant's name as files have it.
fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Expectations, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn values_marks_and_absence_are_told_apart() {
        let expectations =
            read("ranking = [\"a\"]\nsearches = \"?\"\n[[branch]]\nfate = \"?\"\nparent = 3\n")
                .expect("a table");
        assert_eq!(expectations.ranking, Maybe::Value(vec!["a".to_owned()]));
        assert!(expectations.searches.is_marked());
        let branches = expectations.branch.value().expect("a branch");
        assert_eq!(branches[0].parent, Maybe::Value(ParentBranch::Number(3)));
        assert!(branches[0].query.is_absent());
        assert_eq!(marked(&expectations), ["searches", "branch"]);
    }

    #[test]
    fn unknown_fields_are_named_however_deep() {
        for (text, name) in [("rankng = []", "rankng"), ("[[branch]]\nfait = \"kept\"", "fait")] {
            let error = read(text).expect_err("an unknown field");
            assert!(error.contains(name), "{error}");
        }
        assert!(read("[[branch]]\nfate = \"gone\"").is_err());
    }

    #[test]
    fn only_what_differs_is_drawn_differently() {
        let came = ExpectedBranch {
            parent: Maybe::Value(ParentBranch::Root(NoParent::None)),
            thinks: Maybe::Value("look for the valve".to_owned()),
            query: Maybe::Value("valve".to_owned()),
            finds: Maybe::Value(vec!["a".to_owned(), "b".to_owned()]),
            ..ExpectedBranch::default()
        };
        let wanted = |query: &str| ExpectedBranch {
            thinks: Maybe::Value("valve".to_owned()),
            query: Maybe::Value(query.to_owned()),
            finds: Maybe::Value(vec!["a".to_owned()]),
            ..ExpectedBranch::default()
        };
        let (left, right) =
            tree_lines(&[wanted("valve")], std::slice::from_ref(&came), &["look for the valve"]);
        assert_eq!(left, right);
        let (left, right) = tree_lines(&[wanted("pump")], &[came], &["look for the valve"]);
        let differing: Vec<_> = left.iter().zip(&right).filter(|(left, right)| left != right).collect();
        assert_eq!(differing, [(&"  asks   pump".to_owned(), &"  asks   valve".to_owned())]);
    }
}
