//! Snapshots: by the client that people have while documents come in, and by those who would like to be elsewhere.

use std::{path::Path, process::Command, sync::Arc};

use serde_json::{Value, json};

use crate::{
    clients::{PYTHON_CLIENT, fetched, has, python_packages, run},
    server::{Server, program},
};

#[test]
fn snapshots_while_documents_come_in() {
    if !has("python3") {
        return;
    }
    let packages = fetched(&PYTHON_CLIENT.replace('=', "-"), |folder| python_packages(folder, PYTHON_CLIENT));
    let server = Server::with("snapshots = \"snapshots\"\n[bounds]\nrefresh_ms = 50\n");
    let mut python = Command::new("python3");
    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/snapshots.py"))
        .arg(server.address.port().to_string())
        .env("PYTHONPATH", packages);
    run(python);
    // After a restart they are still known.
    let (folder, code) = server.end();
    assert_eq!(code, Some(0));
    let server = Server::over(folder, "snapshots = \"snapshots\"\n", None);
    assert_eq!(server.get("/_snapshot/again/snap-1").json()["snapshots"][0]["state"], "SUCCESS");
}

fn repository(location: &str) -> String {
    json!({ "type": "fs", "settings": { "location": location } }).to_string()
}

#[test]
fn nothing_leads_out_of_the_configured_folder() {
    let server = Server::with("snapshots = \"snapshots\"\n");
    let folder = server.folder.path().to_owned();
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"one"}"#).status, 201);
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::fs::create_dir(folder.join("snapshots")).expect("a folder");
    std::os::unix::fs::symlink(&elsewhere, folder.join("snapshots/link")).expect("a link");
    let absolute = elsewhere.display().to_string();
    for location in [
        "..",
        "../elsewhere",
        "a/../../elsewhere",
        "link",
        "link/deeper",
        &absolute,
        "/etc",
        "a\0b",
        ".hidden",
        "~",
    ] {
        let answer = server.put("/_snapshot/r", &repository(location));
        assert_eq!(answer.status, 400, "{location}: {}", answer.text);
        assert!(answer.text.contains("doesn't match"), "{location}: {}", answer.text);
    }
    assert_eq!(server.get("/_snapshot/r").status, 404);
    let inside = folder.join("snapshots/by-whole-path").canonicalize();
    assert!(inside.is_err(), "not made yet");
    let whole = folder.canonicalize().expect("a path").join("snapshots/by-whole-path");
    assert_eq!(server.put("/_snapshot/r", &repository(&whole.display().to_string())).status, 200);
    for name in ["..", "%2e%2e", "..%2felsewhere", "%2fetc", "a%2fb", ".draft-x", "A", "a%00b", "%5c"] {
        let taken = server.put(&format!("/_snapshot/r/{name}"), "");
        assert!(matches!(taken.status, 400 | 404), "{name}: {taken:?}");
        let repository = server.put(&format!("/_snapshot/{name}"), &repository("b"));
        assert!(matches!(repository.status, 400 | 404), "{name}: {repository:?}");
        let restored = server.post(&format!("/_snapshot/r/{name}/_restore"), "");
        assert!(matches!(restored.status, 400 | 404), "{name}: {restored:?}");
        let deleted = server.delete(&format!("/_snapshot/r/{name}"));
        assert!(matches!(deleted.status, 400 | 404), "{name}: {deleted:?}");
    }
    // New names are names of indexes, whatever a pattern makes of them.
    assert_eq!(server.put("/_snapshot/r/s?wait_for_completion=true", "").status, 200);
    for replacement in ["../$0", "/etc/x", "", "UPPER", ".restoring-x"] {
        let body = json!({ "rename_pattern": ".+", "rename_replacement": replacement });
        let answer = server.post("/_snapshot/r/s/_restore?wait_for_completion=true", &body.to_string());
        assert_eq!(answer.status, 400, "{replacement}: {}", answer.text);
    }
    let body = json!({ "rename_pattern": "(a{1000}){1000}", "rename_replacement": "x" });
    assert_eq!(server.post("/_snapshot/r/s/_restore", &body.to_string()).status, 400);
    assert_eq!(std::fs::read_dir(&elsewhere).expect("a folder").count(), 0);
    // Without a configured folder there are no repositories at all.
    let bare = Server::new();
    let answer = bare.put("/_snapshot/r", &repository("x"));
    assert_eq!(
        (answer.status, answer.json()["error"]["reason"].as_str().map(str::to_owned)),
        (400, Some("snapshots: the configuration has no `snapshots` folder for repositories".to_owned()))
    );
}

