//! The check that stands before everything else: whatever the bytes are, it refuses them or lets them through, and
//! never panics. Compiled from the host's own files, so that no compiler for guests has to be built for it.
//!
//! What passes is compiled and run in `host/tests/evil.rs`, over thousands of seeded mutants.
#![no_main]

#[path = "../../../host/src/check.rs"]
mod check;
#[path = "../../../host/src/grants.rs"]
mod grants;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut granted = grants::Grants::default();
    let strict = check::check(bytes, 1 << 20, Some(check::Granted { grants: &granted, manifest: Path::new("m") }));
    granted = grants::Grants::all();
    let full = check::check(bytes, 1 << 20, Some(check::Granted { grants: &granted, manifest: Path::new("m") }));
    let free = check::check(bytes, 1 << 20, None);
    // All grants are as good as none asked for, and fewer grants never let more through.
    assert_eq!(full, free);
    assert!(full.is_ok() || strict.is_err());
});
