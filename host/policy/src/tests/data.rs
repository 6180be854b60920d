//! Where tests find data that is not in the repository.

use std::path::PathBuf;

/// A folder of golden files; where it is missing, one line and `None`, but in CI a failure.
#[expect(clippy::disallowed_methods, reason = "tests ask whether they run in CI")]
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", folder.display());
    println!("skipped: no test data at {}", folder.display());
    None
}
