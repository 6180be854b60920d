//! Builds the standard strategies for wasm with a nested cargo, makes components of them, and checks what they import.
//!
//! The nested cargo has its own target folder, so it never waits for the outer one's lock, and an environment cleared
//! of everything the outer one set (flags, wrappers, profiles): a component is the same from `cargo build`, `cargo
//! clippy` and `cargo test`, in every profile. It runs again only when the plugins, the contract or the workspace
//! manifest change.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use orion_plugin_build::{TARGET, add_missing_target, componentise};

/// What is built: each package and its components, in the order in which `components()` lists them.
const PACKAGES: &[(&str, &[&str])] = &[
    ("orion-plain", &["lexical", "dense", "hybrid", "rm3", "perturb", "router"]),
    ("orion-beam", &["blind", "rewrite", "beam", "auto"]),
    (
        "orion-archetypes",
        &[
            "adaptive-context-learner",
            "random-walk-wanderer",
            "breadth-first-explorer",
            "depth-first-driller",
            "wrong-direction-specialist",
            "early-success-validator",
            "exploitation-heavy-validator",
            "greedy-hill-climber",
            "best-first-hypothesis-selector",
            "multi-beam-parallel",
            "pseudo-document",
        ],
    ),
];

/// Likewise the rewards, as `rewards()` lists them.
const REWARDS: &[(&str, &[&str])] = &[("orion-reward", &["reward"])];

/// Everything a component depends on, relative to the workspace root.
const INPUTS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "wit",
    "plugins/sdk/Cargo.toml",
    "plugins/sdk/src",
    "plugins/plain/Cargo.toml",
    "plugins/plain/src",
    "plugins/plain/components",
    "plugins/beam/Cargo.toml",
    "plugins/beam/src",
    "plugins/beam/components",
    "plugins/archetypes/Cargo.toml",
    "plugins/archetypes/src",
    "plugins/archetypes/components",
    "plugins/reward/Cargo.toml",
    "plugins/reward/src",
    "plugins/reward/components",
    "plugins/examples",
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    if let Err(error) = build() {
        eprintln!("error: the standard strategies could not be built: {error}");
        std::process::exit(1);
    }
}

fn build() -> Result<()> {
    let root = path_from("CARGO_MANIFEST_DIR")?.join("../..").canonicalize()?;
    let out = path_from("OUT_DIR")?;
    println!("cargo::rerun-if-changed=build.rs");
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    add_missing_target(&rustc, |said| println!("cargo::warning={said} for the standard strategies"))?;
    let modules = build_modules(&root, &target_folder(&out)?)?;

    list(PACKAGES, &modules, &out, "components.rs")?;
    list(REWARDS, &modules, &out, "rewards.rs")?;
    for (name, folder) in [
        ("sdk", "plugins/sdk/src"),
        ("rust", "plugins/examples/rust"),
        ("rust-reward", "plugins/examples/rust-reward"),
        ("python", "plugins/examples/python"),
        ("js", "plugins/examples/js"),
    ] {
        fs::write(out.join(format!("{name}.rs")), list_texts(&root.join(folder))?)?;
    }
    Ok(())
}

/// Makes the components of these packages and writes the list of them that `lib.rs` includes.
fn list(packages: &[(&str, &[&str])], modules: &Path, out: &Path, file: &str) -> Result<()> {
    let mut listing = String::from("&[\n");
    for name in packages.iter().flat_map(|(_, names)| *names) {
        // Cargo names a library's file as code names the library.
        let module = fs::read(modules.join(format!("{}.wasm", name.replace('-', "_"))))?;
        let component = componentise(name, &module)?;
        fs::write(out.join(format!("{name}.wasm")), component)?;
        listing += &format!(
            "    Component {{ name: \"{name}\", bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\")) }},\n"
        );
    }
    listing += "]\n";
    Ok(fs::write(out.join(file), listing)?)
}

/// An expression that lists every text file under a folder, by path. What a build of an example leaves there is left
/// out.
fn list_texts(folder: &Path) -> Result<String> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    let mut listing = String::from("&[\n");
    for path in paths {
        let relative = path.strip_prefix(folder)?.to_string_lossy().replace('\\', "/");
        listing += &format!("    TextFile {{ path: {relative:?}, text: include_str!({path:?}) }},\n");
    }
    Ok(listing + "]\n")
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "__pycache__") {
                collect(&path, paths)?;
            }
        } else if !name.ends_with(".wasm") {
            paths.push(path);
        }
    }
    Ok(())
}

/// `plugins` in the outer target folder: shared by all profiles, removed by `cargo clean`.
fn target_folder(out: &Path) -> Result<PathBuf> {
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let target = out.ancestors().nth(4).ok_or_else(|| format!("unexpected OUT_DIR `{}`", out.display()))?;
    Ok(target.join("plugins"))
}

fn path_from(variable: &str) -> Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo did not set `{variable}`").into())
}

/// Runs the nested cargo; returns the folder that holds the core modules.
fn build_modules(root: &Path, target_folder: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args([
        "build",
        "--locked",
        "--examples",
        "--profile",
        "plugin",
        "--target",
        TARGET,
    ]);
    command.arg("--target-dir").arg(target_folder);
    for (package, _) in PACKAGES.iter().chain(REWARDS) {
        command.args(["--package", package]);
    }
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_build) {
            command.env_remove(name);
        }
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("the nested cargo failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target_folder.join(TARGET).join("plugin").join("examples"))
}

/// Whether a variable says something about the outer build alone. Where cargo finds its home, its network and its
/// share of the machine stays.
fn belongs_to_outer_build(name: &str) -> bool {
    const KEPT: &[&str] =
        &["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const CLEARED: &[&str] =
        &["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY", "OUT_DIR", "PROFILE", "TARGET"];
    !KEPT.iter().any(|kept| name.starts_with(kept)) && CLEARED.iter().any(|cleared| name.starts_with(cleared))
}
