//! `orion-train synth`: trajectories of search behaviours, made of a pool.
//!
//! The paper's synthesis (section 3.1, appendix B): a pool of traces is a graph of reformulations, each archetype walks it
//! by its own rule, and one generator makes the thoughts coherent. Here an archetype is the very plugin that serves
//! searches, run by the very host; what is exchanged are its services: the policy is the graph (`graph`), the judge knows
//! the judged documents (`judge`), retrieval is real. Departures:
//! 1. Queries of the pool are looked up again instead of taking the pool's results, so that an archetype's own queries are
//!    treated alike.
//! 2. Eleven archetypes: the paper's ten and the pseudo-document writer.
//! 3. Without `--rethink` the archetypes' own words stay: there may be no model at hand.
//!
//! Neighbours: `walks` runs the plugins, `filter` drops and balances, `rethink` edits thoughts, `statistics` counts;
//! `select` picks a subset of what comes out.

mod filter;
mod graph;
mod judge;
mod rethink;
mod statistics;
mod walks;

pub use filter::{Dropped, TestTexts, balance, clean};
pub use graph::{GraphPolicy, QueryGraph};
pub use judge::{Scorer, TargetJudge};
pub use rethink::{Rethought, Thinker, is_small_edit, rethink, selections};
pub use statistics::{Shape, SynthStatistics, episode, preview, reciprocal_ranks, statistics, turns_back};
pub use walks::{Archetypes, WalkPlan, Walked, walk};

use crate::data::{Part, Record, write_records};
use crate::endpoint::{Endpoint, EndpointArguments, EndpointCounts};
use crate::error::{Result, TrainError};
use crate::nano::Places;
use crate::pool::{Pool, SetStamp, load_policy, open_collections};
use crate::reward::STANDARD;
use crate::terminal;
use crate::trajectories::PermittedSet;
use crate::trajectories::collection::Collection;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Who rewrites thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rethink {
    /// A policy in this process.
    Policy,
    /// A model behind an OpenAI-compatible address.
    Endpoint,
}

/// How trajectories are made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    orion-train synth pool.jsonl --out trajectories.jsonl --preview 2\n  \
    orion-train synth pool.jsonl --out trajectories.jsonl --records 2000 --rethink endpoint \
    --endpoint-url http://127.0.0.1:8000/v1")]
