//! From a source to the index's document: objects taken apart into fields, values into their types.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use orion_host::index::{Document, parse_date};
use serde_json::{Map, Value};

use super::{
    Dynamic, FieldMapping, Mapping,
    define::{check_path, joined},
    values,
};
use crate::http::{call::kind_of, error::ApiError, vectors};

/// Longest string that a keyword behind a dynamic text field keeps, in characters: OpenSearch's own.
const DYNAMIC_KEYWORD_CHARS: usize = 256;

/// What a source gives each field, by the field's name, in the order of the source.
type Given<'s> = BTreeMap<String, Vec<&'s Value>>;

/// Texts of a source by field, for fields that are searched: each value on its own.
pub fn texts_of<'s>(mapping: &Mapping, source: &'s Map<String, Value>) -> Vec<(String, Vec<&'s str>)> {
    let mut given = Given::new();
    let mut taker = Taker { mapping, given: &mut given, is_new: &|_| Ok(false) };
    for (name, value) in source {
        // What is no object where the mapping, as it is now, has one was not searched when it came.
        let _ = taker.value(name, value);
    }
    let texts = |(name, found): (String, Vec<&'s Value>)| {
        mapping.target(&name)?;
        Some((name, values::flattened(&found).into_iter().filter_map(Value::as_str).collect()))
    };
    given.into_iter().filter_map(texts).collect()
}

/// Takes objects apart. `is_new` says of a field or object that is not mapped whether it will be.
struct Taker<'t, 's> {
    mapping: &'t Mapping,
    given: &'t mut Given<'s>,
    is_new: &'t dyn Fn(&str) -> Result<bool, ApiError>,
}

impl<'s> Taker<'_, 's> {
    fn object(&mut self, outer: &str, object: &'s Map<String, Value>) -> Result<(), ApiError> {
        object.iter().try_for_each(|(name, value)| self.value(&joined(outer, name), value))
    }

    fn value(&mut self, name: &str, value: &'s Value) -> Result<(), ApiError> {
        if self.mapping.fields.contains_key(name) {
            self.given.entry(name.to_owned()).or_default().push(value);
            return Ok(());
        }
        let is_object = self.mapping.is_object(name);
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => items.iter().try_for_each(|item| self.value(name, item)),
            Value::Object(inner) if is_object || (self.is_new)(name)? => self.object(name, inner),
            Value::Object(_) => Ok(()),
            concrete if is_object => {
                let reason =
                    format!("object mapping for [{name}] tried to parse field [{name}] as object, but found");
                Err(ApiError::mapping(format!("{reason} a concrete value: {}", kind_of(concrete))))
            }
            concrete => {
                if (self.is_new)(name)? {
                    self.given.entry(name.to_owned()).or_default().push(concrete);
                }
                Ok(())
            }
        }
    }
}

impl Mapping {
    /// The index's document for a source; new fields are mapped on the way. `stored` is what is kept.
    pub fn document(
        &mut self,
        id: &str,
        source: &Map<String, Value>,
        stored: String,
    ) -> Result<Document, ApiError> {
        let mut given = Given::new();
        let is_new = |name: &str| self.may_be_mapped(name);
        Taker { mapping: self, given: &mut given, is_new: &is_new }.object("", source)?;
        let mut document = Document { id: id.to_owned(), source: Some(stored), ..Document::default() };
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for (name, found) in &given {
            let flat = values::flattened(found);
            let Some(first) = flat.first() else { continue };
            if !self.fields.contains_key(name) {
                self.map_dynamically(name, first)?;
            }
            let Some(field) = self.fields.get(name) else { continue };
            if let Some(vector) = &field.vector {
                let [one] = found.as_slice() else {
                    return Err(ApiError::mapping(format!(
                        "failed to parse field [{name}] of type [{}]: expected one vector, got {}",
                        vectors::KIND,
                        found.len()
                    )));
                };
                document.vector = Some(vectors::of_document(name, vector, one)?);
            } else if field.kind == "text" {
                let text = values::text_of(name, &flat)?;
                if let Some(keyword) = &field.keyword {
                    debug_assert!(!keyword.is_empty());
                    let longest = field.ignore_above.unwrap_or(usize::MAX);
                    if let Some(stored) = values::keywords(name, &flat, longest)? {
                        document.metadata.insert(name.clone(), stored);
                    }
                }
                if let Some(number) = field.number {
                    document.fields.insert(number, text.clone());
                }
                texts.insert(name, text);
            } else if let Some(stored) = values::column(name, field, &flat)? {
                document.metadata.insert(name.clone(), stored);
            }
        }
        document.title = texts.remove(self.title.as_str()).unwrap_or_default();
        document.text = match &self.text {
            Some(names) => names
                .iter()
                .filter_map(|name| texts.get(name.as_str()).map(String::as_str))
                .collect::<Vec<_>>()
                .join("\n"),
            None => texts.into_values().collect::<Vec<_>>().join("\n"),
        };
        Ok(document)
    }

    /// Whether a field or object that is not mapped is to be, as the nearest object around it says that says anything.
    fn may_be_mapped(&self, name: &str) -> Result<bool, ApiError> {
        let mut around = name.rmatch_indices('.').map(|(end, _)| &name[..end]);
        let said = around.find_map(|outer| self.objects.get(outer).copied().flatten());
        match said.unwrap_or(self.dynamic) {
            Dynamic::True => check_path(name).map(|()| true),
            Dynamic::False => Ok(false),
            Dynamic::Strict => {
                let (outer, own) = name.rsplit_once('.').unwrap_or(("_doc", name));
                let reason = format!(
                    "mapping set to strict, dynamic introduction of [{own}] within [{outer}] is not allowed"
                );
                Err(ApiError::new(StatusCode::BAD_REQUEST, "strict_dynamic_mapping_exception", reason))
            }
        }
    }

    /// Maps a field by its first value.
    fn map_dynamically(&mut self, name: &str, first: &Value) -> Result<(), ApiError> {
        let (kind, keyword) = match first {
            Value::Bool(_) => ("boolean", None),
            Value::Number(number) if number.is_f64() => ("float", None),
            Value::Number(_) => ("long", None),
            Value::String(text) if parse_date(text).is_some() => ("date", None),
            _ => ("text", Some("keyword".to_owned())),
        };
        let ignore_above = keyword.is_some().then_some(DYNAMIC_KEYWORD_CHARS);
        self.add(name, FieldMapping { keyword, ignore_above, ..FieldMapping::of(kind) })
    }
}
