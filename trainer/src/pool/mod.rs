//! `orion-train pool`: multi-turn traces of several rewriters over the permitted queries, in one file.
//!
//! The paper's pool (appendix B.1) holds five-turn traces of several models; here a source is the rules of this project,
//! a policy in this process, or any model behind an OpenAI-compatible address, and each run adds one source.
//! Departures from the paper, which names models but not how they were asked:
//! 1. The retriever may be chosen query by query; `--retriever dense` is the paper's setting.
//! 2. No trace stops when a judged document appears; what follows a success is worth walking too.
//!
//! Neighbours: `file` is the format, `collect` makes traces, `statistics` counts them; `synth` walks the pool.

mod collect;
mod file;
mod prompt;
mod statistics;

pub use collect::{Collected, Rewriter, Turned, collect};
pub use file::{
    KEPT_HITS, POOL_VERSION, Pool, PoolHeader, PoolTrace, PoolTurn, PoolWriter, SetStamp, TraceKey,
};
pub use statistics::{PoolStatistics, SourceStatistics, statistics};

use crate::endpoint::{Endpoint, EndpointArguments, EndpointCounts};
use crate::error::{Result, TrainError};
use crate::nano::Places;
use crate::terminal;
use crate::trajectories::PermittedSet;
use crate::trajectories::collection::{Collection, RetrieverChoice, SampleSize, SharedEncoder};
use orion_policy::{EmbeddedCheckpoint, Policy, PolicyOptions, Source};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What to do with a pool.
#[derive(Debug, clap::Subcommand)]
pub enum PoolCommand {
    /// Add traces of one source to a pool, or go on where an earlier run stopped.
    #[command(after_help = "Examples:\n  \
        orion-train pool make pool.jsonl --source rules --draws 2\n  \
        orion-train pool make pool.jsonl --source policy\n  \
        orion-train pool make pool.jsonl --source endpoint --endpoint-url http://127.0.0.1:8000/v1 \
        --endpoint-model qwen")]
    Make(Box<MakeArguments>),
    /// Count what a pool holds.
    #[command(after_help = "Example:\n  orion-train pool stats pool.jsonl")]
    Stats {
        /// The pool.
        pool: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print traces.
    #[command(after_help = "Example:\n  orion-train pool show pool.jsonl --set scifact --count 2")]
    Show {
        /// The pool.
        pool: PathBuf,
        /// Of this set alone.
        #[arg(long)]
        set: Option<String>,
        /// Of this query alone.
        #[arg(long)]
        query_id: Option<String>,
        /// Of the sources whose names begin so.
        #[arg(long)]
        source: Option<String>,
        /// Traces at most.
        #[arg(long, default_value_t = 5)]
        count: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceKind {
    /// The rules of this project, by chance.
    Rules,
    /// A policy in this process.
    Policy,
    /// A model behind an OpenAI-compatible address.
    Endpoint,
}

/// How traces are made.
#[derive(Debug, clap::Args)]
pub struct MakeArguments {
    /// The pool: a file of JSON lines, made where it is not there.
    pub pool: PathBuf,
    /// Who rewrites.
    #[arg(long, value_enum)]
    pub source: SourceKind,
    /// Sets, those that may ship by default; weights made from the others must not be passed on.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = PermittedSet::SHIPPABLE)]
    pub sets: Vec<PermittedSet>,
    #[command(flatten)]
    /// How much of each set.
    pub sample: SampleSize,
    /// Traces of this source for each query.
    #[arg(long, default_value_t = 1)]
    pub draws: u32,
    /// Turns of a trace.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub turns: u32,
    /// Depth to which judged documents are looked for.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub depth: u32,
    /// What looks queries up; `policy` leaves it to whoever writes the query, `dense` is the paper's setting.
    #[arg(long, value_enum, default_value_t = RetrieverChoice::Policy)]
    pub retriever: RetrieverChoice,
    /// Seed of all that is random.
    #[arg(long, default_value_t = 20_261_121)]
    pub seed: u64,
    /// Checkpoint folder of `--source policy`; the embedded policy by default.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    #[command(flatten)]
    /// The endpoint of `--source endpoint`.
    pub endpoint: EndpointArguments,
    #[command(flatten)]
    /// Where data is found.
    pub places: Places,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct MakeReport<'a> {
    pool: &'a Path,
    source: String,
    collected: &'a Collected,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointCounts>,
}

impl PermittedSet {
    /// One line where weights made from some of `sets` must not be passed on.
    pub(crate) fn shipping_warning(sets: impl Iterator<Item = Self>) -> Option<String> {
        let kept: Vec<&str> = sets.filter(|set| !set.is_shippable()).map(Self::name).collect();
        let names = kept.join(", ");
        (!kept.is_empty()).then(|| format!("warning: weights made from {names} must not be passed on"))
    }
}

impl std::fmt::Display for PermittedSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Runs one command.
///
/// # Errors
/// See the commands' own functions.
pub fn run(command: &PoolCommand) -> Result<()> {
    match command {
        PoolCommand::Make(arguments) => make(arguments),
        PoolCommand::Stats { pool, json } => {
            let counted = statistics(&Pool::read(pool)?);
            terminal::print(&counted, &counted.table(), *json)
        }
        PoolCommand::Show { pool, set, query_id, source, count, json } => {
            let fits = |trace: &&PoolTrace| {
                set.as_ref().is_none_or(|set| *set == trace.set)
                    && query_id.as_ref().is_none_or(|id| *id == trace.query_id)
                    && source.as_ref().is_none_or(|source| trace.source.starts_with(source.as_str()))
            };
            let pool = Pool::read(pool)?;
            let shown: Vec<&PoolTrace> = pool.traces.iter().filter(fits).take(*count).collect();
            let text: Vec<String> = shown.iter().map(|trace| readable(trace)).collect();
            terminal::print(&shown, &text.join("\n"), *json)
        }
    }
}

/// The policy of a folder or the embedded one, with the name that traces give it.
pub(crate) fn load_policy(folder: Option<&Path>) -> Result<(String, Policy)> {
    let fail = |error: &dyn std::fmt::Display| TrainError::Policy(error.to_string());
    let (name, source) = match folder {
        Some(folder) => {
            let name = folder
                .file_name()
                .map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned());
            (name, Source::Folder(folder.to_owned()))
        }
        None => {
            let nano = EmbeddedCheckpoint::nano().map_err(|error| fail(&error))?;
            ("orion-nano".to_owned(), Source::Embedded(nano))
        }
    };
    let policy = Policy::load(&source, &PolicyOptions::default()).map_err(|error| fail(&error))?;
    for warning in &policy.describe().warnings {
        eprintln!("warning: {warning}");
    }
    Ok((name, policy))
}

/// The collections of `sets`; without need for an encoder, none is loaded.
pub(crate) fn open_collections(
    sets: &[PermittedSet],
    places: &Places,
    sample: SampleSize,
    retriever: RetrieverChoice,
) -> Result<Vec<Collection>> {
    let encoder: Option<SharedEncoder> = match retriever {
        RetrieverChoice::Lexical => None,
        _ => Some(places.inputs.open_encoder()?),
    };
    let mut collections = Vec::new();
    for set in sets {
        eprintln!("opening {}", set.name());
        collections.push(Collection::open(*set, places, sample, encoder.clone())?);
    }
    Ok(collections)
}

fn make(arguments: &MakeArguments) -> Result<()> {
    let mut sets = arguments.sets.clone();
    sets.sort();
    sets.dedup();
    if let Some(warning) = PermittedSet::shipping_warning(sets.iter().copied()) {
        eprintln!("{warning}");
    }
    let rewriter = match arguments.source {
        SourceKind::Rules => Rewriter::Rules,
        SourceKind::Policy => {
            let (name, policy) = load_policy(arguments.policy.as_deref())?;
            Rewriter::Policy(name, policy)
        }
        SourceKind::Endpoint => {
            let answers = arguments.pool.with_extension("answers.jsonl");
            Rewriter::Endpoint(Box::new(Endpoint::new(&arguments.endpoint, Some(&answers))?))
        }
    };
    let collections = open_collections(&sets, &arguments.places, arguments.sample, arguments.retriever)?;
    let header = PoolHeader {
        orion_pool: POOL_VERSION,
        retriever: arguments.retriever,
        turns: arguments.turns,
        depth: arguments.depth,
        seed: arguments.seed,
        sample: arguments.sample,
        sets: collections.iter().map(SetStamp::of).collect(),
    };
    let mut pool = PoolWriter::open(&arguments.pool, &header)?;
    let bar = terminal::bar(&rewriter.name(), 0);
    let collected = collect(&collections, &rewriter, &header, arguments.draws, &mut pool, &bar)?;
    bar.finish_and_clear();
    if collected.kept + collected.added == 0 {
        let reason = collected.last_trouble.unwrap_or_else(|| "no query has a judged document".to_owned());
        return Err(TrainError::Nothing { what: "traces", reason });
    }
    let endpoint = if let Rewriter::Endpoint(endpoint) = &rewriter { Some(endpoint.counts()) } else { None };
    let source = rewriter.name();
    let mut text = format!(
        "{source}: {} traces added, {} were there, {} empty, {} bad answers, {} left for the next run\n",
        collected.added, collected.kept, collected.empty, collected.bad_answers, collected.failed
    );
    if let Some(counts) = endpoint {
        text.push_str(&format!(
            "{} requests, {} of them repeated, {} answers, {} remembered\n",
            counts.requests, counts.retries, counts.answers, counts.remembered
        ));
    }
    if let Some(trouble) = &collected.last_trouble {
        eprintln!("last trouble: {trouble}");
    }
    let report = MakeReport { pool: &arguments.pool, source, collected: &collected, endpoint };
    terminal::print(&report, &text, arguments.json)
}

fn readable(trace: &PoolTrace) -> String {
    let mut text = format!(
        "{} {} by {} ({}): {}\n",
        trace.set,
        trace.query_id,
        trace.source,
        trace.draw,
        terminal::one_line(&trace.question, 200)
    );
    for (place, turn) in trace.turns.iter().enumerate() {
        let rank = turn.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let cosine = turn.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.2}"));
        text.push_str(&format!(
            "  {}. {:7} rank {rank:>3}  cosine {cosine:>5}  {}\n     {}\n",
            place + 1,
            crate::data::retriever_name(turn.retriever),
            terminal::one_line(&turn.query, 160),
            terminal::one_line(&turn.think, 200),
        ));
    }
    text
}
