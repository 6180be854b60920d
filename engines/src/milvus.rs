//! Milvus over REST; dense only.
//!
//! Version 2 of the interface (Milvus 2.4 and later) by default, version 1 (2.2, 2.3) where the settings say so: they
//! differ in paths, in the code of success, and version 1 makes no collection that could be used. In both the key is a
//! number made from the id ([`number_of`]), and the id lies beside it. Metadata are dynamic fields with a
//! prefix of their own, keywords always as lists.

use std::time::Duration;

use orion_endpoint::{Agent, Call};
use serde_json::{Map, Value as Json, json};

use crate::{
    condition::{Condition, Operator},
    document::{Document, Hit, Ranking, Value},
    error::Fault,
    opensearch::{LONGEST_REPLY_BYTES, exchanged, parsed},
    settings::Settings,
    sphinx::number_of,
};

/// The dynamic field that holds a document's id.
const ID: &str = "doc";
/// What the names of metadata begin with, so that none meets a field of the collection.
const PREFIX: &str = "m_";

/// One collection.
pub(crate) struct Milvus {
    agent: Agent,
    base: String,
    collection: String,
    authorization: Option<String>,
    vector: String,
    is_old: bool,
}

impl Milvus {
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let base = orion_endpoint::base_address(&settings.url)
            .ok_or_else(|| format!("`url`: expected http://… or https://…, got `{}`", settings.url))?;
        let authorization = match (&settings.user, &settings.secret) {
            (Some(user), Some(secret)) => Some(format!("Bearer {user}:{secret}")),
            (None, Some(secret)) => Some(format!("Bearer {secret}")),
            _ => None,
        };
        Ok(Self {
            agent: orion_endpoint::agent(settings.timeout, "orion"),
            base: base.to_owned(),
            collection: settings.collection.clone(),
            authorization,
            vector: settings.fields.vector.clone(),
            is_old: settings.old_interface,
        })
    }

    pub(crate) fn dense(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let mut body = json!({ "limit": k, "outputFields": [ID] });
        if self.is_old {
            body["vector"] = json!(vector);
        } else {
            body["data"] = json!([vector]);
            body["annsField"] = json!(self.vector);
        }
        if let Some(filter) = filter {
            body["filter"] = json!(expression(filter)?);
        }
        let reply = self.ask("search", body, time)?;
        let broken = || Fault::broken(&format!("rows of `{ID}` and `distance`"), &reply.to_string());
        let hit = |row: &Json| {
            Some(Hit { id: row[ID].as_str()?.to_owned(), score: row["distance"].as_f64()? as f32 })
        };
        let rows = reply.as_array().ok_or_else(broken)?;
        let hits: Option<Vec<Hit>> = rows.iter().map(hit).collect();
        Ok(Ranking::ordered(hits.ok_or_else(broken)?, None, k))
    }

    /// Makes the collection where it is not there, and loads it; version 1 of the interface only looks for it.
    pub(crate) fn prepare(&self, dimensions: Option<usize>, time: Duration) -> Result<(), Fault> {
        let dimensions = dimensions
            .ok_or_else(|| Fault::Refused("expected documents with vectors, got none".to_owned()))?;
        let listed = if self.is_old {
            self.exchange("GET", "/v1/vector/collections", None, time)?
        } else {
            self.exchange("POST", "/v2/vectordb/collections/list", Some(json!({})), time)?
        };
        if listed.as_array().is_some_and(|names| names.iter().any(|name| *name == json!(self.collection))) {
            return Ok(());
        }
        if self.is_old {
            return Err(Fault::Refused(format!(
                "expected a collection `{}`: version 1 of the interface makes none whose keys are given; it needs the \
                 primary key `id` of INT64 without auto id, `{}` as FLOAT_VECTOR of {dimensions} with metric IP, and \
                 dynamic fields",
                self.collection, self.vector
            )));
        }
        let body = json!({
            "collectionName": self.collection, "dimension": dimensions, "metricType": "IP", "idType": "Int64",
            "autoID": false, "primaryFieldName": "id", "vectorFieldName": self.vector,
        });
        self.exchange("POST", "/v2/vectordb/collections/create", Some(body), time).map(|_| ())
    }

    pub(crate) fn push(&self, documents: &[Document], time: Duration) -> Result<(), Fault> {
        let mut rows = Vec::with_capacity(documents.len());
        for document in documents {
            let Some(vector) = &document.vector else {
                return Err(Fault::Refused(format!(
                    "document `{}`: expected a vector, got none",
                    document.id
                )));
            };
            let mut row = Map::new();
            row.insert("id".to_owned(), json!(number_of(&document.id)));
            row.insert(ID.to_owned(), json!(document.id));
            row.insert(self.vector.clone(), json!(vector));
            for (name, value) in &document.metadata {
                let value = match value {
                    Value::Keyword(word) => json!([word]),
                    other => other.with_seconds(),
                };
                row.insert(format!("{PREFIX}{name}"), value);
            }
            rows.push(row);
        }
        self.ask("upsert", json!({ "data": rows }), time).map(|_| ())
    }

    pub(crate) fn count(&self, time: Duration) -> Result<u64, Fault> {
        if self.is_old {
            return Err(Fault::Refused("version 1 of the interface counts nothing".to_owned()));
        }
        let reply = self.ask("query", json!({ "filter": "", "outputFields": ["count(*)"] }), time)?;
        reply[0]["count(*)"].as_u64().ok_or_else(|| Fault::broken("`count(*)`", &reply.to_string()))
    }

    fn ask(&self, what: &str, mut body: Json, time: Duration) -> Result<Json, Fault> {
        body["collectionName"] = json!(self.collection);
        let path =
            if self.is_old { format!("/v1/vector/{what}") } else { format!("/v2/vectordb/entities/{what}") };
        self.exchange("POST", &path, Some(body), time)
    }

    /// The `data` of a reply; failures come with status 200 and a code.
    fn exchange(&self, method: &str, path: &str, body: Option<Json>, time: Duration) -> Result<Json, Fault> {
        let body = body.map(|body| body.to_string());
        let call = Call {
            method,
            url: &format!("{}{path}", self.base),
            authorization: self.authorization.as_deref(),
            content_type: body.as_ref().map(|_| "application/json"),
            body: body.as_deref().unwrap_or_default(),
            longest_bytes: LONGEST_REPLY_BYTES,
            timeout: Some(time),
        };
        let mut reply = parsed(&exchanged(&self.agent, &call)?)?;
        match reply["code"].as_i64() {
            Some(0 | 200) => Ok(reply["data"].take()),
            code => {
                let message =
                    orion_endpoint::shortened(reply["message"].as_str().unwrap_or("it said nothing"));
                let code = code.map_or("no code".to_owned(), |code| format!("code {code}"));
                let passes =
                    ["timeout", "not fully loaded", "no available", "not ready", "rate limit", "deadline"];
                if passes.iter().any(|word| message.contains(word)) {
                    return Err(Fault::failed(format!("{code}: {message}")));
                }
                Err(Fault::Refused(format!("{code}: {message}")))
            }
        }
    }
}

