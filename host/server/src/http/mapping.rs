//! Mappings: which fields documents have, of which types, and how a document becomes one of the index's.
//!
//! A text field is searched on its own through a numbered field of the index, and together with the others through the
//! one field that is embedded, unless documents bring their vectors (`vectors.rs`). Everything else is metadata, a column
//! under the field's own name. A string of a dynamic mapping is both, as OpenSearch maps it: text, with a keyword behind
//! `NAME.keyword`.

use std::collections::BTreeMap;

use orion_host::index::{
    Document, Index, Kind, MOST_FIELDS, Searched, Value as Stored, format_date, parse_date,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    call::kind_of,
    error::ApiError,
    vectors::{self, VectorMapping},
};

/// Longest string that a keyword behind a dynamic text field keeps, in characters: OpenSearch's own.
const DYNAMIC_KEYWORD_CHARS: usize = 256;

/// Types of numbers; the smaller ones are checked, all are kept as 64-bit floats.
const NUMBERS: [(&str, f64, f64, bool); 8] = [
    ("byte", -128.0, 127.0, true),
    ("short", -32_768.0, 32_767.0, true),
    ("integer", -2_147_483_648.0, 2_147_483_647.0, true),
    ("long", -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_807.0, true),
    ("unsigned_long", 0.0, 18_446_744_073_709_551_615.0, true),
    ("half_float", -65_504.0, 65_504.0, false),
    ("float", -3.402_823_466_385_288_6e38, 3.402_823_466_385_288_6e38, false),
    ("double", f64::MIN, f64::MAX, false),
];

/// One mapped field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldMapping {
    /// OpenSearch's name of the type; `object` for one that is kept and not searched.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of text: its numbered field; `None` in an index that the command line made, where all text is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// Of text: whether there is a keyword behind it, and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyword: Option<String>,
    /// Of keywords: longer ones are not indexed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_above: Option<usize>,
    /// Of vectors: how long they are, and how they are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<VectorMapping>,
}

impl FieldMapping {
    fn of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), number: None, keyword: None, ignore_above: None, vector: None }
    }
}

/// What becomes of fields that are not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dynamic {
    /// They are mapped by their first value.
    True,
    /// They are kept and not searched.
    False,
    /// The document is refused.
    Strict,
}

/// The mapping of one index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// By name.
    pub fields: BTreeMap<String, FieldMapping>,
    /// What becomes of others.
    pub dynamic: Dynamic,
    /// The field that is the title.
    pub title: String,
    /// The fields that are the text, where the mapping names them; else all other text fields.
    pub text: Option<Vec<String>>,
    /// `_meta` as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

/// What a name in a query stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Words.
    Text(Searched),
    /// A column, and its kind.
    Column(String, Kind),
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            fields: BTreeMap::new(),
            dynamic: Dynamic::True,
            title: "title".to_owned(),
            text: None,
            meta: None,
        }
    }
}

fn is_number(kind: &str) -> bool {
    NUMBERS.iter().any(|(name, ..)| *name == kind)
}

/// The index's kind of column for a type, where it has one.
fn column_kind(kind: &str) -> Option<Kind> {
    match kind {
        "keyword" => Some(Kind::Keyword),
        "date" => Some(Kind::Date),
        "boolean" => Some(Kind::Boolean),
        "words" => Some(Kind::Text),
        number if is_number(number) => Some(Kind::Number),
        _ => None,
    }
}

impl Mapping {
    /// The mapping of an index that the command line made: title and text as one, its metadata.
    pub fn of_kinds(kinds: &BTreeMap<String, Kind>) -> Self {
        let mut mapping = Self { dynamic: Dynamic::Strict, ..Self::default() };
        for (name, kind) in kinds {
            let kind = match kind {
                Kind::Number => "double",
                Kind::Date => "date",
                Kind::Boolean => "boolean",
                Kind::Text => "words",
                _ => "keyword",
            };
            mapping.fields.insert(name.clone(), FieldMapping::of(kind));
        }
        for name in ["title", "text"] {
            mapping.fields.insert(name.to_owned(), FieldMapping::of("text"));
        }
        mapping
    }

