//! The body of a search: everything but the query itself, checked member by member.

use orion_host::index::{Kind, Order, SortKey, SortValue};
use serde_json::{Map, Value, json};

use super::{
    dsl::{self, Node},
    highlight::Highlight,
};
use crate::http::{
    adaptive::Wanted,
    call::{Call, kind_of, milliseconds},
    error::ApiError,
    mapping::{Mapping, Target, seconds_of},
};

/// As far as a search looks down its ranking: OpenSearch's own bound.
pub const WINDOW: usize = 10_000;
/// Members that are known.
pub const KNOWN: [&str; 16] = [
    "query",
    "from",
    "size",
    "sort",
    "_source",
    "highlight",
    "timeout",
    "explain",
    "track_total_hits",
    "ext",
    "search_after",
    "pit",
    "min_score",
    "version",
    "seq_no_primary_term",
    "track_scores",
];

/// Which parts of a source are handed out.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceFilter {
    /// All.
    All,
    /// None.
    Nothing,
    /// Those that fit a pattern of the first list, or all if it is empty, and none of the second.
    Parts(Vec<String>, Vec<String>),
}

/// A search as it was asked for.
#[derive(Debug, Clone)]
pub struct SearchBody {
    /// The query.
    pub query: Node,
    /// First hit.
    pub from: usize,
    /// Number of hits.
    pub size: usize,
    /// Criteria as they were given.
    pub sort: Vec<SortSpec>,
    /// Position behind which to begin.
    pub after: Option<Vec<Value>>,
    /// Sources.
    pub source: SourceFilter,
    /// Marks.
    pub highlight: Option<Highlight>,
    /// Milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether scores are explained.
    pub explain: bool,
    /// Whether the number of hits is wanted.
    pub total: bool,
    /// Whether versions and sequence numbers are wanted.
    pub versions: (bool, bool),
    /// Least score.
    pub min_score: Option<f32>,
    /// A point in time: its id, and how long it is kept from now.
    pub pit: Option<(String, Option<u64>)>,
    /// Adaptive search.
    pub adaptive: Option<Wanted>,
    /// Weights of a hybrid query that gives none: the pipeline's.
    pub weights: Option<Vec<f32>>,
}

/// One criterion as it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct SortSpec {
    field: String,
    ascending: Option<bool>,
    missing_first: bool,
}

