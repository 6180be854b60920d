//! The query language: OpenSearch's JSON into a tree of ours. What is not known is refused by name.
//!
//! Fields mean nothing here yet; `compile.rs` looks them up in a mapping.

use serde_json::{Map, Value};

use crate::http::{call::kind_of, error::ApiError};

/// Deepest nesting of queries.
const DEEPEST: usize = 20;
/// The queries that there are.
pub const KINDS: [&str; 18] = [
    "match_all",
    "match_none",
    "match",
    "multi_match",
    "match_phrase",
    "query_string",
    "simple_query_string",
    "term",
    "terms",
    "range",
    "exists",
    "ids",
    "bool",
    "constant_score",
    "dis_max",
    "neural",
    "knn",
    "hybrid",
];

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Everything.
    All,
    /// Nothing.
    Nothing,
    /// Words in fields, each with a factor; of several fields the best counts.
    Match {
        /// Names and factors; empty for all text.
        fields: Vec<(String, f32)>,
        /// The text.
        text: String,
        /// How many different words have to match, `usize::MAX` for all.
        minimum: usize,
        /// Share of the other fields' scores.
        tie: f32,
        /// Whether it came as a query string: then it is the user's own text even with operators in it.
        is_string: bool,
    },
    /// Words one after another.
    Phrase {
        /// Names and factors.
        fields: Vec<(String, f32)>,
        /// The text.
        text: String,
        /// Moves allowed.
        slop: u32,
    },
    /// One of some exact values.
    Term {
        /// The field.
        field: String,
        /// The values.
        values: Vec<Value>,
    },
    /// Values between bounds: operator and bound.
    Range {
        /// The field.
        field: String,
        /// `<`, `<=`, `>`, `>=` and the value.
        bounds: Vec<(&'static str, Value)>,
    },
    /// Any value.
    Exists(String),
    /// Ids.
    Ids(Vec<String>),
    /// Combination.
    Bool {
        /// Needed and scored.
        must: Vec<Node>,
        /// Scored where they match.
        should: Vec<Node>,
        /// Needed.
        filter: Vec<Node>,
        /// Excluded.
        must_not: Vec<Node>,
        /// How many of `should`; `None` for the usual number.
        minimum: Option<i64>,
    },
    /// The best of several.
    Best {
        /// The queries.
        queries: Vec<Node>,
        /// Share of the others' scores.
        tie: f32,
    },
    /// One score for all.
    Constant(Box<Node>),
    /// By embedding.
    Neural {
        /// The text.
        text: String,
        /// The field; all text fields are embedded together.
        field: String,
        /// Depth.
        k: usize,
        /// Restriction.
        filter: Option<Box<Node>>,
    },
    /// By a vector of the client's.
    Knn {
        /// The field.
        field: String,
        /// The vector.
        vector: Vec<f32>,
        /// How many neighbours.
        k: usize,
        /// Restriction.
        filter: Option<Box<Node>>,
    },
    /// Two rankings fused.
    Hybrid {
        /// The queries.
        queries: Vec<Node>,
        /// Weights, where the query gives them.
        weights: Option<Vec<f32>>,
    },
    /// Scores multiplied.
    Scaled(Box<Node>, f32),
}

/// Parses `query` of a body.
pub fn parse(value: &Value) -> Result<Node, ApiError> {
    node(value, 0)
}

