//! Says whether `nano/` holds a policy to embed: sets `cfg(orion_nano)` where all its files are there.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(orion_nano)");
    // Watching a folder that is not there would rebuild every time; its parent changes when it appears.
    println!("cargo::rerun-if-changed={}", if Path::new("nano").is_dir() { "nano" } else { "." });
    let files = ["config.json", "orion.json", "tokenizer.json", "model.safetensors"];
    if files.iter().all(|file| Path::new("nano").join(file).is_file()) {
        println!("cargo::rustc-cfg=orion_nano");
    }
}
