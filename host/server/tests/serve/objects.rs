//! Objects in documents: their fields by path in mappings, queries, orders, sources and marks, and in every write.

use serde_json::{Value, json};

use crate::server::Server;

fn ids(server: &Server, body: &Value) -> Vec<String> {
    let answer = server.post("/books/_search", &body.to_string());
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    let reply = answer.json();
    let hits = reply["hits"]["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id").to_owned()).collect()
}

fn refused(server: &Server, path: &str, body: &Value, kind: &str, reason: &str) {
    let answer = server.put(path, &body.to_string());
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["type"], &error["reason"]),
        (400, &json!(kind), &json!(reason)),
        "{body}"
    );
}

/// Four books: objects in objects, a dotted name, objects in a list, and one whose values lie on both sides of a range.
fn books(server: &Server) {
    let mapping = json!({ "mappings": { "properties": {
        "title": { "type": "text" },
        "author": { "properties": {
            "name": { "type": "text", "fields": { "raw": { "type": "keyword" } } },
            "born": { "properties": { "year": { "type": "integer" }, "place": { "type": "keyword" } } },
        } },
        "reviews.stars": { "type": "byte" },
        "notes": { "type": "object", "dynamic": "false" },
        "raw": { "type": "object", "enabled": false },
    } } });
    assert_eq!(server.put("/books", &mapping.to_string()).status, 200);
    let shown = server.get("/books/_mapping").json()["books"]["mappings"]["properties"].clone();
    let expected = json!({
        "title": { "type": "text" },
        "author": { "properties": {
            "name": { "type": "text", "fields": { "raw": { "type": "keyword" } } },
            "born": { "properties": { "year": { "type": "integer" }, "place": { "type": "keyword" } } },
        } },
        "reviews": { "properties": { "stars": { "type": "byte" } } },
        "notes": { "type": "object", "dynamic": "false" },
        "raw": { "type": "object", "enabled": false },
    });
    assert_eq!(shown, expected);
    // What is shown can be put again.
    assert_eq!(server.put("/books/_mapping", &json!({ "properties": expected }).to_string()).status, 200);

    let book = |id: &str, source: Value| {
        let put = server.put(&format!("/books/_doc/{id}"), &source.to_string());
        assert_eq!(put.status, 201, "{}", put.text);
    };
    let first = json!({
        "title": "The quiet lighthouse",
        "author": { "name": "Ana Miller", "born": { "year": 1950, "place": "Oslo" } },
        "reviews": [{ "stars": 1, "by": { "name": "Bo" } }, { "stars": 5, "by": { "name": "Cleo the keeper" } }],
        "notes": { "shelf": 3 },
        "raw": { "a": [1, { "a": "text" }] },
    });
    book("1", first.clone());
    book(
        "2",
        json!({ "title": "A cook in winter", "author.name": "Bo Lund", "author": { "born.year": 1960 },
                      "reviews": { "stars": [3, [4]] } }),
    );
    book(
        "3",
        json!({ "title": "Salt", "author": [{ "name": "Ana Stone" }, { "name": "Ed Lund", "born": null }] }),
    );
    book("4", json!({ "title": "Nobody's", "author": null, "reviews": [] }));
    assert_eq!(server.post("/books/_refresh", "").status, 200);
    assert_eq!(server.get("/books/_doc/1").json()["_source"], first);
}

