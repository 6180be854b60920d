//! `orion plugin build`: a component from the sources of a plugin's folder, with the tools of its language.
//!
//! What comes out is inspected before it takes the place of an earlier build: a component that reaches for anything
//! outside the contract is refused here already, with what to do about it. Neighbours: `plugins/build` for Rust,
//! [`super::toolchain`] for the other languages, [`super::check`] for the refusals.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use orion_host::{Grant, Language, Manifest, contract::World, inspect};
use orion_plugin_build::{TARGET, add_missing_target, componentise};

use super::{check::import_refusals, toolchain};
use crate::{
    failure::{Explain, Failure},
    terminal::Terminal,
};

/// The manifest's name in an author's folder.
pub const MANIFEST: &str = "plugin.toml";
/// Where Python and JavaScript plugins keep the contract.
const CONTRACT_FOLDER: &str = "wit";
/// How cargo builds what only builds: the same for drafts and for what ships, so that it is built once.
const TOOLS: [(&str, &str); 2] = [
    ("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_STRIP", "none"),
];
/// Where cargo builds a Rust plugin.
const TARGET_FOLDER: &str = "target";

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The component.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// From what.
    pub language: Language,
}

/// The manifest of an author's folder.
pub fn read_manifest(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Err(Failure::new(format!("reading `{}`: there is none", path.display()))
            .hint("a plugin's folder holds `plugin.toml`; `orion plugin new NAME --lang rust` makes one"));
    }
    Manifest::read(&path).attempt(format!("reading `{}`", path.display()))
}

/// Builds the plugin in `folder`; its component lies where the manifest says.
pub fn build(folder: &Path, toolchains: &Path, terminal: &Terminal) -> Result<Built, Failure> {
    let manifest = read_manifest(folder)?;
    let language = manifest.language().ok_or_else(|| {
        Failure::new(format!("building `{}`: its manifest does not say from which language", manifest.name()))
            .hint("add `[build]` with `language = \"rust\"`, `\"python\"` or `\"js\"` to plugin.toml")
    })?;
    // The tools run in other folders.
    let folder = fs::canonicalize(folder).attempt(format!("looking at `{}`", folder.display()))?;
    let fresh = folder.join(format!(".{}-{}.wasm", manifest.name(), std::process::id()));
    let made = match language {
        Language::Rust => rust(&folder, manifest.name(), &[], terminal)
            .and_then(|bytes| fs::write(&fresh, bytes).attempt(format!("writing `{}`", fresh.display()))),
        Language::Python | Language::JavaScript => {
            let scratch = folder.join(format!(".{}-{}.wit", manifest.name(), std::process::id()));
            let made = write_granted_contract(&folder, &manifest, &scratch).and_then(|()| match language {
                Language::Python => {
                    needs(&folder, "orion.py")?;
                    let contract = (scratch.as_path(), manifest.world());
                    componentize_python(&folder, "orion", contract, &fresh, toolchains, terminal)
                }
                _ => {
                    needs(&folder, "orion.js")?;
                    let seam = folder.join("orion.js");
                    let contract = (scratch.as_path(), manifest.world());
                    componentize_javascript(&seam, contract, &fresh, toolchains, terminal)
                }
            });
            let _ = fs::remove_dir_all(&scratch);
            made
        }
    };
    let placed = made.and_then(|()| place(&fresh, &manifest, manifest.component()));
    let _ = fs::remove_file(&fresh);
    placed.map(|bytes| Built { component: manifest.component().to_owned(), bytes, language })
}

/// Builds the Rust plugin in `folder` as it would ship, but with function names and line tables, into cargo's own folder;
/// cargo knows what changed since the last time.
pub fn build_with_lines(folder: &Path, manifest: &Manifest, terminal: &Terminal) -> Result<PathBuf, Failure> {
    let folder = fs::canonicalize(folder).attempt(format!("looking at `{}`", folder.display()))?;
    let kept = [("CARGO_PROFILE_RELEASE_STRIP", "none"), ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")];
    let bytes = rust(&folder, manifest.name(), &kept, terminal)?;
    let component = folder.join(TARGET_FOLDER).join(format!("{}.draft.wasm", manifest.name()));
    let fresh = component.with_extension(std::process::id().to_string());
    let written = fs::write(&fresh, bytes).attempt(format!("writing `{}`", fresh.display()));
    let placed = written.and_then(|()| place(&fresh, manifest, &component));
    let _ = fs::remove_file(&fresh);
    placed.map(|_| component)
}

/// Moves a component to its place, if it imports nothing but the contract.
fn place(fresh: &Path, manifest: &Manifest, component: &Path) -> Result<u64, Failure> {
    let bytes = fs::read(fresh).attempt("reading the new component")?;
    let found = inspect(&bytes).attempt("inspecting the new component")?;
    if let Some(refusal) = import_refusals(&found, Some(manifest)).into_iter().next() {
        return Err(
            Failure::new(format!("building `{}`: {}", manifest.name(), refusal.problem)).hint(refusal.remedy)
        );
    }
    fs::rename(fresh, component).attempt(format!("writing `{}`", component.display()))?;
    Ok(bytes.len() as u64)
}

fn rust(
    folder: &Path,
    name: &str,
    settings: &[(&str, &str)],
    terminal: &Terminal,
) -> Result<Vec<u8>, Failure> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(Failure::new(format!("building `{name}`: its folder has no `Cargo.toml`"))
            .hint("`orion plugin new NAME --lang rust` shows what a Rust plugin looks like"));
    }
    add_missing_target("rustc".as_ref(), |said| terminal.say(said))
        .attempt(format!("building `{name}`"))
        .map_err(|failure| {
            failure.hint("plugins in Rust need Rust 1.85 or later and its target wasm32-unknown-unknown")
        })?;
    terminal.say(&format!("building `{name}` with cargo"));
    let output = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--lib",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(folder.join(TARGET_FOLDER))
        .args(terminal.quiet.then_some("--quiet"))
        .envs(TOOLS.into_iter().chain(settings.iter().copied()))
        .current_dir(folder)
        .stdin(Stdio::null())
        // The compiler's own words reach the author as they are.
        .stderr(Stdio::inherit())
        .output()
        .attempt("starting `cargo`")
        .map_err(|failure| failure.hint("plugins in Rust need Rust's tools; rustup installs them"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("building `{name}`: cargo failed ({})", output.status)));
    }
    let module = core_module(&output).ok_or_else(|| {
        Failure::new(format!("building `{name}`: cargo made no WebAssembly module"))
            .hint("Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under `[lib]`")
    })?;
    let bytes = fs::read(&module).attempt(format!("reading `{}`", module.display()))?;
    componentise(name, &bytes).attempt(format!("building `{name}`")).map_err(|failure| {
        failure.hint("the crate needs `orion_sdk::export!(YourStrategy);`, or `export_reward!`, and no crate that expects an operating system")
    })
}

