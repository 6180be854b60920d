//! The description of the interface: every operation in it is served, nothing else is, and nothing that a generator of
//! requests makes of it brings the server down.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    clients::{fetched, has, python_packages},
    mcp::notes,
    server::{Server, program},
};

/// The version that was tried.
const GENERATOR: &str = "schemathesis==4.32.5";

fn reason(server: &Server, method: &str, path: &str) -> String {
    let answer = server.request(method, path, "", &[]);
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    body["error"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_described_is_served_and_nothing_else() {
    let server = Server::new();
    let document = server.get("/_openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let printed = program(server.folder.path(), None).args(["serve", "--openapi"]).output().expect("it runs");
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(printed, document);

    let methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"];
    let paths = document["paths"].as_object().expect("paths");
    for (path, operations) in paths {
        let filled = path.replace("{index}", "nothing-here").replace(['{', '}'], "");
        for method in methods {
            let is_described = operations.get(method.to_lowercase()).is_some();
            // Existence is answered without a body, the page by another part; an index may be called `mcp`.
            if method == "HEAD" || filled.starts_with("/_ui") || filled == "/mcp" {
                continue;
            }
            let is_served = !reason(&server, method, &filled).starts_with("no handler found");
            assert_eq!(is_served, is_described, "{method} {path}");
        }
    }
    for path in ["/_nodes", "/_search/other", "/a/b", "/a/_doc/b/c", "/_snapshots", "/_openapi"] {
        assert!(reason(&server, "GET", path).starts_with("no handler found"), "{path}");
    }
}

/// One example an operation; `tests/peers/generated_requests.sh` makes more.
#[test]
fn generated_requests_find_no_fault() {
    if !has("python3") {
        return;
    }
    let packages = fetched(&GENERATOR.replace('=', "-"), |folder| python_packages(folder, GENERATOR));
    let server = Server::with("[adaptive]\nms = 300\n");
    for (number, note) in notes().iter().enumerate() {
        assert_eq!(server.put(&format!("/notes/_doc/d{number}?refresh=true"), &note.to_string()).status, 201);
    }
    let description = format!("http://{}/_openapi.json", server.address);
    let output = Command::new("python3")
        .args(["-m", "schemathesis.cli", "run", &description])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--phases", "fuzzing", "--max-examples", "1", "--seed", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--request-timeout", "120"])
        .current_dir(server.folder.path())
        .env("PYTHONPATH", packages)
        .env("SCHEMATHESIS_HOOKS", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/generated.py"))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let faults: Vec<String> = server.log().into_iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(server.get("/_health/ready").json(), json!({ "status": "ready" }));
}