#[test]
fn objects_are_fields_by_their_paths() {
    let server = Server::new();
    books(&server);
    let check = |query: Value, expected: &[&str]| {
        assert_eq!(ids(&server, &json!({ "query": query, "sort": ["_id"] })), expected, "{query}");
    };
    check(json!({ "match": { "author.name": "lund" } }), &["2", "3"]);
    check(json!({ "match_phrase": { "author.name": "ana miller" } }), &["1"]);
    check(
        json!({ "multi_match": { "query": "salt lund", "fields": ["title", "author.name^2"] } }),
        &["2", "3"],
    );
    check(json!({ "query_string": { "query": "author.name:miller" } }), &["1"]);
    check(json!({ "term": { "author.name.raw": "Ed Lund" } }), &["3"]);
    check(json!({ "terms": { "author.born.place": ["Oslo", "Bergen"] } }), &["1"]);
    check(json!({ "range": { "author.born.year": { "gte": 1955 } } }), &["2"]);
    // All of an object's text is searched where no field is named.
    check(json!({ "query_string": { "query": "keeper" } }), &["1"]);
    check(json!({ "match": { "reviews.by.name": "cleo" } }), &["1"]);
    check(json!({ "term": { "reviews.by.name.keyword": "Bo" } }), &["1"]);
    // One value of several has to fit, and one and the same between two bounds.
    check(json!({ "term": { "reviews.stars": 4 } }), &["2"]);
    check(json!({ "range": { "reviews.stars": { "gt": 4 } } }), &["1"]);
    check(json!({ "range": { "reviews.stars": { "gte": 2, "lte": 4 } } }), &["2"]);
    check(json!({ "exists": { "field": "author.born" } }), &["1", "2"]);
    check(json!({ "exists": { "field": "author" } }), &["1", "2", "3"]);
    check(json!({ "exists": { "field": "notes" } }), &[]);
    check(json!({ "bool": { "must_not": { "exists": { "field": "reviews" } } } }), &["3", "4"]);
    check(json!({ "match": { "author": "miller" } }), &[]);
    check(json!({ "term": { "notes.shelf": 3 } }), &[]);
    check(json!({ "term": { "raw.a": "text" } }), &[]);
    let asked = json!({ "query": { "bool": { "must": { "match": { "author.name": "ana" } },
        "filter": { "range": { "author.born.year": { "lt": 1955 } } } } },
        "ext": { "adaptive": { "strategy": "lexical", "policy": "none" } } });
    assert_eq!(ids(&server, &asked), ["1"]);

    assert_eq!(
        ids(&server, &json!({ "sort": [{ "author.born.year": "desc" }, "_id"] })),
        ["2", "1", "3", "4"]
    );
    // Of several values the one that comes first in the order.
    assert_eq!(ids(&server, &json!({ "sort": [{ "reviews.stars": "asc" }, "_id"] })), ["1", "2", "3", "4"]);
    assert_eq!(ids(&server, &json!({ "sort": [{ "reviews.stars": "desc" }, "_id"], "size": 2 })), ["1", "2"]);

    let hit =
        |body: Value| server.post("/books/_search", &body.to_string()).json()["hits"]["hits"][0].clone();
    let found = hit(json!({ "query": { "match": { "reviews.by.name": "keepers" } },
        "_source": { "includes": ["author.born", "reviews.stars"], "excludes": ["*.place"] },
        "highlight": { "fields": { "reviews.*": {} } } }));
    assert_eq!(
        found["_source"],
        json!({ "author": { "born": { "year": 1950 } }, "reviews": [{ "stars": 1 }, { "stars": 5 }] })
    );
    assert_eq!(found["highlight"], json!({ "reviews.by.name": ["Cleo the <em>keeper</em>"] }));
    let found = hit(json!({ "query": { "match": { "author.name": "lund" } }, "sort": [{ "_id": "desc" }],
        "highlight": { "fields": { "author.name": {} } }, "_source": false }));
    assert_eq!(found["highlight"]["author.name"], json!(["Ed <em>Lund</em>"]));
    let got = server.get("/books/_doc/3?_source_includes=author.born,title").json();
    assert_eq!(got["_source"], json!({ "title": "Salt", "author": [{}, { "born": null }] }));

    writes(&server);
    let (folder, code) = server.end();
    assert_eq!(code, Some(0));
    let server = Server::over(folder, "", None);
    assert_eq!(
        ids(&server, &json!({ "query": { "match": { "author.name": "miller-lund" } }, "sort": ["_id"] })),
        ["1", "2", "3"]
    );
}

