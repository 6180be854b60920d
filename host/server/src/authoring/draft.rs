//! A plugin as its author edits it: seconds from an edit to its first search, in every language.
//!
//! In Rust a draft is a component like the one that ships, with the tables that name files and lines. In Python and
//! JavaScript, where a component takes half a minute to make and to compile, it is a shell, made and compiled once, that
//! is handed the folder's modules when it starts (the host's `draft.rs`): `draft/collect.*` finds the modules with the
//! language's own parser, `draft/shell.*` runs them. A shell is made anew for another tool chain, other grants, or
//! another module from outside the folder. What a shell cannot run as a build would is built. Neighbours:
//! [`super::build`] makes what ships, `commands/plugin/subject.rs` loads both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use orion_host::{DRAFT_WIT, Language, Manifest, Sources, contract::World};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    build::{self, Built, granted_contract},
    toolchain,
};
use crate::{
    failure::{Explain, Failure},
    places::Places,
    terminal::Terminal,
};

const COLLECT_PY: &str = include_str!("toolchains/draft/collect.py");
const COLLECT_JS: &str = include_str!("toolchains/draft/collect.mjs");
const SHELL_PY: &str = include_str!("toolchains/draft/shell.py");
const SHELL_JS: &str = include_str!("toolchains/draft/shell.js");

/// Where the world of a shell imports one interface more than a strategy's.
const WORLD_START: &str = "world strategy {\n";
/// More than any strategy has, less than a host call carries without a thought.
const MOST_SOURCE_BYTES: usize = 4 << 20;
/// Shells that are kept, the last used ones: a few plugins in two languages, 12 to 19 MB each.
const KEPT_SHELLS: usize = 8;

/// What is tested while a plugin is edited.
#[derive(Debug)]
pub enum Draft {
    /// A component of its own: what ships, or in Rust the same with line tables.
    Component(PathBuf),
    /// A shell and what it runs.
    Shell {
        /// The component.
        shell: Vec<u8>,
        /// The folder's modules.
        sources: Sources,
    },
}

/// What `collect.*` found.
#[derive(Deserialize)]
struct Collected {
    files: Sources,
    /// Modules that the shell must have loaded.
    outside: Vec<String>,
    /// Why a shell cannot run them.
    unfit: Option<String>,
}

/// The draft of the plugin in `folder`; nothing is done twice for the same sources.
pub fn draft(
    folder: &Path,
    manifest: &Manifest,
    places: &Places,
    terminal: &Terminal,
) -> Result<Draft, Failure> {
    let toolchains = places.toolchains();
    if manifest.world() == World::Reward && manifest.language() != Some(Language::Rust) {
        // Shells are for strategies.
        return build::build(folder, toolchains, terminal).map(|built| Draft::Component(built.component));
    }
    let (collected, toolchain) = match manifest.language() {
        Some(Language::Rust) => {
            return build::build_with_lines(folder, manifest, terminal).map(Draft::Component);
        }
        Some(Language::Python) => {
            build::needs(folder, "orion.py")?;
            let mut command = Command::new(toolchain::python()?);
            command.args(["-c", COLLECT_PY]).arg(folder).arg("orion");
            (collect(command)?, toolchain::PYTHON_FOLDER)
        }
        Some(Language::JavaScript) => {
            build::needs(folder, "orion.js")?;
            let tools = toolchain::javascript(toolchains, terminal)?;
            let mut command = Command::new("node");
            command.args(["--input-type=module", "--eval", COLLECT_JS, "--"]);
            command.arg(&tools).arg(folder).arg("orion.js");
            (collect(command)?, toolchain::JS_FOLDER)
        }
        _ => return Ok(Draft::Component(manifest.component().to_owned())),
    };
    let bytes: usize = collected.files.iter().map(|(name, text)| name.len() + text.len()).sum();
    let reason = if bytes > MOST_SOURCE_BYTES {
        Some(format!("its sources are {} MB", bytes >> 20))
    } else {
        collected.unfit.clone()
    };
    if let Some(reason) = reason {
        terminal.say(&format!("building `{}`, as {reason}", manifest.name()));
        let Built { component, .. } = build::build(folder, toolchains, terminal)?;
        return Ok(Draft::Component(component));
    }
    let contract = granted_contract(folder, manifest)?;
    let key = Sha256::new()
        .chain_update(toolchain)
        .chain_update([SHELL_PY, SHELL_JS, DRAFT_WIT, &contract, &collected.outside.join(" ")].join("\0"));
    let key: String = key.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = places.shells().join(format!("{key}.wasm"));
    if !path.is_file() {
        fs::create_dir_all(places.shells()).attempt(format!("creating `{}`", places.shells().display()))?;
        let language = manifest.language().map_or("", Language::name);
        terminal.say(&format!(
            "preparing quick tests for {language}, once for these grants and imports, about a minute"
        ));
        let scratch = places.shells().join(format!(".making-{key}-{}", std::process::id()));
        let made = make_shell(manifest, &contract, &collected.outside, &scratch, toolchains, terminal)
            .and_then(|made| fs::rename(made, &path).attempt(format!("writing `{}`", path.display())));
        let _ = fs::remove_dir_all(&scratch);
        made?;
        forget_old_shells(&places.shells());
    }
    let shell = fs::read(&path).attempt(format!("reading `{}`", path.display()))?;
    mark_used(&path);
    Ok(Draft::Shell { shell, sources: collected.files })
}

