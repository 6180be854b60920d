//! What is served, as OpenSearch's clients expect it, and what of it survives a restart.

use serde_json::{Value, json};

use crate::server::Server;

/// Ids of a search, in order.
fn ids(server: &Server, index: &str, body: &Value) -> Vec<String> {
    let answer = server.post(&format!("/{index}/_search"), &body.to_string());
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    let reply = answer.json();
    let hits = reply["hits"]["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id").to_owned()).collect()
}

fn films(server: &Server) {
    let mapping = json!({ "mappings": { "properties": {
        "title": { "type": "text" },
        "director": { "type": "text", "fields": { "keyword": { "type": "keyword" } } },
        "genre": { "type": "keyword" },
        "year": { "type": "integer" },
        "rating": { "type": "float" },
        "released": { "type": "date" },
        "seen": { "type": "boolean" },
        "extra": { "type": "object", "enabled": false },
    } } });
    assert_eq!(server.put("/films", &mapping.to_string()).status, 200);
    let bulk = concat!(
        r#"{"index":{"_id":"1"}}"#,
        "\n",
        r#"{"title":"The quiet lighthouse","director":"Ana Miller","genre":["drama","sea"],"year":1984,"rating":7.5,"released":"1984-05-06","seen":true,"extra":{"deep":[1,2]}}"#,
        "\n",
        r#"{"create":{"_id":"2"}}"#,
        "\n",
        r#"{"title":"Lighthouse keeper of the north","director":"Bo Lund","genre":"drama","year":1999,"rating":8.25,"released":"1999-12-31","seen":false}"#,
        "\n",
        r#"{"index":{"_id":"3"}}"#,
        "\n",
        r#"{"title":"A cook in winter","director":"Miller Stone","genre":"comedy","year":2004,"released":"2004-01-01T12:00:00Z"}"#,
        "\n",
        r#"{"create":{"_id":"1"}}"#,
        "\n",
        r#"{"title":"again"}"#,
        "\n",
        r#"{"delete":{"_id":"none"}}"#,
        "\n",
        r#"{"index":{"_id":"4"}}"#,
        "\n",
        r#"{"title":"bad year","year":"many"}"#,
        "\n",
    );
    let answer = server.post("/films/_bulk?refresh=true", bulk);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let reply = answer.json();
    assert_eq!(reply["errors"], true);
    let status = |place: usize| {
        let item = reply["items"][place].as_object().expect("an item");
        item.values().next().expect("an action")["status"].as_u64().expect("a status")
    };
    assert_eq!([0, 1, 2, 3, 4, 5].map(status), [201, 201, 201, 409, 404, 400]);
    assert_eq!(reply["items"][3]["create"]["error"]["type"], "version_conflict_engine_exception");
    assert_eq!(reply["items"][5]["index"]["error"]["type"], "mapper_parsing_exception");
}

