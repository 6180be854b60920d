//! Indexes whose halves are in other engines: a real PostgreSQL, filled by `orion index push`, under one server and two.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use crate::{
    peers,
    server::{Server, models, program},
};

/// Forty passages with metadata, as `orion index add` reads them.
fn corpus() -> String {
    let subjects = ["lamp", "lens", "reef", "rope", "bread", "letter", "pilot", "lighthouse"];
    (0..40)
        .map(|number| {
            let (one, other) = (subjects[number % 8], subjects[(number / 5) % 8]);
            let text = format!("passage {number} tells how the {one} came to the {other} in the year {}", 300 + number);
            let line = json!({ "_id": format!("d{number:02}"), "title": format!("the {one} and the {other}"), "text": text,
                "metadata": { "year": 300 + number, "kind": if number % 2 == 0 { "even" } else { "odd" } } });
            format!("{line}\n")
        })
        .collect()
}

fn run(folder: &Path, models: &Path, arguments: &[&str]) -> (bool, String) {
    let output = program(folder, Some(models)).args(arguments).output().expect("the program runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn ids(reply: &Value) -> Vec<&str> {
    let hits = reply["hits"]["hits"].as_array().unwrap_or_else(|| panic!("hits: {reply}"));
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id")).collect()
}

/// What differs between two runs of one search: times, and nothing else.
fn without_times(mut reply: Value) -> Value {
    reply["took"] = Value::Null;
    for time in ["total_ms", "model_ms", "retrieval_ms"] {
        if !reply["ext"]["adaptive"]["cost"].is_null() {
            reply["ext"]["adaptive"]["cost"][time] = Value::Null;
        }
    }
    reply
}

fn backend(port: u16) -> String {
    format!(
        "[backends.pg]\nkind = \"postgres\"\nurl = \"postgres://orion@127.0.0.1:{port}/postgres\"\ncollection = \"notes\"\n\
         timeout_ms = 20000\nbreaker_failures = 3\nbreaker_rest_ms = 600000\n"
    )
}

const ELSEWHERE: &str = "[indices.notes]\nlexical = \"pg\"\ndense = \"pg\"\nmetadata = { year = \"number\", kind = \"keyword\" }\n";

#[test]
fn halves_in_postgres() {
    let Some(models) = models() else { return };
    let Some(mut database) = peers::postgres() else { return };
    let home = Arc::new(tempfile::tempdir().expect("a folder"));
    let at = |name: &str| home.path().join(name);
    std::fs::write(at("corpus.jsonl"), corpus()).expect("a corpus");
    let config = backend(database.port);
    std::fs::write(at("push.toml"), &config).expect("a configuration");
    let orion = |arguments: &[&str]| run(home.path(), &models, arguments);
    assert!(orion(&["index", "add", "notes", "corpus.jsonl"]).0);

    // Twice is once; an unknown engine is named.
    let push = ["index", "push", "notes", "--to", "pg", "--config", "push.toml", "--batch", "7", "--json"];
    for _ in 0..2 {
        let (is_done, said) = orion(&push);
        assert!(is_done && said.contains("\"pushed\": 40"), "{said}");
    }
    let (is_done, said) = orion(&["index", "push", "notes", "--to", "nowhere", "--config", "push.toml"]);
    assert!(!is_done && said.contains("there are pg"), "{said}");

    // The same from the command line, without a server.
    std::fs::write(at("both.toml"), format!("{config}{ELSEWHERE}")).expect("a configuration");
    let search = [
        "search",
        "lens of the lighthouse",
        "--index",
        "notes",
        "--strategy",
        "hybrid",
        "--policy",
        "none",
        "--json",
    ];
    let (is_done, said) = orion(&[search.as_slice(), &["--backends", "both.toml"]].concat());
    assert!(is_done && said.contains("\"backends\": []") && said.contains("\"rank\": 1"), "{said}");
    let (is_done, said) = orion(&[search.as_slice(), &["--backends", "push.toml"]].concat());
    assert!(!is_done && said.contains("index `notes` has no half in another engine"), "{said}");

    // The embedded index, one half elsewhere, and two processes that keep nothing.
    let dense_only = format!("{config}[indices.notes]\ndense = \"pg\"\n");
    let mixed = Server::over(Arc::clone(&home), &dense_only, Some(&models));
    let fresh = || Arc::new(tempfile::tempdir().expect("a folder"));
    let both = format!("{config}{ELSEWHERE}");
    let one = Server::over(fresh(), &both, Some(&models));
    let two = Server::over(fresh(), &both, Some(&models));
    let search = |server: &Server, body: &Value| {
        let answer = server.post("/notes/_search", &body.to_string());
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        answer.json()
    };
    let words = json!({ "match": { "text": "lens of the lighthouse" } });
    let neural = json!({ "neural": { "text": { "query_text": "optical glass", "k": 10 } } });
    let filtered = json!({ "bool": { "must": [words], "filter": [{ "term": { "kind": "odd" } }, { "range": { "year": { "gte": 310 } } }] } });
    let again = json!({ "neural": { "text": { "query_text": "lens of the lighthouse", "k": 10 } } });
    let hybrid = json!({ "hybrid": { "queries": [words, again] } });
    let bodies = [
        json!({ "query": words }),
        json!({ "query": neural }),
        json!({ "query": hybrid }),
        json!({ "query": filtered, "size": 5 }),
        json!({ "query": words, "ext": { "adaptive": { "strategy": "hybrid", "policy": "none" } } }),
        json!({ "query": filtered, "ext": { "adaptive": { "strategy": "beam", "turns": 2, "beam": 2, "budget": { "ms": 100_000 } } } }),
    ];
    for body in &bodies {
        let answers = [&one, &two].map(|server| without_times(search(server, body)));
        assert_eq!(answers[0], answers[1], "two processes, one answer: {body}");
        assert!(!ids(&answers[0]).is_empty(), "{body}");
        assert_eq!(answers[0]["_shards"]["failed"], 0, "{answers:?}");
    }
    let reply = search(&one, &bodies[3]);
    assert!(
        ids(&reply).iter().all(|id| id[1..].parse::<u32>().is_ok_and(|n| n % 2 == 1 && 10 <= n)),
        "{reply}"
    );
    assert_eq!(reply["hits"]["hits"][0]["_source"]["kind"], "odd");
    // Vectors are the same ones, so the dense ranking is the embedded index's own.
    assert_eq!(ids(&search(&mixed, &bodies[1])), ids(&search(&one, &bodies[1])));
    assert_eq!(one.get("/notes/_count").json()["count"], 40);
    assert_eq!(one.get("/notes/_doc/d07").json()["_source"]["year"], 307.0);
    let refused = one.put("/notes/_doc/x", "{}");
    assert!(refused.status == 400 && refused.text.contains("orion index push"), "{}", refused.text);
    let refused = one.post("/notes/_search?scroll=1m", "{}");
    assert_eq!(refused.status, 400, "{}", refused.text);

    // Without the database: the embedded half stands in, marked; a server without any half says so, and lives.
    database.kill();
    let reply = search(&mixed, &bodies[4]);
    let adaptive = &reply["ext"]["adaptive"];
    assert_eq!((&adaptive["partial"], &adaptive["degraded"]), (&json!(true), &Value::Null), "{reply}");
    assert!(
        adaptive["backends"][0].as_str().is_some_and(|why| why.contains("the lexical half stands in")),
        "{reply}"
    );
    assert!(!ids(&reply).is_empty());
    let reply = search(&mixed, &bodies[2]);
    assert_eq!((&reply["_shards"]["failed"], ids(&reply).is_empty()), (&json!(1), false), "{reply}");
    let gone = one.post("/notes/_search", &bodies[0].to_string());
    assert_eq!((gone.status, gone.header("retry-after")), (503, Some("1")), "{}", gone.text);
    let gone = one.post("/notes/_search", &bodies[5].to_string());
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_eq!(gone.json()["ext"]["adaptive"]["partial"], true, "{}", gone.text);
    for _ in 0..3 {
        one.post("/notes/_search", &bodies[0].to_string());
    }
    let metrics = one.get("/_metrics").text;
    assert!(metrics.contains("orion_backend_resting{backend=\"pg\"} 1"), "{metrics}");
    assert_eq!(one.get("/_health/live").status, 200);
}

/// Orion itself speaks OpenSearch's wire; that says nothing of the real one, but a whole protocol is spoken.
#[test]
fn another_orion_as_the_lexical_half() {
    let cluster = Server::new();
    let home = Arc::new(tempfile::tempdir().expect("a folder"));
    std::fs::write(home.path().join("corpus.jsonl"), corpus()).expect("a corpus");
    let config = format!(
        "[backends.other]\nkind = \"opensearch\"\nurl = \"http://{}\"\ncollection = \"notes\"\ntimeout_ms = 20000\n\
         [indices.notes]\nlexical = \"other\"\n",
        cluster.address
    );
    std::fs::write(home.path().join("push.toml"), &config).expect("a configuration");
    let none = home.path().join("none");
    let orion = |arguments: &[&str]| {
        let (is_done, said) = run(home.path(), &none, arguments);
        assert!(is_done, "{arguments:?}: {said}");
        said
    };
    orion(&["index", "add", "notes", "corpus.jsonl"]);
    let mapping = r#"{"mappings":{"properties":{"title":{"type":"text"},"text":{"type":"text"},"year":{"type":"double"},"kind":{"type":"keyword"}}}}"#;
    assert_eq!(cluster.put("/notes", mapping).status, 200);
    orion(&["index", "push", "notes", "--to", "other", "--config", "push.toml"]);
    assert_eq!(cluster.get("/notes/_count").json()["count"], 40);

    let server = Server::over(Arc::clone(&home), &config, None);
    let words = json!({ "match": { "text": "lens of the lighthouse" } });
    let filtered =
        json!({ "bool": { "must": [words], "filter": [{ "range": { "year": { "gte": 320 } } }] } });
    let search = |body: Value| {
        let answer = server.post("/notes/_search", &body.to_string());
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        answer.json()
    };
    let reply = search(json!({ "query": filtered, "size": 20 }));
    assert!(!ids(&reply).is_empty() && reply["_shards"]["failed"] == 0, "{reply}");
    assert!(
        reply["hits"]["hits"].as_array().is_some_and(|hits| hits
            .iter()
            .all(|hit| { hit["_source"]["year"].as_f64().is_some_and(|year| 320.0 <= year) })),
        "{reply}"
    );
    let asked = json!({ "query": words, "ext": { "adaptive": { "strategy": "lexical", "policy": "none" } } });
    let reply = search(asked);
    assert_eq!(reply["ext"]["adaptive"]["partial"], false, "{reply}");
    assert!(reply["hits"]["hits"][0]["_source"]["title"].is_string(), "{reply}");
}
