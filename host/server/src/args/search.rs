//! `orion search`, `eval` and `demo` as typed.

use std::path::PathBuf;

use clap::Args;

use crate::places::IndexName;

/// Parameters of strategies.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Strategy options")]
pub struct StrategyArgs {
    /// Turns of an adaptive search
    #[arg(long, value_name = "N")]
    pub turns: Option<u32>,
    /// Branches that survive a turn
    #[arg(long, value_name = "N")]
    pub beam: Option<u32>,
    /// Children that each surviving branch proposes
    #[arg(long, value_name = "N")]
    pub width: Option<u32>,
    /// Any parameter of the strategy by name; `orion strategies` lists them
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// The policy model: nano, none, untrained, a checkpoint folder, a .gguf file, or a model server as http://127.0.0.1:8000/v1#MODEL
    #[arg(long, value_name = "POLICY", default_value = "nano")]
    pub policy: String,
    /// A strategy's component file, used under its own name in place of a standard one
    #[arg(long, value_name = "FILE")]
    pub plugin: Vec<PathBuf>,
}

/// What one search may spend.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Budgets")]
pub struct BudgetArgs {
    /// Milliseconds
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// Retrieval calls
    #[arg(long, value_name = "N")]
    pub max_retrievals: Option<u64>,
    /// Tokens that the policy reads and writes
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u64>,
    /// Memory of the strategy's sandbox in MiB
    #[arg(long, value_name = "MIB")]
    pub max_memory_mib: Option<u64>,
}

/// `orion search`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion search \"who wrote the letter\" --index notes\n  orion search \"zinc in soil\" --index notes --strategy lexical --k 5 --json\n  orion search \"zinc in soil\" --index notes --turns 3 --beam 2 --width 2 --trace\n  orion search \"zinc in soil\" --index notes --trace zinc.trace.json\n  orion search \"budget\" --index notes --filter 'year >= 2019 AND lang:en'"
)]
pub struct SearchArgs {
    /// What to look for
    pub query: String,
    /// The index to search
    #[arg(long, value_name = "NAME")]
    pub index: IndexName,
    /// Look documents up where this configuration of `orion serve` says that an index is; its name after `#` [default: the index]
    #[arg(long, value_name = "FILE[#INDEX]")]
    pub backends: Option<String>,
    /// The strategy; `@POLICY` after its name stands for --policy
    #[arg(long, default_value = "beam", value_name = "NAME[@POLICY]")]
    pub strategy: String,
    /// Documents wanted, 1 to 1000
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub k: u32,
    /// Only documents whose metadata fit, such as `year >= 2019 AND lang:en`
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Seed of sampling; same seed, same search
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

/// `orion plot`
#[derive(Debug, Args)]
#[command(
    long_about = "Draw the tables of earlier evaluations as SVG files: nDCG@10, and how the searches moved: at which turn \
                  they first succeed, how often they stagnate and backtrack, how long their queries are.",
    after_help = "Examples:\n  orion eval --data data/scifact --split dev --strategy hybrid,beam,beam@untrained --out runs/dev\n  orion plot runs/dev --out plots\n  orion plot runs/scifact runs/nfcorpus --out plots"
)]
pub struct PlotArgs {
    /// Folders of evaluations: the `--out` of `orion eval`
    #[arg(required = true, value_name = "FOLDER")]
    pub runs: Vec<PathBuf>,
    /// Folder for the SVG files
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// `orion eval`
#[derive(Debug, Args)]
#[command(
    long_about = "Measure strategies on a judged collection.\n\nFirst every strategy answers every query of the split \
                  and writes its rankings, without a look at any judgement; then the rankings are scored: Table A. An \
                  interrupted evaluation goes on where it stopped.",
    after_help = "Examples:\n  orion eval --data data/scifact --split test --strategy lexical,dense,hybrid,rm3,blind,beam\n  orion eval --data data/scifact --split dev --strategy hybrid,beam,beam@untrained --seeds 1,2,3 --control hybrid\n  orion eval --data data/nfcorpus --strategy hybrid --limit-queries 50 --floor ndcg_cut_10=0.3 --json\n  orion eval --data data/scifact --strategy dense,blind,beam,beam@untrained --paper-protocol --out runs/scifact-paper"
)]
pub struct EvalArgs {
    /// Folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv
    #[arg(long, value_name = "FOLDER")]
    pub data: PathBuf,
    /// The split; `dev` of a set without a dev file is a hashed fifth of its train queries
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Strategies, in the order of the table's rows; `@POLICY` after a name picks its policy
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME[@POLICY],…",
        default_values = ["lexical", "dense", "hybrid", "rm3", "blind", "beam"]
    )]
    pub strategy: Vec<String>,
    /// Seeds; adaptive strategies run once for each, and the table shows means
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_name = "N,…")]
    pub seeds: Vec<u64>,
    /// Only the first N queries by id, on both sides
    #[arg(long, value_name = "N")]
    pub limit_queries: Option<usize>,
    /// Depth of rankings
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub k: u32,
    /// Compare every row's nDCG@10 with this row's: randomisation test, Holm's correction
    #[arg(long, value_name = "NAME")]
    pub control: Option<String>,
    /// Take the control with the best nDCG@10 of an earlier evaluation, usually of the dev split
    #[arg(long, value_name = "FOLDER", conflicts_with = "control")]
    pub control_from: Option<PathBuf>,
    /// Look documents up where this configuration of `orion serve` says that an index is; its name after `#` [default: the data set]
    #[arg(long, value_name = "FILE[#INDEX]")]
    pub backends: Option<String>,
    /// Folder of run files and tables [default: runs/NAME-SPLIT in the data folder]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Answer everything anew instead of going on with earlier rankings
    #[arg(long)]
    pub fresh: bool,
    /// Write rankings and stop before any judgement is read
    #[arg(long, conflicts_with = "score_only")]
    pub run_only: bool,
    /// Score the rankings that are there
    #[arg(long)]
    pub score_only: bool,
    /// Print Table B: look up by vectors alone, and let the judgements end each search at its first success, as the
    /// paper's protocol does. No user gets these numbers
    #[arg(long, conflicts_with = "floor")]
    pub paper_protocol: bool,
    /// Exit with status 1 unless every row reaches this mean, such as `ndcg_cut_10=0.7`
    #[arg(long, value_name = "MEASURE=VALUE")]
    pub floor: Vec<String>,
    /// Lowest grade that binary measures count [default: 2 for msmarco-dl sets, else 1]
    #[arg(long, value_name = "GRADE")]
    pub relevance_threshold: Option<i32>,
    /// Print the table as Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Parameters of the strategies; one that a strategy does not have is passed over for it.
    #[command(flatten)]
    pub strategy_args: StrategyArgs,
    /// What each search may spend.
    #[command(flatten)]
    pub budget: BudgetArgs,
}

/// `orion demo`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  orion demo\n  orion demo --query \"which metal protects a ship's hull\"\n  orion demo --no-fetch --turns 2"
)]
pub struct DemoArgs {
    /// Search for this instead of the prepared queries
    #[arg(long, value_name = "TEXT")]
    pub query: Vec<String>,
    /// Do without the dense encoder if it is not there yet
    #[arg(long)]
    pub no_fetch: bool,
    /// Seed of sampling
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Parameters of the strategy.
    #[command(flatten)]
    pub strategy_args: StrategyArgs,
}
