//! OpenSearch and Elasticsearch over HTTP: `_search`, `_mget`, `_bulk`.
//!
//! Both speak one language but for vectors: OpenSearch has a `knn` query, Elasticsearch a `knn` member beside the query.
//! Scores of cosine spaces come as (1 + cosine) / 2 from both and are turned back into cosines.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use orion_endpoint::{Agent, Call, NoReply, Reply, exchange, shortened};
use serde_json::{Map, Value as Json, json};

use crate::{
    condition::Condition,
    document::{Document, Hit, Kind, Ranking, Stored, first_chars, text_of},
    error::Fault,
    opensearch_filter::clause,
    settings::{EngineKind, Fields, Settings},
};

/// A thousand hits without sources are 100 kB; a batch of whole documents may be larger, and nothing needs to be.
pub(crate) const LONGEST_REPLY_BYTES: u64 = 64 << 20;
/// Candidates that Elasticsearch looks at on each shard at least, and its own upper limit.
const CANDIDATES: (usize, usize) = (100, 10_000);
/// A fixed name makes every search of one index go to the same copies of its shards, whose statistics can differ.
const PREFERENCE: &str = "preference=orion";

/// One index of a cluster.
pub(crate) struct OpenSearch {
    agent: Agent,
    /// Address of the cluster.
    base: String,
    index: String,
    is_elastic: bool,
    authorization: Option<String>,
    fields: Fields,
}

