//! Hits as replies show them: ids, scores, filtered sources, marks.

use std::collections::BTreeSet;

use orion_host::index::{Clause, Searcher, StoredDocument};
use serde_json::{Map, Value, json};

use super::body::{SearchBody, SourceFilter};
use crate::http::{collection::Collection, error::ApiError, mapping::texts_of};

/// One document of a ranking.
pub(super) struct Ranked {
    /// Its id.
    pub(super) id: String,
    /// Its score, where there is one.
    pub(super) score: Option<f32>,
    /// What it was sorted by.
    pub(super) sort: Vec<Value>,
}

/// The `hits` array; documents in the order of the ranking.
pub(super) fn shown(
    collection: &Collection,
    searcher: &Searcher,
    documents: Vec<Option<StoredDocument>>,
    ranked: &[Ranked],
    search: &SearchBody,
    words: &BTreeSet<String>,
    clause: Option<&Clause>,
) -> Result<Vec<Value>, ApiError> {
    let meta = collection.meta();
    let mut hits = Vec::with_capacity(ranked.len());
    for (one, document) in ranked.iter().zip(documents) {
        let Some(document) = document else { continue };
        let kept = collection.kept(searcher, document)?;
        let source = kept.object();
        let mut hit = json!({ "_index": collection.name, "_id": one.id, "_score": one.score });
        if search.versions.0 {
            hit["_version"] = json!(kept.version);
        }
        if search.versions.1 {
            hit["_seq_no"] = json!(kept.sequence);
            hit["_primary_term"] = json!(1);
        }
        if let Some(highlight) = &search.highlight {
            let marks = highlight.mark(searcher, words, &texts_of(&meta.mapping, &source));
            if marks.as_object().is_some_and(|marks| !marks.is_empty()) {
                hit["highlight"] = marks;
            }
        }
        if let Some(part) = filtered(source, &search.source) {
            hit["_source"] = Value::Object(part);
        }
        if !one.sort.is_empty() {
            hit["sort"] = json!(one.sort);
        }
        if let (true, Some(clause)) = (search.explain, clause)
            && let Some(explanation) = searcher.explain(clause, &one.id)?
        {
            hit["_explanation"] = explanation;
        }
        hits.push(hit);
    }
    Ok(hits)
}

/// Whether a dotted name fits a pattern with `*`, or lies in an object of that name.
fn fits(pattern: &str, name: &str) -> bool {
    is_like(pattern, name) || name.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a dotted name fits a pattern with `*`.
pub fn is_like(pattern: &str, name: &str) -> bool {
    fn glob(pattern: &[u8], name: &[u8]) -> bool {
        // The last star seen, and how much of the name it has taken.
        let (mut p, mut n, mut star) = (0, 0, None);
        while n < name.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some((p, n));
                p += 1;
            } else if p < pattern.len() && pattern[p] == name[n] {
                p += 1;
                n += 1;
            } else if let Some((at, taken)) = star {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
    glob(pattern.as_bytes(), name.as_bytes())
}

/// The wanted parts of a source; `None` where none is wanted.
pub fn filtered(source: Map<String, Value>, filter: &SourceFilter) -> Option<Map<String, Value>> {
    match filter {
        SourceFilter::All => Some(source),
        SourceFilter::Nothing => None,
        SourceFilter::Parts(includes, excludes) => Some(part(source, "", includes, excludes)),
    }
}

fn part(
    source: Map<String, Value>,
    prefix: &str,
    includes: &[String],
    excludes: &[String],
) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in source {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if excludes.iter().any(|pattern| fits(pattern, &path)) {
            continue;
        }
        let is_wanted = includes.is_empty() || includes.iter().any(|pattern| fits(pattern, &path));
        if let Some(value) = part_of(value, &path, is_wanted, includes, excludes) {
            kept.insert(name, value);
        }
    }
    kept
}

/// The wanted parts of one value; objects of a list keep their places while any of them has one.
fn part_of(
    value: Value,
    path: &str,
    is_wanted: bool,
    includes: &[String],
    excludes: &[String],
) -> Option<Value> {
    match value {
        Value::Object(inner) => {
            let inner = part(inner, path, if is_wanted { &[] } else { includes }, excludes);
            (is_wanted || !inner.is_empty()).then_some(Value::Object(inner))
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let one = |item: Value| match item {
                Value::Object(inner) => {
                    let inner = part(inner, path, if is_wanted { &[] } else { includes }, excludes);
                    Some(Value::Object(inner))
                }
                other => part_of(other, path, is_wanted, includes, excludes),
            };
            let items: Vec<Value> = items.into_iter().filter_map(one).collect();
            let is_empty = |item: &Value| item.as_object().is_some_and(Map::is_empty);
            (is_wanted || !items.iter().all(is_empty)).then_some(Value::Array(items))
        }
        other => is_wanted.then_some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_filtered_by_path() {
        let source = json!({ "title": "t", "user": { "name": "n", "age": 3 }, "tags": [1] });
        let check = |includes: &[&str], excludes: &[&str], expected: Value| {
            let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            let filter = SourceFilter::Parts(own(includes), own(excludes));
            let got = filtered(source.as_object().unwrap().clone(), &filter).unwrap();
            assert_eq!(Value::Object(got), expected, "{includes:?} {excludes:?}");
        };
        check(&["title"], &[], json!({ "title": "t" }));
        check(&["t*"], &["tags"], json!({ "title": "t" }));
        check(&["user"], &["*.age"], json!({ "user": { "name": "n" } }));
        check(&["user.name"], &[], json!({ "user": { "name": "n" } }));
        check(&[], &["user"], json!({ "title": "t", "tags": [1] }));
        check(&["nothing"], &[], json!({}));

        let source = json!({ "notes": [{ "by": { "name": "n" }, "text": "t" }, { "text": "u" }, 3], "a.b": 1, "n": [[1]] });
        let check = |includes: &[&str], excludes: &[&str], expected: Value| {
            let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            let filter = SourceFilter::Parts(own(includes), own(excludes));
            let got = filtered(source.as_object().unwrap().clone(), &filter).unwrap();
            assert_eq!(Value::Object(got), expected, "{includes:?} {excludes:?}");
        };
        check(&["notes.by.name"], &[], json!({ "notes": [{ "by": { "name": "n" } }, {}] }));
        check(&["notes.*"], &["notes.by"], json!({ "notes": [{ "text": "t" }, { "text": "u" }] }));
        check(&["notes"], &["*.text"], json!({ "notes": [{ "by": { "name": "n" } }, {}, 3] }));
        check(&["notes.who"], &[], json!({}));
        check(&["a.b", "n"], &[], json!({ "a.b": 1, "n": [[1]] }));
    }
}
