//! Dependency direction, as `ARCHITECTURE.md` draws it, and what the dependencies' licences allow.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::tree::expect_none;

/// Crate, and those of ours that it may name. What is not listed is forbidden, for builds and tests alike.
const ARROWS: [(&str, &[&str]); 18] = [
    ("orion-endpoint", &[]),
    ("orion-engines", &["orion-endpoint"]),
    ("orion-kernels", &[]),
    ("orion-eval", &[]),
    ("orion-index", &["orion-kernels"]),
    ("orion-policy", &["orion-kernels"]),
    ("orion-host", &["orion-index", "orion-policy"]),
    (
        "orion-server",
        &[
            "orion-host",
            "orion-bundle",
            "orion-eval",
            "orion-plugin-build",
            "orion-endpoint",
            "orion-engines",
        ],
    ),
    ("orion-trainer", &["orion-host", "orion-policy", "orion-bundle", "orion-eval", "orion-endpoint"]),
    ("orion-sdk", &[]),
    ("orion-plain", &["orion-sdk"]),
    ("orion-beam", &["orion-sdk"]),
    ("orion-archetypes", &["orion-sdk"]),
    ("orion-reward", &["orion-sdk"]),
    ("orion-plugin-build", &[]),
    ("orion-bundle", &["orion-plugin-build"]),
    ("orion-hostile-guest", &[]),
    (
        "orion-tests",
        &[
            "orion-kernels",
            "orion-eval",
            "orion-index",
            "orion-policy",
            "orion-host",
            "orion-server",
            "orion-trainer",
            "orion-sdk",
            "orion-plain",
            "orion-beam",
            "orion-archetypes",
            "orion-reward",
            "orion-bundle",
        ],
    ),
];

/// Beginning of a third-party crate's name, and the only crates of ours that may depend on it directly.
const RESERVED: [(&str, &[&str]); 4] = [
    ("wasmtime", &["orion-host", "orion-tests"]),
    ("candle", &["orion-trainer"]),
    ("tantivy", &["orion-index", "orion-tests"]),
    ("wit-bindgen", &["orion-sdk", "orion-hostile-guest"]),
];

/// Crates that know nothing of the rest stay small: at most this many direct dependencies.
const LARGEST_LEAF: usize = 10;
const LEAVES: [&str; 6] =
    ["orion-endpoint", "orion-engines", "orion-kernels", "orion-eval", "orion-index", "orion-policy"];

/// Licences that ask for no more than a notice.
const ALLOWED_LICENCES: [&str; 15] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "BSL-1.0",
    "CC0-1.0",
    // The list of certificate authorities: a notice, as the others.
    "CDLA-Permissive-2.0",
];

/// What `cargo metadata` says; with `all`, of the third-party packages too, for this machine's platform.
fn metadata(all: bool) -> Value {
    let cargo = |arguments: &[&str]| {
        let run = Command::new(env!("CARGO")).args(arguments).current_dir(orion_tests::root()).output();
        run.expect("cargo runs, since it ran this test")
    };
    let version = String::from_utf8(cargo(&["-vV"]).stdout).expect("cargo speaks UTF-8");
    let platform =
        version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let mut arguments = vec!["metadata", "--format-version", "1", "--locked", "--filter-platform", platform];
    if !all {
        arguments.push("--no-deps");
    }
    let offline = cargo(&[arguments.as_slice(), &["--offline"]].concat());
    let output = if offline.status.success() { offline } else { cargo(&arguments) };
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().expect("a list of packages")
}

fn name(object: &Value) -> &str {
    object["name"].as_str().expect("a name")
}

