//! Manifests: what is read, what each complaint says, and that grants, limits and defaults take effect.
use std::path::Path;

use crate::common::{component_from_text, hits, hostile_component, options, services, text_guest};
use orion_host::contract::Retriever;
use orion_host::{
    CancelToken, CheckError, Grant, Grants, Host, Language, Limits, LoadError, Manifest, ManifestError,
    Request,
};

const HEAD: &str = "name = \"echo\"\ncomponent = \"echo.wasm\"\ncontract = \"0.1\"\n";

fn parse(rest: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(&format!("{HEAD}{rest}"), Path::new("plugins/echo.toml"))
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let refused = Manifest::parse(text, Path::new("echo.toml")).expect_err("it is refused");
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_whole_manifest_is_read() {
    let manifest = parse(
        "grants = [\"retrieval\", \"feedback\"]\n[limits]\nfuel = 1_000\nhost_calls = 0x10\n\
         [parameters]\nturns = 3\nweight = 0.5\nblind = true\nhint = \"x\"\n[build]\nlanguage = \"js\"\n",
    )
    .expect("it is a manifest");
    assert_eq!((manifest.name(), manifest.contract()), ("echo", "0.1"));
    assert_eq!(manifest.component(), Path::new("plugins/echo.wasm"));
    assert_eq!(manifest.grants().names(), ["retrieval", "feedback"]);
    assert!(!manifest.grants().has(Grant::Policy));
    let ceiling = Limits { host_calls: 7, ..Limits::default() };
    assert_eq!(manifest.limits(&ceiling), Limits { fuel: 1_000, ..ceiling });
    let parameters: Vec<(&str, &str)> = manifest.parameters().collect();
    assert_eq!(parameters, [("blind", "true"), ("hint", "x"), ("turns", "3"), ("weight", "0.5")]);
    assert_eq!(manifest.language(), Some(Language::JavaScript));
}

#[test]
fn nothing_is_granted_that_is_not_named() {
    let manifest = parse("").expect("it is a manifest");
    assert_eq!(*manifest.grants(), Grants::default());
    assert_eq!(manifest.limits(&Limits::default()), Limits::default());
}

#[test]
fn complaints_name_line_field_expected_and_got() {
    let cases = [
        (
            "grants = [\"retrieval\",\n \"network\"]",
            "line 5: grants: expected a list of `retrieval`, `policy`, `feedback`, got `network` (no plugin can be granted that)",
        ),
        (
            "grants = [\"log\"]",
            "line 4: grants: expected a list of `retrieval`, `policy`, `feedback`, got `log` (it is always there and needs no grant)",
        ),
        ("grants = [\"policy\", \"policy\"]", "line 4: grants: expected each name once, got `policy` twice"),
        (
            "grants = \"policy\"",
            "line 4: grants: expected a list of `retrieval`, `policy`, `feedback`, got the text `policy`",
        ),
        (
            "grant = []",
            "line 4: field: expected one of `name`, `component`, `contract`, `world`, `grants`, `limits`, `parameters`, `build`, got `grant`",
        ),
        ("[limits]\nfuel = -1", "line 5: limits.fuel: expected a whole number of at least 1, got `-1`"),
        ("[limits]\nfuel = 0", "line 5: limits.fuel: expected a whole number of at least 1, got `0`"),
        ("[limits]\nhits = 5000000000", "line 5: limits.hits: expected at most 4294967295, got `5000000000`"),
        ("[limits]\nfuel = \"lots\"", "line 5: limits.fuel: expected a whole number, got the text `lots`"),
        ("limits = 3", "line 4: limits: expected a table, got `3`"),
        (
            "[parameters]\nturns = [1]",
            "line 5: parameters.turns: expected text, a number, `true` or `false`, got a list",
        ),
        (
            "[build]\nlanguage = \"c\"",
            "line 5: build.language: expected one of `rust`, `python`, `js`, got `c`",
        ),
    ];
    for (rest, expected) in cases {
        check_refused(&format!("{HEAD}{rest}\n"), &format!("manifest `echo.toml` {expected}"));
    }
}

#[test]
fn the_head_is_needed_and_checked() {
    check_refused("", "manifest `echo.toml`: name: expected the plugin's name, found none");
    let changed = |from: &str, to: &str| HEAD.replace(from, to);
    check_refused(
        &changed("\"echo\"", "\"Echo\""),
        "manifest `echo.toml` line 1: name: expected 1 to 64 of a-z, 0-9, `-` and `_`, got `Echo`",
    );
    check_refused(&changed("0.1", "0.2"), "manifest `echo.toml` line 3: contract: expected `0.1`, got `0.2`");
    for path in ["../echo.wasm", "/echo.wasm", ""] {
        check_refused(
            &changed("echo.wasm", path),
            &format!(
                "manifest `echo.toml` line 2: component: expected a file name relative to the manifest, \
                 within its folder, got `{path}`"
            ),
        );
    }
    let refused = Manifest::parse("name = ", Path::new("echo.toml")).expect_err("it is refused");
    assert!(refused.to_string().starts_with("manifest `echo.toml` line 1: expected TOML: "), "{refused}");
}

#[test]
fn an_unknown_limit_is_answered_with_those_there_are() {
    let refused = parse("[limits]\nfule = 1\n").expect_err("it is refused");
    let text = refused.to_string();
    assert!(text.contains("line 5: limits: expected one of `call_bytes`, "), "{text}");
    assert!(text.ends_with("got `fule`"), "{text}");
}

/// A manifest of the hostile guest.
fn hostile(rest: &str) -> Manifest {
    let head = "name = \"hostile\"\ncomponent = \"hostile.wasm\"\ncontract = \"0.1\"\n";
    Manifest::parse(&format!("{head}{rest}"), Path::new("plugins/hostile.toml")).expect("it is a manifest")
}

const ALL: &str = "grants = [\"retrieval\", \"policy\", \"feedback\"]\n";

#[test]
fn an_import_that_is_not_granted_is_refused_before_compilation() {
    let host = Host::new(options()).expect("a host");
    let refused = host.load_with(hostile_component(), hostile("grants = [\"retrieval\", \"policy\"]"));
    let Err(LoadError::Check { source, .. }) = &refused else {
        panic!("expected a refusal, got {refused:?}")
    };
    assert!(matches!(source, CheckError::NotGranted { grant: "feedback", .. }), "{source}");
    assert_eq!(
        source.to_string(),
        "import `orion:search/feedback@0.1.0` needs the grant `feedback`, which manifest \
         `plugins/hostile.toml` does not give"
    );
    // What the text guest imports carries no power, so it needs no grant.
    let text = text_guest("", "i32.const 64", "unreachable");
    let head = "name = \"text-guest\"\ncomponent = \"t.wasm\"\ncontract = \"0.1\"\n";
    let manifest = Manifest::parse(head, Path::new("text-guest.toml")).expect("it is a manifest");
    host.load_with(&component_from_text(&text), manifest).expect("it needs no grant");
}

#[test]
fn limits_and_defaults_reach_the_search() {
    let host = Host::new(options()).expect("a host");
    let search = |rest: &str, asked: Request, limits: Limits| {
        let strategy =
            host.load_with(hostile_component(), hostile(&format!("{ALL}{rest}"))).expect("it loads");
        let cancel = CancelToken::new();
        let outcome = host.search_blocking(&strategy, asked, &services(&cancel), &limits, cancel);
        (outcome.ranking, outcome.degraded.map(|degraded| degraded.to_string()))
    };
    let request = Request::new("the user's words", 5);
    let limits = Limits { deadline_ms: 600_000, ..Limits::default() };
    // The component's own default is `polite`.
    let flood = "[limits]\nhost_calls = 60\n[parameters]\nbehaviour = \"flood_host_calls\"\n";
    let expected = |calls| Some(format!("flood: flood: host calls: expected at most {calls}"));
    assert_eq!(search(flood, request.clone(), limits.clone()).1, expected(60));
    // The operator's own limit holds where it is lower.
    let lower = Limits { host_calls: 30, ..limits.clone() };
    assert_eq!(search(flood, request.clone(), lower).1, expected(30));
    // The request's own value goes before the manifest's.
    let asked = Request { options: vec![("behaviour".to_owned(), "polite".to_owned())], ..request };
    assert_eq!(search(flood, asked, limits), (hits(Retriever::Hybrid, 5), None));
}

#[test]
fn a_manifest_has_to_fit_what_the_component_says() {
    let host = Host::new(options()).expect("a host");
    let refused =
        |manifest| host.load_with(hostile_component(), manifest).expect_err("it is refused").to_string();
    assert_eq!(
        refused(hostile(&format!("{ALL}[parameters]\nturns = 3"))),
        "manifest `plugins/hostile.toml` line 6: parameters.turns: expected `behaviour`, got `turns`"
    );
    let head = "name = \"other\"\ncomponent = \"hostile.wasm\"\ncontract = \"0.1\"\n";
    let other = Manifest::parse(&format!("{head}{ALL}"), Path::new("other.toml")).expect("it is a manifest");
    assert_eq!(
        refused(other),
        "manifest `other.toml` line 1: name: expected `hostile`, the name that the component gives itself, got `other`"
    );
    let strategy = host
        .load_with(hostile_component(), hostile(&format!("{ALL}[parameters]\nbehaviour = \"spin\"")))
        .expect("it loads");
    assert_eq!(strategy.description().parameters[0].default, "spin");
}

#[test]
fn the_manifest_beside_a_component_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = folder.path().join("text-guest.wasm");
    let bytes = component_from_text(&text_guest("", "i32.const 64", "unreachable"));
    std::fs::write(&component, bytes).expect("written");
    let host = Host::new(options()).expect("a host");
    assert!(host.load_file(&component).expect("it loads").manifest().is_none());
    let text =
        |name: &str| format!("name = \"{name}\"\ncomponent = \"text-guest.wasm\"\ncontract = \"0.1\"\n");
    std::fs::write(folder.path().join("plugin.toml"), text("text-guest")).expect("written");
    let strategy = host.load_file(&component).expect("it loads");
    assert_eq!(strategy.manifest().map(Manifest::grants), Some(&Grants::default()));
    // One of the component's own name goes first.
    std::fs::write(folder.path().join("text-guest.toml"), text("other")).expect("written");
    let refused = host.load_file(&component).expect_err("the name does not fit").to_string();
    assert!(refused.ends_with("got `other`"), "{refused}");
}
