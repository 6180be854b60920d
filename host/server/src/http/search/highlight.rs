//! Highlighting: fragments of texts in which the query's words are marked.

use std::collections::BTreeSet;

use orion_host::index::Searcher;
use serde_json::{Map, Value, json};

use crate::http::{call::kind_of, error::ApiError};

/// How words are marked.
#[derive(Debug, Clone, PartialEq)]
pub struct Highlight {
    fields: Vec<String>,
    before: String,
    after: String,
    fragment_chars: usize,
    fragments: usize,
}

impl Highlight {
    /// `highlight` of a body.
    pub fn parse(value: &Value) -> Result<Self, ApiError> {
        let Value::Object(object) = value else {
            return Err(ApiError::parsing(format!(
                "[highlight]: expected an object, got {}",
                kind_of(value)
            )));
        };
        let known = ["fields", "pre_tags", "post_tags", "fragment_size", "number_of_fragments"];
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ApiError::parsing(format!("[highlight] unknown field [{key}]")));
        }
        let mut names = Vec::new();
        let parts = match object.get("fields") {
            Some(Value::Array(items)) => items.iter().collect(),
            Some(one @ Value::Object(_)) => vec![one],
            _ => return Err(ApiError::parsing("[highlight]: expected an object in [fields]")),
        };
        let mut highlight = Self {
            fields: Vec::new(),
            before: tag(object, "pre_tags", "<em>")?,
            after: tag(object, "post_tags", "</em>")?,
            fragment_chars: number(object, "fragment_size", 100)?,
            fragments: number(object, "number_of_fragments", 5)?,
        };
        for part in parts {
            for (name, options) in part.as_object().into_iter().flatten() {
                let options = options.as_object().ok_or_else(|| {
                    ApiError::parsing(format!("[highlight]: expected an object for field [{name}]"))
                })?;
                if let Some(key) = options.keys().find(|key| !known[3..].contains(&key.as_str())) {
                    return Err(ApiError::parsing(format!("[highlight_field] unknown field [{key}]")));
                }
                highlight.fragment_chars = number(options, "fragment_size", highlight.fragment_chars)?;
                highlight.fragments = number(options, "number_of_fragments", highlight.fragments)?;
                names.push(name.clone());
            }
        }
        highlight.fields = names;
        Ok(highlight)
    }

    /// The words of some texts, as documents have them.
    pub fn words(searcher: &Searcher, texts: &[&str]) -> BTreeSet<String> {
        texts.iter().flat_map(|text| searcher.words(text)).collect()
    }

    /// Marked fragments of texts by field, each value on its own; empty where nothing is to be marked.
    pub fn mark(
        &self,
        searcher: &Searcher,
        words: &BTreeSet<String>,
        texts: &[(String, Vec<&str>)],
    ) -> Value {
        let mut marked = json!({});
        for (name, values) in texts {
            if !self.fields.iter().any(|field| super::hits::is_like(field, name)) {
                continue;
            }
            let mut fragments: Vec<String> =
                values.iter().flat_map(|text| self.fragments_of(searcher, words, text)).collect();
            if self.fragments != 0 {
                fragments.truncate(self.fragments);
            }
            if !fragments.is_empty() {
                marked[name.as_str()] = json!(fragments);
            }
        }
        marked
    }

    fn fragments_of(&self, searcher: &Searcher, words: &BTreeSet<String>, text: &str) -> Vec<String> {
        let spans = searcher.spans(text, words);
        let whole = self.fragments == 0;
        let mut fragments = Vec::new();
        let mut next = 0;
        while next < spans.len() && (whole || fragments.len() < self.fragments) {
            // A fragment begins a little before its first word, where a word begins.
            let start = if whole {
                0
            } else {
                self.start(text, spans[next].start, next.checked_sub(1).map_or(0, |last| spans[last].end))
            };
            let end = if whole { text.len() } else { self.end(text, start, spans[next].end) };
            let mut fragment = String::new();
            let mut at = start;
            while next < spans.len() && spans[next].end <= end {
                fragment.push_str(&text[at..spans[next].start]);
                fragment.push_str(&self.before);
                fragment.push_str(&text[spans[next].clone()]);
                fragment.push_str(&self.after);
                at = spans[next].end;
                next += 1;
            }
            fragment.push_str(&text[at..end]);
            fragments.push(fragment.trim().to_owned());
        }
        fragments
    }

    fn start(&self, text: &str, word: usize, least: usize) -> usize {
        let lead = self.fragment_chars / 4;
        let from = text[..word].char_indices().rev().take(lead).last().map_or(word, |(at, _)| at).max(least);
        // Behind the next space, so that no word is cut.
        text[from..word].find(' ').filter(|_| from != least).map_or(from, |space| from + space + 1)
    }

    fn end(&self, text: &str, start: usize, least: usize) -> usize {
        let end =
            text[start..].char_indices().nth(self.fragment_chars).map_or(text.len(), |(at, _)| start + at);
        if end == text.len() {
            return end;
        }
        text[start..end].rfind(' ').map_or(end, |space| start + space).max(least)
    }
}

fn tag(object: &Map<String, Value>, key: &str, usual: &str) -> Result<String, ApiError> {
    match object.get(key) {
        None => Ok(usual.to_owned()),
        Some(Value::Array(items)) if items.len() == 1 && items[0].is_string() => {
            Ok(items[0].as_str().unwrap_or_default().to_owned())
        }
        Some(other) => Err(ApiError::parsing(format!(
            "[highlight] [{key}]: expected one string in an array, got {other}"
        ))),
    }
}

fn number(object: &Map<String, Value>, key: &str, usual: usize) -> Result<usize, ApiError> {
    match object.get(key) {
        None => Ok(usual),
        Some(value) => match value.as_u64() {
            Some(number) if number <= 100_000 => Ok(number as usize),
            _ => Err(ApiError::parsing(format!("[highlight] [{key}]: expected 0 to 100000, got {value}"))),
        },
    }
}
