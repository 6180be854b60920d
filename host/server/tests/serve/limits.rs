//! What holds against those who try: wrong keys, keys without the scope, too much at once, too large, too long.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use serde_json::{Value, json};

use crate::server::{Answer, Server, program};

/// SHA-256 of `open sesame`.
const HASH: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
/// Base64 of `NAME:open sesame`.
const READER: &str = "cmVhZGVyOm9wZW4gc2VzYW1l";
const WRITER: &str = "d3JpdGVyOm9wZW4gc2VzYW1l";
const ADMIN: &str = "YWRtaW46b3BlbiBzZXNhbWU=";

fn key(name: &str, scopes: &str, more: &str) -> String {
    format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{HASH}\"\nscopes = [{scopes}]\n{more}\n")
}

fn ask(server: &Server, method: &str, path: &str, body: &str, way: &str) -> Answer {
    server.request(method, path, body, &[("authorization", way)])
}

/// A search that takes long: every turn asks the policy for many candidates.
fn long_search() -> String {
    json!({ "query": { "match": { "title": "lamp" } }, "ext": { "adaptive": { "strategy": "beam", "turns": 8, "beam": 4, "params": { "width": 4 }, "budget": { "ms": 60_000 } } } })
        .to_string()
}

#[test]
fn every_operation_asks_for_its_scope() {
    let configuration = format!(
        "snapshots = \"snapshots\"\n{}{}{}",
        key("reader", "\"read\"", ""),
        key("writer", "\"write\"", ""),
        key("admin", "\"read\", \"write\", \"admin\"", ""),
    );
    let server = Server::with(&configuration);
    let document = ask(&server, "GET", "/_openapi.json", "", &format!("ApiKey {ADMIN}")).json();
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{index}", "nothing-here").replace(['{', '}'], "");
        for (method, operation) in operations.as_object().expect("operations") {
            let Some(scope) = operation["x-scope"].as_str() else {
                assert_eq!(operation["security"], json!([]), "{method} {path}");
                continue;
            };
            let method = method.to_uppercase();
            assert_eq!(server.request(&method, &path, "", &[]).status, 401, "{method} {path}");
            for (own, secret) in [("read", READER), ("write", WRITER)] {
                let answer = ask(&server, &method, &path, "", &format!("ApiKey {secret}"));
                assert_eq!(answer.status == 403, own != scope, "{own} at {method} {path}: {answer:?}");
                tried += 1;
            }
        }
    }
    assert!(100 < tried, "{tried}");
    // What is not served tells a stranger nothing.
    for (method, path) in [("GET", "/_nodes"), ("PATCH", "/notes"), ("PUT", "/_cluster/settings")] {
        assert_eq!(server.request(method, path, "", &[]).status, 401, "{method} {path}");
    }
}

#[test]
fn wrong_credentials_are_refused_whatever_they_look_like() {
    let server = Server::with(&key("reader", "\"read\"", ""));
    let long = format!("ApiKey {}", "QUFB".repeat(2_000));
    // In this order: nothing, no credentials, no base64, no colon, no text, another name, another secret, no secret, the
    // hash itself in place of the secret, padding left away, and more of the same.
    for wrong in [
        "",
        "ApiKey",
        "Basic ",
        "ApiKey !!!!",
        "ApiKey bm9jb2xvbg==",
        "ApiKey /////w==",
        "ApiKey bm9ib2R5Om9wZW4gc2VzYW1l",
        "ApiKey cmVhZGVyOm9wZW4gc2VzYW1lIQ==",
        "ApiKey cmVhZGVyOg==",
        "Basic cmVhZGVyOjQxZWY0YmIwYjIzNjYxZTY2MzAxYWFjMzYwNjY5MTJkYWMwMzc4MjdiNGFlNjNhN2IxMTY1YTVhYTkzZWQ0ZWI=",
        "ApiKey Om9wZW4gc2VzYW1l",
        "Bearer cmVhZGVyOm9wZW4gc2VzYW1l",
        "cmVhZGVyOm9wZW4gc2VzYW1l",
        &long,
    ] {
        let answer = ask(&server, "GET", "/", "", wrong);
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Basic realm=\"orion\"")),
            "{wrong}"
        );
        assert_eq!(answer.json()["error"]["type"], "security_exception");
    }
    for right in [format!("ApiKey {READER}"), format!("apikey  {READER}"), format!("BASIC {READER}")] {
        assert_eq!(ask(&server, "GET", "/", "", &right).status, 200, "{right}");
    }
}