pub(super) fn node(value: &Value, depth: usize) -> Result<Node, ApiError> {
    if DEEPEST < depth {
        return Err(ApiError::parsing(format!("queries may be nested {DEEPEST} deep")));
    }
    let Value::Object(object) = value else {
        return Err(ApiError::parsing(format!(
            "[_na] query malformed, must start with start_object, got {}",
            kind_of(value)
        )));
    };
    let Some((name, body)) = object.iter().next() else {
        return Err(ApiError::illegal("query malformed, empty clause found"));
    };
    if 1 < object.len() {
        let second = object.keys().nth(1).map_or("", String::as_str);
        return Err(ApiError::parsing(format!(
            "[{name}] malformed query, expected [END_OBJECT] but found [FIELD_NAME] [{second}]"
        )));
    }
    match name.as_str() {
        "match_all" => leaf(name, body, &[], Node::All),
        "match_none" => leaf(name, body, &[], Node::Nothing),
        "match" => match_query(name, body),
        "match_phrase" => phrase(name, body),
        "multi_match" => multi_match(name, body),
        "query_string" | "simple_query_string" => super::strings::parse(name, body),
        "term" => term(name, body),
        "terms" => terms(name, body),
        "range" => range(name, body),
        "exists" => {
            let object = fields(name, body, &["field", "boost"])?;
            scaled(name, object, Node::Exists(needed_text(name, object, "field")?))
        }
        "ids" => {
            let object = fields(name, body, &["values", "boost"])?;
            let ids =
                list(name, "values", object.get("values"))?.iter().map(|id| text_value(name, "values", id));
            scaled(name, object, Node::Ids(ids.collect::<Result<_, _>>()?))
        }
        "bool" => bool_query(name, body, depth),
        "constant_score" => {
            let object = fields(name, body, &["filter", "boost"])?;
            let inner = object
                .get("filter")
                .ok_or_else(|| ApiError::parsing("[constant_score] requires a 'filter' element"))?;
            scaled(name, object, Node::Constant(Box::new(node(inner, depth + 1)?)))
        }
        "dis_max" => {
            let object = fields(name, body, &["queries", "tie_breaker", "boost"])?;
            let queries = clauses(name, "queries", object.get("queries"), depth)?;
            let tie = number(name, object, "tie_breaker")?.unwrap_or(0.0) as f32;
            scaled(name, object, Node::Best { queries, tie })
        }
        "neural" => neural(name, body, depth),
        "knn" => super::knn::parse(name, body, depth),
        "hybrid" => hybrid(name, body, depth),
        unknown => {
            let nearest = KINDS
                .iter()
                .map(|known| (strsim::jaro_winkler(unknown, known), *known))
                .filter(|(likeness, known)| 0.8 <= *likeness && *known != unknown)
                .max_by(|left, right| left.0.total_cmp(&right.0));
            let hint = nearest.map_or_else(String::new, |(_, known)| format!(" did you mean [{known}]?"));
            Err(ApiError::parsing(format!("unknown query [{unknown}]{hint}")))
        }
    }
}

fn leaf(name: &str, body: &Value, known: &[&str], made: Node) -> Result<Node, ApiError> {
    let mut all = vec!["boost"];
    all.extend(known);
    let object = fields(name, body, &all)?;
    scaled(name, object, made)
}

/// The body of a query as an object of known members.
pub(super) fn fields<'b>(
    name: &str,
    body: &'b Value,
    known: &[&str],
) -> Result<&'b Map<String, Value>, ApiError> {
    let Value::Object(object) = body else {
        return Err(ApiError::parsing(format!(
            "[{name}] query malformed, expected an object, got {}",
            kind_of(body)
        )));
    };
    match object.keys().find(|key| !known.contains(&key.as_str()) && key.as_str() != "_name") {
        Some(key) => Err(ApiError::parsing(format!("[{name}] query does not support [{key}]"))),
        None => Ok(object),
    }
}

pub(super) fn number(name: &str, object: &Map<String, Value>, key: &str) -> Result<Option<f64>, ApiError> {
    match object.get(key) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::parsing(format!("[{name}] [{key}]: expected a number, got {value}"))),
        },
    }
}

/// Applies `boost`.
pub(super) fn scaled(name: &str, object: &Map<String, Value>, made: Node) -> Result<Node, ApiError> {
    match number(name, object, "boost")? {
        None | Some(1.0) => Ok(made),
        Some(factor) if (0.0..=1e6).contains(&factor) => Ok(Node::Scaled(Box::new(made), factor as f32)),
        Some(factor) => Err(ApiError::illegal(format!(
            "[{name}] negative or huge [boost]: expected 0 to 1000000, got {factor}"
        ))),
    }
}

