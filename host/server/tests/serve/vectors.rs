//! Vectors that clients bring: `knn_vector` fields and `knn` queries, against brute force and OpenSearch's formulas.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::server::{Server, program};

const SUBJECTS: [&str; 4] = ["lamp", "lens", "reef", "rope"];
const KINDS: [&str; 2] = ["even", "odd"];
const DOCUMENTS: usize = 90;

/// Vectors that differ in length and direction; one document in nine has none.
fn vector(number: usize) -> Option<[f64; 3]> {
    let part = |step: usize| ((number * step + step) % 17) as f64 / 4.0 - 2.0;
    (number % 9 != 4).then(|| [part(3), part(5), 0.25 + part(7).abs()])
}

fn document(number: usize) -> Value {
    let mut made = json!({
        "title": format!("{} {number}", SUBJECTS[number % 4]), "kind": KINDS[number % 2],
        "year": 300 + number,
    });
    if let Some(vector) = vector(number) {
        made["place"] = json!(vector);
    }
    made
}

/// An index of all documents, compared in one of OpenSearch's spaces.
fn filled(server: &Server, index: &str, definition: &Value) {
    let mapping = json!({
        "settings": { "index.knn": true, "index.knn.algo_param.ef_search": 100 },
        "mappings": { "properties": {
            "title": { "type": "text" }, "kind": { "type": "keyword" }, "year": { "type": "integer" },
            "place": definition,
        } },
    });
    let made = server.put(&format!("/{index}"), &mapping.to_string());
    assert_eq!(made.status, 200, "{}", made.text);
    let lines: String = (0..DOCUMENTS)
        .map(|number| {
            format!("{}\n{}\n", json!({ "index": { "_id": format!("d{number:02}") } }), document(number))
        })
        .collect();
    let answer = server.post(&format!("/{index}/_bulk?refresh=true"), &lines);
    assert_eq!((answer.status, &answer.json()["errors"]), (200, &json!(false)), "{}", answer.text);
}

/// OpenSearch's score for two vectors, as its documentation defines it.
fn score(space: &str, left: &[f64], right: &[f64]) -> f64 {
    let product = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(l, r)| l * r).sum::<f64>();
    match space {
        "cosinesimil" => {
            let cosine = product(left, right) / (product(left, left) * product(right, right)).sqrt();
            let distance = 1.0 - cosine;
            (2.0 - distance) / 2.0
        }
        "l2" => 1.0 / (1.0 + left.iter().zip(right).map(|(l, r)| (l - r).powi(2)).sum::<f64>()),
        "innerproduct" => {
            let product = product(left, right);
            if 0.0 < product { product + 1.0 } else { 1.0 / (1.0 - product) }
        }
        other => panic!("{other}"),
    }
}

/// All that have a vector and are wanted, best first.
fn expected(space: &str, query: &[f64], wanted: impl Fn(usize) -> bool) -> Vec<(String, f64)> {
    let with = (0..DOCUMENTS).filter(|number| wanted(*number));
    let scored =
        with.filter_map(|number| Some((format!("d{number:02}"), score(space, query, &vector(number)?))));
    let mut all: Vec<(String, f64)> = scored.collect();
    all.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    all
}

fn search(server: &Server, index: &str, body: &Value) -> Value {
    let answer = server.post(&format!("/{index}/_search"), &body.to_string());
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    answer.json()
}

#[track_caller]
fn check(server: &Server, index: &str, query: &Value, expected: &[(String, f64)]) {
    let reply = search(server, index, &json!({ "query": query, "size": 100 }));
    let hits = reply["hits"]["hits"].as_array().expect("hits");
    assert_eq!(hits.len(), expected.len(), "{query}: {reply}");
    for (hit, (id, best)) in hits.iter().zip(expected) {
        let score = hit["_score"].as_f64().expect("a score");
        assert!(
            (score - best).abs() < 1e-5 * best.max(1.0),
            "{query}: {hit} in the place of {id} with {best}"
        );
    }
    let mut ids: Vec<&str> = hits.iter().map(|hit| hit["_id"].as_str().expect("an id")).collect();
    let mut wanted: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
    // Scores that agree to rounding may stand in either order.
    ids.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "{query}");
}