#[test]
fn tokens_run_out_for_one_key_alone() {
    let configuration = format!(
        "{}{}",
        key("reader", "\"read\"", "tokens_per_minute = 1"),
        key("writer", "\"read\", \"write\"", ""),
    );
    let server = Server::with(&configuration);
    let (reader, writer) = (format!("ApiKey {READER}"), format!("ApiKey {WRITER}"));
    assert_eq!(
        ask(&server, "PUT", "/notes/_doc/1?refresh=true", r#"{"title":"a lamp"}"#, &writer).status,
        201
    );
    let adaptive = json!({ "query": { "match": { "title": "lamp" } }, "ext": { "adaptive": { "strategy": "beam", "turns": 1, "beam": 1 } } }).to_string();
    // The bucket may be overdrawn once: what a search takes is known only afterwards.
    let first = ask(&server, "POST", "/notes/_search", &adaptive, &reader);
    assert_eq!(first.status, 200, "{}", first.text);
    let refused = ask(&server, "POST", "/notes/_search", &adaptive, &reader);
    assert_eq!(refused.status, 429, "{}", refused.text);
    let seconds: u64 = refused.header("retry-after").expect("a time").parse().expect("a number");
    assert!(60 < seconds, "{seconds}");
    let streamed = ask(&server, "POST", "/notes/_search/stream", &adaptive, &reader);
    assert!(
        streamed.text.contains("event: error") && streamed.text.contains("used up its tokens"),
        "{}",
        streamed.text
    );
    let several = format!("{{\"index\":\"notes\"}}\n{adaptive}\n");
    let several = ask(&server, "POST", "/_msearch", &several, &reader).json();
    assert_eq!(several["responses"][0]["status"], 429, "{several}");
    // Searches without a policy cost none, and others have their own.
    assert_eq!(ask(&server, "POST", "/notes/_search", "{}", &reader).status, 200);
    assert_eq!(ask(&server, "POST", "/notes/_search", &adaptive, &writer).status, 200);
}

#[test]
fn more_adaptive_searches_than_places_are_told_to_come_back() {
    let server = Server::with("[bounds]\nadaptive_searches = 1\n[adaptive]\nms = 60000\n");
    for number in 0..20 {
        let body = json!({ "title": format!("lamp number {number}") });
        assert_eq!(server.put(&format!("/notes/_doc/{number}?refresh=true"), &body.to_string()).status, 201);
    }
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..8).map(|_| scope.spawn(|| server.post("/notes/_search", &long_search()))).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty() && refused.len() <= 6, "{answers:?}");
    assert!(refused.iter().all(|answer| answer.header("retry-after") == Some("1")));
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 429)), "{answers:?}");
    // Plain searches were never in the way, and there is room again.
    assert_eq!(server.post("/notes/_search", "{}").status, 200);
    assert_eq!(server.post("/notes/_search", &long_search()).status, 200);
}

/// A request whose body does not come; it stays at work.
fn half(server: &Server, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let head = format!("POST /notes/_bulk HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{{");
    stream.write_all(head.as_bytes()).expect("a beginning");
    stream
}

