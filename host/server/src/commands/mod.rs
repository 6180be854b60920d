//! What each command does, one file a command.
//!
//! A command gets a [`Session`] and its arguments, prints data through the session's terminal and returns a
//! verdict or a failure; it decides no exit code and reads no environment.

mod data;
mod demo;
mod doctor;
mod eval;
mod import;
mod index;
mod mcp;
mod models;
mod plot;
mod plugin;
mod policy;
mod push;
mod search;
mod serve;
mod strategies;
mod tune;

pub(crate) use strategies::to_json as strategy_json;

use std::path::PathBuf;

use orion_host::{
    DirectoryOptions,
    policy::{Device, WeightFormat},
};

use crate::{Verdict, args::Command, failure::Failure, places::Places, terminal::Terminal};

/// What every command starts from.
#[derive(Clone)]
pub struct Session {
    /// Folders.
    pub places: Places,
    /// The plugin directory, where there is one.
    pub plugins: Option<DirectoryOptions>,
    /// Folder of trusted keys; without one, no signature is asked for.
    pub trusted_keys: Option<PathBuf>,
    /// Key for a policy at an address.
    pub policy_key: Option<String>,
    /// What the matrices of policies become at load.
    pub policy_weights: WeightFormat,
    /// Where policies run.
    pub device: Device,
    /// Where to print.
    pub terminal: Terminal,
    /// Threads for encoding and the policy.
    pub threads: Option<u16>,
}

/// Does what the command line asks.
pub fn dispatch(command: Command, session: &Session) -> Result<Verdict, Failure> {
    if let Some(threads) = session.threads {
        orion_host::index::Threads::set_global(usize::from(threads));
    }
    match command {
        Command::Demo(args) => demo::run(&args, session),
        Command::Index(command) => index::run(command, session),
        Command::Search(args) => search::run(&args, session),
        Command::Eval(args) => eval::run(&args, session),
        Command::Plot(args) => plot::run(&args, session),
        Command::Strategies { name } => strategies::run(name.as_deref(), session),
        Command::Data(command) => data::run(&command, session),
        Command::Models(command) => models::run(&command, session),
        Command::Plugin(command) => plugin::run(command, session),
        Command::Policy(command) => policy::run(&command, session),
        Command::Doctor => doctor::run(session),
        Command::Serve(args) => serve::run(&args, session),
        Command::Mcp(args) => mcp::run(&args, session),
    }
}
