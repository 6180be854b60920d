//! The tools that Python and JavaScript plugins are built with: fetched once into the cache folder, pinned.
//!
//! componentize-py comes through pip with hashes, componentize-js through npm with a lock file; both clients know the
//! registry of the machine they run on. A tool chain is installed beside its place and moved there whole, so an
//! interrupted download leaves nothing that looks finished. Neighbour: [`super::build`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    download::watch,
    failure::{Explain, Failure},
    terminal::Terminal,
};

const REQUIREMENTS: &str = include_str!("toolchains/requirements.txt");
const PACKAGE: &str = include_str!("toolchains/package.json");
const PACKAGE_LOCK: &str = include_str!("toolchains/package-lock.json");
const BUILD_SCRIPT: &str = include_str!("toolchains/build.mjs");

/// Folders in the cache, named by what is in them: another version is another folder. The number after `+` grows when
/// anything else about a tool chain changes.
pub(super) const PYTHON_FOLDER: &str = "componentize-py-0.25.0+1";
pub(super) const JS_FOLDER: &str = "componentize-js-0.23.0+1";
/// Installed sizes, for the progress bars alone.
const PYTHON_BYTES: u64 = 44 << 20;
const JS_BYTES: u64 = 213 << 20;
/// What componentize-js 0.23 needs.
const OLDEST_NODE: u32 = 20;

/// Python, by the name that it has here.
pub(super) fn python() -> Result<&'static str, Failure> {
    let found = ["python3", "python"].into_iter().find(|name| answers(name, &["--version"]));
    found.ok_or_else(|| no_python("`python3`"))
}

fn no_python(wanted: &str) -> Failure {
    Failure::new(format!("building a Python plugin: looked for {wanted}, found none"))
        .hint("install Python 3.10 or later with pip, then build again")
}

/// Python with componentize-py: a command that takes its arguments.
pub fn componentize_py(toolchains: &Path, terminal: &Terminal) -> Result<Command, Failure> {
    let python = python()?;
    let folder =
        installed(toolchains, PYTHON_FOLDER, "componentize-py 0.25.0", PYTHON_BYTES, terminal, |staging| {
            let requirements = staging.join("requirements.txt");
            fs::write(&requirements, REQUIREMENTS).attempt("writing the list of requirements")?;
            if !answers(python, &["-m", "pip", "--version"]) {
                return Err(no_python("`python3` with `pip`"));
            }
            let mut pip = Command::new(python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary", ":all:", "--require-hashes", "--requirement"])
                .arg(&requirements)
                .arg("--target")
                .arg(staging.join("site"))
                // pip unpacks here first; it is what the progress bar watches.
                .env("TMPDIR", staging);
            Ok(pip)
        })?;
    let mut command = Command::new(python);
    command
        .args([
            "-c",
            "import sys; sys.argv[0] = 'componentize-py'; from componentize_py import script; script()",
        ])
        .env("PYTHONPATH", folder.join("site"))
        // Where an author's module fails, its own traceback is what helps.
        .env("RUST_BACKTRACE", "0");
    Ok(command)
}

/// Node with componentize-js: a command that takes SOURCE, WIT-FOLDER, WORLD and OUTPUT.
pub fn componentize_js(toolchains: &Path, terminal: &Terminal) -> Result<Command, Failure> {
    let folder = javascript(toolchains, terminal)?;
    let mut command = Command::new("node");
    command.arg(folder.join("build.mjs"));
    Ok(command)
}

/// The folder with node's packages that JavaScript plugins are built with.
pub(super) fn javascript(toolchains: &Path, terminal: &Terminal) -> Result<PathBuf, Failure> {
    let found = Command::new("node").arg("--version").stdin(Stdio::null()).output().ok();
    let version =
        found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let major =
        version.trim_start_matches('v').split('.').next().and_then(|number| number.parse::<u32>().ok());
    let is_fetched = toolchains.join(JS_FOLDER).is_dir();
    // npm takes half a second to say its version, and only fetches.
    if major.is_none_or(|major| major < OLDEST_NODE) || !(is_fetched || answers("npm", &["--version"])) {
        let got =
            if version.is_empty() { "found no `node`".to_owned() } else { format!("found node {version}") };
        return Err(Failure::new(format!(
            "building a JavaScript plugin: looked for `node` {OLDEST_NODE} or later with `npm`, {got}"
        ))
        .hint("install Node.js with npm, then build again"));
    }
    installed(toolchains, JS_FOLDER, "componentize-js 0.23.0", JS_BYTES, terminal, |staging| {
        for (name, text) in
            [("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK), ("build.mjs", BUILD_SCRIPT)]
        {
            fs::write(staging.join(name), text).attempt(format!("writing `{name}`"))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"])
            .current_dir(staging);
        Ok(npm)
    })
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The folder of a tool chain; fetched where it is not there. `prepare` gives the command that fills a folder.
fn installed(
    toolchains: &Path,
    name: &str,
    title: &str,
    bytes: u64,
    terminal: &Terminal,
    prepare: impl FnOnce(&Path) -> Result<Command, Failure>,
) -> Result<PathBuf, Failure> {
    let folder = toolchains.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let staging = toolchains.join(format!(".fetching-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).attempt(format!("creating `{}`", staging.display()))?;
    let what = format!("fetching {title}, once ({} MB)", bytes >> 20);
    let fetched = prepare(&staging).and_then(|mut command| {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .attempt(format!("fetching {title}"))?;
        watch(child, &what, Some(bytes), &staging, terminal)
            .map_err(|failure| failure.hint("the package registry must be reachable for the first build"))
    });
    // Another process may have been faster; what it moved there is as good.
    let placed = fetched.and_then(|()| match fs::rename(&staging, &folder) {
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.attempt(format!("moving {title} to `{}`", folder.display())),
    });
    let _ = fs::remove_dir_all(&staging);
    placed.map(|()| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_pins_name_the_same_versions() {
        let version =
            |folder: &str| folder.rsplit('-').next().map(|rest| rest.split('+').next().map(str::to_owned));
        let python = version(PYTHON_FOLDER).flatten().expect("a version");
        assert!(REQUIREMENTS.contains(&format!("componentize-py=={python}")));
        let js = version(JS_FOLDER).flatten().expect("a version");
        assert!(PACKAGE.contains(&format!("\"@bytecodealliance/componentize-js\": \"{js}\"")));
        let lock: serde_json::Value = serde_json::from_str(PACKAGE_LOCK).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        assert_eq!(packages["node_modules/@bytecodealliance/componentize-js"]["version"], js.as_str());
        let unpinned: Vec<&String> = packages
            .iter()
            .filter(|(name, package)| !name.is_empty() && package["integrity"].is_null())
            .map(|(name, _)| name)
            .collect();
        assert!(unpinned.is_empty(), "without a hash: {unpinned:?}");
    }
}
