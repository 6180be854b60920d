//! Adaptive search over HTTP: strategies, filters, budgets, streams, hybrid and neural queries.

use std::{net::Shutdown, sync::Arc, time::Duration};

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
    for name in [
        "orion_search_turns_total",
        "orion_policy_tokens_read_total",
        "orion_policy_tokens_written_total",
        "orion_retrievals_total",
        "orion_policy_batch_tokens_sum{policy=\"nano\"}",
        "orion_policy_batch_tokens_count{policy=\"nano\"}",
    ] {
        assert!(metric(&server, name).is_some_and(|number| 0.0 < number), "{name}: {metrics}");
    }
    let compiled = ["hits", "misses"].map(|what| format!("orion_cache_{what}_total{{cache=\"components\"}}"));
    assert!(
        compiled.iter().any(|name| metric(&server, name).is_some_and(|number| 0.0 < number)),
        "{metrics}"
    );
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
}

/// One number of the metrics, by its name and labels.
fn metric(server: &Server, name: &str) -> Option<f64> {
    let text = server.get("/_metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().expect("a number"))
}

/// Waits until a metric has a value; a test that hangs here fails by its own time-out.
fn wait_for(server: &Server, name: &str, value: f64) {
    while metric(server, name) != Some(value) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_goes_away_ends_its_search() {
    let server =
        Server::with("[bounds]\nadaptive_searches = 1\n[adaptive]\nms = 600000\ntokens = 10000000\n");
    fill(&server);
    // Hundreds of thoughts: minutes of work.
    let long = json!({ "query": { "match": { "title": "lamp reef" } }, "ext": { "adaptive": {
        "strategy": "beam", "turns": 16, "beam": 8, "params": { "width": 8, "patience": 0 }, "budget": { "ms": 600_000 } } } });
    for path in ["/notes/_search/stream", "/notes/_search"] {
        let connection = server.open("POST", path, &long.to_string());
        wait_for(&server, "orion_adaptive_running", 1.0);
        while metric(&server, "orion_policy_sequences_running{policy=\"nano\"}")
            .is_none_or(|count| count == 0.0)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        connection.shutdown(Shutdown::Both).expect("closed");
        drop(connection);
        wait_for(&server, "orion_adaptive_running", 0.0);
        wait_for(&server, "orion_policy_sequences_running{policy=\"nano\"}", 0.0);
        // The model does no more for it, and the only place is free for the next one.
        let fed = || metric(&server, "orion_policy_batch_tokens_sum{policy=\"nano\"}").expect("it ran");
        let before = fed();
        let lexical = json!({ "query": { "match": { "title": "lamp" } }, "ext": { "adaptive": { "strategy": "lexical" } } });
        assert_eq!(server.post("/notes/_search", &lexical.to_string()).status, 200);
        assert_eq!(before, fed(), "{path}");
    }
    // Neither came to its end.
    assert_eq!(metric(&server, "orion_searches_total{strategy=\"beam\",outcome=\"ok\"}"), None);
}

#[test]
fn pipelines_have_budgets_and_modes() {
    let server = Server::new();
    fill(&server);
    let by = |adaptive: Value| {
        let pipeline = json!({ "request_processors": [{ "adaptive": adaptive }] }).to_string();
        assert_eq!(server.put("/_search/pipeline/p", &pipeline).status, 200, "{pipeline}");
        let query = json!({ "query": { "match": { "title": "lamp reef" } } }).to_string();
        let answer = server.post("/notes/_search?search_pipeline=p", &query);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!ids(&answer.json()).is_empty(), "{}", answer.text);
        answer.json()
    };
    let reply = by(json!({ "turns": 3, "budget": { "retrievals": 2 } }));
    let spent =
        |reply: &Value, what: &str| reply["ext"]["adaptive"]["cost"][what].as_u64().expect("a number");
    assert!(spent(&reply, "retrievals") <= 2 && reply["ext"]["adaptive"]["partial"] == true, "{reply}");
    let reply = by(json!({ "turns": 3, "budget": { "tokens": 200 } }));
    let tokens = spent(&reply, "tokens_prefilled") + spent(&reply, "tokens_decoded");
    assert!(tokens <= 200 && reply["ext"]["adaptive"]["partial"] == true, "{reply}");
    // No time for the policy: the plain ranking, told as that.
    let reply = by(json!({ "turns": 16, "budget": { "ms": 1 } }));
    assert!(reply["timed_out"] == true && reply["ext"]["adaptive"]["partial"] == true, "{reply}");
    assert!(reply["ext"]["adaptive"]["degraded"]["kind"].is_string(), "{reply}");
    let reply = by(json!({ "mode": "auto", "turns": 1 }));
    assert_eq!(reply["ext"]["adaptive"]["strategy"], "auto");
    // What a pipeline allows, the configuration may lower, and a request's own timeout.
    let query = json!({ "query": { "match": { "title": "lamp" } }, "timeout": "1ms" }).to_string();
    by(json!({ "turns": 16, "budget": { "ms": 100_000 } }));
    let reply = server.post("/notes/_search?search_pipeline=p", &query).json();
    assert_eq!(reply["timed_out"], true, "{reply}");
}

#[test]
fn embeddings_and_hybrid_queries() {
    let Some(models) = models() else { return };
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let server = Server::over(folder, "[bounds]\nwaiting_documents = 200\nrefresh_ms = 10\n", Some(&models));
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
    let bulk = |from: usize| {
        let one = |number: usize| {
            let text = format!("passage {number} of many, which takes the encoder a while");
            let document = json!({ "title": format!("m{number}"), "text": text });
            format!("{{\"index\":{{\"_id\":\"m{number}\"}}}}\n{document}\n")
        };
        server.post("/notes/_bulk", &(from..from + 150).map(one).collect::<String>())
    };
    assert_eq!((bulk(0).status, bulk(150).status), (200, 200));
    let refused = bulk(300);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")), "{}", refused.text);
    assert_eq!(server.get("/notes/_doc/m299").json()["_source"]["title"], "m299");
    // Words find all of it at once, also while most of it waits.
    let last = json!({ "query": { "term": { "title": "m299" } } }).to_string();
    while server.post("/notes/_count", &last).json()["count"] == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waiting = "orion_index_waiting_documents{index=\"notes\"}";
    assert!(metric(&server, waiting).is_some_and(|count| 0.0 < count));
    assert_eq!(server.post("/notes/_count", "").json()["count"], 305);
    // A refresh waits for the vectors too, and keeps nobody else waiting.
    std::thread::scope(|scope| {
        let refresh = scope.spawn(|| server.post("/notes/_refresh", "").status);
        while server.put("/notes/_doc/late", "{}").status == 429 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!refresh.is_finished());
        assert_eq!(refresh.join().expect("an answer"), 200);
    });
    assert_eq!(server.post("/notes/_refresh", "").status, 200);
    assert_eq!(metric(&server, waiting), Some(0.0));
    let distant =
        json!({ "query": { "neural": { "text": { "query_text": "passage", "k": 1000 } } }, "size": 1 });
    assert_eq!(search("/notes/_search", distant)["hits"]["total"]["value"], 306);
    let texts = metric(&server, "orion_encoder_batch_texts_sum").expect("a number");
    assert!(
        306.0 <= texts
            && metric(&server, "orion_encoder_batch_texts_count").is_some_and(|count| count <= texts)
    );
    let embeddings = "orion_cache_misses_total{cache=\"embeddings\"}";
    assert!(metric(&server, embeddings).is_some_and(|count| 306.0 <= count));
    assert_eq!(server.put("/notes/_doc/m1", "{}").status, 200);
}
