//! Writing what came into a scenario file, where it asks for that; comments and layout of the rest stay.

use std::path::Path;

use orion_host::scripted::{Expectations, ExpectedBranch, ExpectedScores, Maybe};
use serde::Serialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use crate::failure::{Explain, Failure};

/// Writes `actual` where `expected` is marked, or everywhere if nothing is expected; says whether it wrote anything.
pub(super) fn write(path: &Path, expected: &Expectations, actual: &Expectations) -> Result<bool, Failure> {
    let attempted = || format!("updating `{}`", path.display());
    let text = std::fs::read_to_string(path).attempt(attempted())?;
    let mut document: DocumentMut = text.parse().attempt(attempted())?;
    if !apply(&mut document, expected, actual) {
        return Ok(false);
    }
    std::fs::write(path, document.to_string()).attempt(attempted())?;
    Ok(true)
}

/// As [`write`], for the rewards that came into a scenario without expectations or with a mark.
pub(super) fn write_rewards(
    path: &Path,
    expected: &ExpectedScores,
    rewards: &[f32],
) -> Result<bool, Failure> {
    if *expected != ExpectedScores::default() && !expected.rewards.is_marked() {
        return Ok(false);
    }
    let attempted = || format!("updating `{}`", path.display());
    let text = std::fs::read_to_string(path).attempt(attempted())?;
    let mut document: DocumentMut = text.parse().attempt(attempted())?;
    let table = document.entry("expect").or_insert_with(|| Item::Table(Table::new()));
    let Some(table) = table.as_table_like_mut() else { return Ok(false) };
    // Through text: the shortest decimal that is this float.
    let decimal =
        |reward: &f32| reward.to_string().parse::<f64>().map_or_else(|_| Value::from(""), Value::from);
    table.insert("rewards", Item::Value(Value::Array(rewards.iter().map(decimal).collect())));
    std::fs::write(path, document.to_string()).attempt(attempted())?;
    Ok(true)
}

fn apply(document: &mut DocumentMut, expected: &Expectations, actual: &Expectations) -> bool {
    let is_new = *expected == Expectations::default();
    let is_wanted = |is_marked: bool| is_new || is_marked;
    let table = document.entry("expect").or_insert_with(|| Item::Table(Table::new()));
    let Some(table) = table.as_table_like_mut() else { return false };
    let mut has_written = false;
    let mut set = |name: &str, item: Item| {
        table.insert(name, item);
        has_written = true;
    };
    if let Some(degraded) = actual.degraded.filter(|_| is_new) {
        set("degraded", Item::Value(plain(&degraded)));
    }
    if let Some(ranking) = actual.ranking.value().filter(|_| is_wanted(expected.ranking.is_marked())) {
        set("ranking", Item::Value(plain(ranking)));
    }
    if let Some(searches) = actual.searches.value().filter(|_| is_wanted(expected.searches.is_marked())) {
        set("searches", Item::Value(lines(searches)));
    }
    match (&expected.branch, actual.branch.value()) {
        (Maybe::Value(wanted), Some(came)) => {
            let item = table.get_mut("branch");
            let filled = item.is_some_and(|item| fill(item, wanted, came));
            return has_written || filled;
        }
        (branch, Some(came)) if is_wanted(branch.is_marked()) => {
            table.remove("branch");
            let tables: ArrayOfTables = came.iter().map(whole).collect();
            if !tables.is_empty() {
                table.insert("branch", Item::ArrayOfTables(tables));
            }
            has_written = true;
        }
        _ => {}
    }
    has_written
}

/// Every field of a branch as a table.
fn whole(branch: &ExpectedBranch) -> Table {
    let mut table = Table::new();
    for (name, value) in fields(branch) {
        table.insert(name, Item::Value(value));
    }
    table
}

/// The fields that a branch has, in the order in which people read them.
fn fields(branch: &ExpectedBranch) -> Vec<(&'static str, Value)> {
    const ORDER: [&str; 7] = ["parent", "turn", "thinks", "query", "retriever", "finds", "fate"];
    let object = serde_json::to_value(branch).unwrap_or_default();
    ORDER.iter().filter_map(|name| Some((*name, from_json(object.get(name)?)))).collect()
}

