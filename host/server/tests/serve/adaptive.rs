//! Adaptive search over HTTP: strategies, filters, budgets, streams, hybrid and neural queries.

use std::{io::Read, net::Shutdown, sync::Arc};

use serde_json::{Value, json};

use crate::server::{Server, models};

fn fill(server: &Server) {
    let mut bulk = String::new();
    let titles =
        ["the lamp of the reef", "a lens for the lamp", "salt and rope", "the reef pilots", "winter bread"];
    for (number, title) in titles.iter().enumerate() {
        bulk.push_str(&format!("{{\"index\":{{\"_id\":\"d{number}\"}}}}\n"));
        let document = json!({ "title": title, "text": format!("what people say of {title}"), "year": 300 + number, "kind": if number % 2 == 0 { "even" } else { "odd" } });
        bulk.push_str(&format!("{document}\n"));
    }
    let mapping = r#"{"mappings":{"properties":{"title":{"type":"text"},"text":{"type":"text"},"year":{"type":"integer"},"kind":{"type":"keyword"}}}}"#;
    assert_eq!(server.put("/notes", mapping).status, 200);
    let answer = server.post("/notes/_bulk?refresh=true", &bulk);
    assert_eq!(answer.json()["errors"], false, "{}", answer.text);
}

fn ids(reply: &Value) -> Vec<&str> {
    let hits = reply["hits"]["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id")).collect()
}