impl OpenSearch {
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let base = orion_endpoint::base_address(&settings.url)
            .ok_or_else(|| format!("`url`: expected http://… or https://…, got `{}`", settings.url))?;
        let name = &settings.collection;
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !name.starts_with(['-', '_', '.']);
        if !is_name {
            return Err(format!(
                "`collection`: expected the name of one index or alias (letters, digits, `-`, `_`, `.`), got `{name}`"
            ));
        }
        let authorization = match (&settings.user, &settings.secret) {
            (Some(user), secret) => {
                let secret = secret.as_deref().unwrap_or_default();
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
            }
            (None, Some(secret)) => Some(format!("ApiKey {secret}")),
            (None, None) => None,
        };
        Ok(Self {
            agent: orion_endpoint::agent(settings.timeout, "orion"),
            base: base.to_owned(),
            index: name.clone(),
            is_elastic: settings.kind == EngineKind::Elasticsearch,
            authorization,
            fields: settings.fields.clone(),
        })
    }

    pub(crate) fn lexical(
        &self,
        text: &str,
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let (title, body) = (&self.fields.title, &self.fields.text);
        let words = if title == body {
            json!({ "match": { body.as_str(): { "query": text } } })
        } else {
            json!({ "multi_match": { "query": text, "fields": [title, body], "type": "most_fields" } })
        };
        let query = match filter {
            None => words,
            Some(filter) => json!({ "bool": { "must": [words], "filter": [clause(filter)] } }),
        };
        let reply = self.search(json!({ "query": query }), k, time)?;
        ranking(&reply, k, |score| score)
    }

    pub(crate) fn dense(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let reply = self.search(self.knn(vector, k, filter), k, time)?;
        ranking(&reply, k, |score| 2.0 * score - 1.0)
    }

    fn knn(&self, vector: &[f32], k: usize, filter: Option<&Condition>) -> Json {
        let field = self.fields.vector.as_str();
        let filter = filter.map(clause);
        if self.is_elastic {
            let candidates = k.clamp(CANDIDATES.0, CANDIDATES.1);
            let mut knn =
                json!({ "field": field, "query_vector": vector, "k": k, "num_candidates": candidates });
            if let Some(filter) = filter {
                knn["filter"] = filter;
            }
            return json!({ "knn": knn });
        }
        let mut knn = json!({ "vector": vector, "k": k });
        if let Some(filter) = filter {
            knn["filter"] = filter;
        }
        json!({ "query": { "knn": { field: knn } } })
    }

    fn search(&self, mut body: Json, k: usize, time: Duration) -> Result<Json, Fault> {
        body["size"] = json!(k);
        body["_source"] = json!(false);
        // What shards have by then is worth more than nothing at all after the deadline.
        body["timeout"] = json!(format!("{}ms", (time.as_millis() * 4 / 5).max(1)));
        self.json("POST", &format!("/{}/_search?{PREFERENCE}", self.index), &body, time)
    }

    pub(crate) fn documents(
        &self,
        ids: &[&str],
        most_chars: usize,
        time: Duration,
    ) -> Result<Vec<Option<Stored>>, Fault> {
        let path = format!("/{}/_mget?_source_excludes={}", self.index, self.fields.vector);
        let reply = self.json("POST", &path, &json!({ "ids": ids }), time)?;
        let Some(found) = reply["docs"].as_array().filter(|docs| docs.len() == ids.len()) else {
            return Err(Fault::broken(&format!("`docs` of {} documents", ids.len()), &reply.to_string()));
        };
        Ok(ids.iter().zip(found).map(|(id, found)| self.stored(id, found, most_chars)).collect())
    }

    fn stored(&self, id: &str, found: &Json, most_chars: usize) -> Option<Stored> {
        let mut source = found["_source"].as_object().filter(|_| found["found"] == true)?.clone();
        let title = text_of(&source, &self.fields.title);
        let text = first_chars(text_of(&source, &self.fields.text), most_chars);
        for name in [&self.fields.title, &self.fields.text, &self.fields.vector] {
            source.remove(name.as_str());
        }
        Some(Stored { id: id.to_owned(), title, text, metadata: source })
    }

    pub(crate) fn count(&self, time: Duration) -> Result<u64, Fault> {
        let reply = self.json("GET", &format!("/{}/_count", self.index), &Json::Null, time)?;
        reply["count"].as_u64().ok_or_else(|| Fault::broken("`count`", &reply.to_string()))
    }

    /// Makes the index where it is not there.
    pub(crate) fn prepare(
        &self,
        dimensions: Option<usize>,
        metadata: &std::collections::BTreeMap<String, Kind>,
        time: Duration,
    ) -> Result<(), Fault> {
        let path = format!("/{}", self.index);
        if self.exchange("HEAD", &path, None, time)?.status == 200 {
            return Ok(());
        }
        let made = self.json("PUT", &path, &self.mapping(dimensions, metadata), time);
        match made {
            Err(Fault::Refused(reason)) if reason.contains("resource_already_exists") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn mapping(
        &self,
        dimensions: Option<usize>,
        metadata: &std::collections::BTreeMap<String, Kind>,
    ) -> Json {
        let mut properties = Map::new();
        for (name, kind) in metadata {
            let kind = match kind {
                Kind::Keyword => "keyword",
                Kind::Text => "text",
                Kind::Number => "double",
                Kind::Date => "date",
                Kind::Boolean => "boolean",
            };
            properties.insert(name.clone(), json!({ "type": kind }));
        }
        for name in [&self.fields.title, &self.fields.text] {
            properties.insert(name.clone(), json!({ "type": "text", "analyzer": "english" }));
        }
        let Some(dimensions) = dimensions else {
            return json!({ "mappings": { "properties": properties } });
        };
        let vector = if self.is_elastic {
            json!({ "type": "dense_vector", "dims": dimensions, "index": true, "similarity": "cosine" })
        } else {
            json!({ "type": "knn_vector", "dimension": dimensions,
                    "method": { "name": "hnsw", "space_type": "cosinesimil", "engine": "lucene" } })
        };
        properties.insert(self.fields.vector.clone(), vector);
        let mut body = json!({ "mappings": { "properties": properties } });
        if !self.is_elastic {
            body["settings"] = json!({ "index.knn": true });
        }
        body
    }

    pub(crate) fn push(&self, documents: &[Document], time: Duration) -> Result<(), Fault> {
        let mut lines = String::new();
        for document in documents {
            let mut source: Map<String, Json> =
                document.metadata.iter().map(|(name, value)| (name.clone(), value.with_dates())).collect();
            source.insert(self.fields.title.clone(), json!(document.title));
            source.insert(self.fields.text.clone(), json!(document.text));
            if let Some(vector) = &document.vector {
                source.insert(self.fields.vector.clone(), json!(vector));
            }
            lines.push_str(&json!({ "index": { "_id": document.id } }).to_string());
            lines.push('\n');
            lines.push_str(&Json::Object(source).to_string());
            lines.push('\n');
        }
        let path = format!("/{}/_bulk", self.index);
        let reply = self.exchange("POST", &path, Some(("application/x-ndjson", &lines)), time)?;
        let reply = parsed(&reply)?;
        if reply["errors"] == false {
            return Ok(());
        }
        let failed = reply["items"].as_array().into_iter().flatten().filter_map(|item| {
            let (_, done) = item.as_object()?.iter().next()?;
            done.get("error").map(|error| (done["status"].as_u64().unwrap_or(0), error))
        });
        let mut worst = None;
        for (status, error) in failed {
            // What is refused stays refused, so it decides.
            if status != 429 && status < 500 {
                return Err(Fault::Refused(format!("status {status}: {}", reason_of(error))));
            }
            worst = Some(format!("status {status}: {}", reason_of(error)));
        }
        Err(Fault::failed(worst.unwrap_or_else(|| "a bulk reply without items".to_owned())))
    }

    pub(crate) fn refresh(&self, time: Duration) -> Result<(), Fault> {
        self.json("POST", &format!("/{}/_refresh", self.index), &Json::Null, time).map(|_| ())
    }

    fn json(&self, method: &str, path: &str, body: &Json, time: Duration) -> Result<Json, Fault> {
        let text = body.to_string();
        let body = (!body.is_null()).then_some(("application/json", text.as_str()));
        parsed(&self.exchange(method, path, body, time)?)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &str)>,
        time: Duration,
    ) -> Result<Reply, Fault> {
        let call = Call {
            method,
            url: &format!("{}{path}", self.base),
            authorization: self.authorization.as_deref(),
            content_type: body.map(|(kind, _)| kind),
            body: body.map_or("", |(_, text)| text),
            longest_bytes: LONGEST_REPLY_BYTES,
            timeout: Some(time),
        };
        exchanged(&self.agent, &call)
    }
}

