//! Keeps components of today's contract for every later host to load: the draft's, or those of a version that is frozen.
//!
//! `freeze draft` writes `tests/golden/draft`; `freeze VERSION` writes `wit/frozen/VERSION` once, with the contract's
//! text. `wit/README.md` says when; `host/tests/suite/evolution.rs` checks what is kept.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// Strategies that are kept: small, and they run without a policy.
const STRATEGIES: [&str; 1] = ["lexical"];
/// Rewards that are kept.
const REWARDS: [&str; 1] = ["reward"];

fn main() -> Result<(), Box<dyn Error>> {
    let Some(version) = std::env::args().nth(1) else {
        return Err("usage: freeze draft | freeze VERSION".into());
    };
    let folder = folder(&version)?;
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for name in STRATEGIES {
        let component = orion_bundle::component(name).ok_or_else(|| format!("`{name}` is not bundled"))?;
        kept.push((format!("{name}.wasm"), component.bytes.to_vec()));
    }
    for name in REWARDS {
        let component = orion_bundle::reward(name).ok_or_else(|| format!("`{name}` is not bundled"))?;
        kept.push((format!("{name}.wasm"), component.bytes.to_vec()));
    }
    if version != "draft" {
        kept.push(("orion.wit".to_owned(), fs::read(orion_tests::root().join("wit/orion.wit"))?));
    }
    let mut sums = String::new();
    for (name, bytes) in &kept {
        fs::write(folder.join(name), bytes)?;
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        sums += &format!("{hash}  {name}\n");
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    eprintln!("wrote `{}`", folder.display());
    Ok(())
}

/// Makes the folder; a frozen one must not be there yet, and has to be named after the version of the text.
fn folder(version: &str) -> Result<PathBuf, Box<dyn Error>> {
    if version == "draft" {
        let folder = orion_tests::root().join("tests/golden/draft");
        fs::create_dir_all(&folder)?;
        return Ok(folder);
    }
    let text = fs::read_to_string(orion_tests::root().join("wit/orion.wit"))?;
    let package = format!("package orion:search@{version};");
    if !text.contains(&package) {
        return Err(format!("freezing `{version}`: expected `{package}` in wit/orion.wit, found none").into());
    }
    if text.contains("DRAFT") {
        return Err(format!("freezing `{version}`: wit/orion.wit still calls itself a draft").into());
    }
    let folder = orion_tests::root().join("wit/frozen").join(version);
    fs::create_dir(&folder).map_err(|error| format!("freezing into `{}`: {error}", folder.display()))?;
    Ok(folder)
}