impl SearchBody {
    /// Reads body and parameters.
    pub fn parse(body: &Map<String, Value>, call: &Call) -> Result<Self, ApiError> {
        if let Some((key, value)) = body.iter().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
            return Err(ApiError::parsing(format!("Unknown key for {} in [{key}].", token(value))));
        }
        let mut search = Self {
            query: body.get("query").map_or(Ok(Node::All), dsl::parse)?,
            from: size_of(body, call, "from")?.unwrap_or(0),
            size: size_of(body, call, "size")?.unwrap_or(10),
            sort: Vec::new(),
            after: None,
            source: SourceFilter::All,
            highlight: body.get("highlight").map(Highlight::parse).transpose()?,
            timeout_ms: None,
            explain: switch(body, "explain")?.unwrap_or(false),
            total: true,
            versions: (
                switch(body, "version")?.unwrap_or(false),
                switch(body, "seq_no_primary_term")?.unwrap_or(false),
            ),
            min_score: None,
            pit: None,
            adaptive: None,
            weights: None,
        };
        if let Some(text) = call.parameter("q") {
            if body.contains_key("query") {
                return Err(ApiError::illegal("the query is given twice: as [q] and in the body"));
            }
            let mut query = json!({ "query": text });
            if let Some(operator) = call.parameter("default_operator") {
                query["default_operator"] = json!(operator);
            }
            if let Some(field) = call.parameter("df") {
                query["default_field"] = json!(field);
            }
            search.query = dsl::parse(&json!({ "query_string": query }))?;
        }
        if WINDOW < search.from + search.size {
            return Err(ApiError::illegal(format!(
                "Result window is too large, from + size must be less than or equal to: [{WINDOW}] but was [{}]",
                search.from + search.size
            )));
        }
        if let Some(sort) = body.get("sort") {
            search.sort = sort_specs(sort)?;
        } else if let Some(sort) = call.parameter("sort") {
            for part in sort.split(',') {
                let (field, order) = part.split_once(':').unwrap_or((part, ""));
                search.sort.push(sort_spec(field, (!order.is_empty()).then_some(order))?);
            }
        }
        search.after = match body.get("search_after") {
            None => None,
            Some(Value::Array(values)) if values.len() == search.sort.len() && search.from == 0 => {
                Some(values.clone())
            }
            Some(_) => {
                return Err(ApiError::illegal(
                    "[search_after]: expected one value for each [sort], and [from] 0",
                ));
            }
        };
        search.source = match (body.get("_source"), call.parameter("_source")) {
            (Some(value), _) => source_filter(value)?,
            (None, Some("true")) => SourceFilter::All,
            (None, Some("false")) => SourceFilter::Nothing,
            (None, Some(list)) => {
                SourceFilter::Parts(list.split(',').map(str::to_owned).collect(), Vec::new())
            }
            (None, None) => source_parameters(call),
        };
        let timeout = body.get("timeout").and_then(Value::as_str).or_else(|| call.parameter("timeout"));
        if body.get("timeout").is_some_and(|value| !value.is_string()) {
            return Err(ApiError::parsing(format!(
                "[timeout]: expected a time such as 500ms, got {}",
                body["timeout"]
            )));
        }
        search.timeout_ms = timeout.map(|text| milliseconds("timeout", text)).transpose()?;
        search.total = match body
            .get("track_total_hits")
            .cloned()
            .or_else(|| call.parameter("track_total_hits").map(|text| json!(text)))
        {
            None | Some(Value::Bool(true) | Value::Number(_)) => true,
            Some(Value::Bool(false)) => false,
            Some(Value::String(text)) if text == "false" => false,
            Some(Value::String(text)) if text == "true" || text.parse::<u64>().is_ok() => true,
            Some(other) => {
                return Err(ApiError::parsing(format!(
                    "[track_total_hits]: expected a boolean or a number, got {other}"
                )));
            }
        };
        search.min_score =
            match body.get("min_score") {
                None => None,
                Some(value) => Some(value.as_f64().ok_or_else(|| {
                    ApiError::parsing(format!("[min_score]: expected a number, got {value}"))
                })? as f32),
            };
        search.pit = body.get("pit").map(pit).transpose()?;
        search.adaptive = match body.get("ext") {
            None => None,
            Some(Value::Object(ext)) => {
                if let Some(key) = ext.keys().find(|key| key.as_str() != "adaptive") {
                    return Err(ApiError::parsing(format!(
                        "[ext]: unknown section [{key}], expected adaptive"
                    )));
                }
                ext.get("adaptive").map(Wanted::parse).transpose()?
            }
            Some(other) => {
                return Err(ApiError::parsing(format!("[ext]: expected an object, got {}", kind_of(other))));
            }
        };
        Ok(search)
    }

    /// The criteria over a mapping.
    pub fn order(&self, mapping: &Mapping) -> Result<Vec<Order>, ApiError> {
        self.sort.iter().map(|spec| spec.order(mapping)).collect()
    }

    /// The position to begin behind.
    pub fn position(&self, mapping: &Mapping) -> Result<Option<Vec<SortValue>>, ApiError> {
        let Some(after) = &self.after else { return Ok(None) };
        let keys = self.sort.iter().zip(after).map(|(spec, value)| spec.key(mapping, value));
        keys.collect::<Result<_, _>>().map(Some)
    }
}

fn token(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "a START_OBJECT",
        Value::Array(_) => "a START_ARRAY",
        Value::String(_) => "a VALUE_STRING",
        Value::Number(_) => "a VALUE_NUMBER",
        Value::Bool(_) => "a VALUE_BOOLEAN",
        Value::Null => "a VALUE_NULL",
    }
}

fn switch(body: &Map<String, Value>, key: &str) -> Result<Option<bool>, ApiError> {
    match body.get(key) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(ApiError::parsing(format!("[{key}]: expected a boolean, got {other}"))),
    }
}

fn size_of(body: &Map<String, Value>, call: &Call, key: &str) -> Result<Option<usize>, ApiError> {
    if let Some(number) = call.number(key)? {
        return Ok(Some(usize::try_from(number).unwrap_or(usize::MAX).min(usize::MAX / 4)));
    }
    match body.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX).min(usize::MAX / 4))),
            None => Err(ApiError::illegal(format!("[{key}] parameter cannot be negative, found [{value}]"))),
        },
    }
}

fn pit(value: &Value) -> Result<(String, Option<u64>), ApiError> {
    let wrong =
        || ApiError::parsing(format!("[pit]: expected {{\"id\": …, \"keep_alive\": …}}, got {value}"));
    let object = value.as_object().ok_or_else(wrong)?;
    let id = object.get("id").and_then(Value::as_str).ok_or_else(wrong)?;
    let keep = object.get("keep_alive").map(|keep| keep.as_str().ok_or_else(wrong)).transpose()?;
    if object.keys().any(|key| key != "id" && key != "keep_alive") {
        return Err(wrong());
    }
    Ok((id.to_owned(), keep.map(|text| milliseconds("keep_alive", text)).transpose()?))
}

fn patterns(value: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::parsing(format!("[_source]: expected names, got {value}"));
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// `_source` of a body.
pub fn source_filter(value: &Value) -> Result<SourceFilter, ApiError> {
    match value {
        Value::Bool(true) => Ok(SourceFilter::All),
        Value::Bool(false) => Ok(SourceFilter::Nothing),
        Value::Object(object) => {
            if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "includes" | "excludes")) {
                return Err(ApiError::parsing(format!("Unknown key for a VALUE in [_source]: [{key}]")));
            }
            let part = |key: &str| object.get(key).map_or(Ok(Vec::new()), patterns);
            Ok(SourceFilter::Parts(part("includes")?, part("excludes")?))
        }
        other => Ok(SourceFilter::Parts(patterns(other)?, Vec::new())),
    }
}

