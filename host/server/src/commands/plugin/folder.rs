//! A plugin's folder as its author keeps it: sources, `plugin.toml`, the component, scenarios in `tests`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use orion_host::scripted::ScenarioError;

use crate::{
    authoring::build::{MANIFEST, read_manifest},
    failure::{Explain, Failure},
};

/// Where scenarios are.
const SCENARIOS: &str = "tests";
/// Folders beside the sources that hold what tools made.
const MADE: [&str; 6] = ["target", "node_modules", "__pycache__", "dist", "build", SCENARIOS];

/// The component that a folder's `plugin.toml` names, or else the only `.wasm` file in it.
pub(super) fn component(folder: &Path) -> Result<PathBuf, Failure> {
    let attempted = || format!("looking for the component in `{}`", folder.display());
    if folder.join(MANIFEST).is_file() {
        return Ok(read_manifest(folder)?.component().to_owned());
    }
    let found = files(folder, "wasm").attempt(attempted())?;
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::new(format!("{}: there is none", attempted()))
            .hint("a plugin's folder holds `plugin.toml` or one `.wasm` file; --component names another")),
        several => Err(Failure::new(format!("{}: there are {}", attempted(), several.len()))
            .hint("--component FILE names one of them")),
    }
}

/// All scenarios with their files, by name.
pub(super) fn scenarios<T>(
    folder: &Path,
    read: impl Fn(&Path) -> Result<T, ScenarioError>,
) -> Result<Vec<(PathBuf, T)>, Failure> {
    let place = folder.join(SCENARIOS);
    let paths = if place.is_dir() {
        files(&place, "toml").attempt(format!("listing `{}`", place.display()))?
    } else {
        Vec::new()
    };
    if paths.is_empty() {
        return Err(Failure::new(format!("looking for scenarios in `{}`: there is none", place.display()))
            .hint("a scenario is a TOML file; plugins/README.md shows the format"));
    }
    paths
        .into_iter()
        .map(|path| {
            let scenario = read(&path).attempt(format!("reading `{}`", path.display()))?;
            Ok((path, scenario))
        })
        .collect()
}

/// Files of an ending directly in a folder, in order of their names.
fn files(folder: &Path, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A source that changed after the component was made; `None` where there is none, or no component.
pub(super) fn newer_source(folder: &Path, component: &Path) -> Option<PathBuf> {
    let made = fs::metadata(component).and_then(|found| found.modified()).ok()?;
    newest(folder, made)
}

fn newest(folder: &Path, made: SystemTime) -> Option<PathBuf> {
    const SOURCES: [&str; 6] = ["rs", "py", "js", "mjs", "ts", "wit"];
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        if path.is_dir() {
            let is_source = !name.starts_with('.') && !MADE.contains(&name.as_str());
            return is_source.then(|| newest(&path, made)).flatten();
        }
        let is_source = matches!(name.as_str(), "Cargo.toml" | MANIFEST)
            || path.extension().is_some_and(|ending| SOURCES.iter().any(|source| ending == *source));
        let changed = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        (is_source && made < changed).then_some(path)
    })
}
