//! An author's first minutes in each language: a new folder, a build, a check, a search, and an error that can be read.
//!
//! The tool chains of Python and JavaScript are fetched as an author's first build does, into the target folder, and
//! stay there for the next run. Where python3 or node are missing the test says so, and fails under CI.

use std::path::Path;
use std::process::Command;

use expect_test::{Expect, expect};

use crate::common::Sandbox;

/// The program as an author runs it: with the tools that their environment has, and this test's cache.
fn author(sandbox: &Sandbox, folder: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orion"));
    command
        .args(arguments)
        .current_dir(sandbox.path().join(folder))
        .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
        .env("ORION_DATA_DIR", sandbox.path().join("data"))
        .env("ORION_MODELS_DIR", sandbox.path().join("models"))
        .env("NO_COLOR", "1");
    command
}

/// Runs and insists on the exit code; standard output and standard error.
pub(crate) fn ran(sandbox: &Sandbox, folder: &str, arguments: &[&str], code: i32) -> (String, String) {
    let printed = sandbox.printed(author(sandbox, folder, arguments).output().expect("the program runs"));
    assert_eq!(printed.code, code, "{arguments:?}\n{}\n{}", printed.stdout, printed.stderr);
    (printed.stdout, printed.stderr)
}

pub(crate) fn has(program: &str) -> bool {
    let is_there =
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        #[expect(clippy::disallowed_methods, reason = "CI is a property of the run, not of a result")]
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "expected `{program}` in CI, found none");
        eprintln!("skipped: `{program}` is missing");
    }
    is_there
}

const DOCUMENTS: &str = r#"{"_id": "frost", "title": "Defrost cycle", "text": "a reversing valve melts the ice"}
{"_id": "cycle", "title": "Cycle of the pump", "text": "how heat moves"}
{"_id": "sun", "title": "Sun", "text": "days when the clouds break"}
"#;

/// From an empty folder to a search, and from there to an error: `broken` replaces a piece of the strategy's source so
/// that the query `break` raises.
fn first_minutes(
    language: &str,
    source: &str,
    broken: (&str, &str),
    imports: &Expect,
    reason: &Expect,
) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("documents.jsonl", DOCUMENTS);
    ran(&sandbox, "", &["index", "add", "notes", "documents.jsonl", "--quiet"], 0);
    ran(&sandbox, "", &["plugin", "new", "my-search", "--lang", language], 0);

    let path = sandbox.path().join("my-search").join(source);
    let text = std::fs::read_to_string(&path).expect("the strategy's source");
    assert_eq!(text.matches(broken.0).count(), 1, "{source} has `{}` once", broken.0);
    std::fs::write(&path, text.replace(broken.0, broken.1)).expect("a changed source");
    let (tested, _) = ran(&sandbox, "my-search", &["plugin", "test"], 0);
    assert!(tested.ends_with("1 scenario: all hold\n"), "a test makes a draft first: {tested}");
    assert!(!sandbox.path().join("my-search/my-search.wasm").exists(), "a draft is no component");
    ran(&sandbox, "my-search", &["plugin", "build"], 0);
    same_as_built(&sandbox);

    let (checked, _) = ran(&sandbox, "my-search", &["plugin", "check", "--json"], 0);
    let checked: serde_json::Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!(checked["description"]["name"], "my-search");
    let names: Vec<&str> = checked["imports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|import| import["name"].as_str())
        .collect();
    imports.assert_eq(&names.join(" "));

    let search = |query: &str| {
        let run = ["plugin", "run", "my-search.wasm", "--index", "notes", "--json", "--query", query];
        let (answer, said) = ran(&sandbox, "my-search", &run, 0);
        (serde_json::from_str::<serde_json::Value>(&answer).expect("JSON"), said)
    };
    let (answer, said) = search("valve");
    assert!(answer["degraded"].is_null(), "{answer:#}\n{said}");
    let ids: Vec<&str> =
        answer["ranking"].as_array().into_iter().flatten().filter_map(|hit| hit["id"].as_str()).collect();
    assert_eq!(ids, ["frost", "cycle"], "`cycle` is found by the title's words alone: {answer:#}");

    let (answer, said) = search("break");
    reason.assert_eq(answer["degraded"]["reason"].as_str().unwrap_or("none"));
    eprintln!("{language}: {}\n{said}", answer["cost"]);
    // Without an index of one's own there is the bundled corpus.
    ran(&sandbox, "my-search", &["plugin", "run", "my-search.wasm", "--query", "who made the lens"], 0);
    sandbox
}

/// Draft and component do the same, but for what it costs.
fn same_as_built(sandbox: &Sandbox) {
    let outcomes = |arguments: &[&str]| {
        let (printed, _) = ran(sandbox, "my-search", arguments, 0);
        let mut json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        for outcome in json.as_array_mut().into_iter().flatten() {
            outcome["cost"] = outcome["cost"]["retrievals"].take();
        }
        json
    };
    let draft = outcomes(&["plugin", "test", "--json"]);
    assert_eq!(draft, outcomes(&["plugin", "test", "--built", "--json"]));
    let searched = |subject: &str, query: &str| {
        let run = ["plugin", "run", subject, "--index", "notes", "--json", "--trace", "--query", query];
        let (printed, _) = ran(sandbox, "my-search", &run, 0);
        let mut json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        for changing in ["cost", "plugin"] {
            json[changing].take();
        }
        // The component's hash is in the trace, and where an exception passed through is in the log.
        json["trace"]["component"].take();
        json["trace"]["log"].take();
        // In Rust a draft has names where what ships has numbers.
        if json["failure"].is_object() {
            json["failure"]["frames"].take();
        }
        json
    };
    for query in ["valve", "days of heat", "break"] {
        assert_eq!(searched(".", query), searched("my-search.wasm", query), "{query}");
    }
}