/// `_source_includes` and `_source_excludes`.
pub fn source_parameters(call: &Call) -> SourceFilter {
    let part = |name: &str| {
        call.parameter(name)
            .map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (includes, excludes) = (part("_source_includes"), part("_source_excludes"));
    if includes.is_empty() && excludes.is_empty() {
        return SourceFilter::All;
    }
    SourceFilter::Parts(includes, excludes)
}

fn sort_specs(value: &Value) -> Result<Vec<SortSpec>, ApiError> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut specs = Vec::new();
    for item in items {
        match item {
            Value::String(field) => specs.push(sort_spec(field, None)?),
            Value::Object(object) => {
                for (field, how) in object {
                    specs.push(match how {
                        Value::String(order) => sort_spec(field, Some(order))?,
                        Value::Object(options) => {
                            if let Some(key) = options
                                .keys()
                                .find(|key| !matches!(key.as_str(), "order" | "missing" | "unmapped_type"))
                            {
                                return Err(ApiError::parsing(format!(
                                    "[sort]: unknown option [{key}] of [{field}]"
                                )));
                            }
                            let mut spec = sort_spec(field, options.get("order").and_then(Value::as_str))?;
                            spec.missing_first = match options.get("missing").map(Value::as_str) {
                                None | Some(Some("_last")) => false,
                                Some(Some("_first")) => true,
                                Some(_) => {
                                    return Err(ApiError::parsing(format!(
                                        "[sort]: [missing] of [{field}]: expected _first or _last"
                                    )));
                                }
                            };
                            spec
                        }
                        other => {
                            return Err(ApiError::parsing(format!(
                                "[sort]: expected an order of [{field}], got {}",
                                kind_of(other)
                            )));
                        }
                    });
                }
            }
            other => {
                return Err(ApiError::parsing(format!("[sort]: expected a field, got {}", kind_of(other))));
            }
        }
    }
    Ok(specs)
}

fn sort_spec(field: &str, order: Option<&str>) -> Result<SortSpec, ApiError> {
    let ascending = match order {
        None => None,
        Some("asc") => Some(true),
        Some("desc") => Some(false),
        Some(other) => return Err(ApiError::illegal(format!("Unknown SortOrder [{other}]"))),
    };
    Ok(SortSpec { field: field.to_owned(), ascending, missing_first: false })
}

impl SortSpec {
    fn order(&self, mapping: &Mapping) -> Result<Order, ApiError> {
        let ascending = self.ascending.unwrap_or(true);
        match self.field.as_str() {
            "_score" => return Ok(Order::Score { ascending: self.ascending.unwrap_or(false) }),
            "_doc" | "_id" | "_shard_doc" => return Ok(Order::Id { ascending }),
            _ => {}
        }
        match mapping.target(&self.field) {
            Some(Target::Column(name, _)) => {
                Ok(Order::Metadata { name, ascending, missing_first: self.missing_first })
            }
            Some(Target::Text(_)) => Err(ApiError::illegal(format!(
                "Text fields are not optimised for operations that require per-document field data like aggregations \
                 and sorting, so these operations are disabled by default. Please use a keyword field instead. \
                 Field [{}]",
                self.field
            ))),
            None => Err(ApiError::new(
                axum::http::StatusCode::BAD_REQUEST,
                "query_shard_exception",
                format!("No mapping found for [{}] in order to sort on", self.field),
            )),
        }
    }

    fn key(&self, mapping: &Mapping, value: &Value) -> Result<SortValue, ApiError> {
        let kind = match mapping.target(&self.field) {
            Some(Target::Column(_, kind)) => Some(kind),
            _ => None,
        };
        let wrong =
            || ApiError::illegal(format!("[search_after]: value {value} does not fit [{}]", self.field));
        Ok(match (value, kind) {
            (Value::Null, _) => None,
            (value, Some(Kind::Date)) => Some(SortKey::Date(seconds_of(value).ok_or_else(wrong)?)),
            (Value::Bool(boolean), _) => Some(SortKey::Number(f64::from(u8::from(*boolean)))),
            (Value::Number(number), _) => Some(SortKey::Number(number.as_f64().ok_or_else(wrong)?)),
            (Value::String(text), _) => Some(SortKey::Text(text.clone())),
            _ => return Err(wrong()),
        })
    }
}

/// A sort value as replies show it.
pub fn shown_key(key: &SortValue) -> Value {
    match key {
        None => Value::Null,
        Some(SortKey::Number(number)) if number.fract() == 0.0 && number.abs() < 1e15 => {
            json!(*number as i64)
        }
        Some(SortKey::Number(number)) => json!(number),
        Some(SortKey::Date(seconds)) => json!(seconds * 1_000),
        Some(SortKey::Text(text)) => json!(text),
    }
}
