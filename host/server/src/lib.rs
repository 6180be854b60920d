//! The `orion` command: index, search, evaluate.
//!
//! `main.rs` calls [`run`], and that is all it does. [`args`] is what was typed, [`meant`] what it means,
//! [`commands`] what is done about it; [`engine`] puts host, index and policy together; [`evaluation`] makes runs
//! and, apart from that, scores them; [`authoring`] makes plugins; [`adapters`] speak to other programs; [`http`]
//! serves; [`mcp`] offers tools to agents; [`terminal`] and [`failure`] are the only ways to talk. [`env_vars`] alone
//! reads the environment.

pub mod adapters;
pub mod args;
pub mod authoring;
pub mod commands;
pub mod corpus;
pub mod download;
pub mod engine;
pub mod env_vars;
pub mod evaluation;
pub mod failure;
pub mod http;
pub mod lexical_only;
pub mod mcp;
pub mod meant;
pub mod minilm;
pub mod places;
pub mod snapshots;
pub mod terminal;
pub mod tree;

use std::ffi::OsString;

use clap::Parser;

use crate::{args::Cli, env_vars::EnvVars, failure::Failure, places::Places, terminal::Terminal};

/// How a command that worked went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Exit code 0.
    Answered,
    /// Exit code 1: no answer, a failed check, a measure below its floor.
    NoAnswer,
}

/// Runs one command line, the program's name first, and returns the exit code: 0 answered, 1 no answer, 2 error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version are answers; all else is an error. A reader that has gone changes neither.
            let _ = usage.print();
            return u8::try_from(usage.exit_code()).unwrap_or(2);
        }
    };
    let env = EnvVars::read();
    let terminal = Terminal::new(cli.global.color, env.no_color, cli.global.json, cli.global.quiet);
    let done =
        Places::new(cli.global.data_dir.clone(), cli.global.models_dir.clone(), &env).and_then(|places| {
            let plugins = places.plugins(&cli.global.plugins, &env);
            let trusted_keys = places::trusted_keys(&cli.global.plugins, &env);
            let threads = cli.global.threads;
            let policy_key = env.policy_key.clone();
            let policy_weights = cli.global.policy_weights;
            let device = cli.global.device;
            let session = commands::Session {
                places,
                plugins,
                trusted_keys,
                policy_key,
                policy_weights,
                device,
                terminal,
                threads,
            };
            commands::dispatch(cli.command, &session)
        });
    match done {
        Ok(Verdict::Answered) => 0,
        Ok(Verdict::NoAnswer) => 1,
        Err(failure) if failure.is_broken_pipe() => 0,
        Err(failure) => {
            report(&terminal, &failure);
            2
        }
    }
}

fn report(terminal: &Terminal, failure: &Failure) {
    terminal.report(failure);
    if terminal.json {
        // The error was reported above already; a reader that has gone cannot be told twice.
        let _ = terminal.print_json(&failure.to_json());
    }
}
