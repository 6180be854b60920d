//! `orion-train`: command line of the trainer. Data goes to files, talk to stderr, answers to stdout.

use clap::{Args, Parser, Subcommand, ValueEnum};
use orion_policy::{Checkpoint, NumberFormat, TrajectoryFormat};
use orion_trainer::data::{Example, LossOn, Part, read_records};
use orion_trainer::error::{Result, TrainError};
use orion_trainer::model::LoraArguments;
use orion_trainer::nano::{self, PAD, Places};
use orion_trainer::pool::{self, PoolCommand};
use orion_trainer::router::{self, RouterArguments};
use orion_trainer::select::{self, SelectArguments};
use orion_trainer::settings::{LineSettings, SftOverrides, load_sft};
use orion_trainer::synth::{self, SynthArguments};
use orion_trainer::terminal::print_json;
use orion_trainer::trajectories::PermittedSet;
use orion_trainer::variants::VariantArguments;
use orion_trainer::{check, checkpoint, export, grpo, preview, proposals, sft, soup, statistics};
use std::io::IsTerminal;
use std::path::PathBuf;
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
    Nano {
        #[command(flatten)]
        line: Line,
        /// Folder for config, format, tokenizer and weights.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Stop after this stage, writing no folder.
        #[arg(long)]
        until: Option<String>,
    },
    /// Learn a vocabulary from the permitted texts.
    Tokenizer {
        #[command(flatten)]
        line: Line,
    },
    /// Make trajectories by rules over real retrieval results of the permitted training queries.
    Trajectories {
        #[command(flatten)]
        line: Line,
        /// One set only.
        #[arg(long)]
        set: Option<SetName>,
        /// Records to print.
        #[arg(long, default_value_t = 2)]
        preview: usize,
    },
    /// Train a checkpoint on a file of trajectories.
    Sft {
        /// Checkpoint folder to start from: config.json, orion.json, tokenizer.json, model.safetensors.
        #[arg(long)]
        model: PathBuf,
        /// JSON lines of trajectories.
        #[arg(long)]
        data: PathBuf,
        /// TOML file with the stage's settings.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Folder for metrics, checkpoints and, at the end, `final/`.
        #[arg(long)]
        out: PathBuf,
        /// Go on from the newest checkpoint in `--out`.
        #[arg(long)]
        resume: bool,
        /// Number format of the final weights.
        #[arg(long, value_enum, default_value_t = Numbers::F32)]
        numbers: Numbers,
        #[command(flatten)]
        overrides: SftOverrides,
        #[command(flatten)]
        variant: VariantArguments,
        #[command(flatten)]
        lora: LoraArguments,
    },
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
    Report {
        #[command(flatten)]
        line: Line,
        /// Checkpoint folder.
        #[arg(long)]
        model: PathBuf,
        /// Held-out walks to propose queries for.
        #[arg(long, default_value_t = 100)]
        proposals: usize,
    },
}