#[test]
fn neighbours_are_those_of_brute_force() {
    let server = Server::new();
    let hnsw = |space: &str| {
        json!({ "type": "knn_vector", "dimension": 3, "method": { "name": "hnsw", "engine": "lucene",
        "space_type": space, "parameters": { "ef_construction": 128, "m": 24 } } })
    };
    let definitions = [
        ("cosinesimil", json!({ "type": "knn_vector", "dimension": 3, "space_type": "cosinesimil" })),
        ("innerproduct", hnsw("innerproduct")),
        // The default of OpenSearch.
        ("l2", json!({ "type": "knn_vector", "dimension": 3 })),
    ];
    for (space, definition) in &definitions {
        filled(&server, space, definition);
        let shown = server.get(&format!("/{space}/_mapping")).json();
        assert_eq!(&shown[space]["mappings"]["properties"]["place"], definition);
        for query in [[1.0, 0.5, 2.0], [-2.0, 0.25, 0.5], [0.0, 0.0, 3.0]] {
            let knn = |k: usize, filter: Option<Value>| {
                let mut inner = json!({ "vector": query, "k": k });
                if let Some(filter) = filter {
                    inner["filter"] = filter;
                }
                json!({ "knn": { "place": inner } })
            };
            let all = expected(space, &query, |_| true);
            check(&server, space, &knn(7, None), &all[..7]);
            check(&server, space, &knn(10_000, None), &all);
            // Before the neighbours are counted: by metadata, by words, by both.
            let even = expected(space, &query, |number| number % 2 == 0);
            let lens = expected(space, &query, |number| number % 4 == 1);
            check(&server, space, &knn(5, Some(json!({ "term": { "kind": "even" } }))), &even[..5]);
            check(&server, space, &knn(5, Some(json!({ "match": { "title": "lens" } }))), &lens[..5]);
            let both = json!({ "bool": { "must": [{ "term": { "title": "lamp" } }, { "range": { "year": { "lt": 330 } } }] } });
            let few = expected(space, &query, |number| number % 4 == 0 && number < 30);
            check(&server, space, &knn(50, Some(both)), &few);
            check(&server, space, &knn(50, Some(json!({ "match_none": {} }))), &[]);
            // Afterwards: what is left of the neighbours.
            let outside =
                json!({ "bool": { "must": knn(20, None), "filter": { "term": { "kind": "odd" } } } });
            let odd = |(id, _): &&(String, f64)| id[1..].parse::<usize>().is_ok_and(|number| number % 2 == 1);
            check(&server, space, &outside, &all[..20].iter().filter(odd).cloned().collect::<Vec<_>>());
            let mut twice: Vec<(String, f64)> = all[..6].to_vec();
            twice.iter_mut().for_each(|(_, score)| *score *= 2.0);
            check(&server, space, &json!({ "bool": { "should": [knn(6, None), knn(6, None)] } }), &twice);
            let mut boosted = knn(6, None);
            boosted["knn"]["place"]["boost"] = json!(2.0);
            check(&server, space, &boosted, &twice);
            let constant: Vec<(String, f64)> = all[..6].iter().map(|(id, _)| (id.clone(), 1.0)).collect();
            check(&server, space, &json!({ "constant_score": { "filter": knn(6, None) } }), &constant);
        }
    }
    with_words(&server);
}

