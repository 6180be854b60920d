//! What goes over the wire to OpenSearch, Elasticsearch and Milvus 2.4, of which no real server can be had here: requests
//! as their references describe them, replies as they show them, over a loopback server that gives them back.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use orion_engines::{
    Condition, Document, Engine, EngineError, EngineKind, Hit, Kind, Operator, Settings, Value,
};
use serde_json::{Value as Json, json};

/// A request: method and path, all headers in lower case, body.
struct Asked {
    line: String,
    headers: String,
    body: String,
}

impl Asked {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Answers one connection after another with status and body; gives what was asked.
fn server(replies: Vec<(u16, Json)>) -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for (status, reply) in replies {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let (mut line, mut headers) = (String::new(), String::new());
            reader.read_line(&mut line).expect("a request");
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).expect("a header");
                if header.trim().is_empty() {
                    break;
                }
                headers.push_str(&header.to_lowercase());
            }
            let length = headers
                .lines()
                .find_map(|header| header.strip_prefix("content-length: ")?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("a body");
            let line = line.trim_end_matches(" HTTP/1.1\r\n").to_owned();
            let asked = Asked { line, headers, body: String::from_utf8(body).expect("text") };
            let text = if asked.line.starts_with("HEAD") { String::new() } else { reply.to_string() };
            let head =
                format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
            reader.get_mut().write_all((head + &text).as_bytes()).expect("an answer");
            // Nobody listens where a test has seen enough.
            let _ = sender.send(asked);
        }
    });
    (url, receiver)
}

fn engine(kind: EngineKind, replies: Vec<(u16, Json)>) -> (Engine, Receiver<Asked>) {
    let (url, asked) = server(replies);
    let settings = Settings {
        user: Some("orion".to_owned()).filter(|_| kind == EngineKind::Elasticsearch),
        secret: Some("secret".to_owned()),
        timeout: Duration::from_secs(60),
        ..Settings::new(kind, url, "notes")
    };
    (Engine::new("cluster", &settings).expect("an engine"), asked)
}

fn year() -> Condition {
    Condition::Compare { name: "year".to_owned(), operator: Operator::Less, value: Value::Number(340.0) }
}

fn hits(scores: &[(&str, f32)], shards: Json) -> Json {
    let hits: Vec<Json> =
        scores.iter().map(|(id, score)| json!({ "_index": "notes", "_id": id, "_score": score })).collect();
    json!({ "took": 3, "timed_out": false, "_shards": shards,
            "hits": { "total": { "value": scores.len(), "relation": "eq" }, "max_score": null, "hits": hits } })
}

fn whole() -> Json {
    json!({ "total": 3, "successful": 3, "skipped": 0, "failed": 0 })
}

fn hit(id: &str, score: f32) -> Hit {
    Hit { id: id.to_owned(), score }
}

#[test]
fn opensearch_searches_by_text_and_by_knn_query() {
    let failed = json!({ "total": 3, "successful": 2, "skipped": 0, "failed": 1,
        "failures": [{ "shard": 1, "reason": { "type": "node_disconnected_exception", "reason": "gone" } }] });
    let (engine, asked) = engine(
        EngineKind::OpenSearch,
        vec![
            (200, hits(&[("b", 2.5), ("c", 1.0), ("a", 1.0)], failed)),
            (200, hits(&[("a", 0.75)], whole())),
        ],
    );
    let ranking = engine.lexical("lamp reef", 3, Some(&year())).expect("an answer");
    assert_eq!(ranking.hits, [hit("b", 2.5), hit("a", 1.0), hit("c", 1.0)]);
    assert_eq!(ranking.partial.as_deref(), Some("1 of 3 shards failed"));
    let first = asked.recv().expect("a request");
    assert_eq!(first.line, "POST /notes/_search?preference=orion");
    assert!(first.headers.contains("authorization: apikey secret"), "{}", first.headers);
    let filter = json!({ "range": { "year": { "lt": 340.0 } } });
    let words = json!({ "multi_match": { "query": "lamp reef", "fields": ["title", "text"], "type": "most_fields" } });
    let body = first.json();
    assert_eq!(body["query"], json!({ "bool": { "must": [words], "filter": [filter] } }));
    assert_eq!((&body["size"], &body["_source"]), (&json!(3), &json!(false)));

    let ranking = engine.dense(&[1.0, 0.0], 2, Some(&year())).expect("an answer");
    assert_eq!((ranking.hits, ranking.partial), (vec![hit("a", 0.5)], None));
    let second = asked.recv().expect("a request").json();
    assert_eq!(
        second["query"],
        json!({ "knn": { "vector": { "vector": [1.0, 0.0], "k": 2, "filter": filter } } })
    );
}

