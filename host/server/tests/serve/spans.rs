//! Spans, as they arrive at a collector: which there are, how they hang together, and that nobody's words are in them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Attribute,
    trace::v1::Span,
};
use prost::Message;
use serde_json::json;

use crate::server::Server;

/// Takes what is posted, answers 200, and keeps the bodies.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (bodies, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, ended) = (Arc::clone(&bodies), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                let mut bytes = Vec::new();
                let mut piece = [0; 4_096];
                loop {
                    let count = stream.read(&mut piece).expect("a piece");
                    bytes.extend_from_slice(&piece[..count]);
                    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                        assert_ne!(count, 0, "a head that ends");
                        continue;
                    };
                    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
                    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                    let length: usize = length.expect("a length").trim().parse().expect("a number");
                    if end + 4 + length <= bytes.len() {
                        kept.lock().expect("bodies").push(bytes[end + 4..].to_vec());
                        break;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).expect("an answer");
            }
        });
        Self { address, bodies, stop, thread: Some(thread) }
    }

    /// All spans so far.
    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().expect("bodies");
        let read = |body: &Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf");
        let resources = bodies.iter().map(read).flat_map(|request| request.resource_spans);
        resources.flat_map(|one| one.scope_spans).flat_map(|one| one.spans).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread waits for a connection, and looks up.
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn attribute(span: &Span, key: &str) -> Option<Attribute> {
    span.attributes.iter().find(|one| one.key == key)?.value.clone()?.value
}

fn number(span: &Span, key: &str) -> i64 {
    match attribute(span, key) {
        Some(Attribute::IntValue(number)) => number,
        other => panic!("{key} of {}: {other:?}", span.name),
    }
}

#[test]
fn a_search_is_written_down_with_its_turns_and_calls() {
    let collector = Collector::start();
    let server = Server::with(&format!("traces = \"http://{}/v1/traces\"\n", collector.address));
    for (id, title) in [("1", "the lamp of the reef"), ("2", "a lens for the lamp")] {
        let body = json!({ "title": title }).to_string();
        assert_eq!(server.put(&format!("/notes/_doc/{id}?refresh=true"), &body).status, 201);
    }
    let body = json!({ "query": { "match": { "title": "whose lamp" } }, "ext": { "adaptive": { "strategy": "beam", "turns": 2, "beam": 1 } } });
    let caller = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let answer = server.request("POST", "/notes/_search", &body.to_string(), &caller);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cost = answer.json()["ext"]["adaptive"]["cost"].clone();
    assert_eq!(server.post("/notes/_search", r#"{"query":{"match":{"title":"lamp"}}}"#).status, 200);
    let refused = json!({ "query": { "match": { "title": "lamp" } }, "ext": { "adaptive": { "strategy": "none such" } } });
    assert_eq!(server.post("/notes/_search", &refused.to_string()).status, 400);
    // The last batch is sent when the server stops.
    assert_eq!(server.end().1, Some(0));

    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let own: Vec<&Span> = spans.iter().filter(|span| span.trace_id[..2] == [0x0a, 0xf7]).collect();
    let one = |name: &str| {
        *own.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    let (search, plugin) = (one("search"), one("plugin beam"));
    assert_eq!(search.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    assert_eq!(attribute(search, "orion.strategy"), Some(Attribute::StringValue("beam".to_owned())));
    assert_eq!(plugin.parent_span_id, search.span_id);
    let turns: Vec<&&Span> = own.iter().filter(|span| span.name.starts_with("turn ")).collect();
    assert!(2 <= turns.len() && turns.iter().all(|turn| turn.parent_span_id == plugin.span_id), "{names:?}");
    let calls: Vec<&&Span> = own
        .iter()
        .filter(|span| span.name.starts_with("retrieval.") || span.name.starts_with("policy."))
        .collect();
    assert!(calls.iter().any(|call| call.name == "retrieval.search"), "{names:?}");
    assert!(calls.iter().any(|call| call.name == "policy.propose"), "{names:?}");
    let is_in_a_turn = |call: &&&Span| turns.iter().any(|turn| turn.span_id == call.parent_span_id);
    assert!(calls.iter().any(is_in_a_turn), "{names:?}");
    assert_eq!(own.len(), 2 + turns.len() + calls.len(), "{names:?}");
    // Whatever is below another lies within it, and the sums are the reply's.
    for span in &own {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
        if let Some(above) = own.iter().find(|other| other.span_id == span.parent_span_id) {
            assert!(
                above.start_time_unix_nano <= span.start_time_unix_nano,
                "{} in {}",
                span.name,
                above.name
            );
        }
    }
    assert_eq!(number(search, "orion.retrievals"), cost["retrievals"].as_i64().expect("a number"));
    let written: i64 = calls.iter().map(|call| number(call, "orion.tokens_written")).sum();
    assert_eq!(written, cost["tokens_decoded"].as_i64().expect("a number"));

    // The plain search, and the one that was refused.
    let others: Vec<&Span> = spans.iter().filter(|span| span.trace_id[..2] != [0x0a, 0xf7]).collect();
    assert_eq!(others.len(), 2, "{names:?}");
    assert!(others.iter().all(|span| span.name == "search" && span.parent_span_id.is_empty()));
    let failed = others.iter().filter(|span| span.status.as_ref().is_some_and(|status| status.code == 2));
    assert_eq!(failed.count(), 1);
    // Nobody's words.
    for body in collector.bodies.lock().expect("bodies").iter() {
        for word in ["whose", "lamp", "reef", "lens"] {
            assert!(!body.windows(word.len()).any(|part| part == word.as_bytes()), "{word}");
        }
    }
}

#[test]
fn a_collector_that_is_not_there_is_in_nobodys_way() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = Server::with(&format!("traces = \"http://{address}/v1/traces\"\n"));
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"a lamp"}"#).status, 201);
    let body = r#"{"query":{"match":{"title":"lamp"}},"ext":{"adaptive":{"strategy":"lexical"}}}"#;
    for _ in 0..20 {
        assert_eq!(server.post("/notes/_search", body).status, 200);
    }
    assert_eq!(server.end().1, Some(0));
}
