//! The check that stands before everything else: whatever the bytes are, it refuses them or lets them through, and
//! never panics. Compiled from the host's own files, so that no compiler for guests has to be built for it.
//!
//! What passes is compiled and run in `host/tests/suite/evil.rs`, over thousands of seeded mutants.
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

/// Imports of a component that passes.
fn verdict(
    bytes: &[u8],
    world: World,
    grants: Option<&grants::Grants>,
) -> Result<Vec<String>, check::CheckError> {
    let granted = grants.map(|grants| check::Granted { grants, manifest: Path::new("plugin.toml") });
    let check::Checked { types, imports } = check::check(bytes, 1 << 20, world, granted)?;
    drop(types);
    Ok(imports)
}

fuzz_target!(|bytes: &[u8]| {
    for world in [World::Strategy, World::Reward] {
        let strict = verdict(bytes, world, Some(&grants::Grants::default()));
        let full = verdict(bytes, world, Some(&grants::Grants::all()));
        // All grants are as good as none asked for, and fewer grants never let more through.
        assert_eq!(full, verdict(bytes, world, None));
        assert!(full.is_ok() || strict.is_err());
    }
});
