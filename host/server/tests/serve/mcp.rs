//! The tools of the Model Context Protocol, through the official Python client: over HTTP and over standard input and
//! output, in the newest revision of the protocol and in the one with a handshake.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    clients::{fetched, has, python_packages, run},
    server::{Server, program},
};

/// The version that was tried.
const CLIENT: &str = "mcp==2.3.0";
/// SHA-256 of `open sesame`, and base64 of `reader:open sesame`.
const HASH: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
const READER: &str = "cmVhZGVyOm9wZW4gc2VzYW1l";

/// Five notes, as documents of an index.
pub(crate) fn notes() -> Vec<Value> {
    let titles =
        ["the lamp of the reef", "a lens for the lamp", "salt and rope", "the reef pilots", "winter bread"];
    let one = |(number, title): (usize, &&str)| {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        json!({ "title": title, "text": format!("what people say of {title}"), "year": 300 + number, "kind": kind })
    };
    titles.iter().enumerate().map(one).collect()
}

fn client(arguments: &[&str]) -> Command {
    let packages: PathBuf = fetched(&CLIENT.replace('=', "-"), |folder| python_packages(folder, CLIENT));
    let mut python = Command::new("python3");
    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/agent.py"))
        .args(arguments)
        .env("PYTHONPATH", packages);
    python
}

fn filled(configuration: &str, headers: &[(&str, &str)]) -> Server {
    let server = Server::with(configuration);
    for (number, note) in notes().iter().enumerate() {
        let path = format!("/notes/_doc/d{number}?refresh=true");
        assert_eq!(server.request("PUT", &path, &note.to_string(), headers).status, 201);
    }
    server
}

#[test]
fn tools_over_http() {
    if !has("python3") {
        return;
    }
    // One place for adaptive searches: a call that was given up and still ran would be in the next one's way.
    let configuration = format!(
        "[bounds]\nadaptive_searches = 1\n[adaptive]\nms = 60000\n[[keys]]\nname = \"reader\"\nsha256 = \"{HASH}\"\n\
         scopes = [\"read\", \"write\", \"admin\"]\n"
    );
    let authorization = format!("ApiKey {READER}");
    let headers = [("authorization", authorization.as_str())];
    let server = filled(&configuration, &headers);
    run(client(&["http", &server.address.port().to_string(), &authorization]));
    let metrics = server.request("GET", "/_metrics", "", &headers).text;
    for line in [
        "orion_mcp_calls_total{tool=\"adaptive_search\",outcome=\"cancelled\"} 1",
        "orion_mcp_calls_total{tool=\"fetch_document\",outcome=\"ok\"} 4",
        "orion_mcp_calls_running 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(metrics.contains("orion_http_requests_total{kind=\"tools\",status=\"200\"}"), "{metrics}");
    // The same door as for everything else.
    assert_eq!(server.post("/mcp", "{}").status, 401);
    let get = server.request("GET", "/mcp", "", &[headers[0], ("accept", "text/event-stream")]);
    assert_eq!(get.status, 405, "{get:?}");
    // An index may have that name.
    assert_eq!(server.request("PUT", "/mcp", "", &headers).status, 200);
    assert_eq!(server.request("GET", "/mcp", "", &headers).json()["mcp"]["aliases"], json!({}));
}

#[test]
fn what_a_key_has_left_holds_for_tools() {
    let configuration = format!(
        "[[keys]]\nname = \"reader\"\nsha256 = \"{HASH}\"\nscopes = [\"read\", \"write\", \"admin\"]\ntokens_per_minute = 1\n"
    );
    let authorization = format!("ApiKey {READER}");
    let headers = [("authorization", authorization.as_str())];
    let server = filled(&configuration, &headers);
    let ask = |turns: u32| {
        let arguments = json!({ "query": "lamp", "strategy": "beam", "turns": turns, "beam": 1 });
        let answer = call(&server, &headers, "adaptive_search", &arguments);
        (answer["result"]["isError"].clone(), answer["result"]["content"][0]["text"].clone())
    };
    assert_eq!(ask(1).0, false);
    let (is_error, said) = ask(1);
    let said = said.as_str().expect("a text");
    assert!(
        is_error == true && said.starts_with("key [reader] has used up its tokens for now; try again in"),
        "{said}"
    );
}

