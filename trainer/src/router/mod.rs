//! `orion-train router`: the models by which `router`, `auto` and a routed `beam` weigh the two retrievers.
//!
//! For each permitted training query the plugin `router` itself reports its signals, through the host that serves; the
//! index's own fusion gives the rankings at each share of a grid, and the judgements of that query their nDCG@10. What is
//! printed is a table over the held-out queries and two lines to paste behind `--param`. Neighbours: `fit` has the models,
//! `plugins/sdk/src/signals.rs` what they look at.

mod fit;

pub use fit::{Example, SHARES, fit_share, fit_weakness, logistic};

use crate::data::Part;
use crate::error::{Result, TrainError};
use crate::grpo::command::tasks;
use crate::grpo::grounds::Task;
use crate::nano::Places;
use crate::terminal;
use crate::trajectories::PermittedSet;
use crate::trajectories::collection::{Collection, SampleSize, best_rank};
use orion_eval::Measure;
use orion_eval::measures::{area_under_curve, evaluate, mean};
use orion_eval::run::RankedDocument;
use orion_host::index::{FUSION_DEPTH, Fusion, fuse};
use orion_host::{CancelToken, EmbeddedRetriever, Host, HostOptions, Limits, Request, Services, Strategy};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to learn from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train router
  orion-train router --sets scifact,fm2,wikiqa,checkthat2020 --json
  orion search \"…\" --strategy router --param share-model=…

`orion eval --strategy router,auto --param share-model=… --param weakness-model=…` then measures it.")]
pub struct RouterArguments {
    /// Sets; models made from those that may not ship have to stay here.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["scifact", "fm2"])]
    pub sets: Vec<PermittedSet>,
    /// Documents of each set at most: all judged ones, and a hashed sample of the others; all by default, since scores
    /// and ranks depend on how many there are.
    #[arg(long)]
    pub documents: Option<usize>,
    /// Training queries of each set at most.
    #[arg(long)]
    pub train_queries: Option<usize>,
    /// Where data is found.
    #[command(flatten)]
    pub places: Places,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// One set's held-out queries, under models that never saw them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouterRow {
    /// The set.
    pub set: &'static str,
    /// Training queries.
    pub train: usize,
    /// Held-out queries.
    pub held_out: usize,
    /// nDCG@10 by lexical search alone.
    pub lexical: f64,
    /// By dense search alone.
    pub dense: f64,
    /// By even shares.
    pub even: f64,
    /// By the one share that is best on the training queries of all sets together.
    pub one_share: f64,
    /// By the router.
    pub router: f64,
    /// By the best share of each query: what no router can exceed.
    pub oracle: f64,
    /// Mean dense share of the router.
    pub mean_share: f64,
    /// Share of the rankings with even shares that miss, nothing judged among their first ten.
    pub missed: f64,
    /// Mean probability of that by the weakness model.
    pub expected_missed: f64,
    /// Probability that the model finds a miss weaker than a hit; NaN where there are only hits or misses.
    pub weakness_auc: f64,
}

/// What the command reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouterReport {
    /// The share that is best on all training queries, sets weighing the same.
    pub one_share: f64,
    /// Held-out queries, set by set.
    pub rows: Vec<RouterRow>,
    /// Value of the parameter `share-model`.
    pub share_model: String,
    /// Value of the parameter `weakness-model`.
    pub weakness_model: String,
}

struct SetExamples {
    set: PermittedSet,
    train: Vec<Example>,
    held_out: Vec<Example>,
}

/// Runs the command.
///
/// # Errors
/// A set that is not there, an encoder that does not load, a sandbox that does not start.
pub fn command(arguments: &RouterArguments) -> Result<()> {
    if let Some(warning) = PermittedSet::shipping_warning(arguments.sets.iter().copied()) {
        eprintln!("{warning}");
    }
    let (host, strategy) = load_router()?;
    let encoder = arguments.places.inputs.open_encoder()?;
    let size = SampleSize {
        documents: arguments.documents.unwrap_or(usize::MAX),
        train_queries: arguments.train_queries.unwrap_or(usize::MAX),
        held_out_queries: usize::MAX,
    };
    let mut sets = Vec::new();
    for &set in &arguments.sets {
        let collection = Collection::open(set, &arguments.places, size, Some(encoder.clone()))?;
        let (train, held_out) =
            (tasks(0, &collection.source, Part::Train), tasks(0, &collection.source, Part::HeldOut));
        let bar = terminal::bar(&format!("looking up {}", set.name()), train.len() + held_out.len());
        let look = |tasks: &[Task], weight: f64| -> Result<Vec<Example>> {
            let look_one = |task| {
                bar.inc(1);
                example(&host, &strategy, &collection, task, weight)
            };
            tasks.iter().map(look_one).collect()
        };
        let weight = 1.0 / train.len().max(1) as f64;
        let (train, held_out) = (look(&train, weight)?, look(&held_out, 1.0)?);
        bar.finish_and_clear();
        sets.push(SetExamples { set, train, held_out });
    }
    let report = fitted(&sets)?;
    terminal::print(&report, &shown(&report), arguments.json)
}

fn host_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Host(error.to_string())
}

fn load_router() -> Result<(Host, Arc<Strategy>)> {
    let host =
        Host::new(HostOptions { breaker_failures: 0, ..HostOptions::default() }).map_err(host_error)?;
    let carried = orion_bundle::component("router").ok_or_else(|| host_error("no router is carried"))?;
    let strategy = host.load_bytes(carried.name, carried.bytes).map_err(host_error)?;
    Ok((host, strategy))
}

