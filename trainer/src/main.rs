//! `orion-train`: command line of the trainer. Data goes to files, talk to stderr, answers to stdout: words for people,
//! or with `--json` one JSON value.

use clap::{Parser, Subcommand};
use orion_trainer::error::Result;
use orion_trainer::nano::command::{
    NanoArguments, ReportArguments, TokenizerArguments, TrajectoriesArguments,
};
use orion_trainer::pool::{self, PoolCommand};
use orion_trainer::preview::{self, PreviewArguments};
use orion_trainer::router::{self, RouterArguments};
use orion_trainer::select::{self, SelectArguments};
use orion_trainer::sft::command::SftArguments;
use orion_trainer::synth::{self, SynthArguments};
use orion_trainer::{check, export, grpo, nano, sft, soup};
use std::process::ExitCode;

/// Makes new weights for the Orion search policy.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Multi-turn traces of several rewriters: what trajectories are made of.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Trajectories of the eleven archetypes, which walk a pool as a graph of reformulations.
    Synth(SynthArguments),
    /// A subset of trajectories by diversity and complexity.
    Select(SelectArguments),
    /// The whole line of the policy that ships: vocabulary, trajectories, training, report, folder.
    Nano(NanoArguments),
    /// Learn a vocabulary from the permitted texts.
    Tokenizer(TokenizerArguments),
    /// Make trajectories by rules over real retrieval results of the permitted training queries.
    Trajectories(TrajectoriesArguments),
    /// Train a checkpoint on a file of trajectories.
    Sft(SftArguments),
    /// Hold a checkpoint against golden numbers: losses, gradients, optimiser steps.
    Check(check::CheckArguments),
    /// Merge policies that came from the same start.
    Soup(soup::SoupArguments),
    /// Write a policy as GGUF, or in another number format.
    Export(export::ExportArguments),
    /// Reinforce a policy with rewards from real retrieval, a turn at a time.
    Grpo(grpo::command::GrpoArguments),
    /// The models by which `router`, `auto` and a routed `beam` weigh the two retrievers.
    Router(RouterArguments),
    /// Work on the loss mask.
    Mask {
        #[command(subcommand)]
        command: MaskCommand,
    },
    /// Measure a checkpoint on the run's held-out trajectories.
    Report(ReportArguments),
}

#[derive(Subcommand)]
enum MaskCommand {
    /// Print trajectories with the tokens that carry loss marked.
    Preview(PreviewArguments),
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Pool(command) => pool::run(&command),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Select(arguments) => select::run(&arguments),
        Command::Nano(arguments) => nano::command::nano(&arguments),
        Command::Tokenizer(arguments) => nano::command::tokenizer(&arguments),
        Command::Trajectories(arguments) => nano::command::trajectories(&arguments),
        Command::Sft(arguments) => sft::command::command(&arguments),
        Command::Check(arguments) => check::command(&arguments),
        Command::Soup(arguments) => soup::command(&arguments),
        Command::Export(arguments) => export::command(&arguments),
        Command::Grpo(arguments) => grpo::command::command(&arguments),
        Command::Router(arguments) => router::command(&arguments),
        Command::Mask { command: MaskCommand::Preview(arguments) } => preview::command(&arguments),
        Command::Report(arguments) => nano::command::report(&arguments),
    }
}