#[test]
fn strategies_answer_within_budgets() {
    let server = Server::new();
    fill(&server);
    let strategies = server.get("/_orion/strategies").json();
    let names: Vec<&str> = strategies["strategies"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert!(names.contains(&"beam") && names.contains(&"lexical"), "{names:?}");
    assert_eq!((&strategies["default"], server.get("/_orion/version").status), (&json!("beam"), 200));

    let search = |body: Value| {
        let answer = server.post("/notes/_search", &body.to_string());
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        answer.json()
    };
    // One lookup through the sandbox finds what the plain search finds.
    let query = json!({ "multi_match": { "query": "lamp reef" } });
    let plain = search(json!({ "query": query }));
    let through = search(
        json!({ "query": query, "ext": { "adaptive": { "strategy": "lexical", "policy": "none", "trace": true } } }),
    );
    assert_eq!(ids(&plain), ids(&through));
    let adaptive = &through["ext"]["adaptive"];
    assert_eq!(
        (&adaptive["degraded"], &adaptive["cost"]["retrievals"], &adaptive["partial"]),
        (&Value::Null, &json!(1), &json!(false))
    );
    assert_eq!(adaptive["tree"]["branches"][0]["query"], "lamp reef");

    // The policy's tree, its filter, its budget; without a trace no tree.
    let filtered = json!({ "bool": { "must": { "match": { "title": "lamp reef" } }, "filter": [{ "term": { "kind": "even" } }, { "range": { "year": { "lt": 304 } } }] } });
    let reply = search(
        json!({ "query": filtered, "ext": { "adaptive": { "turns": 2, "beam": 1, "params": { "width": 1 } } } }),
    );
    assert!(ids(&reply).iter().all(|id| ["d0", "d2"].contains(id)), "{reply}");
    assert_eq!(reply["ext"]["adaptive"]["degraded"], Value::Null, "{reply}");
    assert!(
        reply["ext"]["adaptive"]["tree"].is_null() && reply["ext"]["adaptive"]["cost"]["tokens_decoded"] != 0
    );
    let reply = search(
        json!({ "query": query, "ext": { "adaptive": { "turns": 3, "budget": { "retrievals": 2, "ms": 100_000 } } } }),
    );
    assert!(
        reply["ext"]["adaptive"]["cost"]["retrievals"].as_u64().is_some_and(|count| count <= 2),
        "{reply}"
    );
    // A filter that nothing passes finds nothing.
    let nothing = json!({ "bool": { "must": { "match": { "title": "lamp" } }, "filter": { "term": { "kind": "none" } } } });
    assert_eq!(
        ids(&search(json!({ "query": nothing, "ext": { "adaptive": { "strategy": "lexical" } } }))),
        Vec::<&str>::new()
    );
    // A page further down.
    let second = search(
        json!({ "query": query, "from": 1, "size": 1, "ext": { "adaptive": { "strategy": "lexical" } } }),
    );
    assert_eq!(ids(&second), ids(&plain)[1..2]);

    // By pipeline: of the request, of the index, and none.
    let pipeline =
        json!({ "request_processors": [{ "adaptive": { "strategy": "lexical", "policy": "none" } }] });
    assert_eq!(server.put("/_search/pipeline/p", &pipeline.to_string()).status, 200);
    let by = |path: &str| {
        server.post(path, &json!({ "query": query }).to_string()).json()["ext"]["adaptive"]["strategy"]
            .clone()
    };
    assert_eq!(by("/notes/_search?search_pipeline=p"), "lexical");
    assert_eq!(by("/notes/_search"), Value::Null);
    assert_eq!(server.put("/notes/_settings", r#"{"index.search.default_pipeline":"p"}"#).status, 200);
    assert_eq!(by("/notes/_search"), "lexical");
    assert_eq!(by("/notes/_search?search_pipeline=_none"), Value::Null);
    // What has no text to start from stays a plain search under an index's default, and is refused where the pipeline
    // was asked for.
    let list = json!({ "query": { "match_all": {} } }).to_string();
    let listed = server.post("/notes/_search", &list);
    assert_eq!((listed.status, &listed.json()["ext"]), (200, &Value::Null));
    assert_eq!(server.post("/notes/_search?search_pipeline=p", &list).status, 400);

    stream(&server, &query);
    let metrics = server.get("/_metrics").text;
    assert!(metrics.contains("orion_searches_total{strategy=\"lexical\",outcome=\"ok\"}"), "{metrics}");
    assert!(metrics.contains("orion_plugin_calls_total{plugin=\"beam\""), "{metrics}");
}

fn stream(server: &Server, query: &Value) {
    let body = json!({ "query": query, "ext": { "adaptive": { "strategy": "beam", "turns": 2, "beam": 2, "params": { "width": 2 } } } });
    let answer = server.post("/notes/_search/stream", &body.to_string());
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events: Vec<(&str, Value)> = answer
        .text
        .split("\n\n")
        .filter(|event| event.starts_with("event: "))
        .map(|event| {
            let (name, data) = event.split_once('\n').expect("two lines");
            let data = data.strip_prefix("data: ").expect("data");
            (name.strip_prefix("event: ").expect("a name"), serde_json::from_str(data).expect("JSON"))
        })
        .collect();
    let (last, reply) = events.last().expect("events");
    assert_eq!(*last, "result", "{events:?}");
    // The newest state of each branch is the tree.
    let tree = reply["ext"]["adaptive"]["tree"]["branches"].as_array().expect("branches");
    for branch in tree {
        let newest =
            events.iter().rev().find(|(name, data)| *name == "branch" && data["branch"] == branch["branch"]);
        assert_eq!(newest.map(|(_, data)| data), Some(branch));
    }
    assert!(1 < tree.len(), "{tree:?}");
    let slip = json!({ "query": query, "ext": { "adaptive": { "strategy": "none such" } } });
    let answer = server.post("/notes/_search/stream", &slip.to_string());
    assert!(answer.text.starts_with("event: error\ndata: {\"error\":"), "{}", answer.text);

    // A client that goes away ends its search: the server is idle again.
    let long = json!({ "query": query, "ext": { "adaptive": { "strategy": "beam", "turns": 8, "beam": 4, "params": { "width": 4 }, "budget": { "ms": 60_000 } } } });
    let mut connection = server.open("POST", "/notes/_search/stream", &long.to_string());
    let mut first = [0; 64];
    assert!(0 < connection.read(&mut first).expect("a beginning"));
    connection.shutdown(Shutdown::Both).expect("closed");
    drop(connection);
    let busy = |name: &str| server.get("/_metrics").text.lines().any(|line| line.starts_with(name));
    assert!(busy("orion_requests_running"));
    let quick = server.post(
        "/notes/_search",
        &json!({ "query": query, "ext": { "adaptive": { "strategy": "lexical" } } }).to_string(),
    );
    assert_eq!(quick.status, 200);
}

#[test]
fn embeddings_and_hybrid_queries() {
    let Some(models) = models() else { return };
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let server = Server::over(folder, "[bounds]\nwaiting_documents = 50\n", Some(&models));
    fill(&server);
    let search = |path: &str, body: Value| {
        let answer = server.post(path, &body.to_string());
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        answer.json()
    };
    let neural = |text: &str| json!({ "neural": { "text": { "query_text": text, "k": 3 } } });
    let found = search("/notes/_search", json!({ "query": neural("optical glass of a lighthouse") }));
    assert_eq!((ids(&found)[0], ids(&found).len()), ("d1", 3));
    let restricted = json!({ "neural": { "text": { "query_text": "optical glass", "k": 3, "filter": { "term": { "kind": "even" } } } } });
    assert!(
        ids(&search("/notes/_search", json!({ "query": restricted })))
            .iter()
            .all(|id| ["d0", "d2", "d4"].contains(id))
    );

    // All weight on one side is that side's order.
    let hybrid = |weights: Value| json!({ "query": { "hybrid": { "queries": [{ "match": { "title": "bread" } }, neural("optical glass of a lighthouse")], "weights": weights } } });
    assert_eq!(ids(&search("/notes/_search", hybrid(json!([1.0, 0.0]))))[0], "d4");
    assert_eq!(ids(&search("/notes/_search", hybrid(json!([0.0, 1.0]))))[0], "d1");
    let pipeline = json!({ "phase_results_processors": [{ "normalization-processor": {
        "normalization": { "technique": "min_max" },
        "combination": { "technique": "arithmetic_mean", "parameters": { "weights": [0.9, 0.1] } } } }] });
    assert_eq!(server.put("/_search/pipeline/weighed", &pipeline.to_string()).status, 200);
    let query = json!({ "query": { "hybrid": { "queries": [{ "match": { "title": "bread" } }, neural("optical glass of a lighthouse")] } } });
    assert_eq!(ids(&search("/notes/_search?search_pipeline=weighed", query))[0], "d4");
    // The default strategy over the whole engine.
    let reply = search(
        "/notes/_search",
        json!({ "query": { "match": { "text": "who made the lens" } }, "ext": { "adaptive": { "strategy": "hybrid" } } }),
    );
    assert_eq!((ids(&reply)[0], &reply["ext"]["adaptive"]["degraded"]), ("d1", &Value::Null));

    // What is acknowledged waits to be embedded, up to a bound; beyond it clients are told to come back.
    let many: String = (0..300)
        .map(|number| {
            format!("{{\"index\":{{\"_id\":\"m{number}\"}}}}\n{{\"text\":\"passage {number} of many\"}}\n")
        })
        .collect();
    assert_eq!(server.post("/notes/_bulk", &many).status, 200);
    let refused = server.post("/notes/_bulk", &many);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")), "{}", refused.text);
    assert_eq!(server.get("/notes/_doc/m299").json()["_source"]["text"], "passage 299 of many");
    assert_eq!(server.post("/notes/_refresh", "").status, 200);
    assert_eq!(server.post("/notes/_count", "").json()["count"], 305);
    assert_eq!(server.put("/notes/_doc/m1", "{}").status, 200);
}