/// Signals by the plugin, utility by the judgements.
fn example(
    host: &Host,
    strategy: &Arc<Strategy>,
    collection: &Collection,
    task: &Task,
    weight: f64,
) -> Result<Example> {
    let index_error = |error: orion_host::index::IndexError| TrainError::Index(error.to_string());
    let lexical = collection.searcher.lexical(&task.text, FUSION_DEPTH, None).map_err(index_error)?;
    let dense = collection.searcher.dense(&[&task.text], FUSION_DEPTH, None).map_err(index_error)?;
    let dense = dense.into_iter().next().unwrap_or_default();
    let grades: BTreeMap<String, i32> = task.targets.iter().map(|id| (id.clone(), 1)).collect();
    let judgements = BTreeMap::from([(task.id.clone(), grades)]);
    let mut utility = Vec::new();
    let mut success = Vec::new();
    for share in SHARES {
        let fusion = Fusion::Convex { dense_weight: share as f32 };
        let fused = fuse(&lexical, &dense, fusion, FUSION_DEPTH);
        success.push(
            best_rank(fused.iter().map(|hit| hit.id.as_str()), &task.targets).is_some_and(|rank| rank <= 10),
        );
        let ranking = fused.into_iter().map(|hit| RankedDocument { id: hit.id, score: hit.score }).collect();
        let run = BTreeMap::from([(task.id.clone(), ranking)]);
        utility.push(mean(&evaluate(&judgements, &run, &[Measure::NdcgCut(10)], 1).column(0)));
    }
    Ok(Example { signals: signals(host, strategy, collection, task)?, utility, success, weight })
}

/// What the plugin sees of a query.
fn signals(host: &Host, strategy: &Arc<Strategy>, collection: &Collection, task: &Task) -> Result<Vec<f64>> {
    let services = Services::retrieval_only(Arc::new(EmbeddedRetriever(collection.searcher.clone())));
    let request = Request {
        options: vec![("explain".to_owned(), "true".to_owned())],
        ..Request::new(task.text.clone(), 10)
    };
    let outcome =
        host.search_blocking(strategy, request, &services, &Limits::unhurried(), CancelToken::new());
    if let Some(degraded) = outcome.degraded {
        return Err(host_error(format!("router on query `{}`: {degraded}", task.id)));
    }
    let reported = outcome.options.iter().find(|option| option.name == "signals");
    let numbers: Option<Vec<f64>> =
        reported.and_then(|option| option.value.split(',').map(|number| number.parse().ok()).collect());
    numbers.ok_or_else(|| host_error("expected the router to report its signals, got none"))
}

fn fitted(sets: &[SetExamples]) -> Result<RouterReport> {
    let train: Vec<Example> = sets.iter().flat_map(|set| set.train.iter().cloned()).collect();
    if train.is_empty() {
        return Err(TrainError::Setting {
            name: "sets",
            expected: "training queries with judged documents".to_owned(),
            got: "none".to_owned(),
        });
    }
    let share_model = fit_share(&train);
    let weakness_model = fit_weakness(&train);
    let total =
        |place: usize| train.iter().map(|example| example.utility[place] * example.weight).sum::<f64>();
    let best = (0..SHARES.len()).max_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(0);
    let rows = sets.iter().map(|set| row(set, best, &share_model, &weakness_model)).collect();
    let joined = |model: &[f64]| {
        model.iter().map(|weight| format!("{:.4}", *weight as f32)).collect::<Vec<_>>().join(",")
    };
    Ok(RouterReport {
        one_share: SHARES[best],
        rows,
        share_model: joined(&share_model),
        weakness_model: joined(&weakness_model),
    })
}

fn row(set: &SetExamples, best: usize, share_model: &[f64], weakness_model: &[f64]) -> RouterRow {
    let over = |value: &dyn Fn(&Example) -> f64| mean(&set.held_out.iter().map(value).collect::<Vec<f64>>());
    let share = |example: &Example| logistic(share_model, &example.signals);
    let weakness = |example: &Example| logistic(weakness_model, &example.signals);
    let weaknesses = |missed: bool| -> Vec<f64> {
        set.held_out.iter().filter(|example| example.missed() == missed).map(&weakness).collect()
    };
    RouterRow {
        set: set.set.name(),
        train: set.train.len(),
        held_out: set.held_out.len(),
        lexical: over(&|example| example.utility[0]),
        dense: over(&|example| example.utility[SHARES.len() - 1]),
        even: over(&|example| example.utility[SHARES.len() / 2]),
        one_share: over(&|example| example.utility[best]),
        router: over(&|example| fit::interpolated(&example.utility, share(example))),
        oracle: over(&|example| example.utility.iter().copied().fold(0.0, f64::max)),
        mean_share: over(&share),
        missed: over(&|example| f64::from(u8::from(example.missed()))),
        expected_missed: over(&weakness),
        weakness_auc: area_under_curve(&weaknesses(true), &weaknesses(false)).unwrap_or(f64::NAN),
    }
}

fn shown(report: &RouterReport) -> String {
    let heading = [
        "held out",
        "train",
        "queries",
        "lexical",
        "dense",
        "even",
        "one share",
        "router",
        "oracle",
        "mean share",
        "missed",
        "expected",
        "AUC",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for row in &report.rows {
        let mut cells = vec![row.set.to_owned(), row.train.to_string(), row.held_out.to_string()];
        let numbers = [
            row.lexical,
            row.dense,
            row.even,
            row.one_share,
            row.router,
            row.oracle,
            row.mean_share,
            row.missed,
            row.expected_missed,
            row.weakness_auc,
        ];
        cells.extend(numbers.iter().map(|number| format!("{number:.4}")));
        rows.push(cells);
    }
    format!(
        "{}\nnDCG@10; the one share that is best on all training queries is {:.1}.\n\nshare-model={}\nweakness-model={}\n",
        terminal::table(&rows),
        report.one_share,
        report.share_model,
        report.weakness_model
    )
}
