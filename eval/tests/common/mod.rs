//! Finds data that lies beside the repository; shared by this crate's tests.

use std::path::{Path, PathBuf};

/// `../shared/NAME` seen from the repository's root, or `None` after saying that the test skips.
/// Where `CI` is set, missing data fails the test.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    #[expect(clippy::disallowed_methods, reason = "tests learn from CI alone whether skipping is a failure")]
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "{} is missing, and CI may not skip", path.display());
    println!("skipped: no {}", path.display());
    None
}
