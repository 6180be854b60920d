//! Definitions of fields, as requests bring them, merged into a mapping.

use orion_host::index::MOST_FIELDS;
use serde_json::{Map, Value, json};

use super::{Dynamic, FieldMapping, Mapping, column_kind};
use crate::http::{
    call::kind_of,
    error::ApiError,
    vectors::{self, VectorMapping},
};

/// Most fields and objects of one index, and how deep objects may lie in each other: OpenSearch's own bounds.
const MOST_IN_ALL: usize = 1_000;
const DEEPEST: usize = 20;
/// Longest name with the names of the objects around it, in bytes: what the index takes for metadata.
const LONGEST_PATH: usize = 255;

/// A name below the object `outer`, which may be empty for the document itself.
pub(super) fn joined(outer: &str, name: &str) -> String {
    if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }
}

/// A name has bounds before anything is added under it, so that no source makes paths without end.
pub(super) fn check_path(name: &str) -> Result<(), ApiError> {
    if DEEPEST < name.split('.').count() {
        return Err(ApiError::illegal(format!("Limit of mapping depth [{DEEPEST}] has been exceeded")));
    }
    if LONGEST_PATH < name.len() || name.split('.').any(str::is_empty) {
        let shown: String = name.chars().take(LONGEST_PATH).collect();
        return Err(ApiError::mapping(format!(
            "field name [{shown}]: expected names that are not empty, joined by dots to {LONGEST_PATH} bytes at most"
        )));
    }
    Ok(())
}

fn dynamic_of(value: &Value) -> Result<Dynamic, ApiError> {
    match value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str() {
        "true" => Ok(Dynamic::True),
        "false" => Ok(Dynamic::False),
        "strict" => Ok(Dynamic::Strict),
        other => Err(ApiError::mapping(format!("dynamic: expected true, false or strict, got [{other}]"))),
    }
}

fn unsupported(name: &str, key: &str, value: &Value) -> ApiError {
    ApiError::mapping(format!("unknown parameter [{key}] on mapper [{name}]: {value} is not supported here"))
}

impl Mapping {
    /// Takes in `mappings` of a request: new fields, or the same ones.
    pub fn merge(&mut self, mappings: &Map<String, Value>) -> Result<(), ApiError> {
        for (key, value) in mappings {
            match (key.as_str(), value) {
                ("properties", Value::Object(properties)) => self.merge_properties("", properties)?,
                ("dynamic", _) => self.dynamic = dynamic_of(value)?,
                ("_meta", Value::Object(meta)) => {
                    self.merge_meta(meta)?;
                    self.meta = Some(value.clone());
                }
                _ => {
                    return Err(ApiError::mapping(format!(
                        "Root mapping definition has unsupported parameters:  [{key} : {value}]"
                    )));
                }
            }
        }
        Ok(())
    }

