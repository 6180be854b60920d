//! `orion plugin …` as typed, one struct a verb.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use orion_host::{Language, contract::World};

use super::{
    BudgetArgs, PluginKeygenArgs, PluginListArgs, PluginLockArgs, PluginSignArgs, PluginVerifyArgs,
    PluginWatchArgs, StrategyArgs,
};
use crate::places::IndexName;

/// `orion plugin …`
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a folder with a strategy that works, to begin with
    New(PluginNewArgs),
    /// Build the component of a plugin's folder
    Build(PluginBuildArgs),
    /// Look at a component: imports, exports, parameters, and why a host would refuse it
    Check(PluginCheckArgs),
    /// Load a component, then search with it
    Run(PluginRunArgs),
    /// Run a plugin's scenarios: scripted worlds with what is expected of it
    Test(PluginTestArgs),
    /// Run a recorded search again, without index or model, and compare
    Replay(PluginReplayArgs),
    /// Time a component: starting, searching, and what it uses
    Bench(PluginBenchArgs),
    /// List what the plugin directory holds: what serves, what is refused and why
    List(PluginListArgs),
    /// Print every change of the plugin directory as it happens
    Watch(PluginWatchArgs),
    /// Make a key to sign plugins with
    Keygen(PluginKeygenArgs),
    /// Sign a component together with its manifest
    Sign(PluginSignArgs),
    /// Check a plugin's signature; exit status 1 where it is missing, wrong or not trusted
    Verify(PluginVerifyArgs),
    /// Write the hashes of the plugin directory's content into its plugins.lock
    Lock(PluginLockArgs),
}

/// `orion plugin run`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin run . --query \"who made the lens\" --trace\n  orion plugin run my-reward.wasm --scenario tests/ranks.toml\n  orion plugin run my-strategy.wasm --query \"zinc in soil\" --index notes --trace zinc.trace.json"
)]
pub struct PluginRunArgs {
    /// The component, or a plugin's folder for a draft of its sources
    #[arg(value_name = "FILE|FOLDER")]
    pub file: PathBuf,
    /// What to look for; a reward takes --scenario instead
    #[arg(long, required_unless_present = "scenario")]
    pub query: Option<String>,
    /// The turns that a reward scores: a scenario file
    #[arg(long, value_name = "FILE", conflicts_with = "query")]
    pub scenario: Option<PathBuf>,
    /// The index to search [default: the bundled corpus]
    #[arg(long, value_name = "NAME")]
    pub index: Option<IndexName>,
    /// Documents wanted, 1 to 1000
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub k: u32,
    /// Seed of sampling
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print the search tree before the ranking; with a file, also record the search there for `orion plugin replay`
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub trace: Option<Option<PathBuf>>,
    /// Parameters of the strategy.
    #[command(flatten)]
    pub strategy_args: StrategyArgs,
    /// What the search may spend.
    #[command(flatten)]
    pub budget: BudgetArgs,
}

/// `orion plugin test`
#[derive(Debug, Args)]
#[command(
    long_about = "Run a plugin's scenarios: scripted worlds with what is expected of it.\n\nEach tests/*.toml in the \
                  plugin's folder scripts documents, rankings, a policy and limits, asks one query, and says which \
                  ranking, searches and tree are expected. The real host runs them; where plugin.toml has `[build]`, \
                  with a draft of the sources as they are: a second after an edit. --built tests what ships. \
                  Exit status 1 where an expectation does not come true.",
    after_help = "Examples:\n  orion plugin test\n  orion plugin test title-echo --only first-title\n  orion plugin test --update\n  orion plugin test --built"
)]
pub struct PluginTestArgs {
    /// The plugin's folder: a component, or the `plugin.toml` that names it, and scenarios in `tests`
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Test this component instead of the folder's
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,
    /// Test the component that `orion plugin build` makes, not a draft of the sources; built anew where one is newer
    #[arg(long)]
    pub built: bool,
    /// Only scenarios of these names
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<String>,
    /// Write what came wherever a scenario says `"?"`, and everything into one without `[expect]`
    #[arg(long)]
    pub update: bool,
    /// Record each search in this folder, for `orion plugin replay`; tests the built component
    #[arg(long, value_name = "FOLDER")]
    pub traces: Option<PathBuf>,
}

