//! Walks of the archetypes over a pool, each by the plugin that serves searches, and what becomes of its trace.

use super::graph::{GraphPolicy, QueryGraph};
use super::judge::{Scorer, TargetJudge};
use crate::data::{Piece, Record, SearchQuery, TurnNote, retriever_name};
use crate::error::{Result, TrainError};
use crate::ordered::in_order;
use crate::pool::{Pool, PoolTrace};
use crate::trajectories::collection::{Collection, best_rank};
use indicatif::ProgressBar;
use orion_host::contract::Retriever;
use orion_host::{
    CancelToken, EmbeddedRetriever, Host, HostOptions, Limits, Outcome, Request, Services, Strategy,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// An archetype's line of help begins with this.
const ARCHETYPE: &str = "archetype: ";
/// Carried strategies that are known to be none, so that they need not be compiled to be asked.
const OTHERS: [&str; 10] =
    ["lexical", "dense", "hybrid", "rm3", "perturb", "router", "blind", "rewrite", "beam", "auto"];

/// The host with the archetypes and the judge's reward.
pub struct Archetypes {
    host: Arc<Host>,
    strategies: Vec<Arc<Strategy>>,
    scorer: Scorer,
}

impl Walked {
    /// Adds what a further round gave.
    pub fn extend(&mut self, other: Self) {
        self.records.extend(other.records);
        self.walks += other.walks;
        self.empty += other.empty;
        for (kind, count) in other.degraded {
            *self.degraded.entry(kind).or_default() += count;
        }
    }
}

impl Archetypes {
    /// Loads every archetype that the program carries, in the bundle's order. Compiled code is kept in `cache`.
    ///
    /// # Errors
    /// A sandbox that cannot be set up, a component that does not load.
    pub fn load(cache: Option<&Path>, reward: &str, reward_options: Vec<(String, String)>) -> Result<Self> {
        let fail = |error: &dyn std::fmt::Display| TrainError::Host(error.to_string());
        let options = HostOptions {
            cache_folder: cache.map(Path::to_owned),
            // A plugin that fails on one query shall still be tried on the next.
            breaker_failures: 0,
            ..HostOptions::default()
        };
        let host = Arc::new(Host::new(options).map_err(|error| fail(&error))?);
        let mut strategies = Vec::new();
        for component in orion_bundle::components().iter().filter(|each| !OTHERS.contains(&each.name)) {
            let strategy = host.load_bytes(component.name, component.bytes).map_err(|error| fail(&error))?;
            if strategy.description().help.starts_with(ARCHETYPE) {
                strategies.push(strategy);
            }
        }
        let scorer = Scorer::new(host.clone(), reward, reward_options)?;
        Ok(Self { host, strategies, scorer })
    }

    /// Their names, in the order in which they walk.
    pub fn names(&self) -> Vec<String> {
        self.strategies.iter().map(|strategy| strategy.name().to_owned()).collect()
    }
}

/// How walks are made.
#[derive(Debug, Clone)]
pub struct WalkPlan {
    /// Turns of a walk.
    pub turns: u32,
    /// Seed of all walks.
    pub seed: u64,
    /// Walks at once.
    pub workers: usize,
    /// Retriever option of the archetypes: `policy`, `dense`, `lexical` or `hybrid`.
    pub retriever: &'static str,
}

struct Job<'a> {
    collection: &'a Arc<Collection>,
    traces: &'a [&'a PoolTrace],
    graph: &'a Arc<QueryGraph>,
    strategy: &'a Arc<Strategy>,
    draw: u32,
}

/// What came of all walks.
#[derive(Debug, Default)]
pub struct Walked {
    /// One record for each walk that was not degraded and issued a query, ordered by set, query, archetype and draw.
    pub records: Vec<Record>,
    /// Walks made.
    pub walks: usize,
    /// Walks whose plugin failed, by its reason's kind.
    pub degraded: BTreeMap<String, usize>,
    /// Walks that issued no query.
    pub empty: usize,
}