/// Fills the marked fields of branches that came.
fn fill(item: &mut Item, wanted: &[ExpectedBranch], came: &[ExpectedBranch]) -> bool {
    let mut has_written = false;
    for (place, (branch, seen)) in wanted.iter().zip(came).enumerate() {
        let table: Option<&mut dyn toml_edit::TableLike> = match item {
            Item::ArrayOfTables(tables) => tables.get_mut(place).map(|table| table as _),
            Item::Value(Value::Array(list)) => {
                list.get_mut(place).and_then(Value::as_inline_table_mut).map(|table| table as _)
            }
            _ => None,
        };
        let Some(table) = table else { continue };
        let is_marked = |(_, value): &(&str, Value)| value.as_str() == Some("?");
        let marked: Vec<&str> = fields(branch).into_iter().filter(is_marked).map(|(name, _)| name).collect();
        for (name, value) in fields(seen) {
            if marked.contains(&name) {
                table.insert(name, Item::Value(value));
                has_written = true;
            }
        }
    }
    has_written
}

fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).map_or_else(|_| Value::from(""), |value| from_json(&value))
}

/// A list with one element a line.
fn lines(list: &[impl Serialize]) -> Value {
    let mut array: Array = list.iter().map(plain).collect();
    if !array.is_empty() {
        for element in array.iter_mut() {
            element.decor_mut().set_prefix("\n  ");
        }
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
    Value::Array(array)
}

fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(""),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::from(number.as_f64().unwrap_or(0.0)), Value::from)
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(list) => Value::Array(list.iter().map(from_json).collect()),
        serde_json::Value::Object(object) => {
            let mut table = InlineTable::new();
            for (name, inner) in object {
                table.insert(name, from_json(inner));
            }
            Value::InlineTable(table)
        }
    }
}

#[cfg(test)]
mod tests {
    use orion_host::scripted::{ExpectedSearch, ScriptedRetriever};

    use super::*;

    fn updated(text: &str) -> (bool, String) {
        let actual = Expectations {
            ranking: Maybe::Value(vec!["a".to_owned()]),
            searches: Maybe::Value(vec![ExpectedSearch::Full {
                query: "q".to_owned(),
                retriever: ScriptedRetriever::Lexical,
            }]),
            branch: Maybe::Value(vec![ExpectedBranch {
                turn: Maybe::Value(1),
                query: Maybe::Value("q".to_owned()),
                ..ExpectedBranch::default()
            }]),
            ..Expectations::default()
        };
        let mut document: DocumentMut = text.parse().expect("TOML");
        let expected: Expectations = document
            .get("expect")
            .map(|item| serde_json::from_value(json(item)).expect("expectations"))
            .unwrap_or_default();
        let has_written = apply(&mut document, &expected, &actual);
        (has_written, document.to_string())
    }

    fn json(item: &Item) -> serde_json::Value {
        match item {
            Item::Value(Value::String(text)) => serde_json::json!(text.value()),
            Item::Value(Value::Array(list)) => {
                list.iter().map(|value| json(&Item::Value(value.clone()))).collect()
            }
            Item::ArrayOfTables(tables) => {
                tables.iter().map(|table| json(&Item::Table(table.clone()))).collect()
            }
            Item::Table(table) => serde_json::Value::Object(
                table.iter().map(|(name, item)| (name.to_owned(), json(item))).collect(),
            ),
            _ => serde_json::Value::Null,
        }
    }

    #[test]
    fn a_scenario_without_expectations_gets_all() {
        let (has_written, text) = updated("# why\nabout = \"x\"\n");
        assert!(has_written);
        let want = "# why\nabout = \"x\"\n\n[expect]\nranking = [\"a\"]\nsearches = [\n  { query = \"q\", retriever = \
                    \"lexical\" },\n]\n\n[[expect.branch]]\nturn = 1\nquery = \"q\"\n";
        assert_eq!(text, want);
    }

    #[test]
    fn only_marks_are_replaced() {
        let (has_written, text) = updated("[expect]\nranking = \"?\" # here\nsearches = [\"other\"]\n");
        assert!(has_written);
        assert!(text.contains("ranking = [\"a\"]") && text.contains("searches = [\"other\"]"), "{text}");
        let (has_written, text) = updated("[[expect.branch]]\nquery = \"?\"\nthinks = \"kept\"\n");
        assert!(has_written);
        assert_eq!(text, "[[expect.branch]]\nquery = \"q\"\nthinks = \"kept\"\n");
        assert!(!updated("[expect]\nranking = [\"b\"]\n").0);
    }
}