pub struct SynthArguments {
    /// The pool; its sets and samples are opened as its header says.
    pub pool: PathBuf,
    /// JSON lines of trajectories, replaced where it is there.
    #[arg(long)]
    pub out: PathBuf,
    /// Trajectories at most, in equal shares of archetypes; as many as the scarcest archetype allows by default.
    #[arg(long)]
    pub records: Option<usize>,
    /// Turns of a walk.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub turns: u32,
    /// Walks of each archetype for each user query, each by another seed; the same walk twice is kept once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub walks: u32,
    /// Walks at most of an archetype that has fewer trajectories than its share, or than the median one.
    #[arg(long, default_value_t = 8)]
    pub most_walks: u32,
    /// Trajectories with fewer turns are dropped.
    #[arg(long, default_value_t = 2)]
    pub least_turns: usize,
    /// Seed of walks and of the choice of records.
    #[arg(long, default_value_t = 20_261_121)]
    pub seed: u64,
    /// The reward that judges: `reward`, the standard one, or a component's file.
    #[arg(long, value_name = "NAME|FILE", default_value = STANDARD)]
    pub reward: String,
    /// Option of the reward that judges, as `NAME=VALUE`; `rank=logarithmic` for the standard one unless said otherwise.
    #[arg(long = "reward-option", value_name = "NAME=VALUE")]
    pub reward_options: Vec<String>,
    /// Rewrites thoughts; without it the archetypes' own words stay.
    #[arg(long, value_enum)]
    pub rethink: Option<Rethink>,
    /// Checkpoint folder of `--rethink policy`; the embedded policy by default.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    #[command(flatten)]
    /// The endpoint of `--rethink endpoint`.
    pub endpoint: EndpointArguments,
    /// Trajectories to print.
    #[arg(long, default_value_t = 0)]
    pub preview: usize,
    /// Walks at once.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    #[command(flatten)]
    /// Where data is found.
    pub places: Places,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct SynthReport {
    /// The file of trajectories.
    pub out: PathBuf,
    /// Whether weights made from it may be passed on.
    pub may_ship: bool,
    /// User queries of the pool.
    pub queries: usize,
    /// Walks made.
    pub walks: usize,
    /// Walks whose plugin failed, by kind.
    pub degraded: BTreeMap<String, usize>,
    /// Walks without any query.
    pub empty: usize,
    /// What was dropped.
    pub dropped: Dropped,
    /// Training trajectories of each archetype before shares were made equal: the scarcest sets the share.
    pub available: BTreeMap<String, usize>,
    /// Test splits that nothing may repeat, as `set/split`.
    pub checked_against: Vec<String>,
    /// What became of the thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rethought: Option<Rethought>,
    /// What was asked of an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointCounts>,
    /// The trajectories, counted.
    pub statistics: SynthStatistics,
}

/// The reward's options: those given, and the standard one's logarithmic rank where nothing else is said, because a linear
/// one barely tells rank 1 from rank 10 in a collection of thousands.
fn reward_options(reward: &str, given: &[String]) -> Result<Vec<(String, String)>> {
    let mut options = Vec::new();
    for option in given {
        let (name, value) = option.split_once('=').ok_or_else(|| TrainError::Setting {
            name: "reward-option",
            expected: "NAME=VALUE".to_owned(),
            got: option.clone(),
        })?;
        options.push((name.to_owned(), value.to_owned()));
    }
    if reward == STANDARD && !options.iter().any(|(name, _)| name == "rank") {
        options.push(("rank".to_owned(), "logarithmic".to_owned()));
    }
    Ok(options)
}

/// Makes trajectories and writes them.
///
/// # Errors
/// A pool or set that cannot be read or has changed since the pool was made, a plugin that does not load, a rethinking
/// model that fails, nothing left to write.
pub fn run(arguments: &SynthArguments) -> Result<()> {
    let pool = Pool::read(&arguments.pool)?;
    let sets = pool.header.sets.iter().map(|stamp| {
        PermittedSet::named(&stamp.name).ok_or_else(|| {
            TrainError::content(&arguments.pool, "permitted sets", format!("`{}`", stamp.name))
        })
    });
    let sets = sets.collect::<Result<Vec<_>>>()?;
    if let Some(warning) = PermittedSet::shipping_warning(sets.iter().copied()) {
        eprintln!("{warning}");
    }
    let collections = open_collections(&sets, &arguments.places, pool.header.sample, pool.header.retriever)?;
    let stamps: Vec<SetStamp> = collections.iter().map(SetStamp::of).collect();
    if let Some((now, then)) = stamps.iter().zip(&pool.header.sets).find(|(now, then)| now != then) {
        let expected = format!("the `{}` that it was made over ({})", then.name, then.sha256);
        return Err(TrainError::content(&arguments.pool, expected, format!("another one ({})", now.sha256)));
    }
    let collections: Vec<_> = collections.into_iter().map(Arc::new).collect();
    let test = TestTexts::read(&arguments.places.inputs)?;
    let compiled = arguments.places.run.join("compiled");
    let archetypes = Archetypes::load(
        Some(&compiled),
        &arguments.reward,
        reward_options(&arguments.reward, &arguments.reward_options)?,
    )?;

    let plan = WalkPlan {
        turns: arguments.turns,
        seed: arguments.seed,
        workers: arguments.workers,
        retriever: pool.header.retriever.name(),
    };
    let walked = walk_to_shares(arguments, &archetypes, &collections, &pool, &plan, &test)?;

    let mut dropped = Dropped::default();
    let records = clean(walked.records, &test, arguments.least_turns, &mut dropped);
    let names = archetypes.names();
    let available = available(&records, &names);
    let mut records = balance(records, &names, arguments.records, arguments.seed, &mut dropped);
    let mut endpoint = None;
    let rethought = match arguments.rethink {
        None => None,
        Some(who) => {
            let thinker = match who {
                Rethink::Policy => Thinker::Policy(load_policy(arguments.policy.as_deref())?.1),
                Rethink::Endpoint => {
                    let answers = arguments.out.with_extension("answers.jsonl");
                    Thinker::Endpoint(Box::new(Endpoint::new(&arguments.endpoint, Some(&answers))?))
                }
            };
            let bar = terminal::bar("thoughts", 0);
            let rethought = rethink(&mut records, &thinker, arguments.seed, &bar)?;
            bar.finish_and_clear();
            if let Thinker::Endpoint(asked) = &thinker {
                endpoint = Some(asked.counts());
            }
            // An edit may by chance have come to read like a test query.
            records = clean(records, &test, arguments.least_turns, &mut dropped);
            Some(rethought)
        }
    };
    if records.is_empty() {
        let reason = format!(
            "{} walks, {:?} degraded, {} without a query, {dropped:?}",
            walked.walks, walked.degraded, walked.empty
        );
        return Err(TrainError::Nothing { what: "trajectories", reason });
    }
    write_records(&arguments.out, &records)?;
    let queries: std::collections::BTreeSet<_> =
        pool.traces.iter().map(|trace| (&trace.set, &trace.query_id)).collect();
    let report = SynthReport {
        out: arguments.out.clone(),
        may_ship: sets.iter().all(|set| set.is_shippable()),
        queries: queries.len(),
        walks: walked.walks,
        degraded: walked.degraded,
        empty: walked.empty,
        dropped,
        available,
        checked_against: test.splits.clone(),
        rethought,
        endpoint,
        statistics: statistics(&records),
    };
    let stride = (records.len() / arguments.preview.max(1)).max(1);
    let previews: Vec<String> = records.iter().step_by(stride).take(arguments.preview).map(preview).collect();
    terminal::print(&report, &readable(&report, &previews), arguments.json)
}

/// Training trajectories of each archetype.
fn available(records: &[Record], names: &[String]) -> BTreeMap<String, usize> {
    let count = |name: &String| {
        let own = |record: &&Record| record.part == Part::Train && record.archetype.as_ref() == Some(name);
        (name.clone(), records.iter().filter(own).count())
    };
    names.iter().map(count).collect()
}

/// Lets all archetypes walk, and those that have too few trajectories again, by further seeds: a climber, say, stands
/// still where its first query is the best there is, and would make everyone's share small.
fn walk_to_shares(
    arguments: &SynthArguments,
    archetypes: &Archetypes,
    collections: &[Arc<Collection>],
    pool: &Pool,
    plan: &WalkPlan,
    test: &TestTexts,
) -> Result<Walked> {
    let names = archetypes.names();
    let mut scarce = names.clone();
    let mut walked = Walked::default();
    let mut draws = 0..arguments.walks;
    let mut share = arguments.records.map(|records| records / names.len().max(1));
    loop {
        let bar = terminal::bar(&format!("walks of {} archetypes", scarce.len()), 0);
        walked.extend(walk(archetypes, &scarce, draws.clone(), collections, pool, plan, &bar)?);
        bar.finish_and_clear();
        let kept = clean(walked.records.clone(), test, arguments.least_turns, &mut Dropped::default());
        let available = available(&kept, &names);
        let mut counts: Vec<usize> = available.values().copied().collect();
        counts.sort_unstable();
        let wanted = *share.get_or_insert_with(|| counts.get(counts.len() / 2).copied().unwrap_or(0));
        scarce.retain(|name| available[name] < wanted);
        if scarce.is_empty() || arguments.most_walks <= draws.end {
            return Ok(walked);
        }
        draws = draws.end..(2 * draws.end).min(arguments.most_walks);
    }
}

fn readable(report: &SynthReport, previews: &[String]) -> String {
    let mut text = String::new();
    for preview in previews {
        text.push_str(preview);
        text.push('\n');
    }
    text.push_str(&report.statistics.table());
    let dropped = &report.dropped;
    text.push_str(&format!(
        "\n{} walks of {} queries; {} failed, {} without a query; dropped: {} leaks, {} short, {} duplicates, {} over \
         their share\n",
        report.walks,
        report.queries,
        report.degraded.values().sum::<usize>(),
        report.empty,
        dropped.leaks,
        dropped.short,
        dropped.duplicates,
        dropped.over_share,
    ));
    if let Some((name, count)) = report.available.iter().min_by_key(|(_, count)| **count) {
        text.push_str(&format!("the share is that of {name}, the scarcest: {count} for training\n"));
    }
    if let Some(rethought) = &report.rethought {
        text.push_str(&format!(
            "thoughts: {} edited, {} unchanged, {} edits refused, {} requests failed\n",
            rethought.edited, rethought.unchanged, rethought.refused, rethought.failed
        ));
    }
    text.push_str(&format!("checked against {}\n", report.checked_against.join(", ")));
    text
}