#[derive(Subcommand)]
enum MaskCommand {
    /// Print trajectories with the tokens that carry loss marked.
    Preview {
        /// Checkpoint folder with the tokenizer and the format.
        #[arg(long)]
        model: PathBuf,
        /// JSON lines of trajectories.
        #[arg(long)]
        data: PathBuf,
        /// Records to print.
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Numbers {
    F32,
    F16,
    Bf16,
}

impl From<Numbers> for NumberFormat {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::F32 => Self::F32,
            Numbers::F16 => Self::F16,
            Numbers::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum SetName {
    Bundled,
    Scifact,
    Fm2,
}

impl From<SetName> for PermittedSet {
    fn from(name: SetName) -> Self {
        match name {
            SetName::Bundled => Self::Bundled,
            SetName::Scifact => Self::SciFact,
            SetName::Fm2 => Self::FoolMeTwice,
        }
    }
}

#[derive(Args)]
struct Line {
    /// TOML file with the settings of the line.
    #[arg(long, default_value = "trainer/nano.toml")]
    config: PathBuf,
    #[command(flatten)]
    places: Places,
}

impl Line {
    fn read(&self) -> Result<(LineSettings, Places)> {
        let places = self.places.clone();
        std::fs::create_dir_all(&places.run).map_err(TrainError::file("create", &places.run))?;
        Ok((LineSettings::load(&self.config)?, places))
    }
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

fn policy_error(error: orion_policy::CheckpointError) -> TrainError {
    TrainError::Policy(error.to_string())
}

fn format_of(model: &std::path::Path) -> Result<TrajectoryFormat> {
    let checkpoint = Checkpoint::open(model).map_err(policy_error)?;
    TrajectoryFormat::load(model, checkpoint.config()).map_err(policy_error)
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Pool(command) => pool::run(&command)?,
        Command::Synth(arguments) => synth::run(&arguments)?,
        Command::Select(arguments) => select::run(&arguments)?,
        Command::Nano { line, out, until } => {
            let (settings, places) = line.read()?;
            let (model, outcomes) = nano::run(&settings, &places, until.as_deref(), true)?;
            print_json(&outcomes);
            if until.is_none() {
                let report = nano::measure(&model, &settings, &places)?;
                print_json(&report);
                if let Some(out) = out {
                    let tokenizer = nano::make_tokenizer(&settings, &places)?;
                    nano::export(&model, &tokenizer, &nano::spec(settings.format), &out, NumberFormat::F16)?;
                }
            }
        }
        Command::Tokenizer { line } => {
            let (settings, places) = line.read()?;
            println!("{}", nano::make_tokenizer(&settings, &places)?.display());
        }
        Command::Trajectories { line, set, preview } => {
            let (settings, places) = line.read()?;
            let records = nano::make_walks(&settings, &places, set.map(Into::into), true)?;
            print_json(&statistics::of(&records));
            for record in records.iter().take(preview) {
                print_json(record);
            }
        }
        Command::Sft { model, data, config, out, resume, numbers, overrides, variant, lora } => {
            let settings = overrides.apply(load_sft(config.as_deref())?);
            let adapters = lora.settings(settings.seed);
            let start = checkpoint::load_start(&model, adapters.as_ref())?;
            let format = variant.format(&model, start.config())?;
            let records = variant.select(read_records(&data)?)?;
            let lessons = variant.lessons_of(records.iter().filter(|record| record.part == Part::Train))?;
            let train = nano::encode(&records, Part::Train, &format)?;
            let held_out = nano::encode(&records, Part::HeldOut, &format)?;
            let pad = format.tokenizer().special("<pad>").unwrap_or(PAD);
            let (trained, outcome) = sft::run(
                start,
                sft::Job {
                    train: &train,
                    held_out: &held_out,
                    settings: &settings,
                    pad,
                    lessons: lessons.as_deref(),
                    run: &out,
                    resume,
                    show: true,
                },
            )?;
            let tokenizer = model.join("tokenizer.json");
            nano::export(&trained, &tokenizer, format.spec(), &out.join("final"), numbers.into())?;
            if let Some(adapters) = &adapters {
                trained.save_adapters(&out.join("adapter"), adapters, &model.display().to_string())?;
            }
            print_json(&outcome);
        }
        Command::Check(arguments) => check::command(&arguments)?,
        Command::Soup(arguments) => soup::command(&arguments)?,
        Command::Export(arguments) => export::command(&arguments)?,
        Command::Grpo(arguments) => grpo::command::command(&arguments)?,
        Command::Router(arguments) => router::command(&arguments)?,
        Command::Mask { command: MaskCommand::Preview { model, data, count } } => {
            let format = format_of(&model)?;
            let colour = std::io::stdout().is_terminal();
            for record in read_records(&data)?.iter().take(count) {
                let span = format.encode_trajectory(&record.policy_segments()?);
                let example = Example { tokens: span.tokens, learn: span.learn };
                let example = example.prepared(usize::MAX, LossOn::Masked);
                println!("{} ({} tokens, {} learned)", record.id, example.tokens.len(), example.learned());
                println!("{}\n", preview::mask(&example, format.tokenizer(), colour));
            }
        }
        Command::Report { line, model, proposals: limit } => {
            let (settings, places) = line.read()?;
            print_json(&nano::measure(&checkpoint::load_model(&model)?, &settings, &places)?);
            let records = nano::make_walks(&settings, &places, None, false)?;
            print_json(&proposals::look(&model, &records, limit, settings.seed)?);
        }
    }
    Ok(())
}
