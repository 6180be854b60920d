//! Mappings: which fields documents have, of which types, and what a name in a query stands for.
//!
//! A text field is searched on its own through a numbered field of the index, and together with the others through the
//! one field that is embedded, unless documents bring their vectors (`vectors.rs`). Everything else is metadata, a column
//! under the field's own name. A string of a dynamic mapping is both, as OpenSearch maps it: text, with a keyword behind
//! `NAME.keyword`. What lies in an object is a field of its own, named by its path with dots; of several objects in a list
//! all values are the field's. `define.rs` reads definitions, `document.rs` makes documents of the index, and is the one
//! place that takes sources apart.

mod define;
mod document;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use orion_host::index::{Index, Kind, Searched};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::vectors::{self, VectorMapping};

pub use document::texts_of;
pub use values::{filter_operand, seconds_of};

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

    fn to_json(&self) -> Value {
        if let Some(vector) = &self.vector {
            return Value::Object(vector.given.clone());
        }
        let kind = if self.kind == "words" { "text" } else { &self.kind };
        let mut shown = json!({ "type": kind });
        if kind == "object" {
            shown["enabled"] = json!(false);
        }
        let mut ignore = json!({});
        if let Some(length) = self.ignore_above {
            ignore["ignore_above"] = json!(length);
        }
        if let Some(sub) = &self.keyword {
            ignore["type"] = json!("keyword");
            shown["fields"] = json!({ sub.as_str(): ignore });
        } else if self.ignore_above.is_some() {
            shown["ignore_above"] = ignore["ignore_above"].clone();
        }
        shown
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

impl Dynamic {
    fn to_json(self) -> Value {
        json!(match self {
            Self::True => "true",
            Self::False => "false",
            Self::Strict => "strict",
        })
    }
}

/// The mapping of one index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// By name; those in objects by their path, with dots.
    pub fields: BTreeMap<String, FieldMapping>,
    /// Objects that were defined, by path, with what becomes of fields in them that are not mapped, where that was said.
    /// Others are there because fields are in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, Option<Dynamic>>,
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
            objects: BTreeMap::new(),
            dynamic: Dynamic::True,
            title: "title".to_owned(),
            text: None,
            meta: None,
        }
    }
}

/// The index's kind of column for a type, where it has one.
fn column_kind(kind: &str) -> Option<Kind> {
    match kind {
        "keyword" => Some(Kind::Keyword),
        "date" => Some(Kind::Date),
        "boolean" => Some(Kind::Boolean),
        "words" => Some(Kind::Text),
        number if values::is_number(number) => Some(Kind::Number),
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

    /// Whether the name is that of an object with fields of its own.
    pub fn is_object(&self, name: &str) -> bool {
        fn has_below<T>(map: &BTreeMap<String, T>, path: &str) -> bool {
            map.range(path.to_owned()..).next().is_some_and(|(next, _)| next.starts_with(path))
        }
        let path = format!("{name}.");
        self.objects.contains_key(name) || has_below(&self.fields, &path) || has_below(&self.objects, &path)
    }

    /// Names of the fields in an object, and in the objects in it.
    pub fn fields_in(&self, object: &str) -> impl Iterator<Item = &str> {
        let path = format!("{object}.");
        self.fields.keys().filter(move |name| name.starts_with(&path)).map(String::as_str)
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
        let mut mapping = json!({});
        if self.dynamic != Dynamic::True {
            mapping["dynamic"] = self.dynamic.to_json();
        }
        if let Some(meta) = &self.meta {
            mapping["_meta"] = meta.clone();
        }
        let properties = self.properties("");
        if !properties.is_empty() {
            mapping["properties"] = Value::Object(properties);
        }
        mapping
    }

    /// The fields and objects right below a path, which is empty or ends with a dot.
    fn properties(&self, path: &str) -> Map<String, Value> {
        let below = |name: &String| {
            let rest = name.strip_prefix(path)?;
            rest.split('.').next().filter(|first| !first.is_empty()).map(str::to_owned)
        };
        let names: BTreeSet<String> =
            self.fields.keys().chain(self.objects.keys()).filter_map(below).collect();
        let shown = |name: String| {
            let whole = format!("{path}{name}");
            let definition = match self.fields.get(&whole) {
                Some(field) => field.to_json(),
                None => self.object_to_json(&whole),
            };
            (name, definition)
        };
        names.into_iter().map(shown).collect()
    }

    fn object_to_json(&self, name: &str) -> Value {
        let mut shown = json!({});
        if let Some(Some(dynamic)) = self.objects.get(name) {
            shown["dynamic"] = dynamic.to_json();
        }
        let properties = self.properties(&format!("{name}."));
        if properties.is_empty() {
            shown["type"] = json!("object");
        } else {
            shown["properties"] = Value::Object(properties);
        }
        shown
    }
}