/// A condition in Milvus's own language.
fn expression(condition: &Condition) -> Result<String, Fault> {
    let joined = |conditions: &[Condition], word: &str| -> Result<String, Fault> {
        let parts: Vec<String> = conditions.iter().map(expression).collect::<Result<_, _>>()?;
        Ok(format!("({})", parts.join(word)))
    };
    let exists = |name: &str| Ok::<_, Fault>(format!("(exists {})", path(name)?));
    match condition {
        Condition::Or(conditions) => joined(conditions, " or "),
        Condition::And(conditions) => joined(conditions, " and "),
        Condition::Not(inner) => Ok(format!("(not {})", expression(inner)?)),
        Condition::Exists { name } => exists(name),
        Condition::Compare { name, operator: Operator::NotEqual, value } => {
            let equal = compare(name, Operator::Equal, value)?;
            Ok(format!("({} and (not {equal}))", exists(name)?))
        }
        Condition::Compare { name, operator, value } => compare(name, *operator, value),
    }
}

fn compare(name: &str, operator: Operator, value: &Value) -> Result<String, Fault> {
    let path = path(name)?;
    Ok(match value {
        Value::Keyword(word) => format!("(json_contains({path}, {}))", json!(word)),
        Value::Number(number) => format!("({path} {} {number:?})", operator.sign("==")),
        Value::Date { seconds, .. } => format!("({path} {} {seconds})", operator.sign("==")),
        Value::Boolean(boolean) => format!("({path} == {boolean})"),
        Value::Text(_) | Value::Keywords(_) | Value::Several(_) => {
            return Err(Fault::Refused(format!(
                "filter: expected a keyword, number, date or boolean, got text `{name}`"
            )));
        }
    })
}

fn path(name: &str) -> Result<String, Fault> {
    if name.bytes().any(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_')) {
        return Err(Fault::Refused(format!(
            "filter: expected a metadata name of letters, digits and `_`, got `{name}`"
        )));
    }
    Ok(format!("$meta[\"{PREFIX}{name}\"]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_expressions() {
        let compare =
            |name: &str, operator, value| Condition::Compare { name: name.to_owned(), operator, value };
        let condition = Condition::And(vec![
            compare("year", Operator::Less, Value::Number(340.0)),
            compare("kind", Operator::NotEqual, Value::Keyword("a \"b\"".to_owned())),
            Condition::Not(Box::new(compare("draft", Operator::Equal, Value::Boolean(true)))),
        ]);
        assert_eq!(
            expression(&condition).unwrap(),
            "(($meta[\"m_year\"] < 340.0) and ((exists $meta[\"m_kind\"]) and \
             (not (json_contains($meta[\"m_kind\"], \"a \\\"b\\\"\")))) and (not ($meta[\"m_draft\"] == true)))"
        );
        assert!(expression(&Condition::Exists { name: "a.b".to_owned() }).is_err());
    }
}