fn text_value(name: &str, key: &str, value: &Value) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(boolean) => Ok(boolean.to_string()),
        other => {
            Err(ApiError::parsing(format!("[{name}] [{key}]: expected a string, got {}", kind_of(other))))
        }
    }
}

pub(super) fn needed_text(name: &str, object: &Map<String, Value>, key: &str) -> Result<String, ApiError> {
    match object.get(key) {
        Some(value) => text_value(name, key, value),
        None => Err(ApiError::parsing(format!("[{name}] must be provided with a [{key}]"))),
    }
}

fn list<'v>(name: &str, key: &str, value: Option<&'v Value>) -> Result<&'v [Value], ApiError> {
    match value {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => {
            Err(ApiError::parsing(format!("[{name}] [{key}]: expected an array, got {}", kind_of(other))))
        }
        None => Err(ApiError::parsing(format!("[{name}] must be provided with [{key}]"))),
    }
}

/// `{"FIELD": …}`: the one field and what is said of it.
pub(super) fn one_field<'b>(name: &str, body: &'b Value) -> Result<(&'b str, &'b Value), ApiError> {
    let Value::Object(object) = body else {
        return Err(ApiError::parsing(format!("[{name}] query malformed, no start_object after query name")));
    };
    let mut members = object.iter();
    match (members.next(), members.next()) {
        (Some((field, value)), None) => Ok((field, value)),
        (Some((first, _)), Some((second, _))) => Err(ApiError::parsing(format!(
            "[{name}] query doesn't support multiple fields, found [{first}] and [{second}]"
        ))),
        (None, _) => Err(ApiError::parsing(format!("[{name}] query malformed, no field"))),
    }
}

/// How many words have to match, from `operator` and `minimum_should_match`.
pub(super) fn minimum(
    name: &str,
    object: &Map<String, Value>,
    operator_key: &str,
) -> Result<usize, ApiError> {
    let all = match object.get(operator_key).and_then(Value::as_str).map(str::to_lowercase).as_deref() {
        None if object.contains_key(operator_key) => None,
        None | Some("or") => Some(false),
        Some("and") => Some(true),
        Some(_) => None,
    };
    let Some(all) = all else {
        return Err(ApiError::parsing(format!(
            "[{name}] [{operator_key}]: expected and or or, got {}",
            object[operator_key]
        )));
    };
    if all {
        return Ok(usize::MAX);
    }
    match object.get("minimum_should_match") {
        None => Ok(1),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
            let number = number.ok_or_else(|| {
                ApiError::parsing(format!(
                    "[{name}] [minimum_should_match]: expected a whole number, got {value}"
                ))
            })?;
            Ok(usize::try_from(number.max(1)).unwrap_or(usize::MAX))
        }
    }
}

fn match_query(name: &str, body: &Value) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let Value::Object(_) = value else {
        return Ok(Node::Match {
            fields: vec![(field.to_owned(), 1.0)],
            text: text_value(name, field, value)?,
            minimum: 1,
            tie: 0.0,
            is_string: false,
        });
    };
    let object = fields(name, value, &["query", "operator", "minimum_should_match", "boost"])?;
    let made = Node::Match {
        fields: vec![(field.to_owned(), 1.0)],
        text: needed_text(name, object, "query")?,
        minimum: minimum(name, object, "operator")?,
        tie: 0.0,
        is_string: false,
    };
    scaled(name, object, made)
}

fn phrase(name: &str, body: &Value) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let named = vec![(field.to_owned(), 1.0)];
    let Value::Object(_) = value else {
        return Ok(Node::Phrase { fields: named, text: text_value(name, field, value)?, slop: 0 });
    };
    let object = fields(name, value, &["query", "slop", "boost"])?;
    let slop = number(name, object, "slop")?.unwrap_or(0.0);
    if !(0.0..=100.0).contains(&slop) {
        return Err(ApiError::illegal(format!("[{name}] [slop]: expected 0 to 100, got {slop}")));
    }
    scaled(
        name,
        object,
        Node::Phrase { fields: named, text: needed_text(name, object, "query")?, slop: slop as u32 },
    )
}

