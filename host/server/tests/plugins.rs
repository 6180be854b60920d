//! The plugin directory on the command line: listed, searched with, refused, signed and locked.

mod common;

use common::Sandbox;
use expect_test::expect;

const DOCUMENTS: &str = r#"{"_id": "d1", "title": "Salt", "text": "Salt is won from the sea in shallow pans."}
{"_id": "d2", "title": "Pans", "text": "Frying pans want a little salt."}
"#;

fn manifest(grants: &str) -> String {
    format!("name = \"lexical\"\ncomponent = \"lexical.wasm\"\ncontract = \"0.1\"\ngrants = [{grants}]\n")
}

/// An index and a plugin directory with the standard strategy `lexical` as a plugin.
fn filled(grants: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("notes.jsonl", DOCUMENTS);
    sandbox.answered(&["index", "add", "notes", "notes.jsonl"]);
    sandbox.write("plugins/lexical.toml", &manifest(grants));
    let component = orion_bundle::component("lexical").expect("it is standard");
    std::fs::write(sandbox.path().join("plugins/lexical.wasm"), component.bytes).expect("a file");
    sandbox
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

const SEARCH: [&str; 9] =
    ["search", "salt", "--index", "notes", "--strategy", "lexical", "--json", "--plugins", "plugins"];

#[test]
fn a_plugin_takes_the_place_of_a_standard_strategy() {
    let sandbox = filled("\"retrieval\"");
    let listed = json(&sandbox.answered(&["plugin", "list", "--plugins", "plugins", "--json"]));
    assert_eq!(listed[0]["state"], "in place of the standard one");
    assert_eq!(listed[0]["grants"], serde_json::json!(["retrieval"]));
    let found = json(&sandbox.answered(&SEARCH));
    assert_eq!(
        (&found["plugin"]["version"], &found["degraded"]),
        (&listed[0]["version"], &serde_json::Value::Null)
    );
    assert_eq!((&found["plugin"]["calls"], &found["plugin"]["breaker"]), (&1.into(), &"closed".into()));
    let text = sandbox.answered(&["plugin", "list", "--plugins", "plugins"]);
    let version = listed[0]["version"].as_str().expect("a version");
    assert_eq!(
        text,
        format!("lexical  in place of the standard one  {}\n  granted retrieval\n", &version[..12])
    );
    let watched = sandbox.answered(&["plugin", "watch", "--plugins", "plugins", "--looks", "2"]);
    assert_eq!(watched, format!("loaded    lexical {}\n", &version[..12]));
}

#[test]
fn a_refused_plugin_is_told_of_and_the_standard_strategy_serves() {
    let sandbox = filled("");
    let searched = sandbox.run(&SEARCH);
    assert_eq!(searched.code, 0, "{searched:?}");
    let reason = "plugin `lexical` is not loaded: component `lexical`: import `orion:search/retrieval@0.1.0` \
                  needs the grant `retrieval`, which manifest `plugins/lexical.toml` does not give";
    assert!(searched.stderr.contains(reason), "{}", searched.stderr);
    assert!(json(&searched.stdout)["ranking"][0]["id"].is_string());
    let listed = json(&sandbox.answered(&["plugin", "list", "--plugins", "plugins", "--json"]));
    assert_eq!(listed[0]["state"], "refused");

    sandbox.write("plugins/own.toml", &manifest("").replace("lexical", "own"));
    let search = ["search", "salt", "--index", "notes", "--strategy", "own", "--plugins", "plugins"];
    let refused = sandbox.run(&search);
    assert_eq!(refused.code, 2);
    let reason = "error: choosing strategy `own`: its plugin is not loaded: could not read component `plugins/own.wasm`";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
}

#[test]
fn plugins_are_signed_verified_and_locked() {
    let sandbox = filled("\"retrieval\"");
    let made = sandbox.answered(&["plugin", "keygen", "alice", "--out", "secret"]);
    assert_eq!(made, "secret/alice.key\nsecret/alice.pub\n");
    std::fs::create_dir(sandbox.path().join("keys")).expect("a folder");
    let verify = ["plugin", "verify", "plugins/lexical.toml", "--trusted-keys", "keys"];
    let unsigned = sandbox.run(&verify);
    assert_eq!(unsigned.code, 1);
    expect![[r#"
        lexical: component `plugins/lexical.wasm` is not signed: expected a signature in `plugins/lexical.wasm.sig`, found none
    "#]]
    .assert_eq(&unsigned.stdout);
    let sign = ["plugin", "sign", "plugins/lexical.toml", "--key", "secret/alice.key"];
    assert_eq!(sandbox.answered(&sign), "plugins/lexical.wasm.sig\n");
    assert!(
        sandbox.run(&verify).stdout.contains("which is not trusted: expected one of the 0 keys in `keys`")
    );
    let key = sandbox.path().join("secret/alice.pub");
    std::fs::copy(key, sandbox.path().join("keys/alice.pub")).expect("copied");
    assert!(sandbox.answered(&verify).starts_with("lexical: signed by alice ("));

    assert_eq!(sandbox.answered(&["plugin", "lock", "--plugins", "plugins"]), "plugins/plugins.lock\n");
    let trusting = [&SEARCH[..], &["--trusted-keys", "keys", "--locked"]].concat();
    let found = json(&sandbox.answered(&trusting));
    assert!(found["plugin"]["version"] != found["plugin"]["component_sha256"]);
    sandbox.write("plugins/lexical.toml", &manifest("\"retrieval\", \"policy\""));
    let warned = sandbox.run(&trusting).stderr;
    assert!(warned.contains("is wrongly signed: the signature by key "), "{warned}");
    let warned = sandbox.run(&[&SEARCH[..], &["--locked"]].concat()).stderr;
    assert!(
        warned.contains("lock file `plugins/plugins.lock`: manifest of plugin `lexical`: expected "),
        "{warned}"
    );

    // A component file needs a signature just as well, and without a manifest it cannot have one.
    let component = orion_bundle::component("lexical").expect("it is standard");
    std::fs::write(sandbox.path().join("bare.wasm"), component.bytes).expect("a file");
    let bare = ["search", "salt", "--index", "notes", "--plugin", "bare.wasm", "--trusted-keys", "keys"];
    let refused = sandbox.run(&bare);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("there is no manifest beside it"), "{}", refused.stderr);
}

#[test]
fn without_a_plugin_directory_the_hint_says_how_to_have_one() {
    let printed = Sandbox::new().run(&["plugin", "list"]);
    assert_eq!(printed.code, 2);
    expect![[r#"
        error: looking for plugins: there is no plugin directory

        hint: --plugins FOLDER or ORION_PLUGINS_DIR names one; so does a folder `plugins` in the data folder
    "#]]
    .assert_eq(&printed.stderr);
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path().join("data/plugins")).expect("a folder");
    assert_eq!(sandbox.run(&["plugin", "list"]).code, 1);
}
