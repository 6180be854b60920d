//! What the end to end tests share: where things lie, and what to do when test data is not there.
//!
//! This crate may see every other crate; none may see it. The tests themselves are in `tests/tests`, the hostile guests
//! in `tests/guests`, the benchmark definitions and records in `tests/bench`.

use std::path::{Path, PathBuf};

/// The repository root, as an absolute path.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests folder has a parent")
}

/// The bundled corpus, a BEIR folder.
pub fn corpus() -> PathBuf {
    root().join("corpus")
}

/// A file or folder the repository does not carry, or `None` after printing one line when it is not there.
///
/// # Panics
/// When it is missing and the environment has `CI` set: there a skipped test is a failure.
pub fn optional(relative_to_root: &str) -> Option<PathBuf> {
    let path = root().join(relative_to_root);
    if path.exists() {
        return Some(path);
    }
    #[expect(clippy::disallowed_methods, reason = "tests alone ask whether they run in CI")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "CI needs `{relative_to_root}`: a skipped test is a failure there");
    eprintln!("skipped: `{relative_to_root}` is not there");
    None
}

/// The sentence encoder's folder, where it has been fetched (`orion models fetch`).
pub fn minilm() -> Option<PathBuf> {
    optional("models/all-MiniLM-L6-v2")
}