#[test]
fn documents_and_searches() {
    let server = Server::new();
    assert_eq!(server.get("/").json()["version"]["distribution"], "opensearch");
    assert_eq!(server.get("/_cluster/health").json()["status"], "green");
    assert_eq!(server.request("HEAD", "/films", "", &[]).status, 404);
    films(&server);
    assert_eq!(server.request("HEAD", "/films", "", &[]).status, 200);
    let shown = server.get("/films").json();
    assert_eq!(shown["films"]["mappings"]["properties"]["director"]["fields"]["keyword"]["type"], "keyword");
    assert_eq!(
        shown["films"]["mappings"]["properties"]["extra"],
        json!({ "type": "object", "enabled": false })
    );

    let check = |query: Value, expected: &[&str]| {
        assert_eq!(ids(&server, "films", &json!({ "query": query })), expected, "{query}");
    };
    check(json!({ "match_all": {} }), &["1", "2", "3"]);
    check(json!({ "match_none": {} }), &[]);
    check(json!({ "match": { "title": "lighthouse" } }), &["1", "2"]);
    check(json!({ "match": { "title": { "query": "lighthouse north", "operator": "and" } } }), &["2"]);
    check(
        json!({ "match": { "title": { "query": "quiet lighthouse keeper", "minimum_should_match": 2 } } }),
        &["1", "2"],
    );
    check(json!({ "match": { "director": "miller" } }), &["1", "3"]);
    check(json!({ "match": { "nowhere": "miller" } }), &[]);
    check(json!({ "multi_match": { "query": "cook stone", "fields": ["title^2", "director"] } }), &["3"]);
    check(
        json!({ "multi_match": { "query": "quiet lighthouse", "type": "phrase", "fields": ["title"] } }),
        &["1"],
    );
    check(json!({ "match_phrase": { "title": "keeper of the north" } }), &["2"]);
    check(json!({ "match_phrase": { "title": "north keeper" } }), &[]);
    check(json!({ "query_string": { "query": "title:lighthouse -north" } }), &["1"]);
    check(json!({ "query_string": { "query": "lighthouse AND keeper" } }), &["2"]);
    check(json!({ "simple_query_string": { "query": "\"quiet lighthouse\"", "fields": ["title"] } }), &["1"]);
    check(json!({ "term": { "genre": "drama" } }), &["1", "2"]);
    check(json!({ "term": { "genre": { "value": "sea" } } }), &["1"]);
    check(json!({ "term": { "director.keyword": "Bo Lund" } }), &["2"]);
    check(json!({ "term": { "seen": true } }), &["1"]);
    check(json!({ "term": { "title": "cook" } }), &["3"]);
    check(json!({ "terms": { "year": [1984, 2004] } }), &["1", "3"]);
    check(json!({ "range": { "year": { "gte": 1999, "lt": 2004 } } }), &["2"]);
    check(json!({ "range": { "released": { "gt": "1999-12-31" } } }), &["3"]);
    check(json!({ "exists": { "field": "rating" } }), &["1", "2"]);
    check(json!({ "exists": { "field": "director" } }), &["1", "2", "3"]);
    check(json!({ "ids": { "values": ["3", "9"] } }), &["3"]);
    check(json!({ "constant_score": { "filter": { "term": { "genre": "comedy" } } } }), &["3"]);
    check(
        json!({ "dis_max": { "queries": [{ "term": { "year": 1999 } }, { "term": { "year": 2004 } }] } }),
        &["2", "3"],
    );
    check(
        json!({ "bool": { "must": { "match": { "title": "lighthouse" } }, "filter": [{ "range": { "year": { "lt": 1990 } } }] } }),
        &["1"],
    );
    check(
        json!({ "bool": { "should": [{ "term": { "genre": "sea" } }, { "term": { "year": 2004 } }], "must_not": [{ "ids": { "values": ["1"] } }] } }),
        &["3"],
    );
    check(
        json!({ "bool": { "should": [{ "term": { "genre": "sea" } }, { "term": { "genre": "drama" } }], "minimum_should_match": 2 } }),
        &["1"],
    );
    check(
        json!({ "bool": { "filter": [{ "bool": { "must_not": { "term": { "seen": true } } } }] } }),
        &["2", "3"],
    );

    // Order, pages, sources, marks.
    assert_eq!(ids(&server, "films", &json!({ "sort": [{ "year": "desc" }] })), ["3", "2", "1"]);
    assert_eq!(
        ids(&server, "films", &json!({ "sort": [{ "rating": { "order": "desc", "missing": "_first" } }] })),
        ["3", "2", "1"]
    );
    assert_eq!(ids(&server, "films", &json!({ "sort": ["director.keyword"] })), ["1", "2", "3"]);
    assert_eq!(ids(&server, "films", &json!({ "sort": ["year"], "from": 1, "size": 1 })), ["2"]);
    assert_eq!(ids(&server, "films", &json!({ "sort": ["year"], "search_after": [1984], "size": 1 })), ["2"]);
    let reply = server
        .post("/films/_search", &json!({
            "query": { "match": { "title": "lighthouses" } }, "size": 1, "_source": ["title", "year"],
            "highlight": { "fields": { "title": {} } }, "explain": true, "version": true, "seq_no_primary_term": true,
        }).to_string())
        .json();
    assert_eq!(reply["hits"]["total"], json!({ "value": 2, "relation": "eq" }));
    let hit = &reply["hits"]["hits"][0];
    assert_eq!(hit["_source"], json!({ "title": "The quiet lighthouse", "year": 1984 }));
    assert_eq!(hit["highlight"]["title"], json!(["The quiet <em>lighthouse</em>"]));
    assert_eq!((hit["_version"].as_u64(), hit["_seq_no"].as_u64()), (Some(1), Some(0)));
    assert!(hit["_explanation"]["value"].is_number() && hit["_index"] == "films");
    assert_eq!(server.get("/films/_search?q=title:cook&size=1").json()["hits"]["total"]["value"], 1);
    assert_eq!(server.post("/films/_count", r#"{"query":{"term":{"genre":"drama"}}}"#).json()["count"], 2);

    several_at_once(&server);
    single_documents(&server);
    restart(server);
}

fn several_at_once(server: &Server) {
    let lines = concat!(
        "{\"index\":\"films\"}\n",
        "{\"query\":{\"match\":{\"title\":\"cook\"}}}\n",
        "{}\n",
        "{\"query\":{\"nonsense\":{}}}\n",
    );
    let reply = server.post("/films/_msearch", lines).json();
    assert_eq!(reply["responses"][0]["hits"]["hits"][0]["_id"], "3");
    assert_eq!(
        (&reply["responses"][1]["status"], &reply["responses"][1]["error"]["type"]),
        (&json!(400), &json!("parsing_exception"))
    );

    let mut reply = server.post("/films/_search?scroll=1m", r#"{"size":2,"sort":["year"]}"#).json();
    let mut seen = Vec::new();
    while let Some(hits) = reply["hits"]["hits"].as_array().filter(|hits| !hits.is_empty()) {
        seen.extend(hits.iter().map(|hit| hit["_id"].as_str().expect("an id").to_owned()));
        let id = reply["_scroll_id"].as_str().expect("a scroll id").to_owned();
        reply =
            server.post("/_search/scroll", &json!({ "scroll": "1m", "scroll_id": id }).to_string()).json();
    }
    assert_eq!(seen, ["1", "2", "3"]);
    let id = reply["_scroll_id"].clone();
    let gone = server.request("DELETE", "/_search/scroll", &json!({ "scroll_id": [id] }).to_string(), &[]);
    assert_eq!(gone.json()["num_freed"], 1);
    let missing = server.post("/_search/scroll", &json!({ "scroll": "1m", "scroll_id": id }).to_string());
    assert_eq!(
        (missing.status, &missing.json()["error"]["type"]),
        (404, &json!("search_context_missing_exception"))
    );

    // A point in time does not see what comes later.
    let pit = server.post("/films/_search/point_in_time?keep_alive=1m", "").json()["pit_id"].clone();
    assert_eq!(server.put("/films/_doc/late?refresh=true", r#"{"title":"late"}"#).status, 201);
    let count =
        |body: Value| server.post("/_search", &body.to_string()).json()["hits"]["total"]["value"].clone();
    assert_eq!(count(json!({ "pit": { "id": pit, "keep_alive": "1m" } })), 3);
    assert_eq!(server.post("/films/_search", "").json()["hits"]["total"]["value"], 4);
    assert_eq!(server.delete("/films/_doc/late?refresh=true").status, 200);
    let closed =
        server.request("DELETE", "/_search/point_in_time", &json!({ "pit_id": [pit] }).to_string(), &[]);
    assert_eq!(closed.json()["pits"][0]["successful"], true);
}

fn single_documents(server: &Server) {
    // What was put can be got at once, as it was, before it is searchable.
    let odd = r#"{"z":null,"extra":{"b":[1,{"c":2.50}]},"title":"zebra crossing"}"#;
    let put = server.put("/films/_doc/odd", odd);
    assert_eq!((put.status, &put.json()["result"]), (201, &json!("created")));
    let got = server.get("/films/_doc/odd").json();
    assert_eq!((&got["found"], &got["_version"]), (&json!(true), &json!(1)));
    assert_eq!(got["_source"], serde_json::from_str::<Value>(odd).expect("JSON"));
    assert_eq!(
        server.get("/films/_source/odd?_source_includes=title").json(),
        json!({ "title": "zebra crossing" })
    );
    assert_eq!(server.request("HEAD", "/films/_doc/odd", "", &[]).status, 200);
    assert_eq!(server.put("/films/_create/odd", odd).status, 409);
    let update = |body: &str| server.post("/films/_update/odd", body);
    assert_eq!(update(r#"{"doc":{"year":2020,"extra":{"d":1}}}"#).json()["result"], "updated");
    assert_eq!(update(r#"{"doc":{"year":2020}}"#).json()["result"], "noop");
    let got = server.get("/films/_doc/odd").json();
    assert_eq!(got["_source"]["extra"], json!({ "b": [1, { "c": 2.5 }], "d": 1 }));
    assert_eq!(got["_version"], 2);
    let sequence = got["_seq_no"].as_u64().expect("a number");
    let stale = server.put(&format!("/films/_doc/odd?if_seq_no={}&if_primary_term=1", sequence + 5), odd);
    assert_eq!(
        (stale.status, &stale.json()["error"]["type"]),
        (409, &json!("version_conflict_engine_exception"))
    );
    assert_eq!(server.post("/films/_update/nobody", r#"{"doc":{}}"#).status, 404);
    assert_eq!(
        server.post("/films/_update/nobody", r#"{"doc":{"title":"new"},"doc_as_upsert":true}"#).json()["result"],
        "created"
    );
    let made = server.post("/films/_doc?refresh=wait_for", r#"{"title":"named by nobody"}"#).json();
    let id = made["_id"].as_str().expect("an id").to_owned();
    assert_eq!(
        ids(server, "films", &json!({ "query": { "match_phrase": { "title": "named by nobody" } } })),
        [id.as_str()]
    );
    let several = json!({ "ids": ["odd", "none"] });
    let reply = server.post("/films/_mget", &several.to_string()).json();
    assert_eq!((&reply["docs"][0]["found"], &reply["docs"][1]["found"]), (&json!(true), &json!(false)));
    for gone in ["odd", "nobody", id.as_str()] {
        assert_eq!(server.delete(&format!("/films/_doc/{gone}")).json()["result"], "deleted");
    }
    assert_eq!(server.delete("/films/_doc/odd").status, 404);
    assert_eq!(server.get("/films/_doc/odd").status, 404);
    assert_eq!(server.post("/films/_refresh", "").status, 200);
    assert_eq!(server.post("/films/_count", "").json()["count"], 3);

    // An index appears with its first document, its fields with their first values.
    assert_eq!(
        server
            .put(
                "/fresh/_doc/1?refresh=true",
                r#"{"title":"Moneyball","year":2011,"on":"2011-09-23","ok":true}"#
            )
            .status,
        201
    );
    let properties = server.get("/fresh/_mapping").json()["fresh"]["mappings"]["properties"].clone();
    let kinds: Vec<&str> = ["title", "year", "on", "ok"]
        .iter()
        .map(|name| properties[name]["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(kinds, ["text", "long", "date", "boolean"]);
    assert_eq!(
        ids(server, "fresh", &json!({ "query": { "term": { "title.keyword": "Moneyball" } } })),
        ["1"]
    );
    let listed = server.get("/_cat/indices?format=json").json();
    assert_eq!(
        (&listed[0]["index"], &listed[0]["docs.count"], &listed[1]["index"]),
        (&json!("films"), &json!("3"), &json!("fresh"))
    );
    assert!(server.get("/_cat/indices?v&h=index,docs.count").text.starts_with("index docs.count\nfilms 3\n"));
}

/// Documents, mappings and pipelines are there after a restart.
fn restart(server: Server) {
    let pipeline =
        json!({ "request_processors": [{ "adaptive": { "strategy": "lexical", "trace": true } }] });
    assert_eq!(server.put("/_search/pipeline/mine", &pipeline.to_string()).status, 200);
    assert_eq!(
        server.put("/films/_settings", r#"{"index":{"search":{"default_pipeline":"mine"}}}"#).status,
        200
    );
    // Acknowledged, and not visible yet when the server ends.
    assert_eq!(server.put("/films/_doc/last", r#"{"title":"last words"}"#).status, 201);
    let (folder, code) = server.end();
    assert_eq!(code, Some(0));
    let server = Server::over(folder, "", None);
    assert_eq!(server.get("/_search/pipeline/mine").json()["mine"], pipeline);
    assert_eq!(server.get("/films/_doc/last").json()["_source"]["title"], "last words");
    let reply = server.post("/films/_search", r#"{"query":{"match":{"title":"words"}}}"#).json();
    assert_eq!(reply["hits"]["hits"][0]["_id"], "last");
    assert_eq!(reply["ext"]["adaptive"]["tree"]["strategy"], "lexical");
    assert_eq!(server.delete("/_search/pipeline/mine").status, 200);
    assert_eq!(server.get("/_search/pipeline/mine").status, 404);
    assert_eq!(server.delete("/films").json(), json!({ "acknowledged": true }));
    assert_eq!(server.get("/films/_doc/last").status, 404);
    assert_eq!(server.put("/films", "").status, 200);
}
