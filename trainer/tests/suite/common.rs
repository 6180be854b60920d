//! Where tests find golden files, and how they say that they skip.

use std::path::PathBuf;

/// A file or folder below `shared`, beside the repository; `None`, with one line printed, where it is missing.
/// Under CI a missing file is a failure.
#[expect(clippy::disallowed_methods, reason = "CI is a property of the run, not of a result")]
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    assert!(std::env::var_os("CI").is_none(), "expected `{}` in CI, got nothing", full.display());
    eprintln!("skipped: `{}` is not here", full.display());
    None
}
