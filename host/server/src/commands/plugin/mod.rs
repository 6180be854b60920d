//! `orion plugin …`: what authors and operators of plugins do, one file a verb.

mod bench;
mod build;
mod check;
mod folder;
mod list;
mod new;
mod replay;
mod run;
mod test;
mod trust;
mod update;

use std::{path::Path, sync::Arc};

use orion_host::Strategy;

use super::Session;
use crate::{
    Verdict,
    args::{PluginCommand, PluginListArgs, PluginLockArgs},
    engine::{Engine, load_file},
    failure::Failure,
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
        PluginCommand::List(PluginListArgs {}) => list::run(session),
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
    let bytes = std::fs::metadata(file).map_or(0, |found| found.len());
    let spinner = (LARGE_BYTES <= bytes).then(|| {
        let megabytes = bytes as f64 / 1e6;
        session.terminal.spinner(&format!(
            "loading {} ({megabytes:.1} MB); after a change it is compiled, which takes seconds",
            file.display()
        ))
    });
    let loaded = load_file(engine.host(), file);
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