/// A reply whatever its status, or why there is none.
pub(crate) fn exchanged(agent: &Agent, call: &Call<'_>) -> Result<Reply, Fault> {
    exchange(agent, call).map_err(|error| match error {
        NoReply::Unsendable(reason) => Fault::Refused(reason),
        NoReply::Failed(reason) => Fault::failed(reason),
    })
}

/// The JSON of a reply with a good status.
pub(crate) fn parsed(reply: &Reply) -> Result<Json, Fault> {
    let json: Option<Json> = serde_json::from_str(&reply.text).ok();
    if (200..300).contains(&reply.status) {
        return json.ok_or_else(|| Fault::broken("JSON", &reply.text));
    }
    let said = match json.as_ref().map(|json| &json["error"]) {
        Some(error) if !error.is_null() => reason_of(error),
        _ => shortened(&reply.text),
    };
    let reason = format!("status {}: {said}", reply.status);
    match reply.status {
        408 | 429 | 500.. => Err(Fault::Failed { reason, after: reply.after }),
        _ => Err(Fault::Refused(reason)),
    }
}

fn reason_of(error: &Json) -> String {
    match (error["type"].as_str(), error["reason"].as_str()) {
        (Some(kind), Some(reason)) => shortened(&format!("{kind}: {reason}")),
        _ => shortened(&error.to_string()),
    }
}

fn ranking(reply: &Json, k: usize, score: impl Fn(f32) -> f32) -> Result<Ranking, Fault> {
    let broken = || Fault::broken("`hits.hits` with `_id` and `_score`", &reply.to_string());
    let found = reply["hits"]["hits"].as_array().ok_or_else(broken)?;
    let mut hits = Vec::with_capacity(found.len());
    for hit in found {
        let (Some(id), Some(given)) = (hit["_id"].as_str(), hit["_score"].as_f64()) else {
            return Err(broken());
        };
        hits.push(Hit { id: id.to_owned(), score: score(given as f32) });
    }
    let failed = reply["_shards"]["failed"].as_u64().unwrap_or(0);
    let partial = if 0 < failed {
        let total = reply["_shards"]["total"].as_u64().unwrap_or(failed);
        Some(format!("{failed} of {total} shards failed"))
    } else {
        (reply["timed_out"] == true).then(|| "shards ran out of time".to_owned())
    };
    Ok(Ranking::ordered(hits, partial, k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_come_back_as_cosines_and_failed_shards_are_told() {
        let reply = json!({ "timed_out": false, "_shards": { "total": 5, "successful": 3, "failed": 2 },
            "hits": { "hits": [{ "_id": "b", "_score": 0.75 }, { "_id": "a", "_score": 0.75 }] } });
        let ranking = ranking(&reply, 10, |score| 2.0 * score - 1.0).unwrap();
        assert_eq!(ranking.partial.as_deref(), Some("2 of 5 shards failed"));
        assert_eq!(
            ranking.hits,
            [Hit { id: "a".to_owned(), score: 0.5 }, Hit { id: "b".to_owned(), score: 0.5 }]
        );
    }
}