    fn merge_meta(&mut self, meta: &Map<String, Value>) -> Result<(), ApiError> {
        let Some(orion) = meta.get("orion") else { return Ok(()) };
        let wrong = || {
            let expected = "{\"title\": FIELD, \"text\": [FIELD, ...]}";
            ApiError::mapping(format!("_meta.orion: expected {expected}, got {orion}"))
        };
        for (key, value) in orion.as_object().ok_or_else(wrong)? {
            match (key.as_str(), value) {
                ("title", Value::String(name)) => self.title.clone_from(name),
                ("text", Value::Array(names)) => {
                    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                    self.text = Some(names.collect::<Option<_>>().ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    fn merge_properties(&mut self, outer: &str, properties: &Map<String, Value>) -> Result<(), ApiError> {
        for (name, definition) in properties {
            self.merge_field(&joined(outer, name), definition)?;
        }
        Ok(())
    }

    fn merge_field(&mut self, name: &str, definition: &Value) -> Result<(), ApiError> {
        let Value::Object(definition) = definition else {
            return Err(ApiError::mapping(format!(
                "Expected map for property [fields] on field [{name}] but got {}",
                kind_of(definition)
            )));
        };
        let is_kept_object = definition.get("enabled") == Some(&json!(false));
        let is_bare = !definition.contains_key("type");
        let kind = match definition.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            None if is_kept_object || definition.contains_key("properties") => "object".to_owned(),
            _ => return Err(ApiError::mapping(format!("No type specified for field [{name}]"))),
        };
        if kind == vectors::KIND {
            let vector = Some(VectorMapping::parse(name, definition)?);
            return self.add(name, FieldMapping { vector, ..FieldMapping::of(&kind) });
        }
        if kind == "object" && !is_kept_object {
            return self.merge_object(name, definition, is_bare);
        }
        if kind == "nested" {
            return Err(ApiError::mapping(format!(
                "No handler for type [nested] declared on field [{name}]: objects of a list are not kept apart here; \
                 as type [object] all their values are those of one field"
            )));
        }
        if kind != "text" && kind != "object" && column_kind(&kind).is_none() || kind == "words" {
            let known = "text, keyword, date, boolean, knn_vector, numbers, and object";
            return Err(ApiError::mapping(format!(
                "No handler for type [{kind}] declared on field [{name}]: there are {known}"
            )));
        }
        let mut field = FieldMapping::of(&kind);
        for (key, value) in definition {
            match (key.as_str(), value) {
                ("type", _) => {}
                ("enabled", Value::Bool(_)) if field.kind == "object" => {}
                ("ignore_above", value) if field.kind == "keyword" && value.is_u64() => {
                    field.ignore_above = value.as_u64().map(|length| length as usize);
                }
                ("analyzer", Value::String(analyzer)) if field.kind == "text" && analyzer == "english" => {}
                ("format", Value::String(format))
                    if field.kind == "date"
                        && matches!(
                            format.as_str(),
                            "strict_date_optional_time||epoch_millis"
                                | "strict_date_optional_time"
                                | "date_optional_time"
                        ) => {}
                ("fields", Value::Object(subfields)) if field.kind == "text" => {
                    let Some((subname, sub)) = subfields.iter().next().filter(|_| subfields.len() == 1)
                    else {
                        return Err(unsupported(name, key, value));
                    };
                    if sub.get("type") != Some(&json!("keyword")) {
                        return Err(unsupported(name, key, value));
                    }
                    field.keyword = Some(subname.clone());
                    field.ignore_above = sub.get("ignore_above").and_then(Value::as_u64).map(|n| n as usize);
                }
                _ => return Err(unsupported(name, key, value)),
            }
        }
        self.add(name, field)
    }

    /// An object with fields of its own; one that only says which fields are in it needs no record beside them.
    fn merge_object(
        &mut self,
        name: &str,
        definition: &Map<String, Value>,
        is_bare: bool,
    ) -> Result<(), ApiError> {
        let (mut dynamic, mut properties) = (None, None);
        for (key, value) in definition {
            match (key.as_str(), value) {
                ("type", _) | ("enabled", Value::Bool(_)) => {}
                ("dynamic", _) => dynamic = Some(dynamic_of(value)?),
                ("properties", Value::Object(inner)) => properties = Some(inner),
                _ => return Err(unsupported(name, key, value)),
            }
        }
        let has_fields = properties.is_some_and(|inner| !inner.is_empty());
        if dynamic.is_some() || !has_fields || !is_bare {
            if !self.is_object(name) {
                self.check_room(name)?;
            }
            let known = self.objects.entry(name.to_owned()).or_default();
            *known = dynamic.or(*known);
        }
        properties.map_or(Ok(()), |inner| self.merge_properties(name, inner))
    }

    /// Whether a field or object of this name may be added: all around it are objects, and there is room.
    fn check_room(&self, name: &str) -> Result<(), ApiError> {
        let around = name.match_indices('.').map(|(end, _)| &name[..end]);
        if let Some((outer, field)) = around.chain([name]).find_map(|outer| self.fields.get_key_value(outer))
        {
            return Err(ApiError::illegal(format!(
                "mapper [{outer}] cannot be changed from type [{}] to [object]",
                field.kind
            )));
        }
        check_path(name)?;
        if MOST_IN_ALL <= self.fields.len() + self.objects.len() {
            return Err(ApiError::illegal(format!(
                "Limit of total fields [{MOST_IN_ALL}] has been exceeded"
            )));
        }
        Ok(())
    }

    /// Adds a field; one that is there has to be the same.
    pub(super) fn add(&mut self, name: &str, mut field: FieldMapping) -> Result<(), ApiError> {
        let changed = |from: String, to: String| {
            ApiError::illegal(format!("mapper [{name}] cannot be changed from type [{from}] to [{to}]"))
        };
        let shown = |field: &FieldMapping| match &field.vector {
            Some(vector) => Value::Object(vector.given.clone()).to_string(),
            None => field.kind.clone(),
        };
        if let Some(known) = self.fields.get(name) {
            field.number = known.number;
            if *known == field {
                return Ok(());
            }
            return Err(changed(shown(known), shown(&field)));
        }
        if self.is_object(name) {
            return Err(changed("object".to_owned(), shown(&field)));
        }
        self.check_room(name)?;
        let is_plain = |part: &str| {
            part.len() <= 64
                && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if field.kind != "object" && !name.split('.').all(is_plain) {
            return Err(ApiError::mapping(format!(
                "field name [{name}]: expected 1 to 64 letters, digits and `_`, a letter first"
            )));
        }
        if let (Some(_), Some((known, _))) = (&field.vector, self.vector()) {
            return Err(ApiError::mapping(format!(
                "[{}] field [{name}]: an index has one such field at most, and [{known}] is one",
                vectors::KIND
            )));
        }
        if field.kind == "text" {
            let next = self.fields.values().filter_map(|field| field.number).max().map_or(0, |last| last + 1);
            if MOST_FIELDS <= next {
                return Err(ApiError::illegal(format!(
                    "Limit of text fields [{MOST_FIELDS}] has been exceeded"
                )));
            }
            field.number = Some(next);
        }
        self.fields.insert(name.to_owned(), field);
        Ok(())
    }
}
