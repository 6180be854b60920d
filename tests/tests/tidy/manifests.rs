//! What each `Cargo.toml` owes the reader: a reason beside every dependency, and the workspace's lints.

use crate::tree::{expect_none, files};

fn is_heading_of_dependencies(line: &str) -> bool {
    line.starts_with('[') && line.trim_end_matches(']').ends_with("dependencies")
}

#[test]
fn every_dependency_has_a_reason() {
    let mut findings = Vec::new();
    for manifest in files().iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let mut is_in_dependencies = false;
        // A comment covers the lines below it up to the next blank line.
        let mut is_explained = false;
        for line in manifest.text.lines().map(str::trim) {
            if line.starts_with('[') {
                is_in_dependencies = is_heading_of_dependencies(line);
                is_explained = false;
            } else if line.is_empty() {
                is_explained = false;
            } else if line.starts_with('#') {
                is_explained = true;
            } else if is_in_dependencies && line.contains('=') && !is_explained && !line.contains(" # ") {
                findings.push(format!("{}: {line}", manifest.path));
            }
        }
    }
    expect_none("a dependency needs a comment that says what it is for:", &findings);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let mut findings = Vec::new();
    for manifest in files().iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        if !manifest.text.replace(' ', "").contains("[lints]\nworkspace=true") {
            findings.push(manifest.path.clone());
        }
    }
    expect_none("a crate does not take the workspace's lints:", &findings);
}

#[test]
fn the_lock_file_and_the_toolchain_are_pinned() {
    let files = files();
    let text = |name: &str| {
        files.iter().find(|file| file.path == name).map(|file| file.text.as_str()).unwrap_or_default()
    };
    assert!(text("Cargo.lock").contains("name = \"orion-host\""), "`Cargo.lock` is committed");
    assert!(
        text("rust-toolchain.toml").contains("channel = \"1."),
        "`rust-toolchain.toml` names one version"
    );
}