#[test]
fn what_was_damaged_is_not_restored() {
    let server = Server::with("snapshots = \"snapshots\"\n");
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"one"}"#).status, 201);
    assert_eq!(server.put("/_snapshot/r", &repository("r")).status, 200);
    assert_eq!(server.put("/_snapshot/r/s?wait_for_completion=true", "").status, 200);
    let place = server.folder.path().join("snapshots/r/s");
    let restore = || {
        let body = json!({ "rename_pattern": "^", "rename_replacement": "again-" });
        server.post("/_snapshot/r/s/_restore?wait_for_completion=true", &body.to_string())
    };
    // A list of files that names another file, and one that lost a byte.
    let list = std::fs::read_to_string(place.join("snapshot.json")).expect("a list");
    std::fs::write(place.join("snapshot.json"), list.replace("orion.json", "../../orion.toml"))
        .expect("written");
    let answer = restore();
    assert!(answer.status == 500 && answer.text.contains("list of files is damaged"), "{}", answer.text);
    let state = server.get("/_snapshot/r/s").json()["snapshots"][0].clone();
    assert_eq!(state["state"], "FAILED", "{state}");
    std::fs::write(place.join("snapshot.json"), &list).expect("written");
    let mapping = place.join("notes/mapping.json");
    let intact = std::fs::read(&mapping).expect("a mapping");
    std::fs::write(&mapping, &intact[1..]).expect("written");
    let answer = restore();
    assert!(answer.status == 500 && answer.text.contains("is damaged: expected"), "{}", answer.text);
    assert_eq!(server.get("/again-notes").status, 404);
    std::fs::write(&mapping, intact).expect("written");
    assert_eq!(restore().status, 200);
    assert_eq!(server.get("/again-notes/_doc/1").json()["_source"]["title"], "one");
}

#[test]
fn the_command_line_takes_and_restores_the_same_snapshots() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let orion = |arguments: &[&str]| {
        let output = program(folder.path(), None).args(arguments).arg("--json").output().expect("it runs");
        let code = output.status.code();
        (code, serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    std::fs::write(folder.path().join("notes.jsonl"), json!({ "_id": "d0", "text": "a lamp" }).to_string())
        .expect("a file");
    assert_eq!(orion(&["index", "add", "notes", "notes.jsonl"]).0, Some(0));
    let (code, taken) = orion(&["index", "snapshot", "snapshots/r/monday", "notes"]);
    assert_eq!((code, &taken["documents"]["notes"]), (Some(0), &json!(1)));
    assert_eq!(orion(&["index", "snapshot", "snapshots/r/monday", "notes"]).0, Some(2));
    assert_eq!(orion(&["index", "snapshot", "snapshots/r/Monday", "notes"]).0, Some(2));
    let (code, restored) = orion(&["index", "restore", "snapshots/r/monday", "notes", "--as", "again"]);
    assert_eq!((code, &restored["documents"]), (Some(0), &json!(1)));
    assert_eq!(orion(&["index", "restore", "snapshots/r/monday", "notes", "--as", "again"]).0, Some(2));
    assert_eq!(orion(&["index", "restore", "snapshots/r/monday", "other"]).0, Some(2));
    // The server reads what the command line took.
    let server = Server::over(folder, "snapshots = \"snapshots\"\n", None);
    assert_eq!(server.put("/_snapshot/r", &repository("r")).status, 200);
    let body = json!({ "rename_pattern": "notes", "rename_replacement": "thrice" });
    let answer = server.post("/_snapshot/r/monday/_restore?wait_for_completion=true", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(server.get("/thrice/_doc/d0").json()["_source"]["text"], "a lamp");
}
