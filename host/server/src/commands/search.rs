//! `orion search` and `orion plugin run`: one query, one strategy, one ranking.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use orion_host::{
    CancelToken, Limits, Outcome, Request, Strategy,
    index::{Filter, Index},
};

use super::{Session, doctor::warn_of_slow_processor};
use crate::{
    Verdict,
    args::{BudgetArgs, SearchArgs, StrategyArgs},
    engine::{Engine, LoadedPolicy, WithoutEncoder, load_file},
    failure::{Explain, Failure},
    meant::{PolicyChoice, StrategyChoice, check_options, limits, strategy_options},
    places::IndexName,
    terminal::{Ink, Terminal, grouped},
    tree::{Documents, counted, draw_ranking, draw_tree, shown_ids},
};

/// `orion plugin run` with everything it was given.
pub(super) struct PluginOrder<'a> {
    pub(super) file: &'a Path,
    pub(super) query: String,
    pub(super) index: IndexName,
    pub(super) k: u32,
    pub(super) seed: u64,
    pub(super) trace: bool,
    pub(super) trace_file: Option<PathBuf>,
    pub(super) strategy_args: StrategyArgs,
    pub(super) budget: BudgetArgs,
}

/// How an answer is shown.
struct Showing<'a> {
    trace: bool,
    trace_file: Option<&'a Path>,
}

pub(super) fn run(args: &SearchArgs, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &args.strategy_args.plugin)?;
    let choice = StrategyChoice::parse(&args.strategy, &PolicyChoice::parse(&args.strategy_args.policy)?)?;
    let strategy = engine.strategy(&choice.name)?;
    let request = Request {
        query: args.query.clone(),
        k: args.k,
        filter: args.filter.clone(),
        seed: args.seed,
        options: strategy_options(&args.strategy_args)?,
    };
    let showing = Showing { trace: args.trace, trace_file: args.trace_file.as_deref() };
    search(&engine, session, &args.index, &strategy, &choice.policy, request, &args.budget, &showing)
}

pub(super) fn run_plugin(order: &PluginOrder<'_>, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &order.strategy_args.plugin)?;
    let strategy = load_file(engine.host(), order.file)?;
    let policy = PolicyChoice::parse(&order.strategy_args.policy)?;
    let request = Request {
        query: order.query.clone(),
        k: order.k,
        filter: None,
        seed: order.seed,
        options: strategy_options(&order.strategy_args)?,
    };
    let showing = Showing { trace: order.trace, trace_file: order.trace_file.as_deref() };
    search(&engine, session, &order.index, &strategy, &policy, request, &order.budget, &showing)
}

#[expect(clippy::too_many_arguments, reason = "the meeting point of everything that a search is made of")]
fn search(
    engine: &Engine<'_>,
    session: &Session,
    index_name: &IndexName,
    strategy: &Arc<Strategy>,
    policy: &PolicyChoice,
    request: Request,
    budget: &BudgetArgs,
    showing: &Showing<'_>,
) -> Result<Verdict, Failure> {
    check_options(strategy, &request.options)?;
    if let Some(filter) = &request.filter {
        Filter::parse(filter).attempt(format!("reading filter `{filter}`")).map_err(|failure| {
            failure.hint(
                "a filter looks like `year >= 2019 AND lang:en`; `orion index stats NAME` lists metadata",
            )
        })?;
    }
    warn_of_slow_processor(&session.terminal);
    let index = engine.open_index(index_name)?;
    engine.warn_without_encoder()?;
    let policy = engine.policy(policy)?;
    let outcome =
        answer(engine, &index, strategy, policy.as_ref(), request, &limits(Limits::default(), budget));
    if let Some(path) = showing.trace_file {
        let json = serde_json::to_string_pretty(&outcome.trace).attempt("writing the trace as JSON")?;
        std::fs::write(path, json + "\n").attempt(format!("writing `{}`", path.display()))?;
    }
    let ids = outcome.ranking.iter().map(|hit| hit.id.clone()).chain(shown_ids(&outcome.trace));
    let documents = engine.shown(&index, ids)?;
    if session.terminal.json {
        session.terminal.print_json(&to_json(&outcome, &documents, showing.trace))?;
    } else {
        session.terminal.print(&to_text(&outcome, &documents, showing.trace, &session.terminal))?;
        session.terminal.say(&summary(&outcome));
    }
    warn_if_degraded(&outcome, &session.terminal);
    Ok(if outcome.ranking.is_empty() { Verdict::NoAnswer } else { Verdict::Answered })
}

/// Runs one search to its end.
pub(super) fn answer(
    engine: &Engine<'_>,
    index: &Index,
    strategy: &Arc<Strategy>,
    policy: Option<&LoadedPolicy>,
    request: Request,
    limits: &Limits,
) -> Outcome {
    let services = engine.services(index, policy, WithoutEncoder::Substitute);
    engine.host().search_blocking(strategy, request, &services, limits, CancelToken::new())
}

/// Tree (if wanted) and ranking.
pub(super) fn to_text(
    outcome: &Outcome,
    documents: &Documents,
    with_tree: bool,
    terminal: &Terminal,
) -> String {
    let mut text = String::new();
    if with_tree {
        text.push_str(&draw_tree(&outcome.trace, documents, terminal));
        text.push('\n');
    }
    text.push_str(&draw_ranking(&outcome.ranking, documents, terminal));
    text
}

/// One line on what a search cost.
pub(super) fn summary(outcome: &Outcome) -> String {
    let cost = &outcome.cost;
    let mut parts = vec![
        outcome.trace.strategy.clone(),
        counted(outcome.ranking.len(), "document", "documents"),
        counted(cost.retrievals as usize, "retrieval", "retrievals"),
    ];
    if 0 < cost.tokens_prefilled + cost.tokens_decoded {
        parts.push(format!(
            "{} tokens read, {} written",
            grouped(cost.tokens_prefilled),
            grouped(cost.tokens_decoded)
        ));
    }
    parts.push(format!("{:.0} ms", cost.total_ms));
    if let Some(confidence) = outcome.confidence {
        parts.push(format!("confidence {confidence:.2}"));
    }
    parts.join(" · ")
}

/// Says why the ranking is the plain one.
pub(super) fn warn_if_degraded(outcome: &Outcome, terminal: &Terminal) {
    if let Some(degraded) = &outcome.degraded {
        terminal.warn(&format!("the strategy failed and the plain ranking stands in: {degraded}"));
    }
}

fn to_json(outcome: &Outcome, documents: &Documents, with_trace: bool) -> serde_json::Value {
    let ranking: Vec<serde_json::Value> = outcome
        .ranking
        .iter()
        .enumerate()
        .map(|(position, hit)| {
            let title = documents.get(&hit.id).map_or("", |document| document.title.as_str());
            serde_json::json!({ "rank": position + 1, "id": hit.id, "score": hit.score, "title": title })
        })
        .collect();
    let mut value = serde_json::json!({
        "query": outcome.trace.query,
        "strategy": outcome.trace.strategy,
        "ranking": ranking,
        "confidence": outcome.confidence,
        "degraded": outcome.degraded,
        "cost": outcome.cost,
    });
    if with_trace {
        value["trace"] = serde_json::json!(outcome.trace);
    }
    value
}

/// A heading between searches.
pub(super) fn rule(terminal: &Terminal) -> String {
    format!("{}\n", terminal.ink(Ink::Faint, &"─".repeat(terminal.width().min(72))))
}