/// Names of the direct dependencies (normal, dev and build) of each crate of the workspace.
fn direct_dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = metadata(false);
    packages(&metadata)
        .iter()
        .map(|package| {
            let listed = package["dependencies"].as_array().expect("a list of dependencies");
            (name(package).to_owned(), listed.iter().map(|dependency| name(dependency).to_owned()).collect())
        })
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let mut findings = Vec::new();
    let direct = direct_dependencies();
    for (of, dependencies) in &direct {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == of) else {
            findings.push(format!("`{of}` has no row in ARROWS"));
            continue;
        };
        for on in dependencies.iter().filter(|on| direct.contains_key(*on)) {
            if !allowed.contains(&on.as_str()) {
                findings.push(format!("`{of}` -> `{on}`"));
            }
        }
    }
    expect_none("these arrows are not in the design:", &findings);
}

#[test]
fn reserved_crates_stay_where_they_belong() {
    let mut findings = Vec::new();
    for (of, dependencies) in direct_dependencies() {
        for on in dependencies {
            for (reserved, owners) in RESERVED {
                if on.starts_with(reserved) && !owners.contains(&of.as_str()) {
                    findings.push(format!("`{of}` depends on `{on}`, which belongs to {owners:?}"));
                }
            }
        }
    }
    expect_none("a crate is used outside its one place:", &findings);
}

#[test]
fn leaves_stay_small() {
    let metadata = metadata(false);
    let mut findings = Vec::new();
    for package in packages(&metadata).iter().filter(|package| LEAVES.contains(&name(package))) {
        let listed = package["dependencies"].as_array().expect("a list of dependencies");
        let normal: Vec<&str> = (listed.iter().filter(|d| d["kind"].is_null()).map(name))
            .filter(|one| !one.starts_with("orion-"))
            .collect();
        // A library in several crates, `x` and `x-parts`, is one.
        let of_another = |one: &&&str| {
            let has_prefix = |other: &&str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('-'));
            normal.iter().any(has_prefix)
        };
        let normal = normal.iter().filter(|one| !of_another(one)).count();
        if normal > LARGEST_LEAF {
            findings.push(format!("`{}` has {normal} direct dependencies", name(package)));
        }
    }
    expect_none(&format!("a leaf crate has at most {LARGEST_LEAF} direct dependencies:"), &findings);
}

/// Whether an SPDX expression can be met with allowed licences: any side of `OR`, all sides of `AND`.
fn is_allowed(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    if expression.contains('(') && expression.contains(" AND ") {
        // Only `(A OR B) AND C` occurs: each bracket is judged on its own.
        return expression.split(" AND ").all(|part| is_allowed(part.trim().trim_matches(['(', ')'])));
    }
    flat.split(" OR ").any(|choice| {
        choice.split(" AND ").all(|licence| {
            let words: Vec<&str> = licence.split_whitespace().collect();
            ALLOWED_LICENCES.contains(&words.join(" ").as_str())
        })
    })
}

#[test]
fn every_licence_is_a_permissive_one() {
    let metadata = metadata(true);
    let mut findings = Vec::new();
    for package in packages(&metadata) {
        let licence = package["license"].as_str().unwrap_or("none stated");
        if !is_allowed(licence) {
            findings.push(format!("`{}` {}: {licence}", name(package), package["version"]));
        }
    }
    expect_none("licences outside the allowed list:", &findings);
}

#[test]
fn licence_expressions_are_read_as_meant() {
    assert!(is_allowed("MIT OR GPL-3.0"));
    assert!(is_allowed("Apache-2.0/MIT"));
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(is_allowed("Apache-2.0 WITH LLVM-exception"));
    assert!(!is_allowed("MIT AND GPL-3.0"));
    assert!(!is_allowed("(MIT OR Apache-2.0) AND GPL-3.0"));
    assert!(!is_allowed("none stated"));
}

#[test]
fn dependencies_come_from_the_registry_alone() {
    let metadata = metadata(true);
    let mut findings = Vec::new();
    for package in packages(&metadata) {
        let is_ours = name(package).starts_with("orion-");
        let is_from_registry =
            package["source"].as_str().is_some_and(|source| source.starts_with("registry+"));
        if is_ours == is_from_registry {
            findings.push(format!("`{}` comes from {}", name(package), package["source"]));
        }
    }
    expect_none("a package is neither ours nor from the registry:", &findings);
}
