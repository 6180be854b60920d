//! Every body malformed in one way, and the exact error it gets.

use serde_json::{Value, json};

use crate::server::Server;

#[test]
fn every_slip_is_named() {
    let server = Server::new();
    let mapping = r#"{"mappings":{"properties":{"title":{"type":"text"},"plain":{"type":"text"},"kind":{"type":"keyword"},"year":{"type":"integer"}}}}"#;
    assert_eq!(server.put("/notes", mapping).status, 200);
    assert_eq!(
        server.put("/notes/_doc/1?refresh=true", r#"{"title":"one","kind":"a","year":1}"#).status,
        201
    );

    let search = |body: Value, kind: &str, reason: &str| {
        slip(&server, "POST", "/notes/_search", &body.to_string(), 400, kind, reason);
    };
    let parsing = "parsing_exception";
    let illegal = "illegal_argument_exception";
    let query = |query: Value| json!({ "query": query });
    search(
        query(json!({ "macth": { "title": "x" } })),
        parsing,
        "unknown query [macth] did you mean [match]?",
    );
    search(query(json!({ "knnn": {} })), parsing, "unknown query [knnn] did you mean [knn]?");
    search(query(json!({ "sparse": {} })), parsing, "unknown query [sparse]");
    search(query(json!({})), illegal, "query malformed, empty clause found");
    search(query(json!([])), parsing, "[_na] query malformed, must start with start_object, got an array");
    search(
        query(json!({ "match": {}, "term": {} })),
        parsing,
        "[match] malformed query, expected [END_OBJECT] but found [FIELD_NAME] [term]",
    );
    search(
        query(json!({ "match": { "title": { "query": "x", "fuzziness": 1 } } })),
        parsing,
        "[match] query does not support [fuzziness]",
    );
    search(
        query(json!({ "match": { "title": { "query": "x", "operator": "xor" } } })),
        parsing,
        "[match] [operator]: expected and or or, got \"xor\"",
    );
    search(query(json!({ "match": { "title": {} } })), parsing, "[match] must be provided with a [query]");
    search(
        query(json!({ "match": { "a": "x", "b": "y" } })),
        parsing,
        "[match] query doesn't support multiple fields, found [a] and [b]",
    );
    search(
        query(json!({ "term": { "kind": ["a"] } })),
        parsing,
        "[term] query does not support an array as a value",
    );
    search(
        query(json!({ "terms": { "kind": "a" } })),
        parsing,
        "[terms] [kind]: expected an array, got a string",
    );
    search(
        query(json!({ "range": { "year": { "from": 1 } } })),
        parsing,
        "[range] query does not support [from]",
    );
    search(
        query(json!({ "range": { "year": { "gte": "long ago" } } })),
        "query_shard_exception",
        "failed to create query: field [year] is a number, got \"long ago\"",
    );
    search(
        query(json!({ "range": { "kind": { "gte": "a" } } })),
        illegal,
        "[range] query on field [kind] of type [keyword]: expected a number or a date",
    );
    search(query(json!({ "bool": { "musst": [] } })), parsing, "[bool] query does not support [musst]");
    search(query(json!({ "bool": { "must": 3 } })), parsing, "[bool] [must]: expected queries, got a number");
    search(
        query(json!({ "ids": { "values": "1" } })),
        parsing,
        "[ids] [values]: expected an array, got a string",
    );
    search(
        query(json!({ "exists": { "field": "plain" } })),
        illegal,
        "[exists] query on text field [plain] needs a keyword behind it: map it with \"fields\"",
    );
    search(
        query(json!({ "query_string": { "query": "tit*" } })),
        parsing,
        "[query_string] Failed to parse query [tit*]: `*` is not supported",
    );
    search(
        query(json!({ "query_string": { "query": "a AND" } })),
        parsing,
        "[query_string] Failed to parse query [a AND]: an operator stands at the end",
    );
    search(
        query(json!({ "simple_query_string": { "query": "\"a" } })),
        parsing,
        "[simple_query_string] Failed to parse query [\"a]: a quote is not closed",
    );
    search(
        query(json!({ "bool": { "must": { "hybrid": { "queries": [] } } } })),
        illegal,
        "hybrid query must be a top level query and cannot be wrapped into other queries",
    );
    search(
        query(json!({ "hybrid": { "queries": [{ "match_all": {} }] } })),
        illegal,
        "[hybrid] [queries]: expected two queries, got 1",
    );
    search(
        query(json!({ "neural": { "title": { "query_text": "x", "k": 5 } } })),
        illegal,
        "could not search by embedding: the index keeps no vectors",
    );
    search(
        query(json!({ "neural": { "kind": { "query_text": "x", "k": 5 } } })),
        illegal,
        "[neural] field [kind] is not embedded: all text fields together are; name one of [plain, title]",
    );
    search(
        query(json!({ "neural": { "title": { "query_text": "x", "model_id": "mine" } } })),
        illegal,
        "[neural] [model_id]: expected all-MiniLM-L6-v2 or nothing, got \"mine\"",
    );
    search(json!({ "aggs": { "a": {} } }), parsing, "Unknown key for a START_OBJECT in [aggs].");
    search(json!({ "from": -1 }), illegal, "[from] parameter cannot be negative, found [-1]");
    search(
        json!({ "from": 9_999, "size": 2 }),
        illegal,
        "Result window is too large, from + size must be less than or equal to: [10000] but was [10001]",
    );
    search(
        json!({ "sort": ["nowhere"] }),
        "query_shard_exception",
        "No mapping found for [nowhere] in order to sort on",
    );
    search(json!({ "sort": [{ "year": "up" }] }), illegal, "Unknown SortOrder [up]");
    search(
        json!({ "sort": ["year"], "search_after": [] }),
        illegal,
        "[search_after]: expected one value for each [sort], and [from] 0",
    );
    search(json!({ "timeout": 3 }), parsing, "[timeout]: expected a time such as 500ms, got 3");
    search(
        json!({ "timeout": "3" }),
        illegal,
        "failed to parse setting [timeout] with value [3] as a time value: unit is missing or unrecognized",
    );
    search(
        json!({ "highlight": { "fields": { "title": { "type": "fvh" } } } }),
        parsing,
        "[highlight_field] unknown field [type]",
    );
    search(json!({ "_source": 3 }), parsing, "[_source]: expected names, got 3");
    search(json!({ "ext": { "rerank": {} } }), parsing, "[ext]: unknown section [rerank], expected adaptive");

    let adaptive = |adaptive: Value, reason: &str| {
        search(
            json!({ "query": { "match": { "title": "one" } }, "ext": { "adaptive": adaptive } }),
            illegal,
            reason,
        );
    };
    adaptive(
        json!({ "mode": "auto", "strategy": "blind" }),
        "adaptive: [mode] auto goes with strategy beam, got [blind]",
    );
    adaptive(
        json!({ "turn": 3 }),
        "adaptive: unknown option [turn]: expected strategy, policy, turns, beam, params, budget, seed, trace or mode",
    );
    adaptive(json!({ "turns": "many" }), "adaptive: [turns]: expected a whole number, got \"many\"");
    adaptive(
        json!({ "budget": { "euros": 3 } }),
        "adaptive: unknown budget [euros]: expected ms, tokens or retrievals",
    );
    adaptive(
        json!({ "strategy": "lexical", "policy": "mine" }),
        "adaptive: policy: expected one of [nano, none], got [mine]",
    );
    adaptive(
        json!({ "strategy": "lexical", "policy": "none", "turns": 3 }),
        "adaptive: strategy `lexical` has no parameter `turns`; it has none",
    );
    search(
        json!({ "query": { "match_all": {} }, "ext": { "adaptive": { "strategy": "lexical" } } }),
        illegal,
        "adaptive search: expected a [match], [multi_match], [query_string], [neural] or [hybrid] query, or one of them in [bool], whose text the search starts from",
    );
    search(
        json!({ "query": { "match": { "title": "one" } }, "sort": ["year"], "ext": { "adaptive": {} } }),
        illegal,
        "adaptive search: [sort] is not supported",
    );
    search(
        json!({ "query": { "bool": { "must": { "match": { "title": "one" } }, "filter": { "match": { "plain": "x" } } } }, "ext": { "adaptive": { "strategy": "lexical" } } }),
        illegal,
        "filter: a query on [texts or ids] cannot be expressed over metadata",
    );

    let json_error = "json_parse_exception";
    slip(
        &server,
        "POST",
        "/notes/_search",
        "{",
        400,
        json_error,
        "EOF while parsing an object at line 1 column 1",
    );
    slip(
        &server,
        "POST",
        "/notes/_search",
        "[]",
        400,
        "parse_exception",
        "expected a JSON object, got an array",
    );
    slip(
        &server,
        "GET",
        "/notes/_search?sise=3",
        "",
        400,
        illegal,
        "request [/notes/_search] contains unrecognized parameter: [sise]",
    );
    slip(&server, "GET", "/nowhere/_search", "", 404, "index_not_found_exception", "no such index [nowhere]");
    slip(
        &server,
        "GET",
        "/notes/_search?search_pipeline=none",
        "",
        400,
        illegal,
        "Pipeline none is not defined",
    );
    slip(
        &server,
        "GET",
        "/notes/_explain/1",
        "",
        400,
        illegal,
        "no handler found for uri [/notes/_explain/1] and method [GET]",
    );
    slip(&server, "PUT", "/notes/_doc/2", "", 400, "parse_exception", "request body is required");
    slip(
        &server,
        "PUT",
        "/notes/_doc/2",
        r#"{"year":"many"}"#,
        400,
        "mapper_parsing_exception",
        "failed to parse field [year] of type [integer]",
    );
    slip(
        &server,
        "PUT",
        "/notes/_doc/2",
        r#"{"year":3000000000}"#,
        400,
        "mapper_parsing_exception",
        "failed to parse field [year] of type [integer]",
    );
    slip(
        &server,
        "PUT",
        "/notes/_doc/2?refresh=now",
        "{}",
        400,
        illegal,
        "Unknown value for refresh: [now].",
    );
    slip(
        &server,
        "PUT",
        "/notes",
        "",
        400,
        "resource_already_exists_exception",
        "index [notes] already exists",
    );
    slip(
        &server,
        "PUT",
        "/Notes",
        "",
        400,
        "invalid_index_name_exception",
        "index name `Notes`: expected 1 to 64 of a-z, 0-9, `-` and `_`, a letter or digit first",
    );
    let create =
        |body: &str, kind: &str, reason: &str| slip(&server, "PUT", "/other", body, 400, kind, reason);
    create(r#"{"mapings":{}}"#, parsing, "unknown key [mapings] for create index");
    create(
        r#"{"mappings":{"properties":{"v":{"type":"geo_point"}}}}"#,
        "mapper_parsing_exception",
        "No handler for type [geo_point] declared on field [v]: there are text, keyword, date, boolean, knn_vector, numbers, and object",
    );
    create(
        r#"{"mappings":{"properties":{"v":{"type":"text","analyzer":"german"}}}}"#,
        "mapper_parsing_exception",
        "unknown parameter [analyzer] on mapper [v]: \"german\" is not supported here",
    );
    create(
        r#"{"settings":{"codec":"best"}}"#,
        illegal,
        "unknown setting [index.codec]: there are [number_of_shards, number_of_replicas, refresh_interval, knn, knn.algo_param.ef_search, search.default_pipeline, max_result_window]",
    );
    slip(
        &server,
        "PUT",
        "/notes/_mapping",
        r#"{"properties":{"year":{"type":"keyword"}}}"#,
        400,
        illegal,
        "mapper [year] cannot be changed from type [integer] to [keyword]",
    );

    let bulk =
        |body: &str, kind: &str, reason: &str| slip(&server, "POST", "/notes/_bulk", body, 400, kind, reason);
    bulk("", "parse_exception", "request body is required");
    bulk("{\"index\":{}}\n{}", illegal, "The bulk request must be terminated by a newline [\\n]");
    bulk("{\"index\":{}\n{}\n", json_error, "line [1]: EOF while parsing an object at line 1 column 11");
    bulk(
        "{\"idnex\":{}}\n{}\n",
        illegal,
        "Malformed action/metadata line [1], expected field [create], [delete], [index] or [update] but found [idnex]",
    );
    bulk("[]\n{}\n", illegal, "Malformed action/metadata line [1], expected START_OBJECT but found an array");
    bulk(
        "{\"index\":{\"_idd\":1}}\n{}\n",
        illegal,
        "Action/metadata line [1] contains an unknown parameter [_idd]",
    );
    bulk("{\"index\":{}}\n", illegal, "Malformed action/metadata line [1], expected a source line after it");
    bulk("{\"delete\":{}}\n", "action_request_validation_exception", "Validation Failed: 1: id is missing;");
    slip(
        &server,
        "POST",
        "/_bulk",
        "{\"index\":{}}\n{}\n",
        400,
        "action_request_validation_exception",
        "Validation Failed: 1: index is missing;",
    );
    let broken_source = server
        .post("/notes/_bulk", "{\"index\":{\"_id\":\"b\"}}\n{\"a\":\n{\"delete\":{\"_id\":\"1\"}}\n")
        .json();
    assert_eq!(broken_source["items"][0]["index"]["error"]["caused_by"]["type"], json_error);
    assert_eq!(broken_source["items"][1]["delete"]["result"], "deleted");

    let pipeline = |body: &str, kind: &str, reason: &str| {
        slip(&server, "PUT", "/_search/pipeline/p", body, 400, kind, reason)
    };
    pipeline(
        r#"{"request_processors":[{"script":{}}]}"#,
        illegal,
        "Invalid processor type script: [request_processors] may have [adaptive]",
    );
    pipeline(
        r#"{"processors":[]}"#,
        parsing,
        "pipeline doesn't support one or more provided configuration parameters [processors]",
    );
    pipeline(
        r#"{"phase_results_processors":[{"normalization-processor":{"normalization":{"technique":"l2"}}}]}"#,
        illegal,
        "provided normalization technique is not supported: expected min_max, got \"l2\"",
    );
    slip(
        &server,
        "DELETE",
        "/_search/pipeline/p",
        "",
        404,
        "resource_not_found_exception",
        "pipeline [p] is missing",
    );
    slip(
        &server,
        "POST",
        "/notes/_search/stream",
        r#"{"query":{"match":{"title":"x"}}}"#,
        400,
        illegal,
        "expected [ext.adaptive] or a pipeline with an adaptive processor",
    );
}

/// What is wrong about vectors that clients bring.
#[test]
fn every_slip_with_vectors_is_named() {
    let server = Server::new();
    let (parsing, illegal, mapper) =
        ("parsing_exception", "illegal_argument_exception", "mapper_parsing_exception");
    let mapping = r#"{"mappings":{"properties":{"title":{"type":"text"},"kind":{"type":"keyword"},
        "v":{"type":"knn_vector","dimension":3,"space_type":"cosinesimil"}}}}"#;
    assert_eq!(server.put("/notes", mapping).status, 200);
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"one","v":[1,2,3]}"#).status, 201);
    assert_eq!(server.put("/words/_doc/1?refresh=true", r#"{"title":"one"}"#).status, 201);

    let create = |field: &str, reason: &str| {
        let body = format!("{{\"mappings\":{{\"properties\":{{\"v\":{field}}}}}}}");
        slip(&server, "PUT", "/other", &body, 400, mapper, reason);
    };
    create(r#"{"type":"knn_vector"}"#, "Dimension value missing for vector: v");
    create(
        r#"{"type":"knn_vector","dimension":"many"}"#,
        "[dimension] of [knn_vector] field [v]: expected 1 to 16000, got \"many\"",
    );
    create(
        r#"{"type":"knn_vector","dimension":3,"space_type":"l1"}"#,
        "[space_type] of [knn_vector] field [v]: expected cosinesimil, l2 or innerproduct, got \"l1\"",
    );
    create(
        r#"{"type":"knn_vector","dimension":3,"method":{"name":"ivf","engine":"faiss"}}"#,
        "[method] of [knn_vector] field [v]: [name]: expected hnsw, got \"ivf\"",
    );
    create(
        r#"{"type":"knn_vector","dimension":3},"w":{"type":"knn_vector","dimension":3}"#,
        "[knn_vector] field [w]: an index has one such field at most, and [v] is one",
    );
    // An index is made for its vectors.
    slip(
        &server,
        "PUT",
        "/words/_mapping",
        r#"{"properties":{"v":{"type":"knn_vector","dimension":3}}}"#,
        400,
        illegal,
        "index [words]: a knn_vector field has to be in the mapping that the index is made with",
    );
    slip(
        &server,
        "PUT",
        "/notes/_mapping",
        r#"{"properties":{"v":{"type":"knn_vector","dimension":4,"space_type":"cosinesimil"}}}"#,
        400,
        illegal,
        "mapper [v] cannot be changed from type [{\"dimension\":3,\"space_type\":\"cosinesimil\",\"type\":\"knn_vector\"}] \
         to [{\"dimension\":4,\"space_type\":\"cosinesimil\",\"type\":\"knn_vector\"}]",
    );
    let same = r#"{"properties":{"v":{"type":"knn_vector","dimension":3,"space_type":"cosinesimil"}}}"#;
    assert_eq!(server.put("/notes/_mapping", same).status, 200);

    let put = |vector: &str, reason: &str, cause: Option<&str>| {
        let body = format!("{{\"title\":\"two\",\"v\":{vector}}}");
        slip(&server, "PUT", "/notes/_doc/2", &body, 400, mapper, reason);
        let error = server.put("/notes/_doc/2", &body).json()["error"].clone();
        assert_eq!(error["caused_by"]["reason"].as_str(), cause, "{body}");
    };
    let failed = "failed to parse field [v] of type [knn_vector]";
    put("[1,2]", failed, Some("expected a list of 3 numbers, got 2 of them"));
    put("[1,2,\"3\"]", failed, Some("expected a list of 3 numbers, got a string in it"));
    put("\"1,2,3\"", failed, Some("expected a list of 3 numbers, got a string"));
    let expected = "document `2`: expected a vector of 3 finite values that are not all zero, got";
    put("[0,0,0]", &format!("{expected} all zeros"), None);
    put("[1e39,0,0]", &format!("{expected} a value that is not finite"), None);
    // One of a bulk request alone.
    let lines = "{\"index\":{\"_id\":\"a\"}}\n{\"v\":[1]}\n{\"index\":{\"_id\":\"b\"}}\n{\"v\":[1,0,0]}\n";
    let reply = server.post("/notes/_bulk", lines).json();
    assert_eq!(
        (&reply["items"][0]["index"]["status"], &reply["items"][1]["index"]["status"]),
        (&json!(400), &json!(201))
    );

    let search = |query: Value, kind: &str, reason: &str| {
        slip(&server, "POST", "/notes/_search", &json!({ "query": query }).to_string(), 400, kind, reason);
    };
    let knn = |inner: Value| json!({ "knn": { "v": inner } });
    search(json!({ "knn": {} }), parsing, "[knn] query malformed, no field");
    search(knn(json!({ "k": 3 })), parsing, "[knn] requires query vector");
    search(knn(json!({ "vector": [1, 2, 3] })), parsing, "[knn] requires k");
    search(
        knn(json!({ "vector": [1, 2, 3], "k": 0 })),
        illegal,
        "[knn] requires k to be in the range (0, 10000], got 0",
    );
    search(
        knn(json!({ "vector": [1, "2", 3], "k": 3 })),
        parsing,
        "[knn] [vector]: expected an array of numbers, got a string in it",
    );
    search(
        knn(json!({ "vector": [1, 2], "k": 3 })),
        illegal,
        "Query vector has invalid dimension: 2. Dimension should be: 3",
    );
    search(
        knn(json!({ "vector": [0, 0, 0], "k": 3 })),
        illegal,
        "query vector: expected 3 finite values that are not all zero, got all zeros",
    );
    search(
        knn(json!({ "vector": [1, 2, 3], "k": 3, "max_distance": 2 })),
        parsing,
        "[knn] query does not support [max_distance]",
    );
    search(
        json!({ "knn": { "title": { "vector": [1, 2, 3], "k": 3 } } }),
        illegal,
        "Field 'title' is not knn_vector type.",
    );
    slip(
        &server,
        "POST",
        "/words/_search",
        &json!({ "query": knn(json!({ "vector": [1, 2, 3], "k": 3 })) }).to_string(),
        400,
        illegal,
        "Field 'v' is not knn_vector type.",
    );
    let exact = "Vector fields do not support exact searching, use knn queries instead [v]";
    for query in [
        json!({ "term": { "v": 1 } }),
        json!({ "exists": { "field": "v" } }),
        json!({ "match": { "v": "x" } }),
        json!({ "range": { "v": { "gt": 1 } } }),
    ] {
        search(query, illegal, exact);
    }
    search(
        json!({ "neural": { "title": { "query_text": "x", "k": 5 } } }),
        illegal,
        "[neural] documents of this index bring their own vectors, in [v]: no text can be compared with them; ask with [knn]",
    );
    let adaptive = json!({ "query": knn(json!({ "vector": [1, 2, 3], "k": 3 })), "ext": { "adaptive": { "strategy": "lexical" } } });
    slip(
        &server,
        "POST",
        "/notes/_search",
        &adaptive.to_string(),
        400,
        illegal,
        "adaptive search: expected a [match], [multi_match], [query_string], [neural] or [hybrid] query, or one of them in [bool], whose text the search starts from",
    );
}

#[track_caller]
fn slip(server: &Server, method: &str, path: &str, body: &str, status: u16, kind: &str, reason: &str) {
    let answer = server.request(method, path, body, &[]);
    let got = answer.json();
    let error = &got["error"];
    assert_eq!(
        (answer.status, &error["type"], &error["reason"]),
        (status, &json!(kind), &json!(reason)),
        "{method} {path} {body}"
    );
    assert_eq!((&error["root_cause"][0]["type"], &got["status"]), (&json!(kind), &json!(status)));
}
