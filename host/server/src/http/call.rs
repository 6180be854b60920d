//! One request as handlers see it: method, path in segments, parameters, body.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::{body::Bytes, http::HeaderMap};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::{error::ApiError, keys::Key};

/// Parameters that every request may have.
const COMMON: [&str; 3] = ["pretty", "human", "error_trace"];

/// One request.
#[derive(Debug)]
pub struct Call {
    /// The method, in capitals.
    pub method: String,
    /// The path, for messages.
    pub uri: String,
    /// Its segments, decoded.
    pub path: Vec<String>,
    /// Its headers, for what speaks another protocol.
    pub headers: HeaderMap,
    /// Its parameters, decoded; the last of several of one name.
    pub parameters: BTreeMap<String, String>,
    /// Its body, or the `source` parameter.
    pub body: Bytes,
    /// Room for the body, among all bodies.
    pub room: Option<OwnedSemaphorePermit>,
    /// Who asks; `None` where the server has no keys.
    pub key: Option<Arc<Key>>,
}

impl Call {
    /// Refuses parameters that the handler does not look at.
    pub fn known(&self, known: &[&str]) -> Result<(), ApiError> {
        let unknown: Vec<&str> = self
            .parameters
            .keys()
            .map(String::as_str)
            .filter(|name| !known.contains(name) && !COMMON.contains(name))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let plural = if unknown.len() == 1 { "" } else { "s" };
        let names = unknown.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(", ");
        Err(ApiError::illegal(format!(
            "request [{}] contains unrecognized parameter{plural}: {names}",
            self.uri
        )))
    }

    /// A parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// A switch: absent is `None`; empty and `true` are true.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.parameter(name) {
            None => Ok(None),
            Some("" | "true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::illegal(format!(
                "Failed to parse value [{other}] as only [true] or [false] are allowed."
            ))),
        }
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::illegal(format!("Failed to parse int parameter [{name}] with value [{text}]"))
            })
        };
        self.parameter(name).map(parse).transpose()
    }

    /// The body as one JSON object; an empty one where there is none.
    pub fn object(&self) -> Result<Map<String, Value>, ApiError> {
        if self.body.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        object(&self.body)
    }

    /// The body as one JSON object, which has to be there.
    pub fn needed_object(&self) -> Result<Map<String, Value>, ApiError> {
        if self.body.trim_ascii().is_empty() {
            return Err(ApiError::new(
                axum::http::StatusCode::BAD_REQUEST,
                "parse_exception",
                "request body is required",
            ));
        }
        object(&self.body)
    }
}

/// A JSON object from bytes.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(ApiError::new(
            axum::http::StatusCode::BAD_REQUEST,
            "parse_exception",
            format!("expected a JSON object, got {}", kind_of(&other)),
        )),
        Err(error) => {
            Err(ApiError::new(axum::http::StatusCode::BAD_REQUEST, "json_parse_exception", error.to_string()))
        }
    }
}

/// What a JSON value is, for messages.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A time such as `30s`, `1m`, `500ms`, in milliseconds.
pub fn milliseconds(setting: &str, text: &str) -> Result<u64, ApiError> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let number = |unit: &str, factor: u64| {
        let digits = text.strip_suffix(unit)?;
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor))
    };
    units.iter().find_map(|(unit, factor)| number(unit, *factor)).ok_or_else(|| {
        ApiError::illegal(format!(
            "failed to parse setting [{setting}] with value [{text}] as a time value: unit is missing or unrecognized"
        ))
    })
}

/// The path and the parameters of a URI; `None` where an escape is broken.
pub fn split_uri(path: &str, query: Option<&str>) -> Option<(Vec<String>, BTreeMap<String, String>)> {
    let path = path.split('/').filter(|segment| !segment.is_empty());
    let path = path.map(|segment| decoded(segment, false)).collect::<Option<Vec<_>>>()?;
    let mut parameters = BTreeMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.insert(decoded(name, true)?, decoded(value, true)?);
    }
    Some((path, parameters))
}

/// Percent escapes resolved; with `plus_is_space` also `+`, as forms write spaces.
fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_decoded() {
        let (path, parameters) = split_uri("/a%2Fb/_doc/x+y", Some("q=a+b%21&pretty")).unwrap();
        assert_eq!(path, ["a/b", "_doc", "x+y"]);
        assert_eq!(parameters["q"], "a b!");
        assert_eq!(parameters["pretty"], "");
        assert!(split_uri("/%zz", None).is_none() && split_uri("/%f", None).is_none());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(milliseconds("scroll", "2m").unwrap(), 120_000);
        assert_eq!(milliseconds("scroll", "500ms").unwrap(), 500);
        for bad in ["", "1", "m", "-1s", "99999999999999999999d"] {
            assert!(milliseconds("scroll", bad).is_err(), "{bad}");
        }
    }
}
