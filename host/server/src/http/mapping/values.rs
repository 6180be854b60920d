//! Values of documents and queries in the types of fields: what a JSON value is as text, as a column, in a filter.

use orion_host::index::{Kind, Value as Stored, format_date, parse_date};
use serde_json::Value;

use super::FieldMapping;
use crate::http::{call::kind_of, error::ApiError};

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

pub(super) fn is_number(kind: &str) -> bool {
    NUMBERS.iter().any(|(name, ..)| *name == kind)
}

/// The values that a field was given: lists, also in lists, are taken apart, and nulls are no values.
pub(super) fn flattened<'v>(given: &[&'v Value]) -> Vec<&'v Value> {
    fn walk<'v>(value: &'v Value, values: &mut Vec<&'v Value>) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|item| walk(item, values)),
            other => values.push(other),
        }
    }
    let mut values = Vec::new();
    given.iter().for_each(|value| walk(value, &mut values));
    values
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

fn failed(name: &str, kind: &str, value: &Value) -> ApiError {
    let shown: String = value.to_string().chars().take(100).collect();
    ApiError::mapping(format!("failed to parse field [{name}] of type [{kind}]"))
        .because("illegal_argument_exception", format!("expected {kind}, got {} {shown}", kind_of(value)))
}

/// The text of a field.
pub(super) fn text_of(name: &str, values: &[&Value]) -> Result<String, ApiError> {
    let one = |value: &&Value| scalar(value).ok_or_else(|| failed(name, "text", value));
    Ok(values.iter().map(one).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// The keywords of a field, without those that are longer than `longest` characters.
pub(super) fn keywords(name: &str, values: &[&Value], longest: usize) -> Result<Option<Stored>, ApiError> {
    let one = |value: &&Value| scalar(value).ok_or_else(|| failed(name, "keyword", value));
    let mut words = values.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    words.retain(|word| word.chars().count() <= longest);
    Ok(match words.len() {
        0 => None,
        1 => words.pop().map(Stored::Keyword),
        _ => Some(Stored::Keywords(words)),
    })
}

/// The column of a field that is not text.
pub(super) fn column(
    name: &str,
    field: &FieldMapping,
    values: &[&Value],
) -> Result<Option<Stored>, ApiError> {
    let kind = field.kind.as_str();
    if kind == "object" {
        return Ok(None);
    }
    if kind == "keyword" {
        return keywords(name, values, field.ignore_above.unwrap_or(usize::MAX));
    }
    if kind == "words" {
        return Ok(Some(Stored::Text(text_of(name, values)?)));
    }
    let one = |value: &&Value| {
        let found = match kind {
            "boolean" => match value {
                Value::Bool(boolean) => Some(Stored::Boolean(*boolean)),
                Value::String(text) if text == "true" => Some(Stored::Boolean(true)),
                Value::String(text) if text == "false" || text.is_empty() => Some(Stored::Boolean(false)),
                _ => None,
            },
            "date" => seconds_of(value).map(Stored::Date),
            number => number_of(number, value).map(Stored::Number),
        };
        found.ok_or_else(|| failed(name, kind, value))
    };
    let mut found = values.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(if found.len() <= 1 { found.pop() } else { Some(Stored::Several(found)) })
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
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
