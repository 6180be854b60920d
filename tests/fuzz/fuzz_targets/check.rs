//! The check that stands before everything else: whatever the bytes are, it refuses them or lets them through, and
//! never panics. Compiled from the host's own files, so that no compiler for guests has to be built for it.
//!
//! What passes is compiled and run in `host/tests/evil.rs`, over thousands of seeded mutants.
#![no_main]

#[path = "../../../host/src/check.rs"]
mod check;
#[path = "../../../host/src/grants.rs"]
mod grants;
#[path = "../../../host/src/world.rs"]
mod world;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use world::World;

fuzz_target!(|bytes: &[u8]| {
    let check = |grants: Option<&grants::Grants>, world: World| {
        let granted = grants.map(|grants| check::Granted { grants, manifest: Path::new("m") });
        check::check(bytes, 1 << 20, world, granted).map(|checked| checked.imports)
    };
    let strict = check(Some(&grants::Grants::default()), World::Strategy);
    let full = check(Some(&grants::Grants::all()), World::Strategy);
    let free = check(None, World::Strategy);
    let reward = check(None, World::Reward);
    // All grants are as good as none asked for, and fewer grants never let more through.
    assert_eq!(full, free);
    assert!(full.is_ok() || strict.is_err());
    // Nothing is refused as the other kind by both.
    let is_other = |result: &Result<_, _>| matches!(result, Err(check::CheckError::OtherWorld { .. }));
    assert!(!(is_other(&free) && is_other(&reward)));
});