#[test]
fn elasticsearch_has_knn_beside_the_query() {
    let (engine, asked) =
        engine(EngineKind::Elasticsearch, vec![(200, hits(&[("a", 1.0), ("b", 0.5)], whole()))]);
    let ranking = engine.dense(&[1.0, 0.0], 2, Some(&year())).expect("an answer");
    assert_eq!(ranking.hits, [hit("a", 1.0), hit("b", 0.0)]);
    let asked = asked.recv().expect("a request");
    // `orion:secret`.
    assert!(asked.headers.contains("authorization: basic b3jpb246c2vjcmv0"), "{}", asked.headers);
    let body = asked.json();
    let filter = json!({ "range": { "year": { "lt": 340.0 } } });
    assert_eq!(
        body["knn"],
        json!({ "field": "vector", "query_vector": [1.0, 0.0], "k": 2, "num_candidates": 100, "filter": filter })
    );
    assert_eq!(body["query"], Json::Null);
}

#[test]
fn indexes_are_made_and_filled() {
    let rejected = json!({ "took": 1, "errors": true, "items": [
        { "index": { "_id": "a", "status": 201 } },
        { "index": { "_id": "b", "status": 429, "error": { "type": "rejected_execution_exception", "reason": "full" } } },
    ] });
    let wrong = json!({ "took": 1, "errors": true, "items": [
        { "index": { "_id": "a", "status": 400, "error": { "type": "mapper_parsing_exception", "reason": "no number" } } },
    ] });
    let (engine, asked) = engine(
        EngineKind::OpenSearch,
        vec![
            (404, Json::Null),
            (200, json!({ "acknowledged": true })),
            (200, rejected),
            (200, json!({ "took": 1, "errors": false, "items": [] })),
            (200, wrong),
        ],
    );
    let kinds = BTreeMap::from([("year".to_owned(), Kind::Number)]);
    engine.prepare(Some(2), &kinds).expect("made");
    assert_eq!(asked.recv().expect("a request").line, "HEAD /notes");
    let made = asked.recv().expect("a request");
    assert_eq!((made.line.as_str(), &made.json()["settings"]), ("PUT /notes", &json!({ "index.knn": true })));
    let properties = &made.json()["mappings"]["properties"];
    assert_eq!(properties["vector"]["dimension"], 2);
    assert_eq!(
        (&properties["year"]["type"], &properties["text"]["type"]),
        (&json!("double"), &json!("text"))
    );

    let document = Document {
        id: "a".to_owned(),
        title: "two\nlines".to_owned(),
        metadata: BTreeMap::from([("year".to_owned(), Value::Number(340.0))]),
        vector: Some(vec![1.0, 0.0]),
        ..Document::default()
    };
    // What an overloaded node rejects is put again, and what is wrong is not.
    engine.push(std::slice::from_ref(&document)).expect("put");
    let lines = asked.recv().expect("a request").body;
    let lines: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0], json!({ "index": { "_id": "a" } }));
    assert_eq!(lines[1], json!({ "title": "two\nlines", "text": "", "year": 340.0, "vector": [1.0, 0.0] }));
    assert_eq!(engine.state().retried, 1);
    let refused = engine.push(&[document]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "engine `cluster`: putting documents: refused: status 400: mapper_parsing_exception: no number"
    );
}