/// One call, as a client without a session makes it; the answer's message.
fn call(server: &Server, headers: &[(&str, &str)], tool: &str, arguments: &Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
    let mut all = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-06-18"),
    ];
    all.extend_from_slice(headers);
    let answer = server.request("POST", "/mcp", &body.to_string(), &all);
    assert_eq!(answer.status, 200, "{answer:?}");
    let data =
        answer.text.lines().filter_map(|line| line.strip_prefix("data: ")).find(|data| !data.is_empty());
    serde_json::from_str(data.expect("an event with data")).expect("JSON")
}

#[test]
fn pages_elsewhere_cannot_use_the_tools_of_a_server_without_keys() {
    let server = filled("", &[]);
    let arguments = json!({ "id": "d0" });
    assert_eq!(call(&server, &[], "fetch_document", &arguments)["result"]["isError"], false);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let ask = |name: &str, value: &str| {
        let mut headers =
            vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        headers.push((name, value));
        server.request("POST", "/mcp", &body, &headers).status
    };
    assert_eq!(ask("origin", "https://example.org"), 403);
    assert_eq!(ask("origin", "http://localhost:3000"), 200);
    for (broken, status) in [("", 400), ("{", 400), ("[]", 400), ("{\"jsonrpc\":\"2.0\"}", 400)] {
        let headers =
            [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let answer = server.request("POST", "/mcp", broken, &headers);
        assert!((400..500).contains(&answer.status), "{broken} {status}: {answer:?}");
    }
    assert_eq!(server.get("/_health/ready").status, 200);
}

#[test]
fn tools_over_standard_input_and_output() {
    if !has("python3") {
        return;
    }
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let lines: String = notes()
        .iter()
        .enumerate()
        .map(|(number, note)| {
            let mut note = note.clone();
            note["_id"] = json!(format!("d{number}"));
            format!("{note}\n")
        })
        .collect();
    std::fs::write(folder.path().join("notes.jsonl"), lines).expect("a file");
    let added = program(folder.path(), None).args(["index", "add", "notes", "notes.jsonl"]).output();
    assert!(added.expect("it runs").status.success());
    let mut python = client(&["stdio", env!("CARGO_BIN_EXE_orion"), &folder.path().display().to_string()]);
    // The client hands few variables on: the folders are found from the current one.
    std::fs::rename(folder.path().join("data"), folder.path().join(".orion")).expect("renamed");
    python.env("HOME", folder.path());
    run(python);
}

#[test]
fn tools_alone_over_http_follow_what_others_write() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let add = |index: &str, id: &str| {
        std::fs::write(folder.path().join("one.jsonl"), json!({ "_id": id, "text": "a lamp" }).to_string())
            .expect("a file");
        let added = program(folder.path(), None).args(["index", "add", index, "one.jsonl"]).output();
        assert!(added.expect("it runs").status.success());
    };
    add("notes", "d0");
    let server = Server::started(Arc::clone(&folder), None, &["mcp", "--listen", "127.0.0.1:0"]);
    let fetch = |index: &str, id: &str| {
        call(&server, &[], "fetch_document", &json!({ "index": index, "id": id }))["result"]["isError"]
            .clone()
    };
    assert_eq!((fetch("notes", "d0"), fetch("notes", "d1")), (json!(false), json!(true)));
    add("notes", "d1");
    add("more", "d2");
    assert_eq!((fetch("notes", "d1"), fetch("more", "d2")), (json!(false), json!(false)));
    // Nothing else is served.
    assert_eq!((server.get("/_health/ready").status, server.get("/_cat/indices").status), (200, 400));
}