/// Lets the archetypes named walk every user query of the pool, once for each draw.
///
/// # Errors
/// A trace of a set that is not among `collections`. A failing plugin is counted, not an error.
pub fn walk(
    archetypes: &Archetypes,
    names: &[String],
    draws: Range<u32>,
    collections: &[Arc<Collection>],
    pool: &Pool,
    plan: &WalkPlan,
    bar: &ProgressBar,
) -> Result<Walked> {
    let mut by_query: BTreeMap<(&str, &str), Vec<&PoolTrace>> = BTreeMap::new();
    for trace in &pool.traces {
        by_query.entry((&trace.set, &trace.query_id)).or_default().push(trace);
    }
    let mut prepared = Vec::new();
    for (&(set, query_id), traces) in &by_query {
        let collection = collections.iter().find(|each| each.source.set.name() == set);
        let collection = collection
            .ok_or_else(|| TrainError::content("pool", "traces of the header's sets", format!("`{set}`")))?;
        if collection.targets(query_id).is_empty() {
            return Err(TrainError::content("pool", "judged queries", format!("`{query_id}` of {set}")));
        }
        prepared.push((collection, traces.as_slice(), Arc::new(QueryGraph::of(traces.iter().copied()))));
    }
    let jobs: Vec<Job<'_>> = prepared
        .iter()
        .flat_map(|(collection, traces, graph)| {
            let draws = draws.clone();
            let named =
                archetypes.strategies.iter().filter(|each| names.iter().any(|name| name == each.name()));
            named.flat_map(move |strategy| {
                draws.clone().map(move |draw| Job { collection, traces, graph, strategy, draw })
            })
        })
        .collect();
    bar.set_length(jobs.len() as u64);
    let mut walked = Walked::default();
    in_order(
        &jobs,
        plan.workers,
        |job| one(archetypes, job, plan),
        |job, outcome| {
            bar.inc(1);
            walked.walks += 1;
            match outcome.degraded {
                Some(degraded) => *walked.degraded.entry(degraded.kind.to_string()).or_default() += 1,
                None => match to_record(job, &outcome, plan) {
                    Some(record) => walked.records.push(record),
                    None => walked.empty += 1,
                },
            }
            Ok(())
        },
    )?;
    Ok(walked)
}

/// The seed of one walk: another for every query, archetype and draw.
fn walk_seed(plan: &WalkPlan, job: &Job<'_>) -> u64 {
    let (trace, archetype) = (job.traces[0], job.strategy.name());
    let name = format!("{}\n{}\n{}\n{archetype}\n{}", plan.seed, trace.set, trace.query_id, job.draw);
    let digest = Sha256::digest(name.as_bytes());
    digest[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn one(archetypes: &Archetypes, job: &Job<'_>, plan: &WalkPlan) -> Outcome {
    let trace = job.traces[0];
    let targets = job.collection.targets(&trace.query_id).to_vec();
    let judge = TargetJudge::new(archetypes.scorer.clone(), job.collection.clone(), targets);
    let services = Services {
        retrieve: Arc::new(EmbeddedRetriever(job.collection.searcher.clone())),
        generate: Some(Arc::new(GraphPolicy::new(job.graph.clone(), plan.retriever == "policy"))),
        feedback: Some(Arc::new(judge)),
    };
    let options = [("turns", plan.turns.to_string()), ("retriever", plan.retriever.to_owned())];
    let request = Request {
        seed: walk_seed(plan, job),
        options: options.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        ..Request::new(trace.question.clone(), 10)
    };
    let limits = Limits::unhurried();
    archetypes.host.search_blocking(job.strategy, request, &services, &limits, CancelToken::new())
}

/// The chosen branches in order of their numbers, as a trajectory; `None` where none issued a query.
fn to_record(job: &Job<'_>, outcome: &Outcome, plan: &WalkPlan) -> Option<Record> {
    let (trace, archetype) = (job.traces[0], job.strategy.name());
    let targets = job.collection.targets(&trace.query_id);
    let steps: Vec<_> =
        outcome.trace.branches.iter().filter(|branch| branch.chosen && branch.parent.is_some()).collect();
    let mut segments = vec![Piece::UserQuery(trace.question.clone())];
    let mut turns = Vec::new();
    for (place, branch) in steps.iter().enumerate() {
        let shown = job.collection.snippets(branch.hits.iter().map(|hit| hit.id.as_str()));
        let rank = best_rank(branch.hits.iter().map(|hit| hit.id.as_str()), targets);
        let read = branch.hits.iter().take(shown.len()).map(|hit| hit.id.as_str());
        let parent = steps.iter().position(|other| Some(other.branch) == branch.parent);
        turns.push(TurnNote {
            rule: if job.graph.holds(&branch.query) { "pool" } else { "own" }.to_owned(),
            rank,
            shown: best_rank(read, targets).is_some(),
            parent: Some(parent.map_or(0, |place| place as u32 + 1)),
        });
        segments.push(Piece::Think(branch.think.clone()));
        let retriever = (plan.retriever == "policy").then(|| name_of(branch.retriever).to_owned());
        segments.push(Piece::SearchQuery(SearchQuery { query: branch.query.clone(), retriever }));
        // Nothing is learned from what stands after the last query.
        if place + 1 < steps.len() {
            segments.push(Piece::TopKResponse(shown));
        }
    }
    (!turns.is_empty()).then(|| Record {
        id: format!("{}-{}-{archetype}-{}", trace.set, trace.query_id, job.draw),
        set: trace.set.clone(),
        query_id: trace.query_id.clone(),
        part: trace.part,
        archetype: Some(archetype.to_owned()),
        segments,
        turns,
    })
}

fn name_of(retriever: Retriever) -> &'static str {
    retriever_name(match retriever {
        Retriever::Lexical => orion_policy::Retriever::Lexical,
        Retriever::Dense => orion_policy::Retriever::Dense,
        Retriever::Hybrid => orion_policy::Retriever::Hybrid,
    })
}