/// Beside other queries: fused with a ranking by words, counted, in a multi-search.
fn with_words(server: &Server) {
    let query = [1.0, 0.5, 2.0];
    let knn = json!({ "knn": { "place": { "vector": query, "k": 30 } } });
    let words = json!({ "match": { "title": "lens" } });
    let counted = server.post("/cosinesimil/_count", &json!({ "query": knn }).to_string()).json();
    assert_eq!(counted["count"], 30);
    let lines =
        format!("{{}}\n{}\n{{}}\n{}\n", json!({ "query": knn, "size": 1 }), json!({ "query": words }));
    let both = server.post("/cosinesimil/_msearch", &lines).json();
    let nearest = expected("cosinesimil", &query, |_| true);
    assert_eq!(both["responses"][0]["hits"]["hits"][0]["_id"], nearest[0].0);
    assert_eq!(both["responses"][0]["hits"]["total"]["value"], 30);

    let pipeline = json!({ "phase_results_processors": [{ "normalization-processor": {
        "normalization": { "technique": "min_max" },
        "combination": { "technique": "arithmetic_mean", "parameters": { "weights": [0.25, 0.75] } } } }] });
    assert_eq!(server.put("/_search/pipeline/fused", &pipeline.to_string()).status, 200);
    let body = json!({ "query": { "hybrid": { "queries": [words, knn] } }, "size": 100 });
    let answer = server.post("/cosinesimil/_search?search_pipeline=fused", &body.to_string());
    let reply = answer.json();
    let ranked = |body: Value| -> Vec<(String, f64)> {
        let reply = search(server, "cosinesimil", &body);
        let hits = reply["hits"]["hits"].as_array().expect("hits").clone();
        let one = |hit: &Value| {
            let id = hit["_id"].as_str().expect("an id").to_owned();
            (id, hit["_score"].as_f64().expect("a score"))
        };
        hits.iter().map(one).collect()
    };
    let scaled = |ranking: Vec<(String, f64)>, weight: f64| -> Vec<(String, f64)> {
        let (most, least) = (ranking[0].1, ranking.last().map_or(0.0, |(_, score)| *score));
        let share = |score: f64| if most == least { 1.0 } else { (score - least) / (most - least) };
        ranking.into_iter().map(|(id, score)| (id, weight * share(score))).collect()
    };
    let by_words = scaled(ranked(json!({ "query": words, "size": 100 })), 0.25);
    let by_vector = scaled(ranked(json!({ "query": knn, "size": 100 })), 0.75);
    let hits = reply["hits"]["hits"].as_array().expect("hits");
    assert!(by_vector.len() < hits.len(), "{}", answer.text);
    for hit in hits {
        let of = |ranking: &[(String, f64)]| {
            ranking.iter().find(|(id, _)| hit["_id"] == id.as_str()).map_or(0.0, |(_, score)| *score)
        };
        let expected = of(&by_words) + of(&by_vector);
        assert!((hit["_score"].as_f64().expect("a score") - expected).abs() < 1e-5, "{hit} {expected}");
    }
}

/// One document through its changes, a crash, a snapshot; texts where there is no encoder for them.
#[test]
fn vectors_live_as_their_documents_do() {
    let configuration = "snapshots = \"snapshots\"\n[bounds]\nrefresh_ms = 600000\n";
    let server = Server::with(configuration);
    let definition = json!({ "type": "knn_vector", "dimension": 3, "space_type": "cosinesimil" });
    filled(&server, "notes", &definition);
    let nearest = |server: &Server, index: &str, vector: [f64; 3]| -> (String, f64) {
        let body = json!({ "query": { "knn": { "place": { "vector": vector, "k": 1 } } } });
        let hit = search(server, index, &body)["hits"]["hits"][0].clone();
        (hit["_id"].as_str().expect("an id").to_owned(), hit["_score"].as_f64().expect("a score"))
    };
    let unusual = [-9.0, 40.0, 0.5];
    let source = r#"{"title":"unusual","place":[-9,4.0e1,0.50]}"#;
    assert_eq!(server.put("/notes/_doc/x", source).status, 201);
    assert_eq!(
        server.get("/notes/_doc/x").json()["_source"],
        serde_json::from_str::<Value>(source).expect("JSON")
    );
    // Acknowledged, not committed, and the power goes.
    let server = Server::over(server.kill(), configuration, None);
    let (id, score) = nearest(&server, "notes", unusual);
    assert!(id == "x" && (score - 1.0).abs() < 1e-6, "{id} {score}");
    let hit = search(&server, "notes", &json!({ "query": { "ids": { "values": ["x"] } } }))["hits"]["hits"]
        [0]
    .clone();
    assert_eq!(hit["_source"]["place"], json!([-9, 40.0, 0.5]));

    // Changed in parts: the vector stays, is replaced, and goes.
    let update = |body: Value| server.post("/notes/_update/x?refresh=true", &body.to_string());
    assert_eq!(update(json!({ "doc": { "title": "changed" } })).json()["result"], "updated");
    assert_eq!(nearest(&server, "notes", unusual).0, "x");
    assert_eq!(update(json!({ "doc": { "place": [40, 9, 0.5] } })).json()["result"], "updated");
    assert_eq!(nearest(&server, "notes", [40.0, 9.0, 0.5]).0, "x");
    assert_eq!(update(json!({ "doc": { "place": null } })).json()["result"], "updated");
    assert_ne!(nearest(&server, "notes", [40.0, 9.0, 0.5]).0, "x");
    assert_eq!(server.put("/notes/_doc/x?refresh=true", source).status, 200);
    assert_eq!(server.delete("/notes/_doc/d00?refresh=true").status, 200);

    let repository = json!({ "type": "fs", "settings": { "location": "kept" } });
    assert_eq!(server.put("/_snapshot/kept", &repository.to_string()).status, 200);
    assert_eq!(server.put("/_snapshot/kept/one?wait_for_completion=true", "").status, 200);
    let restore = json!({ "indices": "notes", "rename_pattern": "(.+)", "rename_replacement": "$1-again" });
    let restored = server.post("/_snapshot/kept/one/_restore?wait_for_completion=true", &restore.to_string());
    assert_eq!(restored.status, 200, "{}", restored.text);
    assert_eq!(nearest(&server, "notes-again", unusual).0, "x");
    assert_eq!(
        server.get("/notes-again/_mapping").json()["notes-again"]["mappings"]["properties"]["place"],
        definition
    );

    // An adaptive search goes by words and says so.
    let body = json!({ "query": { "match": { "title": "lens" } }, "ext": { "adaptive": { "strategy": "hybrid", "policy": "none" } } });
    let reply = search(&server, "notes", &body);
    let note = "documents of this index bring their own vectors, which no text can be compared with: searched by words";
    assert_eq!(
        (&reply["ext"]["adaptive"]["note"], &reply["ext"]["adaptive"]["degraded"]),
        (&json!(note), &Value::Null)
    );
    let title = reply["hits"]["hits"][0]["_source"]["title"].as_str().expect("a title").to_owned();
    assert!(title.starts_with("lens"), "{title}");
}

