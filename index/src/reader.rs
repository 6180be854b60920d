//! Documents from files: BEIR's `corpus.jsonl` and JSON lines in general, one document a line, streaming.
//!
//! Fields: `_id` or `id` (text or a whole number); `title` and `text`, both optional but not both missing where there is
//! no vector; `metadata`, an object; `vector` or `embedding`, numbers. Any other field is metadata as well, so that a plain
//! export can be read as it is. Text becomes a keyword, and is made text or a date where the index declares so.

use crate::document::{Document, METADATA_NAMES, Value, is_metadata_name};
use crate::error::{IndexError, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A line longer than this is no document but a mistake, such as a JSON array on one line.
const LONGEST_LINE_BYTES: u64 = 64 << 20;

/// The documents of an input, in order. A malformed line is an error that names it; reading can go on after it.
#[derive(Debug)]
pub struct JsonLines<R> {
    input: R,
    source_name: String,
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl JsonLines<BufReader<File>> {
    /// Reads the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(IndexError::io("open", path))?;
        Ok(Self::new(BufReader::with_capacity(1 << 18, file), &path.display().to_string()))
    }
}

impl<R: BufRead> JsonLines<R> {
    /// Reads `input`; `source_name` names it in errors.
    pub fn new(input: R, source_name: &str) -> Self {
        Self { input, source_name: source_name.to_owned(), line: 0, buffer: Vec::new(), ended: false }
    }

    fn refused(&self, expected: &str, got: impl Into<String>) -> IndexError {
        IndexError::Line {
            source_name: self.source_name.clone(),
            line: self.line,
            expected: expected.to_owned(),
            got: got.into(),
        }
    }

    /// Reads the next line into the buffer; false at the end.
    fn read_line(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.line += 1;
        let read = (&mut self.input).take(LONGEST_LINE_BYTES + 1).read_until(b'\n', &mut self.buffer);
        let count = read.map_err(|source| IndexError::Io {
            action: "read",
            path: self.source_name.clone().into(),
            source,
        })?;
        if LONGEST_LINE_BYTES < count as u64 {
            return Err(self.refused("a line of at most 64 MiB", "a longer one"));
        }
        Ok(count != 0)
    }

    fn parse(&self) -> Result<Document> {
        let value: serde_json::Value = serde_json::from_slice(&self.buffer)
            .map_err(|error| self.refused("a JSON object", error.to_string()))?;
        let serde_json::Value::Object(fields) = value else {
            return Err(self.refused("a JSON object", describe(&value)));
        };
        let mut document = Document::default();
        let (mut has_id, mut has_text) = (false, false);
        for (name, value) in fields {
            match name.as_str() {
                "_id" | "id" => {
                    if has_id {
                        return Err(self.refused("one of `_id` and `id`", "both"));
                    }
                    has_id = true;
                    document.id = match value {
                        serde_json::Value::String(id) => id,
                        serde_json::Value::Number(id) if !id.is_f64() => id.to_string(),
                        other => {
                            return Err(self.refused("text or a whole number in `_id`", describe(&other)));
                        }
                    };
                }
                "title" | "text" => {
                    let text = match value {
                        serde_json::Value::String(text) => text,
                        serde_json::Value::Null => continue,
                        other => return Err(self.refused(&format!("text in `{name}`"), describe(&other))),
                    };
                    has_text = true;
                    *if name == "title" { &mut document.title } else { &mut document.text } = text;
                }
                "vector" | "embedding" => document.vector = self.vector(&name, value)?,
                "metadata" => match value {
                    serde_json::Value::Null => {}
                    serde_json::Value::Object(inner) => {
                        for (name, value) in inner {
                            self.metadata(&mut document, name, value)?;
                        }
                    }
                    other => return Err(self.refused("an object in `metadata`", describe(&other))),
                },
                _ => self.metadata(&mut document, name, value)?,
            }
        }
        if !has_id {
            return Err(self.refused("`_id` or `id`", "neither"));
        }
        if !has_text && document.vector.is_none() {
            return Err(self.refused("`text` or `title`", "neither"));
        }
        Ok(document)
    }

    fn vector(&self, name: &str, value: serde_json::Value) -> Result<Option<Vec<f32>>> {
        if value.is_null() {
            return Ok(None);
        }
        let expected = format!("a list of numbers in `{name}`");
        let serde_json::Value::Array(values) = &value else {
            return Err(self.refused(&expected, describe(&value)));
        };
        let number = |value: &serde_json::Value| {
            value.as_f64().map(|number| number as f32).ok_or_else(|| self.refused(&expected, describe(value)))
        };
        values.iter().map(number).collect::<Result<_>>().map(Some)
    }

    fn metadata(&self, document: &mut Document, name: String, value: serde_json::Value) -> Result<()> {
        if !is_metadata_name(&name) {
            return Err(self.refused(METADATA_NAMES, format!("`{name}`")));
        }
        let expected = format!("text, a number, a boolean or a list of texts in `{name}`");
        let value = match value {
            serde_json::Value::Null => return Ok(()),
            serde_json::Value::String(text) => Value::Keyword(text),
            serde_json::Value::Bool(boolean) => Value::Boolean(boolean),
            serde_json::Value::Number(number) => match number.as_f64() {
                Some(number) => Value::Number(number),
                None => return Err(self.refused(&expected, number.to_string())),
            },
            serde_json::Value::Array(values) => {
                let mut words = Vec::with_capacity(values.len());
                for value in values {
                    match value {
                        serde_json::Value::String(word) => words.push(word),
                        other => {
                            return Err(self.refused(&expected, format!("a list with {}", describe(&other))));
                        }
                    }
                }
                Value::Keywords(words)
            }
            other @ serde_json::Value::Object(_) => return Err(self.refused(&expected, describe(&other))),
        };
        document.metadata.insert(name, value);
        Ok(())
    }
}

fn describe(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "null".to_owned(),
        serde_json::Value::Bool(_) => "a boolean".to_owned(),
        serde_json::Value::Number(number) => format!("the number {number}"),
        serde_json::Value::String(_) => "text".to_owned(),
        serde_json::Value::Array(_) => "a list".to_owned(),
        serde_json::Value::Object(_) => "an object".to_owned(),
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.read_line() {
                Ok(false) => self.ended = true,
                Ok(true) if self.buffer.trim_ascii().is_empty() => {}
                Ok(true) => return Some(self.parse()),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(input: &str) -> Vec<String> {
        JsonLines::new(input.as_bytes(), "in")
            .map(|document| match document {
                Ok(document) => format!("{} | {} | {}", document.id, document.title, document.text),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn lines_are_documents_or_say_why_not() {
        let input = concat!(
            "{\"_id\": \"a\", \"title\": \"T\", \"text\": \"x\"}\n",
            "\r\n",
            "{\"id\": 7, \"text\": \"y\", \"title\": null}\r\n",
            "not json\n",
            "[1]\n",
            "{\"text\": \"no id\"}\n",
            "{\"_id\": \"b\"}\n",
            "{\"_id\": \"c\", \"text\": 3}\n",
            "{\"_id\": \"d\", \"text\": \"cut",
        );
        let expected = [
            "a | T | x",
            "7 |  | y",
            "`in` line 4: expected a JSON object, got expected ident at line 1 column 2",
            "`in` line 5: expected a JSON object, got a list",
            "`in` line 6: expected `_id` or `id`, got neither",
            "`in` line 7: expected `text` or `title`, got neither",
            "`in` line 8: expected text in `text`, got the number 3",
            "`in` line 9: expected a JSON object, got EOF while parsing a string at line 1 column 25",
        ];
        assert_eq!(read(input), expected);
    }

    #[test]
    fn other_fields_are_metadata() {
        let line = r#"{"_id":"a","text":"x","year":1999,"metadata":{"lang":"en","tags":["u","v"],"ok":true,"no":null}}"#;
        let document = JsonLines::new(line.as_bytes(), "in").next().unwrap().unwrap();
        let expected = BTreeMap::from([
            ("year".to_owned(), Value::Number(1999.0)),
            ("lang".to_owned(), Value::Keyword("en".to_owned())),
            ("tags".to_owned(), Value::Keywords(vec!["u".to_owned(), "v".to_owned()])),
            ("ok".to_owned(), Value::Boolean(true)),
        ]);
        assert_eq!(document.metadata, expected);
        let vector = r#"{"_id":"a","text":"x","vector":[1,2.5]}"#;
        let document = JsonLines::new(vector.as_bytes(), "in").next().unwrap().unwrap();
        assert_eq!(document.vector, Some(vec![1.0, 2.5]));
        assert_eq!(
            read(r#"{"_id":"a","text":"x","metadata":{"deep":{"er":1}}}"#),
            ["`in` line 1: expected text, a number, a boolean or a list of texts in `deep`, got an object"]
        );
    }
}
