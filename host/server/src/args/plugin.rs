//! `orion plugin …` as typed, one struct a verb.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    BudgetArgs, PluginKeygenArgs, PluginListArgs, PluginLockArgs, PluginSignArgs, PluginVerifyArgs,
    PluginWatchArgs, StrategyArgs,
};
use crate::places::IndexName;

/// `orion plugin …`
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
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
    after_help = "Examples:\n  orion plugin run my-strategy.wasm --query \"zinc in soil\" --index notes --trace\n  orion plugin run my-strategy.wasm --query \"zinc in soil\" --index notes --trace zinc.trace.json"
)]
pub struct PluginRunArgs {
    /// The component
    pub file: PathBuf,
    /// What to look for
    #[arg(long)]
    pub query: String,
    /// The index to search
    #[arg(long, value_name = "NAME")]
    pub index: IndexName,
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
                  ranking, searches and tree are expected. The real component runs in the real host. Exit status 1 \
                  where an expectation does not come true.",
    after_help = "Examples:\n  orion plugin test\n  orion plugin test title-echo --only first-title\n  orion plugin test --update"
)]
pub struct PluginTestArgs {
    /// The plugin's folder: a component, or the `plugin.toml` that names it, and scenarios in `tests`
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Test this component instead of the folder's
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,
    /// Only scenarios of these names
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<String>,
    /// Write what came wherever a scenario says `"?"`, and everything into one without `[expect]`
    #[arg(long)]
    pub update: bool,
    /// Record each search in this folder, for `orion plugin replay`
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