/// An index that the command line made is served with its vectors, and pushed with them into another server.
#[test]
fn an_index_of_the_command_line() {
    let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
    let lines: String = (0..DOCUMENTS)
        .map(|number| {
            let mut line =
                json!({ "_id": format!("d{number:02}"), "title": SUBJECTS[number % 4], "year": number });
            if let Some(vector) = vector(number) {
                line["vector"] = json!(vector);
            }
            format!("{line}\n")
        })
        .collect();
    std::fs::write(folder.path().join("lines.jsonl"), lines).expect("a file");
    // That Orion reads what Orion writes says nothing of other clusters, but a whole protocol is spoken.
    let cluster = Server::new();
    let backend = format!("[backends.other]\nkind = \"opensearch\"\nurl = \"http://{}\"\n", cluster.address);
    std::fs::write(folder.path().join("push.toml"), backend + "collection = \"pushed\"\n").expect("a file");
    for arguments in [
        "index create own --vectors 3",
        "index add own lines.jsonl",
        "index push own --to other --config push.toml",
    ] {
        let output = program(folder.path(), None).args(arguments.split(' ')).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let query = [1.0, 0.5, 2.0];
    let server = Server::over(folder, "", None);
    let shown = server.get("/own/_mapping").json()["own"]["mappings"]["properties"]["vector"].clone();
    assert_eq!(shown, json!({ "type": "knn_vector", "dimension": 3, "space_type": "cosinesimil" }));
    let knn = json!({ "knn": { "vector": { "vector": query, "k": 8, "filter": { "range": { "year": { "gte": 20 } } } } } });
    check(&server, "own", &knn, &expected("cosinesimil", &query, |number| 20 <= number)[..8]);
    check(&cluster, "pushed", &knn, &expected("cosinesimil", &query, |number| 20 <= number)[..8]);
    // A change in parts keeps the vector, which is a part of what is shown.
    let before = server.get("/own/_doc/d01").json()["_source"].clone();
    assert_eq!(before["vector"].as_array().map(Vec::len), Some(3), "{before}");
    assert_eq!(server.post("/own/_update/d01?refresh=true", r#"{"doc":{"title":"changed"}}"#).status, 200);
    assert_eq!(server.get("/own/_doc/d01").json()["_source"]["vector"], before["vector"]);
    check(&server, "own", &knn, &expected("cosinesimil", &query, |number| 20 <= number)[..8]);
    assert_eq!(server.put("/own/_doc/d01?refresh=true", r#"{"title":"none now"}"#).status, 200);
    assert_eq!(server.get("/own/_doc/d01").json()["_source"].get("vector"), None);
}