    /// The mapping of an index that the command line made, with its vectors where documents bring them.
    pub fn of_index(index: &Index) -> Self {
        let mut mapping = Self::of_kinds(index.searcher().metadata());
        if let Some(dense) = index.settings().client_half() {
            let vector = Some(VectorMapping::of_index(dense));
            let field = FieldMapping { vector, ..FieldMapping::of(vectors::KIND) };
            // Metadata of that name, if there is any, was there first.
            mapping.fields.entry(vectors::OWN_FIELD.to_owned()).or_insert(field);
        }
        mapping
    }

    /// Takes in `mappings` of a request: new fields, or the same ones.
    pub fn merge(&mut self, mappings: &Map<String, Value>) -> Result<(), ApiError> {
        for (key, value) in mappings {
            match (key.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    for (name, definition) in properties {
                        self.merge_field(name, definition)?;
                    }
                }
                ("dynamic", _) => {
                    self.dynamic =
                        match value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str() {
                            "true" => Dynamic::True,
                            "false" => Dynamic::False,
                            "strict" => Dynamic::Strict,
                            other => {
                                return Err(ApiError::mapping(format!(
                                    "dynamic: expected true, false or strict, got [{other}]"
                                )));
                            }
                        };
                }
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

    fn merge_field(&mut self, name: &str, definition: &Value) -> Result<(), ApiError> {
        let Value::Object(definition) = definition else {
            return Err(ApiError::mapping(format!(
                "Expected map for property [fields] on field [{name}] but got {}",
                kind_of(definition)
            )));
        };
        let unsupported = |key: &str, value: &Value| {
            ApiError::mapping(format!(
                "unknown parameter [{key}] on mapper [{name}]: {value} is not supported here"
            ))
        };
        let is_kept_object = definition.get("enabled") == Some(&json!(false));
        let kind = match definition.get("type").and_then(Value::as_str) {
            Some(kind) => kind.to_owned(),
            None if is_kept_object => "object".to_owned(),
            None => return Err(ApiError::mapping(format!("No type specified for field [{name}]"))),
        };
        if kind == vectors::KIND {
            let vector = Some(VectorMapping::parse(name, definition)?);
            return self.add(name, FieldMapping { vector, ..FieldMapping::of(&kind) });
        }
        let is_object = kind == "object" && is_kept_object;
        if kind != "text" && column_kind(&kind).is_none() && !is_object || kind == "words" {
            let known = "text, keyword, date, boolean, knn_vector, numbers, and object with enabled false";
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
                        return Err(unsupported(key, value));
                    };
                    if sub.get("type") != Some(&json!("keyword")) {
                        return Err(unsupported(key, value));
                    }
                    field.keyword = Some(subname.clone());
                    field.ignore_above = sub.get("ignore_above").and_then(Value::as_u64).map(|n| n as usize);
                }
                _ => return Err(unsupported(key, value)),
            }
        }
        self.add(name, field)
    }

    /// Adds a field; one that is there has to be the same.
    fn add(&mut self, name: &str, mut field: FieldMapping) -> Result<(), ApiError> {
        if let Some(known) = self.fields.get(name) {
            field.number = known.number;
            if *known == field {
                return Ok(());
            }
            let shown = |field: &FieldMapping| match &field.vector {
                Some(vector) => Value::Object(vector.given.clone()).to_string(),
                None => field.kind.clone(),
            };
            return Err(ApiError::illegal(format!(
                "mapper [{name}] cannot be changed from type [{}] to [{}]",
                shown(known),
                shown(&field)
            )));
        }
        let is_plain = name.len() <= 64
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_plain && field.kind != "object" {
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

    /// Kinds of the columns that the mapping declares.
    pub fn kinds(&self) -> BTreeMap<String, Kind> {
        let kind = |(name, field): (&String, &FieldMapping)| {
            let kind = match (&field.keyword, field.kind.as_str()) {
                (Some(_), _) => Some(Kind::Keyword),
                (None, kind) => column_kind(kind),
            };
            kind.map(|kind| (name.clone(), kind))
        };
        self.fields.iter().filter_map(kind).collect()
    }

    /// What a field name in a query stands for; `None` where nothing has the name.
    pub fn target(&self, name: &str) -> Option<Target> {
        if let Some(field) = self.fields.get(name) {
            return match field.kind.as_str() {
                "text" => Some(Target::Text(field.number.map_or(Searched::Whole, Searched::Field))),
                kind => column_kind(kind).map(|kind| Target::Column(name.to_owned(), kind)),
            };
        }
        let (name, sub) = name.rsplit_once('.')?;
        let field = self.fields.get(name)?;
        (field.keyword.as_deref() == Some(sub)).then(|| Target::Column(name.to_owned(), Kind::Keyword))
    }

    /// The field whose vectors documents bring.
    pub fn vector(&self) -> Option<(&str, &VectorMapping)> {
        self.fields.iter().find_map(|(name, field)| Some((name.as_str(), field.vector.as_ref()?)))
    }

    /// Names of the text fields.
    pub fn text_fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(_, field)| field.kind == "text").map(|(name, _)| name.as_str())
    }

    /// As OpenSearch shows it.
    pub fn to_json(&self) -> Value {
        let mut properties = Map::new();
        for (name, field) in &self.fields {
            if let Some(vector) = &field.vector {
                properties.insert(name.clone(), Value::Object(vector.given.clone()));
                continue;
            }
            let kind = if field.kind == "words" { "text" } else { &field.kind };
            let mut shown = json!({ "type": kind });
            if kind == "object" {
                shown["enabled"] = json!(false);
            }
            let mut ignore = json!({});
            if let Some(length) = field.ignore_above {
                ignore["ignore_above"] = json!(length);
            }
            if let Some(sub) = &field.keyword {
                ignore["type"] = json!("keyword");
                shown["fields"] = json!({ sub.as_str(): ignore });
            } else if field.ignore_above.is_some() {
                shown["ignore_above"] = ignore["ignore_above"].clone();
            }
            properties.insert(name.clone(), shown);
        }
        let mut mapping = json!({});
        match self.dynamic {
            Dynamic::True => {}
            Dynamic::False => mapping["dynamic"] = json!("false"),
            Dynamic::Strict => mapping["dynamic"] = json!("strict"),
        }
        if let Some(meta) = &self.meta {
            mapping["_meta"] = meta.clone();
        }
        if !properties.is_empty() {
            mapping["properties"] = Value::Object(properties);
        }
        mapping
    }

    /// The index's document for a source; new fields are mapped on the way. `stored` is what is kept.
    pub fn document(
        &mut self,
        id: &str,
        source: &Map<String, Value>,
        stored: String,
    ) -> Result<Document, ApiError> {
        let mut document = Document { id: id.to_owned(), source: Some(stored), ..Document::default() };
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in source {
            if value.is_null() || value.as_array().is_some_and(|items| items.iter().all(Value::is_null)) {
                continue;
            }
            if !self.fields.contains_key(name) && !self.map_dynamically(name, value)? {
                continue;
            }
            let Some(field) = self.fields.get(name) else { continue };
            if let Some(vector) = &field.vector {
                document.vector = Some(vectors::of_document(name, vector, value)?);
            } else if field.kind == "text" {
                let text = text_of(name, value)?;
                if let Some(keyword) = &field.keyword {
                    debug_assert!(!keyword.is_empty());
                    let longest = field.ignore_above.unwrap_or(usize::MAX);
                    if let Some(stored) = keywords(name, value, longest)? {
                        document.metadata.insert(name.clone(), stored);
                    }
                }
                if let Some(number) = field.number {
                    document.fields.insert(number, text.clone());
                }
                texts.insert(name, text);
            } else if let Some(stored) = column(name, field, value)? {
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

    /// Whether the field is mapped afterwards.
    fn map_dynamically(&mut self, name: &str, value: &Value) -> Result<bool, ApiError> {
        match self.dynamic {
            Dynamic::False => return Ok(false),
            Dynamic::Strict => {
                let reason = format!(
                    "mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"
                );
                return Err(ApiError::new(
                    axum::http::StatusCode::BAD_REQUEST,
                    "strict_dynamic_mapping_exception",
                    reason,
                ));
            }
            Dynamic::True => {}
        }
        let first = match value {
            Value::Array(items) => items.iter().find(|item| !item.is_null()).unwrap_or(value),
            other => other,
        };
        let (kind, keyword) = match first {
            Value::Bool(_) => ("boolean", None),
            Value::Number(number) if number.is_f64() => ("float", None),
            Value::Number(_) => ("long", None),
            Value::String(text) if parse_date(text).is_some() => ("date", None),
            Value::String(_) => ("text", Some("keyword".to_owned())),
            _ => {
                return Err(ApiError::mapping(format!(
                    "failed to parse field [{name}]: {} is not searched; map it as an object with \"enabled\": false to keep it",
                    kind_of(first)
                )));
            }
        };
        let ignore_above = keyword.is_some().then_some(DYNAMIC_KEYWORD_CHARS);
        self.add(name, FieldMapping { keyword, ignore_above, ..FieldMapping::of(kind) })?;
        Ok(true)
    }
}

fn failed(name: &str, kind: &str, value: &Value) -> ApiError {
    let shown: String = value.to_string().chars().take(100).collect();
    ApiError::mapping(format!("failed to parse field [{name}] of type [{kind}]"))
        .because("illegal_argument_exception", format!("expected {kind}, got {} {shown}", kind_of(value)))
}

/// A scalar as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}

fn text_of(name: &str, value: &Value) -> Result<String, ApiError> {
    let one = |value: &Value| scalar(value).ok_or_else(|| failed(name, "text", value));
    match value {
        Value::Array(items) => {
            let texts =
                items.iter().filter(|item| !item.is_null()).map(one).collect::<Result<Vec<_>, _>>()?;
            Ok(texts.join("\n"))
        }
        other => one(other),
    }
}

fn keywords(name: &str, value: &Value, longest: usize) -> Result<Option<Stored>, ApiError> {
    let one = |value: &Value| scalar(value).ok_or_else(|| failed(name, "keyword", value));
    let fits = |word: &String| word.chars().count() <= longest;
    Ok(match value {
        Value::Array(items) => {
            let words =
                items.iter().filter(|item| !item.is_null()).map(one).collect::<Result<Vec<_>, _>>()?;
            let words: Vec<String> = words.into_iter().filter(fits).collect();
            (!words.is_empty()).then_some(Stored::Keywords(words))
        }
        other => Some(one(other)?).filter(fits).map(Stored::Keyword),
    })
}

fn column(name: &str, field: &FieldMapping, value: &Value) -> Result<Option<Stored>, ApiError> {
    let kind = field.kind.as_str();
    if kind == "object" {
        return Ok(None);
    }
    if kind == "keyword" {
        return keywords(name, value, field.ignore_above.unwrap_or(usize::MAX));
    }
    let value = match value {
        Value::Array(items) if items.len() == 1 => &items[0],
        Value::Array(_) => {
            return Err(failed(name, kind, value).because(
                "illegal_argument_exception",
                format!("several values of a {kind} field are not supported"),
            ));
        }
        other => other,
    };
    let found = match kind {
        "boolean" => match value {
            Value::Bool(boolean) => Some(Stored::Boolean(*boolean)),
            Value::String(text) if text == "true" => Some(Stored::Boolean(true)),
            Value::String(text) if text == "false" || text.is_empty() => Some(Stored::Boolean(false)),
            _ => None,
        },
        "date" => seconds_of(value).map(Stored::Date),
        "words" => value.as_str().map(|text| Stored::Text(text.to_owned())),
        number => number_of(number, value).map(Stored::Number),
    };
    found.map(Some).ok_or_else(|| failed(name, kind, value))
}

fn number_of(kind: &str, value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite())?,
        _ => return None,
    };
    let (_, low, high, whole) = NUMBERS.iter().find(|(name, ..)| *name == kind)?;
    // As OpenSearch indexes them: fractions of whole numbers are cut off.
    let number = if *whole { number.trunc() } else { number };
    (*low..=*high).contains(&number).then_some(number)
}

/// A date as text (`2024-05-06`, RFC 3339, or a time without zone, which is UTC) or milliseconds since 1970.
pub fn seconds_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().map(|milliseconds| milliseconds.div_euclid(1_000)),
        Value::String(text) => parse_date(text)
            .or_else(|| parse_date(&format!("{text}Z")))
            .or_else(|| text.parse::<i64>().ok().map(|milliseconds| milliseconds.div_euclid(1_000))),
        _ => None,
    }
}

/// A value as a filter expression spells it, for a column of `kind`; `None` where it is of another kind.
pub fn filter_operand(kind: Kind, value: &Value) -> Option<String> {
    match kind {
        Kind::Number => number_of("double", value).map(|number| number.to_string()),
        Kind::Boolean => match value {
            Value::Bool(boolean) => Some(boolean.to_string()),
            Value::String(text) if text == "true" || text == "false" => Some(text.clone()),
            _ => None,
        },
        Kind::Date => seconds_of(value).and_then(format_date).map(|date| quoted(&date)),
        _ => scalar(value).map(|text| quoted(&text)),
    }
}

/// A text in a filter expression.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