#[test]
fn documents_come_back_and_errors_have_their_reasons() {
    let found = json!({ "docs": [
        { "_id": "a", "found": true, "_source": { "title": "t", "text": "a long text", "year": 340 } },
        { "_id": "b", "found": false },
    ] });
    let missing = json!({ "error": { "type": "index_not_found_exception", "reason": "no such index [notes]" }, "status": 404 });
    let (engine, asked) = engine(
        EngineKind::OpenSearch,
        vec![(200, found), (404, missing), (503, json!({ "error": "busy" })), (200, hits(&[], whole()))],
    );
    let stored = engine.documents(&["a", "b"], 6).expect("documents");
    let first = stored[0].as_ref().expect("a document");
    assert_eq!((first.text.as_str(), &first.metadata["year"], &stored[1]), ("a long", &json!(340), &None));
    assert_eq!(asked.recv().expect("a request").line, "POST /notes/_mget?_source_excludes=vector");
    let refused = engine.lexical("lamp", 3, None).unwrap_err();
    assert!(matches!(refused, EngineError::Refused { .. }), "{refused}");
    assert!(
        refused.to_string().ends_with("status 404: index_not_found_exception: no such index [notes]"),
        "{refused}"
    );
    assert_eq!(engine.lexical("lamp", 3, None).expect("an answer, the second time").hits, []);
    assert_eq!(engine.state().retried, 1);
}

#[test]
fn broken_replies_are_failures() {
    for reply in [json!([]), json!({ "hits": {} }), json!({ "hits": { "hits": [{ "_id": 3 }] } })] {
        let (engine, _asked) =
            engine(EngineKind::OpenSearch, vec![(200, reply.clone()), (200, reply.clone()), (200, reply)]);
        assert!(matches!(engine.lexical("lamp", 3, None), Err(EngineError::Failed { .. })));
    }
}

#[test]
fn milvus_speaks_version_two() {
    let row = json!({ "id": 7, "doc": "a", "distance": 0.5 });
    let (engine, asked) = engine(
        EngineKind::Milvus,
        vec![
            (200, json!({ "code": 0, "data": ["others"] })),
            (200, json!({ "code": 0, "data": {} })),
            (200, json!({ "code": 0, "data": { "upsertCount": 1 } })),
            (200, json!({ "code": 0, "cost": 0, "data": [row] })),
            (200, json!({ "code": 100, "message": "can't find collection[notes]" })),
        ],
    );
    engine.prepare(Some(2), &BTreeMap::new()).expect("made");
    assert_eq!(asked.recv().expect("a request").line, "POST /v2/vectordb/collections/list");
    let made = asked.recv().expect("a request");
    assert_eq!(made.line, "POST /v2/vectordb/collections/create");
    assert_eq!((&made.json()["dimension"], &made.json()["autoID"]), (&json!(2), &json!(false)));
    let document = Document {
        id: "a".to_owned(),
        metadata: BTreeMap::from([("kind".to_owned(), Value::Keyword("note".to_owned()))]),
        vector: Some(vec![1.0, 0.0]),
        ..Document::default()
    };
    engine.push(&[document]).expect("put");
    let put = asked.recv().expect("a request");
    assert_eq!(put.line, "POST /v2/vectordb/entities/upsert");
    let row = &put.json()["data"][0];
    assert_eq!((&row["doc"], &row["m_kind"], row["id"].is_u64()), (&json!("a"), &json!(["note"]), true));
    let ranking = engine.dense(&[1.0, 0.0], 2, Some(&year())).expect("an answer");
    assert_eq!(ranking.hits, [hit("a", 0.5)]);
    let search = asked.recv().expect("a request").json();
    assert_eq!(search["data"], json!([[1.0, 0.0]]));
    assert_eq!(search["filter"], "($meta[\"m_year\"] < 340.0)");
    let refused = engine.dense(&[1.0, 0.0], 2, None).unwrap_err();
    assert!(refused.to_string().ends_with("refused: code 100: can't find collection[notes]"), "{refused}");
    assert!(matches!(engine.lexical("lamp", 2, None), Err(EngineError::Unsupported { .. })));
    assert!(matches!(engine.documents(&["a"], 2), Err(EngineError::Unsupported { .. })));
}
