//! The first step: every system answers every query; journals and TREC run files are all that remains.
//!
//! Queries are answered one after the other, so that milliseconds are those of one search on an idle machine. No
//! judgement is in reach here: the order holds query ids and texts. Neighbours: [`super::journal`] keeps answers,
//! [`super::score`] reads them.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use orion_eval::{Excluded, Look, Query, oracle::STOP_RANK, run::write_run};
use orion_host::{
    Branch, CancelToken, Host, Limits, MAX_RESULTS, Outcome, Request, SearchTrace, Services, Strategy,
};

use super::journal::{Answer, Journal, RunFiles, RunSettings, TakenTurn};
use crate::{failure::Failure, terminal::Terminal};

/// One row of the table to be.
pub struct System {
    /// The row's name.
    pub label: String,
    /// Its strategy.
    pub strategy: Arc<Strategy>,
    /// The strategy's parameters.
    pub options: Vec<(String, String)>,
    /// Retrieval and policy.
    pub services: Services,
    /// The policy's identity.
    pub policy: String,
}

/// What all rows share.
pub struct RunOrder<'a> {
    /// Runs strategies.
    pub host: &'a Host,
    /// Ids and texts, ordered by id.
    pub queries: &'a [Query],
    /// Seeds; each makes one run of every system.
    pub seeds: &'a [u64],
    /// Depth of rankings.
    pub k: u32,
    /// Documents that will not count for a query: its ranking is as much longer.
    pub excluded: &'a Excluded,
    /// What one search may spend.
    pub limits: &'a Limits,
    /// The collection's identity.
    pub collection: &'a str,
    /// Where journals and run files go.
    pub folder: &'a Path,
    /// Whether earlier rankings are thrown away.
    pub fresh: bool,
}

/// Answers all queries with one system, under every seed.
pub fn run_system(order: &RunOrder<'_>, system: &System, terminal: &Terminal) -> Result<(), Failure> {
    for seed in order.seeds {
        run_seed(order, system, *seed, terminal)?;
    }
    Ok(())
}

fn run_seed(order: &RunOrder<'_>, system: &System, seed: u64, terminal: &Terminal) -> Result<(), Failure> {
    let files = RunFiles::new(order.folder, &system.label, seed);
    if order.fresh {
        // Nothing to remove is as good as removed.
        let _ = std::fs::remove_file(&files.journal);
    }
    let settings = RunSettings {
        system: system.label.clone(),
        component: system.strategy.component_sha256().to_owned(),
        options: system.options.clone(),
        policy: system.policy.clone(),
        collection: order.collection.to_owned(),
        seed,
        k: order.k,
        limits: serde_json::to_value(order.limits)
            .map_err(|error| Failure::new(format!("writing limits as JSON: {error}")))?,
    };
    let mut journal = Journal::open(&files.journal, &settings)?;
    let open: Vec<&Query> = order.queries.iter().filter(|query| !journal.has(&query.id)).collect();
    if let Some(first) = open.first() {
        // The first search pays for lazy loading; its time is nobody's.
        search(order, system, first, seed);
    }
    let bar = terminal.bar(&format!("{} (seed {seed})", system.label), order.queries.len() as u64, "queries");
    bar.set_position((order.queries.len() - open.len()) as u64);
    let none = BTreeSet::new();
    for query in open {
        let outcome = search(order, system, query, seed);
        let excluded = order.excluded.get(&query.id).unwrap_or(&none);
        journal.push(answer(&query.id, excluded, outcome))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    write_run(&files.trec, &journal.run(), &system.label)?;
    Ok(())
}

/// Documents wanted of a query, so that as many as were asked for are left when the excluded ones are gone.
fn depth(order: &RunOrder<'_>, query: &str) -> u32 {
    let excluded = order.excluded.get(query).map_or(0, BTreeSet::len);
    order.k.saturating_add(u32::try_from(excluded).unwrap_or(u32::MAX)).min(MAX_RESULTS)
}

fn search(order: &RunOrder<'_>, system: &System, query: &Query, seed: u64) -> Outcome {
    let request = Request {
        query: query.text.clone(),
        k: depth(order, &query.id),
        filter: None,
        seed,
        options: system.options.clone(),
    };
    order.host.search_blocking(&system.strategy, request, &system.services, order.limits, CancelToken::new())
}

fn answer(query: &str, excluded: &BTreeSet<String>, outcome: Outcome) -> Answer {
    Answer {
        query: query.to_owned(),
        path: path_to_answer(&outcome.trace),
        looks: Some(outcome.trace.branches.iter().map(|branch| look(branch, excluded)).collect()),
        ranking: outcome.ranking.into_iter().map(|hit| (hit.id, hit.score)).collect(),
        confidence: outcome.confidence,
        degraded: outcome.degraded.map(|degraded| degraded.to_string()),
        retrievals: outcome.cost.retrievals,
        tokens_prefilled: outcome.cost.tokens_prefilled,
        tokens_decoded: outcome.cost.tokens_decoded,
        milliseconds: outcome.cost.total_ms,
    }
}

fn look(branch: &Branch, excluded: &BTreeSet<String>) -> Look {
    let counting = branch.hits.iter().filter(|hit| !excluded.contains(&hit.id));
    Look { turn: branch.turn, hits: counting.take(STOP_RANK).map(|hit| hit.id.clone()).collect() }
}

/// The turns from the root to the deepest chosen branch, the lowest-numbered of several: what behaviour measures
/// look at. Empty for a strategy that keeps no tree.
fn path_to_answer(trace: &SearchTrace) -> Vec<TakenTurn> {
    let find = |number: u32| trace.branches.iter().find(|branch| branch.branch == number);
    let chosen = trace.branches.iter().filter(|branch| branch.chosen);
    let deepest = chosen.min_by_key(|branch| (std::cmp::Reverse(branch.turn), branch.branch));
    let mut path: Vec<&Branch> = Vec::new();
    let mut next = deepest;
    // A parent is always older than its child, so this ends; the bound costs nothing and needs no proof.
    while let Some(branch) = next.filter(|_| path.len() <= trace.branches.len()) {
        path.push(branch);
        next = branch.parent.and_then(find);
    }
    path.reverse();
    path.into_iter()
        .map(|branch| TakenTurn {
            query: branch.query.clone(),
            hits: branch.hits.iter().map(|hit| hit.id.clone()).collect(),
        })
        .collect()
}