/// `title^2` as a name and a factor.
pub(super) fn boosted(name: &str, text: &str) -> Result<(String, f32), ApiError> {
    match text.split_once('^') {
        None => Ok((text.to_owned(), 1.0)),
        Some((field, factor)) => match factor.parse::<f32>() {
            Ok(factor) if (0.0..=1e6).contains(&factor) => Ok((field.to_owned(), factor)),
            _ => Err(ApiError::parsing(format!("[{name}] [fields]: expected FIELD^NUMBER, got [{text}]"))),
        },
    }
}

pub(super) fn field_list(name: &str, object: &Map<String, Value>) -> Result<Vec<(String, f32)>, ApiError> {
    let items = match object.get("fields") {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => return Ok(vec![boosted(name, one)?]),
        Some(value) => list(name, "fields", Some(value))?,
    };
    items.iter().map(|item| boosted(name, &text_value(name, "fields", item)?)).collect()
}

fn multi_match(name: &str, body: &Value) -> Result<Node, ApiError> {
    let known =
        ["query", "fields", "type", "operator", "minimum_should_match", "tie_breaker", "boost", "slop"];
    let object = fields(name, body, &known)?;
    let (named, text) = (field_list(name, object)?, needed_text(name, object, "query")?);
    let tie = number(name, object, "tie_breaker")?;
    let minimum = minimum(name, object, "operator")?;
    let made = match object.get("type").map_or(Some("best_fields"), Value::as_str) {
        Some("best_fields") => {
            Node::Match { fields: named, text, minimum, tie: tie.unwrap_or(0.0) as f32, is_string: false }
        }
        // The sum of the fields' scores is their best with all of the others.
        Some("most_fields") => Node::Match { fields: named, text, minimum, tie: 1.0, is_string: false },
        Some("phrase") => {
            let slop = number(name, object, "slop")?.unwrap_or(0.0).clamp(0.0, 100.0);
            Node::Phrase { fields: named, text, slop: slop as u32 }
        }
        _ => {
            return Err(ApiError::parsing(format!(
                "[{name}] query does not support type [{}]: expected best_fields, most_fields or phrase",
                object["type"]
            )));
        }
    };
    scaled(name, object, made)
}

fn term(name: &str, body: &Value) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let one = |value: &Value| match value {
        Value::Object(_) | Value::Array(_) | Value::Null => {
            Err(ApiError::parsing(format!("[{name}] query does not support {} as a value", kind_of(value))))
        }
        other => Ok(Node::Term { field: field.to_owned(), values: vec![other.clone()] }),
    };
    let Value::Object(_) = value else { return one(value) };
    let object = fields(name, value, &["value", "boost"])?;
    let inner = object.get("value").ok_or_else(|| ApiError::illegal("value cannot be null"))?;
    scaled(name, object, one(inner)?)
}

fn terms(name: &str, body: &Value) -> Result<Node, ApiError> {
    let Value::Object(object) = body else {
        return Err(ApiError::parsing(format!(
            "[{name}] query malformed, expected an object, got {}",
            kind_of(body)
        )));
    };
    let mut named = object.iter().filter(|(key, _)| key.as_str() != "boost");
    let (Some((field, value)), None) = (named.next(), named.next()) else {
        return Err(ApiError::parsing(format!("[{name}] query requires exactly one field")));
    };
    let values = list(name, field, Some(value))?;
    if let Some(bad) = values.iter().find(|value| value.is_object() || value.is_array() || value.is_null()) {
        return Err(ApiError::parsing(format!(
            "[{name}] query does not support {} as a value",
            kind_of(bad)
        )));
    }
    scaled(name, object, Node::Term { field: field.clone(), values: values.to_vec() })
}