/// `orion plugin replay`
#[derive(Debug, Args)]
#[command(
    long_about = "Run a recorded search again, without index or model, and compare.\n\nThe recorded component must do \
                  the same bit for bit; for a changed one the first call that differs is shown. Exit status 1 where \
                  anything differs.",
    after_help = "Examples:\n  orion plugin replay zinc.trace.json\n  orion plugin replay zinc.trace.json --component my-strategy.wasm --json"
)]
pub struct PluginReplayArgs {
    /// A file that `--trace FILE` wrote
    #[arg(value_name = "TRACE")]
    pub file: PathBuf,
    /// Replay with this component [default: the recorded file, or the standard strategy of the recorded name]
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,
}

/// `orion plugin bench`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin bench my-strategy.wasm --scenario tests/first-title.toml\n  orion plugin bench my-strategy.wasm --searches 20 --policy none --json"
)]
pub struct PluginBenchArgs {
    /// The component
    pub file: PathBuf,
    /// Search this scripted world instead of the bundled corpus: the strategy's own time, without index and model
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Searches that are timed, after one that is not
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub searches: u32,
    /// Fresh instances that are timed
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub instances: u32,
    /// Parameters of the strategy, on the bundled corpus.
    #[command(flatten)]
    pub strategy_args: StrategyArgs,
}

/// `orion plugin new`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion plugin new my-search --lang python\n  orion plugin new my-search --lang rust"
)]
pub struct PluginNewArgs {
    /// Name of the plugin and of its folder
    pub name: String,
    /// What to write it in
    #[arg(long, value_name = "LANGUAGE", value_enum)]
    pub lang: PluginLanguage,
    /// What it is to be: a strategy searches, a reward scores turns for training (in Rust)
    #[arg(long, value_name = "WORLD", value_enum, default_value_t = PluginWorld::Strategy)]
    pub world: PluginWorld,
}

/// Worlds of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PluginWorld {
    /// Searches
    Strategy,
    /// Scores the turns of a trajectory, for training
    Reward,
}

impl PluginWorld {
    /// As the contract knows it.
    pub fn world(self) -> World {
        match self {
            Self::Strategy => World::Strategy,
            Self::Reward => World::Reward,
        }
    }
}

/// Languages that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PluginLanguage {
    /// A crate with the SDK; components of 60 kB that start in microseconds
    Rust,
    /// Through componentize-py; components of 19 MB
    Python,
    /// Through componentize-js; components of 12 MB
    Js,
}

impl PluginLanguage {
    /// As manifests know it.
    pub fn language(self) -> Language {
        match self {
            Self::Rust => Language::Rust,
            Self::Python => Language::Python,
            Self::Js => Language::JavaScript,
        }
    }

    /// The file in a new folder that an author changes.
    pub fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Python => "strategy.py",
            Self::Js => "strategy.js",
        }
    }
}

/// `orion plugin build`
#[derive(Debug, Args)]
#[command(
    long_about = "Build the component of a plugin's folder.\n\nRust needs cargo; Python needs python3 with pip, \
                  JavaScript node with npm. The first build of a Python or JavaScript plugin fetches its tool chain \
                  into the cache folder.",
    after_help = "Examples:\n  orion plugin build\n  orion plugin build my-search --json"
)]
pub struct PluginBuildArgs {
    /// The folder with plugin.toml
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// `orion plugin check`
#[derive(Debug, Args)]
#[command(
    long_about = "Look at a component: imports, exports, parameters, and why a host would refuse it.\n\nExit status 1 \
                  where it would.",
    after_help = "Examples:\n  orion plugin check\n  orion plugin check my-search.wasm --json"
)]
pub struct PluginCheckArgs {
    /// A component, or a folder with plugin.toml
    #[arg(default_value = ".", value_name = "FILE|FOLDER")]
    pub path: PathBuf,
}
