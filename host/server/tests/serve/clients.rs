//! The clients that people have: `opensearch-py` and `@opensearch-project/opensearch`, doing what their guides show.
//!
//! Both are fetched into the target folder by the first run and stay there. Where python3 or node are missing the test
//! says so, and fails under CI.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::server::{Server, missing};

/// The versions that were tried; newer ones are the business of a change of these lines.
pub(crate) const PYTHON_CLIENT: &str = "opensearch-py==3.2.0";
const NODE_CLIENT: &str = "@opensearch-project/opensearch@3.5.1";

pub(crate) fn has(program: &str) -> bool {
    let is_there =
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        missing(program);
    }
    is_there
}

/// A folder under the target folder, named by what is in it, filled once.
pub(crate) fn fetched(name: &str, fetch: impl FnOnce(&Path) -> Command) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("client-{name}"));
    let mark = folder.join("complete");
    if !mark.is_file() {
        // What an interrupted run left is not trusted.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let output = fetch(&folder).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(mark, "").expect("a mark");
    }
    folder
}

/// A command that fills a folder with a package of Python's and what it needs.
pub(crate) fn python_packages(folder: &Path, package: &str) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(folder)
        .arg(package);
    pip
}

/// Runs a client to its end and insists that it says that it came there.
pub(crate) fn run(mut command: Command) {
    let output = command.output().expect("it runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
    assert_eq!(said(&output.stdout).trim(), "all done");
}

#[test]
fn opensearch_py() {
    if !has("python3") {
        return;
    }
    let folder = fetched(&PYTHON_CLIENT.replace('=', "-"), |folder| python_packages(folder, PYTHON_CLIENT));
    let server = Server::new();
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/client.py")).env("PYTHONPATH", folder);
    python.arg(server.address.port().to_string());
    run(python);
}

#[test]
fn opensearch_js() {
    if !has("node") || !has("npm") {
        return;
    }
    let folder = fetched(&NODE_CLIENT.replace(['@', '/'], "-"), |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder).arg(NODE_CLIENT);
        npm
    });
    // Modules are looked for beside the script.
    let script = folder.join("client.cjs");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/client.cjs"), &script)
        .expect("a copy");
    let server = Server::new();
    let mut node = Command::new("node");
    node.arg(script).arg(server.address.port().to_string());
    run(node);
}