#[test]
fn a_new_name_must_be_free_and_plain() {
    let sandbox = Sandbox::new();
    ran(&sandbox, "", &["plugin", "new", "my-search", "--lang", "js"], 0);
    let (_, said) = ran(&sandbox, "", &["plugin", "new", "my-search", "--lang", "js"], 2);
    expect![[r#"
        error: making `my-search`: it exists already

        hint: choose another name, or remove it first
    "#]]
    .assert_eq(&said);
    let (_, said) = ran(&sandbox, "", &["plugin", "new", "../up", "--lang", "rust"], 2);
    expect![[r#"
        error: making plugin `../up`: expected 1 to 64 of a-z, 0-9, `-` and `_`, beginning with a letter

        hint: a name such as `my-search` is also the folder's; change into another folder to make it elsewhere
    "#]]
    .assert_eq(&said);
}

/// A panic three calls deep.
const DEEP: &str = r#"{
            fn third(query: &str) {
                assert!(query != "break", "no frost");
            }
            fn second(query: &str) {
                third(query);
            }
            second(&request.query);
        }
        let first = look"#;

#[test]
fn a_strategy_in_rust() {
    let sandbox = first_minutes(
        "rust",
        "src/lib.rs",
        ("let first = look", DEEP),
        &expect![
            "orion:search/types@0.1.0 orion:search/retrieval@0.1.0 orion:search/trace@0.1.0 orion:search/log@0.1.0 orion:search/about@0.1.0"
        ],
        &expect![
            "wasm trap: wasm `unreachable` instruction executed; it last logged: the plugin panicked: panicked at src/lib.rs:30:17: no frost"
        ],
    );
    // The draft keeps line tables: every frame of the author's is named with its line, inlined or not.
    let (_, said) =
        ran(&sandbox, "my-search", &["plugin", "run", ".", "--index", "notes", "--query", "break"], 0);
    let said = &said[said.find("warning: panic").unwrap_or_default()..];
    let own: Vec<&str> =
        said.lines().filter(|line| line.contains("src/lib.rs")).map(str::trim_start).collect();
    expect![[r#"
          at src/lib.rs:30:17
          in third at src/lib.rs:30:17
          in second at src/lib.rs:33:17
          in search<orion_sdk::guest::Imports> at src/lib.rs:35:13"#]]
    .assert_eq(&own.join("\n"));
    a_reward(&sandbox);
}

/// The same for a reward, beside the strategy, whose dependencies are built.
fn a_reward(sandbox: &Sandbox) {
    ran(sandbox, "", &["plugin", "new", "my-reward", "--lang", "rust", "--world", "reward"], 0);
    let built = |folder: &str| sandbox.path().join(folder).join("target");
    std::os::unix::fs::symlink(built("my-search"), built("my-reward")).expect("a link");
    let (tested, _) = ran(sandbox, "my-reward", &["plugin", "test"], 0);
    assert!(tested.ends_with("1 scenario: all hold\n"), "{tested}");
    let (scored, _) =
        ran(sandbox, "my-reward", &["plugin", "run", ".", "--scenario", "tests/ranks.toml", "--json"], 0);
    let scored: serde_json::Value = serde_json::from_str(&scored).expect("JSON");
    assert_eq!(scored["rewards"], serde_json::json!([1.0, 0.5, 0.0]));
    ran(sandbox, "my-reward", &["plugin", "build"], 0);
    let (checked, _) = ran(sandbox, "my-reward", &["plugin", "check", "--json"], 0);
    let checked: serde_json::Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!((&checked["world"], &checked["accepted"]), (&"reward".into(), &true.into()));
}

#[test]
fn a_strategy_in_python() {
    if has("python3") {
        first_minutes(
            "python",
            "strategy.py",
            (
                "    first = look",
                "    if request.query == \"break\":\n        {}[\"frost\"]\n    first = look",
            ),
            &expect![
                "orion:search/types@0.1.0 orion:search/retrieval@0.1.0 orion:search/budget@0.1.0 orion:search/trace@0.1.0 orion:search/log@0.1.0 orion:search/about@0.1.0"
            ],
            &expect!["exception: KeyError: 'frost' (strategy.py:37)"],
        );
    }
}

#[test]
fn a_strategy_in_javascript() {
    if has("node") {
        first_minutes(
            "js",
            "strategy.js",
            ("  const first = look", "  if (request.query === 'break') null.frost;\n  const first = look"),
            &expect![
                "orion:search/types@0.1.0 orion:search/retrieval@0.1.0 orion:search/budget@0.1.0 orion:search/trace@0.1.0 orion:search/log@0.1.0 orion:search/about@0.1.0"
            ],
            &expect![[
                r#"exception: TypeError: can't access property "frost" of null (search@strategy.js:27:34)"#
            ]],
        );
    }
}

#[test]
fn every_refusal_comes_with_what_to_do() {
    let sandbox = Sandbox::new();
    let (_, said) = ran(&sandbox, "", &["plugin", "check", "."], 2);
    expect![[r#"
        error: reading `./plugin.toml`: there is none

        hint: a plugin's folder holds `plugin.toml`; `orion plugin new NAME --lang rust` makes one
    "#]]
    .assert_eq(&said);
    // An empty core module: magic and version.
    std::fs::write(sandbox.path().join("core.wasm"), b"\0asm\x01\0\0\0").expect("a file");
    let (printed, _) = ran(&sandbox, "", &["plugin", "check", "core.wasm"], 1);
    expect![[r#"
        core.wasm  8 bytes

        refused: expected a component, got a core module; wrap it with wit-component or `orion plugin build`
            a plugin is a WebAssembly component; `orion plugin build` makes one
    "#]]
    .assert_eq(&printed);
}
