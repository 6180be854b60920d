//! The description of the interface, in OpenAPI 3.1, written from the rows of `route_table.rs`.
//!
//! Paths, methods, parameters, scopes and bodies are those that the server goes by. What is written here is only what the
//! rows do not know: what parameters of a name and bodies of a kind look like. It is kept general where OpenSearch's
//! conventions are: a member that a schema allows may still be refused for its value, by name.

use serde_json::{Map, Value, json};

use super::{
    config::Scope,
    health::SPOKEN_VERSION,
    route_table::ROUTES,
    routes::{Body, EVENTS, JSON, Route, TEXT},
    search, ui,
};

/// Parameters that every request may have.
const COMMON: [&str; 3] = ["pretty", "human", "error_trace"];

/// The whole document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        for method in route.methods {
            item[method.to_lowercase()] = operation(route, method);
        }
    }
    for path in ui::PATHS {
        let names = names(path).map(named);
        paths.insert(
            path.to_owned(),
            json!({ "get": {
                "operationId": operation_id("GET", path),
                "summary": "A file of the page",
                "security": [],
                "parameters": names.collect::<Vec<_>>(),
                "responses": {
                    "200": { "description": "the file", "content": { "*/*": {} } },
                    "307": { "description": "where the page is" },
                    "404": { "description": "no such file", "content": { "text/plain": {} } },
                },
            } }),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Orion",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Search that thinks before it retrieves.",
            "description": format!(
                "OpenSearch's conventions, those of {SPOKEN_VERSION}, with adaptive search beside them. What is not \
                 described here is refused by name."
            ),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "apiKey": [] }, { "basic": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`ApiKey` and base64 of NAME:SECRET; without keys in the configuration, nothing",
                },
                "basic": { "type": "http", "scheme": "basic" },
            },
            "schemas": schemas(),
            "responses": {
                "Refused": {
                    "description": "the request was not acceptable, or there is no room for it now",
                    "headers": { "Retry-After": { "schema": { "type": "integer" } } },
                    "content": { JSON: { "schema": reference("Error") } },
                },
                "Unready": {
                    "description": "indexes are being opened, or the server is stopping",
                    "content": { JSON: {} },
                },
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The names in a path's braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn named(name: &str) -> Value {
    let schema = match name {
        // One name, several with commas, or a pattern, where that has a meaning.
        "index" => json!({ "type": "string", "pattern": "^[a-z0-9*][a-z0-9*,_-]*$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn operation_id(method: &str, path: &str) -> String {
    let words: Vec<String> = path
        .split(['/', '.'])
        .map(|part| part.trim_matches(['_', '{', '}']).to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    // What differs only by a slash at its end, or is named like an index, needs another name.
    let end = if path.ends_with('/') { "_root" } else { "" };
    let start = if path.starts_with("/_") { "own_" } else { "" };
    format!("{}_{start}{}{end}", method.to_lowercase(), words.join("_"))
}

fn operation(route: &Route, method: &str) -> Value {
    let mut parameters: Vec<Value> = names(route.path).map(named).collect();
    let query = |name: &str| json!({ "name": name, "in": "query", "schema": parameter_schema(name) });
    parameters.extend(route.parameters.iter().chain(&COMMON).map(|name| query(name)));
    let mut made = json!({
        "operationId": operation_id(method, route.path),
        "summary": route.help,
    });
    match route.scope {
        None => made["security"] = json!([]),
        Some(scope) => made["x-scope"] = json!(scope.name()),
    }
    // A body with GET, which OpenSearch's clients send, has no meaning in OpenAPI; the parameter says the same.
    let takes_body = method != "GET" && method != "HEAD";
    match route.body {
        Body::Nothing => {}
        _ if !takes_body => {
            for name in ["source", "source_content_type"] {
                let schema = json!({ "type": "string" });
                parameters.push(
                    json!({ "name": name, "in": "query", "schema": schema, "description": "the body" }),
                );
            }
        }
        Body::Optional(schema) | Body::Needed(schema) => {
            made["requestBody"] = json!({
                "required": matches!(route.body, Body::Needed(_)),
                "content": { JSON: { "schema": reference(schema) } },
            });
        }
        Body::Lines(what) => {
            made["requestBody"] = json!({
                "required": true,
                "description": format!("lines of JSON: {what}"),
                "content": { "application/x-ndjson": { "schema": { "type": "string" } } },
            });
        }
    }
    made["parameters"] = json!(parameters);
    made["responses"] = responses(route, method);
    made
}

fn responses(route: &Route, method: &str) -> Value {
    let content = match route.gives {
        _ if method == "HEAD" => json!({}),
        // What has a table, an event stream or a file has JSON as well, by request or for an error.
        TEXT | EVENTS => json!({ route.gives: {}, JSON: {} }),
        _ => json!({ JSON: {} }),
    };
    let mut made = json!({
        "2XX": { "description": "done" },
        "4XX": { "$ref": "#/components/responses/Refused" },
        "503": { "$ref": "#/components/responses/Unready" },
    });
    if content.as_object().is_some_and(|content| !content.is_empty()) {
        made["2XX"]["content"] = content;
    }
    if method == "HEAD" {
        made["4XX"] = json!({ "description": "it does not exist" });
    } else if route.path == "/mcp" || route.scope == Some(Scope::Read) && route.path == "/{index}" {
        // The protocol's own errors; the second path has them for a client that asks for a stream.
        made["4XX"] = json!({ "description": "refused" });
    }
    if method == "HEAD" {
        return made;
    }
    if names(route.path).any(|name| name != "index") || route.path.starts_with("/_search/scroll") {
        made["404"] = json!({ "description": "it is not there", "content": { JSON: { "schema": { "type": "object" } } } });
    }
    made
}

/// What a parameter of this name may be, on every route that has it.
fn parameter_schema(name: &str) -> Value {
    match name {
        "from"
        | "size"
        | "if_seq_no"
        | "if_primary_term"
        | "max_concurrent_searches"
        | "batched_reduce_size"
        | "retry_on_conflict" => json!({ "type": "integer", "minimum": 0 }),
        "rest_total_hits_as_int" | "ignore_unavailable" | "v" | "wait_for_completion" => {
            json!({ "type": "boolean" })
        }
        "refresh" => json!({ "enum": ["true", "false", "wait_for", ""] }),
        "op_type" => json!({ "enum": ["index", "create"] }),
        "format" => json!({ "enum": ["json", "text"] }),
        "keep_alive" | "scroll" => json!({ "type": "string", "pattern": "^[0-9]{1,4}(ms|s|m)$" }),
        "default_operator" => json!({ "enum": ["AND", "OR", "and", "or"] }),
        _ => json!({ "type": "string" }),
    }
}

/// What a member of a search's body may be.
fn member_schema(name: &str) -> Value {
    match name {
        "query" => reference("Query"),
        "from" | "size" => json!({ "type": "integer", "minimum": 0 }),
        "explain" | "version" | "seq_no_primary_term" | "track_scores" => json!({ "type": "boolean" }),
        "track_total_hits" => json!({ "type": ["boolean", "integer"] }),
        "min_score" => json!({ "type": "number" }),
        "timeout" => json!({ "type": "string" }),
        "search_after" => json!({ "type": "array" }),
        "sort" => json!({ "type": ["string", "array", "object"] }),
        "_source" => json!({ "type": ["boolean", "string", "array", "object"] }),
        "highlight" => json!({ "type": "object" }),
        "pit" => json!({
            "type": "object", "required": ["id"],
            "properties": { "id": { "type": "string" }, "keep_alive": { "type": "string" } },
        }),
        "ext" => json!({ "type": "object", "properties": { "adaptive": reference("Adaptive") } }),
        _ => json!({}),
    }
}

/// The one query whose members are all known: a field of vectors, and what is near to what.
fn knn_schema() -> Value {
    json!({
        "type": "object", "minProperties": 1, "maxProperties": 1,
        "additionalProperties": {
            "type": "object", "required": ["vector", "k"], "additionalProperties": false,
            "properties": {
                "vector": { "type": "array", "items": { "type": "number" }, "description": "as long as the field's" },
                "k": { "type": "integer", "minimum": 1, "maximum": 10_000 },
                "filter": reference("Query"),
                "boost": { "type": "number", "minimum": 0 },
            },
        },
    })
}

fn schemas() -> Value {
    let object = |properties: Value| json!({ "type": "object", "properties": properties, "additionalProperties": false });
    let any = json!({ "type": "object" });
    let members: Map<String, Value> =
        search::body::KNOWN.iter().map(|name| ((*name).to_owned(), member_schema(name))).collect();
    let query = |name: &&str| ((*name).to_owned(), if *name == "knn" { knn_schema() } else { any.clone() });
    let queries: Map<String, Value> = search::dsl::KINDS.iter().map(query).collect();
    let whole = json!({ "type": "integer", "minimum": 0 });
    let ids = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let mapping = json!({
        "type": "object",
        "properties": {
            "properties": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "type": { "type": "string", "description": "nested is refused; an object is its fields by path" },
                        "properties": { "type": "object", "description": "of an object: the fields in it, like these" },
                        "dynamic": { "type": ["boolean", "string"], "description": "of an object" },
                        "dimension": { "type": "integer", "minimum": 1, "description": "of a knn_vector" },
                        "space_type": { "enum": ["cosinesimil", "l2", "innerproduct"] },
                    },
                },
            },
            "dynamic": { "type": ["boolean", "string"] },
            "_meta": { "type": "object" },
        },
    });
    json!({
        "Error": {
            "type": "object",
            "required": ["error", "status"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["type", "reason", "root_cause"],
                    "properties": { "type": { "type": "string" }, "reason": { "type": "string" } },
                },
                "status": { "type": "integer" },
            },
        },
        "Document": any,
        "Query": {
            "type": "object", "properties": queries, "additionalProperties": false,
            "minProperties": 1, "maxProperties": 1,
        },
        "SearchBody": object(Value::Object(members)),
        "CountBody": object(json!({ "query": reference("Query") })),
        "Adaptive": object(json!({
            "strategy": { "type": "string" },
            "policy": { "type": "string" },
            "turns": whole,
            "beam": whole,
            "params": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
            "budget": object(json!({ "ms": whole, "tokens": whole, "retrievals": whole })),
            "seed": whole,
            "trace": { "type": "boolean" },
            "mode": { "enum": ["always", "auto"] },
        })),
        "Update": object(json!({
            "doc": any, "upsert": any,
            "doc_as_upsert": { "type": "boolean" }, "detect_noop": { "type": "boolean" },
        })),
        "MultiGet": object(json!({
            "ids": { "type": "array", "items": { "type": "string" } },
            "docs": { "type": "array", "items": { "type": "object" } },
        })),
        "ScrollBody": object(json!({ "scroll": { "type": "string" }, "scroll_id": { "type": "string" } })),
        "ScrollIds": object(json!({ "scroll_id": ids })),
        "PointIds": object(json!({ "pit_id": ids })),
        "Pipeline": object(json!({
            "description": { "type": "string" },
            "version": { "type": "integer" },
            "request_processors": {
                "type": "array", "maxItems": 1, "items": object(json!({ "adaptive": reference("Adaptive") })),
            },
            "phase_results_processors": { "type": "array", "maxItems": 1, "items": { "type": "object" } },
            "response_processors": { "type": "array", "maxItems": 0 },
        })),
        "Repository": object(json!({
            "type": { "const": "fs" },
            "verify": { "type": "boolean" },
            "settings": object(json!({
                "location": { "type": "string" },
                "readonly": { "type": "boolean" },
                "compress": { "type": "boolean" },
            })),
        })),
        "TakeSnapshot": object(json!({
            "indices": ids, "ignore_unavailable": { "type": "boolean" }, "metadata": any,
            "include_global_state": { "type": "boolean" }, "partial": { "type": "boolean" },
        })),
        "RestoreSnapshot": object(json!({
            "indices": ids, "ignore_unavailable": { "type": "boolean" },
            "include_global_state": { "type": "boolean" }, "include_aliases": { "type": "boolean" },
            "partial": { "type": "boolean" },
            "rename_pattern": { "type": "string" }, "rename_replacement": { "type": "string" },
        })),
        "Mapping": mapping,
        "Settings": any,
        "NewIndex": object(json!({ "mappings": mapping, "settings": any, "aliases": any })),
        "RpcMessage": {
            "type": "object",
            "required": ["jsonrpc", "method"],
            "properties": {
                "jsonrpc": { "const": "2.0" },
                "id": { "type": ["integer", "string"] },
                "method": { "enum": ["initialize", "ping", "tools/list", "tools/call"] },
                "params": { "type": "object" },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::{call::split_uri, routes::find};

    /// A path with something in place of its names.
    fn filled(path: &str) -> Vec<String> {
        let path = path.replace(['{', '}'], "");
        split_uri(&path, None).expect("a path").0
    }

    #[test]
    fn rows_and_document_agree_both_ways() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let mut ids = BTreeSet::new();
        let mut described = 0;
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an id").to_owned();
                assert!(ids.insert(id.clone()), "{id} is there twice");
                if ui::PATHS.contains(&path.as_str()) {
                    continue;
                }
                described += 1;
                // A request to it reaches the row that it was written from, and no other.
                let (row, names) = find(&method.to_uppercase(), &filled(path)).expect("a row");
                assert_eq!(row.path, path, "{method}");
                assert_eq!(names.len(), super::names(path).count());
            }
        }
        assert_eq!(described, ROUTES.iter().map(|route| route.methods.len()).sum::<usize>());
        for route in ROUTES {
            for method in route.methods {
                let operation = &paths[route.path][method.to_lowercase()];
                let parameters = operation["parameters"].as_array().expect("parameters");
                let has = |name: &str| parameters.iter().any(|one| one["name"] == *name);
                assert!(route.parameters.iter().all(|name| has(name)), "{}", route.path);
            }
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().expect("a pointer");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn every_query_that_is_named_is_known() {
        for kind in search::dsl::KINDS {
            let Err(error) = search::dsl::parse(&json!({ kind: 5 })) else { continue };
            assert!(!error.reason.starts_with("unknown query"), "{kind}: {}", error.reason);
        }
    }

    #[test]
    fn every_member_of_a_search_has_a_schema() {
        for name in search::body::KNOWN {
            assert_ne!(member_schema(name), json!({}), "{name}");
        }
    }
}
