//! What plugins did in a running server, as `orion plugin list --stats` shows it.

use serde_json::{Value, json};

use crate::server::{Server, program};

#[test]
fn a_running_server_says_what_its_plugins_did() {
    let server = Server::new();
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"the lamp of the reef"}"#).status, 201);
    let body = json!({
        "query": { "match": { "title": "lamp" } },
        "ext": { "adaptive": { "strategy": "lexical", "policy": "none" } },
    });
    for _ in 0..3 {
        assert_eq!(server.post("/notes/_search", &body.to_string()).status, 200);
    }
    let list = |arguments: &[&str]| {
        let mut command = program(server.folder.path(), None);
        let url = format!("http://{}", server.address);
        command.args(["plugin", "list", "--stats", "--server", &url]).args(arguments);
        let output = command.output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, printed) = list(&["--json"]);
    assert_eq!(code, Some(0));
    let all: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    let lexical = all.iter().find(|one| one["name"] == "lexical").expect("it was loaded");
    let number =
        |name: &str| lexical["numbers"][name].as_f64().unwrap_or_else(|| panic!("{name}: {lexical}"));
    assert_eq!((number("calls_total"), number("traps_total"), number("retrievals_total")), (3.0, 0.0, 3.0));
    assert_eq!(number("search_seconds_count"), 3.0);
    assert!(number("fuel_most") * 3.0 >= number("fuel_total") && number("fuel_total") > 0.0);
    assert!(number("search_seconds/0.5") <= number("search_seconds/1"));
    assert!(number("peak_memory_bytes") >= 65_536.0);
    let (_, table) = list(&[]);
    assert!(table.starts_with("plugin") && table.contains("\nlexical "), "{table}");
}
