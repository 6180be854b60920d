//! Plugins that change while searches run: new versions, broken ones, none.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::server::Server;

/// Writes beside and renames, as operators are told to.
fn put(folder: &Path, name: &str, content: &[u8]) {
    let draft = folder.join(format!(".{name}.draft"));
    std::fs::write(&draft, content).expect("a draft");
    std::fs::rename(draft, folder.join(name)).expect("in place");
}

fn manifest(fuel: u64) -> String {
    format!(
        "name = \"lexical\"\ncomponent = \"lexical.wasm\"\ncontract = \"0.1\"\ngrants = [\"retrieval\"]\n\
         [limits]\nfuel = {fuel}\n"
    )
}

/// What serves as `lexical`; the standard one has no manifest.
fn serving(server: &Server) -> Value {
    let all = server.get("/_orion/strategies").json();
    let found = all["strategies"].as_array().expect("a list").iter().find(|one| one["name"] == "lexical");
    found.expect("it is there").clone()
}

/// Waits until the log has a line with `words` after `from` lines; a test that hangs here fails by its own time-out.
fn heard(server: &Server, words: &str, from: usize) -> usize {
    loop {
        let log = server.log();
        if let Some(place) = log.iter().skip(from).position(|line| line.contains(words)) {
            return from + place + 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn plugins_change_under_load_and_a_broken_one_never_serves() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).expect("a folder");
    let component = orion_bundle::component("lexical").expect("it is standard").bytes;
    put(&plugins, "lexical.wasm", component);
    put(&plugins, "lexical.toml", manifest(20_000_000_000).as_bytes());
    std::fs::write(folder.path().join("orion.toml"), "listen = \"127.0.0.1:0\"\nwatch_plugins_ms = 20\n")
        .expect("a configuration");
    let arguments = ["--plugins", "plugins", "serve", "--config", "orion.toml"];
    let server = Server::started(Arc::clone(&folder), None, &arguments);
    assert_eq!(server.put("/notes/_doc/1?refresh=true", r#"{"title":"a lamp"}"#).status, 201);
    let first = serving(&server)["version"].clone();

    let (stop, searches) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let body = json!({ "query": { "match": { "title": "lamp" } }, "ext": { "adaptive": { "strategy": "lexical", "policy": "none" } } });
                while !stop.load(Ordering::Relaxed) {
                    let answer = server.post("/notes/_search", &body.to_string());
                    let reply = answer.json();
                    // Whatever is exchanged meanwhile, every search is answered by a whole version.
                    assert_eq!(
                        (answer.status, &reply["ext"]["adaptive"]["degraded"], &reply["hits"]["hits"][0]["_id"]),
                        (200, &Value::Null, &json!("1")),
                        "{reply}"
                    );
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let progress = || {
            let before = searches.load(Ordering::Relaxed);
            while searches.load(Ordering::Relaxed) < before + 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        progress();
        put(&plugins, "lexical.toml", manifest(10_000_000_000).as_bytes());
        let from = heard(&server, "plugin replaced", 0);
        let second = serving(&server)["version"].clone();
        assert_ne!(first, second);
        progress();
        // Cut short, and no component at all: refused, and what served goes on.
        put(&plugins, "lexical.wasm", &component[..component.len() / 2]);
        let from = heard(&server, "plugin refused", from);
        assert_eq!(serving(&server)["version"], second);
        progress();
        put(&plugins, "lexical.wasm", b"no component");
        let from = heard(&server, "plugin refused", from);
        assert_eq!(serving(&server)["version"], second);
        progress();
        put(&plugins, "lexical.wasm", component);
        let from = heard(&server, "plugin loaded", from);
        assert_eq!(serving(&server)["version"], second);
        // Without a manifest the standard one takes its place.
        std::fs::remove_file(plugins.join("lexical.toml")).expect("removed");
        heard(&server, "plugin retired", from);
        assert_eq!(serving(&server)["manifest"], Value::Null);
        progress();
        stop.store(true, Ordering::Relaxed);
    });
    // Both versions answered, and so did the standard one.
    let metrics = server.get("/_metrics").text;
    let versions =
        metrics.lines().filter(|line| line.starts_with("orion_plugin_calls_total{plugin=\"lexical\""));
    assert!(2 <= versions.count(), "{metrics}");
    assert_eq!(server.end().1, Some(0));
}