#[test]
fn requests_that_never_end_leave_room_for_health_checks() {
    let server = Server::with("[bounds]\nrequests = 4\n");
    let mut held = Vec::new();
    let refused = loop {
        held.push(half(&server, 100));
        let answer = server.get("/_cat/indices");
        if answer.status == 429 {
            break answer;
        }
    };
    assert_eq!(refused.json()["error"]["reason"], "rejected execution: 4 requests are at work");
    assert_eq!((server.get("/_health/live").status, server.get("/_health/ready").status), (200, 200));
    assert!(4 <= held.len());
    drop(held);
    while server.get("/_cat/indices").status == 429 {
        std::thread::yield_now();
    }
}

#[test]
fn bodies_have_a_size_and_all_of_them_together_a_room() {
    let server = Server::with("[bounds]\nbody_bytes = 4096\n");
    // Without a length, in pieces, and with no end.
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream
        .write_all(b"POST /notes/_bulk HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("a head");
    let piece = format!("400\r\n{}\r\n", "x".repeat(1_024));
    // Four times the limit; the server may stop reading, and close, before all of it is written.
    for _ in 0..16 {
        let _ = stream.write_all(piece.as_bytes());
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("a status");
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Four of the largest at once, and no fifth.
    let mut held = Vec::new();
    let refused = loop {
        held.push(half(&server, 4_096));
        let answer = server.post("/notes/_bulk", &"x".repeat(4_096));
        if answer.status == 429 {
            break answer;
        }
    };
    assert!(refused.text.contains("too many bytes of bodies"), "{}", refused.text);
    // What has no body needs no room.
    assert_eq!(server.get("/").status, 200);
    drop(held);
    while server.post("/notes/_bulk", &"x".repeat(4_096)).status == 429 {
        std::thread::yield_now();
    }
}

#[test]
fn an_index_of_the_command_line_keeps_settings() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let add = |id: &str| {
        let note = json!({ "_id": id, "title": "a lamp", "year": 340 }).to_string();
        std::fs::write(folder.path().join("notes.jsonl"), note).expect("a file");
        let added = program(folder.path(), None).args(["index", "add", "notes", "notes.jsonl"]).output();
        assert!(added.expect("it runs").status.success());
    };
    add("d0");
    let server = Server::over(Arc::clone(&folder), "", None);
    let pipeline =
        json!({ "request_processors": [{ "adaptive": { "strategy": "lexical", "policy": "none" } }] });
    assert_eq!(server.put("/_search/pipeline/p", &pipeline.to_string()).status, 200);
    let by = |server: &Server| -> Value {
        let body = json!({ "query": { "match": { "title": "lamp" } } }).to_string();
        server.post("/notes/_search", &body).json()["ext"]["adaptive"]["strategy"].clone()
    };
    assert_eq!(by(&server), Value::Null);
    assert_eq!(server.put("/notes/_settings", r#"{"index.search.default_pipeline":"p"}"#).status, 200);
    assert_eq!(by(&server), "lexical");
    let refused = server.put("/notes/_mapping", r#"{"properties":{"more":{"type":"keyword"}}}"#);
    assert_eq!(
        refused.json()["error"]["reason"],
        "index [notes] was made by the command line: its mapping cannot be changed"
    );
    // They stay, and so does the command line's way with the index: a new field is found without being mapped.
    server.end();
    let note = json!({ "_id": "d1", "title": "a lens", "kind": "glass" }).to_string();
    std::fs::write(folder.path().join("more.jsonl"), note).expect("a file");
    let added = program(folder.path(), None).args(["index", "add", "notes", "more.jsonl"]).output();
    assert!(added.expect("it runs").status.success());
    let server = Server::over(folder, "", None);
    assert_eq!(by(&server), "lexical");
    let found = server.post("/notes/_count", r#"{"query":{"term":{"kind":"glass"}}}"#);
    assert_eq!(found.json()["count"], 1, "{}", found.text);
    let shown = server.get("/notes/_settings").json();
    assert_eq!(shown["notes"]["settings"]["index"]["search.default_pipeline"], "p");
}
