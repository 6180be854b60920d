//! `orion plugin …`: what authors and operators of plugins do, one file a verb.

mod bench;
mod build;
mod check;
mod folder;
mod list;
mod new;
mod replay;
mod rewards;
mod run;
mod statistics;
mod test;
mod trust;
mod update;

use std::{fs, path::Path, sync::Arc};

use orion_host::{LoadError, Manifest, Reward, Sources, Strategy, contract::World, inspect};

use super::Session;
use crate::{
    Verdict,
    args::{PluginCommand, PluginLockArgs},
    authoring::{
        build::{MANIFEST, read_manifest},
        draft::{Draft, draft},
    },
    engine::{Engine, load_file},
    failure::{Explain, Failure},
};

pub(super) fn run(command: PluginCommand, session: &Session) -> Result<Verdict, Failure> {
    match command {
        PluginCommand::New(args) => new::run(&args, session),
        PluginCommand::Build(args) => build::run(&args, session),
        PluginCommand::Check(args) => check::run(&args, session),
        PluginCommand::Run(args) => run::run(&args, session),
        PluginCommand::Test(args) => test::run(&args, session),
        PluginCommand::Replay(args) => replay::run(&args, session),
        PluginCommand::Bench(args) => bench::run(&args, session),
        PluginCommand::List(args) if args.stats => statistics::run(&args, session),
        PluginCommand::List(_) => list::run(session),
        PluginCommand::Watch(args) => list::watch(&args, session),
        PluginCommand::Keygen(args) => trust::keygen(&args, session),
        PluginCommand::Sign(args) => trust::sign(&args, session),
        PluginCommand::Verify(args) => trust::verify(&args, session),
        PluginCommand::Lock(PluginLockArgs {}) => trust::lock(session),
    }
}

/// Components from this size on may take seconds to compile: interpreters and what they run.
const LARGE_BYTES: u64 = 2_000_000;

/// Loads a component file. Compiled code is kept, so that only the first time after a change takes long; then there is
/// something to look at meanwhile.
fn load(engine: &Engine<'_>, file: &Path, session: &Session) -> Result<Arc<Strategy>, Failure> {
    let bytes = fs::metadata(file).map_or(0, |found| found.len());
    waiting(bytes, &file.display().to_string(), session, || load_file(engine.host(), file))
}

/// What a file or folder is: what its manifest says, or else what it exports.
fn world_of(path: &Path) -> Result<World, Failure> {
    let attempted = || format!("looking at `{}`", path.display());
    if path.is_dir() {
        let has_manifest = path.join(MANIFEST).is_file();
        return if has_manifest { read_manifest(path).map(|own| own.world()) } else { Ok(World::Strategy) };
    }
    if let Some(manifest) = Manifest::beside(path).attempt(attempted())? {
        return Ok(manifest.world());
    }
    // What cannot be read is for the loader to refuse.
    let found = fs::read(path).ok().and_then(|bytes| inspect(&bytes).ok()).unwrap_or_default();
    Ok(World::of_exports(found.exports.iter().map(String::as_str)).unwrap_or(World::Strategy))
}

/// Loads the draft of the strategy in a folder.
fn load_draft(engine: &Engine<'_>, folder: &Path, session: &Session) -> Result<Arc<Strategy>, Failure> {
    load_drafted(folder, session, |draft, manifest| match draft {
        Drafted::Component(bytes) => engine.host().load_with(&bytes, manifest),
        Drafted::Shell(shell, sources) => engine.host().load_draft(&shell, sources, manifest),
    })
}

/// Loads the reward of a component file, or the draft of the one in a folder.
fn load_reward(engine: &Engine<'_>, path: &Path, session: &Session) -> Result<Arc<Reward>, Failure> {
    if !path.is_dir() {
        let loaded = engine.host().load_reward_file(path);
        return loaded.attempt(format!("loading reward `{}`", path.display()));
    }
    load_drafted(path, session, |draft, manifest| match draft {
        Drafted::Component(bytes) | Drafted::Shell(bytes, _) => {
            engine.host().load_reward_with(&bytes, manifest)
        }
    })
}

/// A draft's bytes.
enum Drafted {
    Component(Vec<u8>),
    Shell(Vec<u8>, Sources),
}

fn load_drafted<T>(
    folder: &Path,
    session: &Session,
    load: impl FnOnce(Drafted, Manifest) -> Result<T, LoadError>,
) -> Result<T, Failure> {
    let manifest = read_manifest(folder)?;
    let attempted = format!("loading the draft of `{}`", manifest.name());
    let drafted = match draft(folder, &manifest, &session.places, &session.terminal)? {
        Draft::Component(file) => {
            Drafted::Component(fs::read(&file).attempt(format!("reading `{}`", file.display()))?)
        }
        Draft::Shell { shell, sources } => Drafted::Shell(shell, sources),
    };
    let (Drafted::Component(bytes) | Drafted::Shell(bytes, _)) = &drafted;
    let size = bytes.len() as u64;
    waiting(size, &attempted, session, || load(drafted, manifest)).attempt(attempted.clone()).map_err(
        |failure| {
            failure.hint(
                "modules are run before anything is asked of them, so errors at their top level show here",
            )
        },
    )
}

/// The folder whose sources a file or folder is made of.
fn source_root(path: &Path) -> &Path {
    match path.parent() {
        _ if path.is_dir() => path,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Loads, with something to look at where that may take long.
fn waiting<T>(bytes: u64, what: &str, session: &Session, load: impl FnOnce() -> T) -> T {
    let spinner = (LARGE_BYTES <= bytes).then(|| {
        let megabytes = bytes as f64 / 1e6;
        session.terminal.spinner(&format!("{what} ({megabytes:.1} MB); the first time it is compiled"))
    });
    let loaded = load();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    loaded
}

/// The value at a share (0 to 1) of a sorted list: 0.5 is the median.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}
