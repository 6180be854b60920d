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

use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::WorldItem;

/// What is built: each package and its components, in the order in which `components()` lists them.
const PACKAGES: &[(&str, &[&str])] = &[
    ("orion-plain", &["lexical", "dense", "hybrid", "rm3", "perturb"]),
    ("orion-beam", &["blind", "beam"]),
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

const TARGET: &str = "wasm32-unknown-unknown";

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

    add_missing_target()?;
    let modules = build_modules(&root, &target_folder(&out)?)?;

    list(PACKAGES, &modules, &out, "components.rs")?;
    list(REWARDS, &modules, &out, "rewards.rs")
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

/// `plugins` in the outer target folder: shared by all profiles, removed by `cargo clean`.
fn target_folder(out: &Path) -> Result<PathBuf> {
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let target = out.ancestors().nth(4).ok_or_else(|| format!("unexpected OUT_DIR `{}`", out.display()))?;
    Ok(target.join("plugins"))
}

fn path_from(variable: &str) -> Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo did not set `{variable}`").into())
}

/// Adds the wasm target where it is missing: not every machine installs what `rust-toolchain.toml` lists.
fn add_missing_target() -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    if printed.status.success() && libraries.is_dir() {
        return Ok(());
    }
    println!("cargo::warning=adding the Rust target {TARGET} for the standard strategies");
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    match added {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "the Rust target `{TARGET}` is missing, and `rustup target add {TARGET}` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
        Err(error) => Err(format!(
            "the Rust target `{TARGET}` is missing, and rustup, which could add it, did not start: {error}\n\
             hint: install the target with your distribution's package manager, or install Rust through rustup"
        )
        .into()),
    }
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

/// The SDK holds the bindings of every world, and each leaves its types in every module that links the SDK, as a custom
/// section that is named after the world without its exports. Only the exported world's own section is meant; with the
/// others a strategy would seem to import a reward's types. `None`: not a core module.
fn with_its_own_world(module: &[u8]) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 8;
    let mut kept = module.get(..HEADER_BYTES)?.to_vec();
    let mut rest = &module[HEADER_BYTES..];
    while let Some((&id, after_id)) = rest.split_first() {
        let (length, content) = read_length(after_id)?;
        let content_end = after_id.len() - content.len() + length + 1;
        let section = rest.get(..content_end)?;
        // A custom section begins with its name.
        let name =
            if id == 0 { read_length(content).and_then(|(length, name)| name.get(..length)) } else { None };
        let is_of_other_world = name.and_then(|name| std::str::from_utf8(name).ok()).is_some_and(|name| {
            name.starts_with("component-type:") && name.contains("-with-all-of-its-exports-removed:")
        });
        if !is_of_other_world {
            kept.extend_from_slice(section);
        }
        rest = &rest[content_end..];
    }
    Some(kept)
}

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[place + 1..]));
        }
    }
    None
}

/// Makes a component of a core module and refuses one that imports anything outside the contract.
fn componentise(name: &str, module: &[u8]) -> Result<Vec<u8>> {
    let module = with_its_own_world(module).ok_or_else(|| format!("`{name}` is no core module"))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| format!("`{name}` could not be made a component: {error:#}"))?;
    let decoded = wit_component::decode(&component)
        .map_err(|error| format!("the component `{name}` cannot be read back: {error:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(format!("`{name}` became a WIT package instead of a component").into());
    };
    // Types that the world itself names are listed as imports too; they give access to nothing.
    let imports =
        resolve.worlds[world].imports.iter().filter(|(_, item)| !matches!(item, WorldItem::Type { .. }));
    for (key, _) in imports {
        let import = resolve.name_world_key(key);
        if !import.starts_with("orion:search/") {
            return Err(format!("`{name}` imports `{import}`; plugins may import only `orion:search`").into());
        }
    }
    Ok(component)
}