fn range(name: &str, body: &Value) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let object = fields(name, value, &["gt", "gte", "lt", "lte", "boost"])?;
    let operators = [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")];
    let bounds = operators
        .iter()
        .filter_map(|(key, operator)| object.get(*key).map(|bound| (*operator, bound.clone())))
        .filter(|(_, bound)| !bound.is_null())
        .collect();
    scaled(name, object, Node::Range { field: field.to_owned(), bounds })
}

fn clauses(name: &str, key: &str, value: Option<&Value>, depth: usize) -> Result<Vec<Node>, ApiError> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|item| node(item, depth + 1)).collect(),
        Some(one @ Value::Object(_)) => Ok(vec![node(one, depth + 1)?]),
        Some(other) => {
            Err(ApiError::parsing(format!("[{name}] [{key}]: expected queries, got {}", kind_of(other))))
        }
    }
}

fn bool_query(name: &str, body: &Value, depth: usize) -> Result<Node, ApiError> {
    let object =
        fields(name, body, &["must", "should", "filter", "must_not", "minimum_should_match", "boost"])?;
    let minimum = match object.get("minimum_should_match") {
        None => None,
        Some(value) => {
            let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
            Some(number.ok_or_else(|| {
                ApiError::parsing(format!(
                    "[{name}] [minimum_should_match]: expected a whole number, got {value}"
                ))
            })?)
        }
    };
    let part = |key: &str| clauses(name, key, object.get(key), depth);
    let made = Node::Bool {
        must: part("must")?,
        should: part("should")?,
        filter: part("filter")?,
        must_not: part("must_not")?,
        minimum,
    };
    scaled(name, object, made)
}

fn neural(name: &str, body: &Value, depth: usize) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let object = fields(name, value, &["query_text", "k", "model_id", "filter", "boost"])?;
    if let Some(model) = object.get("model_id")
        && !matches!(model.as_str(), Some("minilm" | "all-MiniLM-L6-v2"))
    {
        return Err(ApiError::illegal(format!(
            "[{name}] [model_id]: expected all-MiniLM-L6-v2 or nothing, got {model}"
        )));
    }
    let k = number(name, object, "k")?.unwrap_or(10.0);
    if !(1.0..=1_000.0).contains(&k) {
        return Err(ApiError::illegal(format!("[{name}] [k]: expected 1 to 1000, got {k}")));
    }
    let filter = object.get("filter").map(|filter| node(filter, depth + 1)).transpose()?;
    let made = Node::Neural {
        text: needed_text(name, object, "query_text")?,
        field: field.to_owned(),
        k: k as usize,
        filter: filter.map(Box::new),
    };
    scaled(name, object, made)
}

fn hybrid(name: &str, body: &Value, depth: usize) -> Result<Node, ApiError> {
    if 0 < depth {
        return Err(ApiError::illegal(
            "hybrid query must be a top level query and cannot be wrapped into other queries",
        ));
    }
    let object = fields(name, body, &["queries", "weights"])?;
    let queries = clauses(name, "queries", object.get("queries"), depth)?;
    if queries.len() != 2 {
        return Err(ApiError::illegal(format!(
            "[{name}] [queries]: expected two queries, got {}",
            queries.len()
        )));
    }
    let weights = object.get("weights").map(|value| weights(name, value)).transpose()?;
    Ok(Node::Hybrid { queries, weights })
}

/// Two weights that add up to 1.
pub fn weights(name: &str, value: &Value) -> Result<Vec<f32>, ApiError> {
    let numbers =
        value.as_array().and_then(|items| items.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
    match numbers {
        Some(numbers)
            if numbers.len() == 2
                && numbers.iter().all(|weight| (0.0..=1.0).contains(weight))
                && (numbers.iter().sum::<f64>() - 1.0).abs() < 1e-3 =>
        {
            Ok(numbers.into_iter().map(|weight| weight as f32).collect())
        }
        _ => Err(ApiError::illegal(format!(
            "[{name}] [weights]: expected two numbers from 0 to 1 whose sum is 1, got {value}"
        ))),
    }
}