fn collect(mut command: Command) -> Result<Collected, Failure> {
    let output = command.stdin(Stdio::null()).output().attempt("reading the plugin's modules")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(std::io::Error::other(said))
            .attempt(format!("reading the plugin's modules, which ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).attempt("reading the list of the plugin's modules")
}

/// Builds a shell in `scratch`.
fn make_shell(
    manifest: &Manifest,
    contract: &str,
    outside: &[String],
    scratch: &Path,
    toolchains: &Path,
    terminal: &Terminal,
) -> Result<PathBuf, Failure> {
    let write = |path: &str, text: &str| {
        let path = scratch.join(path);
        let parent = path.parent().unwrap_or(scratch);
        fs::create_dir_all(parent).attempt(format!("creating `{}`", parent.display()))?;
        fs::write(&path, text).attempt(format!("writing `{}`", path.display()))
    };
    let _ = fs::remove_dir_all(scratch);
    let import = format!("{WORLD_START}  import orion:draft/sources@0.1.0;\n");
    write("wit/orion.wit", &contract.replacen(WORLD_START, &import, 1))?;
    write("wit/deps/draft/draft.wit", DRAFT_WIT)?;
    let (wit, made) = (scratch.join("wit"), scratch.join("shell.wasm"));
    let head = natives(contract);
    let contract = (wit.as_path(), World::Strategy);
    if manifest.language() == Some(Language::Python) {
        write("app/orion_shell.py", SHELL_PY)?;
        let list = serde_json::to_string(outside).attempt("writing the list of imports")?;
        write("app/orion_outside.py", &format!("OUTSIDE = {list}\n"))?;
        build::componentize_python(
            &scratch.join("app"),
            "orion_shell",
            contract,
            &made,
            toolchains,
            terminal,
        )?;
    } else {
        write("app/orion_shell.js", &format!("{head}{SHELL_JS}"))?;
        let source = scratch.join("app/orion_shell.js");
        build::componentize_javascript(&source, contract, &made, toolchains, terminal)?;
    }
    Ok(made)
}

/// Imports every interface of a contract that its strategies may import.
fn natives(contract: &str) -> String {
    let version = contract
        .lines()
        .find_map(|line| line.strip_prefix("package orion:search@")?.strip_suffix(';'))
        .unwrap_or_default();
    let world = contract.split_once(WORLD_START).map_or("", |(_, rest)| rest);
    let names = world
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';'));
    let (mut imports, mut table) = (String::new(), String::new());
    for (number, name) in names.enumerate() {
        let full = format!("orion:search/{name}@{version}");
        imports += &format!("import * as native{number} from '{full}';\n");
        table += &format!(" '{full}': native{number},");
    }
    format!("{imports}const NATIVES = {{ __proto__: null,{table} }};\n")
}

/// The last used shells are kept; whether this works decides about no result.
#[expect(clippy::disallowed_methods, reason = "the age of a cached file is a time")]
fn mark_used(shell: &Path) {
    let _ =
        fs::File::options().append(true).open(shell).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Keeps the shells that were used last.
fn forget_old_shells(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut shells: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_shell = path.extension().is_some_and(|ending| ending == "wasm");
            is_shell.then_some(())?;
            Some((fs::metadata(&path).and_then(|found| found.modified()).ok()?, path))
        })
        .collect();
    shells.sort_by(|left, right| right.cmp(left));
    for (_, path) in shells.into_iter().skip(KEPT_SHELLS) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_imports_what_its_contract_offers() {
        let natives = natives(orion_bundle::CONTRACT);
        assert!(natives.contains("import * as native0 from 'orion:search/retrieval@0.1.0';"), "{natives}");
        assert!(natives.contains("'orion:search/log@0.1.0': native5, };"), "{natives}");
        assert_eq!(orion_bundle::CONTRACT.matches(WORLD_START).count(), 1);
    }

    #[test]
    fn the_shells_used_last_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        for age in 0..(KEPT_SHELLS as u64 + 2) {
            let path = folder.path().join(format!("{age}.wasm"));
            fs::write(&path, "").expect("a file");
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
            let file = fs::File::options().append(true).open(&path).expect("the file");
            file.set_modified(time).expect("a time");
        }
        forget_old_shells(folder.path());
        let left = fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(left, KEPT_SHELLS);
        assert!(folder.path().join("0.wasm").is_file() && !folder.path().join("9.wasm").is_file());
    }
}