/// The module that cargo made last: dependencies come before what depends on them.
fn core_module(output: &Output) -> Option<PathBuf> {
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut modules =
        artifacts.filter(|message| message["reason"] == "compiler-artifact").filter_map(|message| {
            let files = message["filenames"].as_array()?;
            files
                .iter()
                .filter_map(|file| file.as_str())
                .find(|file| file.ends_with(".wasm"))
                .map(PathBuf::from)
        });
    modules.next_back()
}

/// Writes the folder's contract, as it is granted, to `scratch`.
fn write_granted_contract(folder: &Path, manifest: &Manifest, scratch: &Path) -> Result<(), Failure> {
    let granted = granted_contract(folder, manifest)?;
    fs::create_dir(scratch).attempt(format!("creating `{}`", scratch.display()))?;
    fs::write(scratch.join("orion.wit"), granted).attempt("writing the contract as it is granted")
}

/// The folder's contract without the imports that the manifest does not grant: the tools of both languages import all
/// that a world offers, called or not.
pub(super) fn granted_contract(folder: &Path, manifest: &Manifest) -> Result<String, Failure> {
    let path = folder.join(CONTRACT_FOLDER).join("orion.wit");
    let contract =
        fs::read_to_string(&path).attempt(format!("reading `{}`", path.display())).map_err(|failure| {
            failure.hint("`orion plugin new` writes the contract; copy it from a new plugin's folder")
        })?;
    Ok(without_imports(&contract, |grant| !manifest.grants().has(grant)))
}

/// A contract in which no world imports an interface that is `withheld`.
fn without_imports(contract: &str, withheld: impl Fn(Grant) -> bool) -> String {
    let withheld: Vec<String> = Grant::ALL
        .into_iter()
        .filter(|grant| withheld(*grant))
        .map(|grant| format!("import {};", grant.name()))
        .collect();
    let kept = contract.lines().filter(|line| !withheld.iter().any(|import| line.trim() == import));
    kept.map(|line| format!("{line}\n")).collect()
}

/// A component of the module `seam` in `folder` and of all that it imports, for a world of the contract in a folder.
pub(super) fn componentize_python(
    folder: &Path,
    seam: &str,
    (contract, world): (&Path, World),
    component: &Path,
    toolchains: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let mut command = toolchain::componentize_py(toolchains, terminal)?;
    terminal.say("building with componentize-py, about 20 seconds");
    command.arg("--quiet").arg("--wit-path").arg(contract).args(["--world", world.name()]);
    command
        .args(["componentize", "--stub-wasi", "--python-path"])
        .arg(folder)
        .arg(seam)
        .arg("--output")
        .arg(component);
    finish(command, "componentize-py")
}

/// A component of the module `seam` and of all that it imports.
pub(super) fn componentize_javascript(
    seam: &Path,
    (contract, world): (&Path, World),
    component: &Path,
    toolchains: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let mut command = toolchain::componentize_js(toolchains, terminal)?;
    terminal.say("building with componentize-js, about 15 seconds");
    command.arg(seam).arg(contract).arg(world.name()).arg(component);
    finish(command, "componentize-js")
}

/// Refuses a folder without the file that exports the contract.
pub(super) fn needs(folder: &Path, seam: &str) -> Result<(), Failure> {
    if folder.join(seam).is_file() {
        return Ok(());
    }
    Err(Failure::new(format!("building `{}`: expected `{seam}` in it, found none", folder.display()))
        .hint("`orion plugin new` writes it; copy it from a new plugin's folder"))
}

/// Runs a tool; where it fails, all that it said is the cause.
fn finish(mut command: Command, tool: &str) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().attempt(format!("starting {tool}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    Err(std::io::Error::other(said.trim().to_owned()))
        .attempt(format!("building with {tool}, which ended with {}", output.status))
        .map_err(|failure| {
            failure.hint("modules are run once at build time, so errors at their top level show here")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_not_in_the_world() {
        let narrow = without_imports(orion_bundle::CONTRACT, |grant| grant != Grant::Retrieval);
        let world = &narrow[narrow.find("world strategy").expect("the world")..];
        assert!(world.contains("import retrieval;") && world.contains("import log;"), "{world}");
        assert!(!world.contains("import policy;") && !world.contains("import feedback;"), "{world}");
        assert_eq!(without_imports(orion_bundle::CONTRACT, |_| false), orion_bundle::CONTRACT);
    }
}
