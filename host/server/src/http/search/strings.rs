//! `query_string` and `simple_query_string`, the simple part of them: words, `"phrases"`, `+needed`, `-excluded`,
//! `AND`, `OR`, `NOT`, `field:word` and `field:"phrase"`. Everything else that has a meaning there is refused.

use serde_json::Value;

use super::dsl::{Node, field_list, fields, minimum, needed_text, number, scaled};
use crate::http::error::ApiError;

/// Signs that mean something in Lucene's syntax and nothing here, and those of the simple syntax.
const REFUSED: [char; 12] = ['*', '?', '~', '^', '[', ']', '{', '}', '/', '\\', '(', ')'];
const REFUSED_IN_SIMPLE: [char; 5] = ['*', '~', '|', '(', ')'];

struct Part {
    field: Option<String>,
    text: String,
    is_phrase: bool,
    needed: bool,
    excluded: bool,
}

/// One query of either name.
pub(super) fn parse(name: &str, body: &Value) -> Result<Node, ApiError> {
    let known = ["query", "fields", "default_field", "default_operator", "minimum_should_match", "boost"];
    let object = fields(name, body, &known)?;
    let text = needed_text(name, object, "query")?;
    let mut named = field_list(name, object)?;
    if let Some(field) = object.get("default_field").and_then(Value::as_str)
        && field != "*"
    {
        named.push((field.to_owned(), 1.0));
    }
    let all = minimum(name, object, "default_operator")? == usize::MAX;
    let parts = parts(name, &text)?;
    let is_plain =
        parts.iter().all(|part| part.field.is_none() && !part.is_phrase && !part.needed && !part.excluded);
    if is_plain && !all {
        // One bag of words: what adaptive searches take as the user's text.
        let minimum = number(name, object, "minimum_should_match")?.unwrap_or(1.0).max(1.0) as usize;
        return scaled(name, object, Node::Match { fields: named, text, minimum, tie: 0.0, is_string: true });
    }
    let (mut must, mut should, mut must_not) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let own = match part.field {
            Some(field) => vec![(field, 1.0)],
            None => named.clone(),
        };
        let made = if part.is_phrase {
            Node::Phrase { fields: own, text: part.text, slop: 0 }
        } else {
            Node::Match { fields: own, text: part.text, minimum: 1, tie: 0.0, is_string: true }
        };
        if part.excluded {
            must_not.push(made);
        } else if part.needed || all {
            must.push(made);
        } else {
            should.push(made);
        }
    }
    let minimum = None;
    scaled(name, object, Node::Bool { must, should, filter: Vec::new(), must_not, minimum })
}

fn parts(name: &str, text: &str) -> Result<Vec<Part>, ApiError> {
    let refuse = |what: String| ApiError::parsing(format!("[{name}] Failed to parse query [{text}]: {what}"));
    let refused = if name == "query_string" { &REFUSED[..] } else { &REFUSED_IN_SIMPLE[..] };
    let mut parts: Vec<Part> = Vec::new();
    let (mut joins_and, mut negates) = (false, false);
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut part =
            Part { field: None, text: String::new(), is_phrase: false, needed: false, excluded: false };
        if let Some(after) = rest.strip_prefix('+') {
            part.needed = true;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('-') {
            part.excluded = true;
            rest = after;
        }
        loop {
            if let Some(after) = rest.strip_prefix('"') {
                let (phrase, after) =
                    after.split_once('"').ok_or_else(|| refuse("a quote is not closed".to_owned()))?;
                (part.text, part.is_phrase) = (phrase.to_owned(), true);
                rest = after;
                break;
            }
            let end = rest.find(|c: char| c.is_whitespace() || c == ':' || c == '"').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if let Some(sign) = word.chars().find(|sign| refused.contains(sign)) {
                return Err(refuse(format!("`{sign}` is not supported")));
            }
            match after.strip_prefix(':') {
                Some(value)
                    if part.field.is_none()
                        && !word.is_empty()
                        && !value.starts_with(char::is_whitespace) =>
                {
                    part.field = Some(word.to_owned());
                    rest = value;
                }
                Some(_) => return Err(refuse("`:` stands between a field and a value".to_owned())),
                None => {
                    part.text = word.to_owned();
                    rest = after;
                    break;
                }
            }
        }
        rest = rest.trim_start();
        let is_operator = part.field.is_none() && !part.is_phrase && !part.needed && !part.excluded;
        match part.text.as_str() {
            "AND" | "&&" if is_operator => {
                if let Some(last) = parts.last_mut() {
                    last.needed |= !last.excluded;
                }
                joins_and = true;
                continue;
            }
            "OR" | "||" if is_operator => continue,
            "NOT" if is_operator => {
                negates = true;
                continue;
            }
            "" if !part.is_phrase => return Err(refuse("a sign stands alone".to_owned())),
            _ => {}
        }
        part.excluded |= std::mem::take(&mut negates);
        part.needed |= std::mem::take(&mut joins_and) && !part.excluded;
        parts.push(part);
    }
    if negates || joins_and {
        return Err(refuse("an operator stands at the end".to_owned()));
    }
    Ok(parts)
}