/// Updates merge objects; what does not fit is refused by its path.
fn writes(server: &Server) {
    let update = json!({ "doc": { "author": { "born": { "year": 1951 } } } }).to_string();
    assert_eq!(server.post("/books/_update/1?refresh=true", &update).json()["result"], "updated");
    assert_eq!(server.post("/books/_update/1", &update).json()["result"], "noop");
    let author = server.get("/books/_source/1?_source_includes=author").json();
    assert_eq!(
        author,
        json!({ "author": { "name": "Ana Miller", "born": { "year": 1951, "place": "Oslo" } } })
    );
    assert_eq!(ids(server, &json!({ "query": { "term": { "author.born.year": 1951 } } })), ["1"]);
    assert_eq!(
        ids(server, &json!({ "query": { "term": { "author.born.year": 1950 } } })),
        Vec::<String>::new()
    );

    let (mapper, illegal) = ("mapper_parsing_exception", "illegal_argument_exception");
    let document =
        |body: Value, kind: &str, reason: &str| refused(server, "/books/_doc/x", &body, kind, reason);
    document(
        json!({ "author": { "born": 1950 } }),
        mapper,
        "object mapping for [author.born] tried to parse field [author.born] as object, but found a concrete value: \
         a number",
    );
    document(json!({ "title": { "main": "x" } }), mapper, "failed to parse field [title] of type [text]");
    document(
        json!({ "author": { "born": { "year": "long ago" } } }),
        mapper,
        "failed to parse field [author.born.year] of type [integer]",
    );
    document(
        json!({ "mixed": [1, { "a": 2 }] }),
        illegal,
        "mapper [mixed] cannot be changed from type [long] to [object]",
    );
    document(
        json!({ "odd": { "first name": 1 } }),
        mapper,
        "field name [odd.first name]: expected 1 to 64 letters, digits and `_`, a letter first",
    );
    document(
        json!({ "odd.": 1 }),
        mapper,
        "field name [odd.]: expected names that are not empty, joined by dots to 255 bytes at most",
    );
    let mut deep = json!(1);
    for _ in 0..21 {
        deep = json!({ "a": deep });
    }
    document(deep, illegal, "Limit of mapping depth [20] has been exceeded");
    let many: serde_json::Map<String, Value> =
        (0..1_001).map(|number| (format!("k{number}"), json!(1))).collect();
    document(json!({ "by_key": many }), illegal, "Limit of total fields [1000] has been exceeded");
    // Nothing of what was refused was mapped.
    assert_eq!(
        server.get("/books/_mapping").json()["books"]["mappings"]["properties"]["by_key"],
        Value::Null
    );

    let put = |properties: Value, kind: &str, reason: &str| {
        refused(server, "/books/_mapping", &json!({ "properties": properties }), kind, reason);
    };
    put(
        json!({ "reviews": { "type": "nested" } }),
        mapper,
        "No handler for type [nested] declared on field [reviews]: objects of a list are not kept apart here; as type \
         [object] all their values are those of one field",
    );
    put(
        json!({ "author": { "properties": { "pen": { "type": "nested", "properties": {} } } } }),
        mapper,
        "No handler for type [nested] declared on field [author.pen]: objects of a list are not kept apart here; as \
         type [object] all their values are those of one field",
    );
    put(
        json!({ "author": { "type": "keyword" } }),
        illegal,
        "mapper [author] cannot be changed from type [object] to [keyword]",
    );
    put(
        json!({ "title": { "properties": { "main": { "type": "text" } } } }),
        illegal,
        "mapper [title] cannot be changed from type [text] to [object]",
    );
    put(
        json!({ "author": { "properties": { "born": { "include_in_parent": true } } } }),
        mapper,
        "No type specified for field [author.born]",
    );
    put(
        json!({ "author": { "type": "object", "subobjects": false } }),
        mapper,
        "unknown parameter [subobjects] on mapper [author]: false is not supported here",
    );

    // An object says for itself what becomes of what is not mapped in it.
    let strict = json!({ "properties": { "author": { "type": "object", "dynamic": "strict" } } }).to_string();
    assert_eq!(server.put("/books/_mapping", &strict).status, 200);
    document(
        json!({ "author": { "born": { "day": 1 } } }),
        "strict_dynamic_mapping_exception",
        "mapping set to strict, dynamic introduction of [day] within [author.born] is not allowed",
    );
    assert_eq!(server.put("/books/_doc/5", r#"{"free":{"day":1}}"#).status, 201);
}
