//! `orion search`: one query, one strategy, one ranking. `orion plugin run` searches through the same [`search`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use orion_host::{
    CancelToken, Limits, Outcome, Request, Strategy, TraceFile,
    index::{Filter, Index},
};

use super::{Session, demo::index_corpus, doctor::warn_of_slow_processor};
use crate::{
    Verdict,
    adapters::backends::{Backends, Halves},
    args::{BudgetArgs, SearchArgs},
    engine::{Engine, LoadedPolicy, WithoutEncoder},
    failure::{Explain, Failure},
    lexical_only::OWN_VECTORS,
    meant::{PolicyChoice, StrategyChoice, check_options, limits, strategy_options},
    places::IndexName,
    terminal::{Ink, Terminal, grouped},
    tree::{Documents, counted, draw_ranking, draw_tree, shown_ids},
};

/// What is searched.
#[derive(Clone, Copy)]
pub(super) enum Collection<'a> {
    /// An index of the user's.
    Named(&'a IndexName),
    /// One whose halves are in other engines; titles are shown from the user's own.
    Elsewhere(&'a IndexName, &'a Arc<Halves>),
    /// The bundled corpus.
    Bundled,
}

/// How an answer is shown.
pub(super) struct Showing<'a> {
    /// The tree before the ranking.
    pub(super) tree: bool,
    /// Where the search is recorded.
    pub(super) trace_file: Option<&'a Path>,
    /// The component's file, where the reader is its author: failures are shown with message and frames.
    pub(super) authors_file: Option<&'a Path>,
}

impl<'a> Showing<'a> {
    /// As `--trace [FILE]` asks for it.
    pub(super) fn new(trace: Option<&'a Option<PathBuf>>, authors_file: Option<&'a Path>) -> Self {
        Self { tree: trace.is_some(), trace_file: trace.and_then(Option::as_deref), authors_file }
    }
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
    let showing = Showing::new(args.trace.as_ref(), None);
    let halves =
        args.backends.as_ref().map(|text| Backends::named(text, &args.index.to_string())).transpose()?;
    let collection = match &halves {
        None => Collection::Named(&args.index),
        Some(halves) => Collection::Elsewhere(&args.index, halves),
    };
    search(&engine, session, collection, &strategy, &choice.policy, request, &args.budget, &showing)
}

/// One search, shown.
#[expect(clippy::too_many_arguments, reason = "the meeting point of everything that a search is made of")]
pub(super) fn search(
    engine: &Engine<'_>,
    session: &Session,
    collection: Collection<'_>,
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
    let index = match collection {
        Collection::Named(name) | Collection::Elsewhere(name, _) => engine.open_index(name)?,
        Collection::Bundled => index_corpus(engine, session)?,
    };
    if index.settings().client_half().is_some() && !matches!(collection, Collection::Elsewhere(..)) {
        session.terminal.warn(&format!("{OWN_VECTORS}: searches are lexical only"));
    } else {
        engine.warn_without_encoder()?;
    }
    let policy = engine.policy(policy)?;
    let limits = limits(Limits::default(), budget);
    let (services, notes) = match collection {
        Collection::Elsewhere(_, halves) => {
            engine.services_through(halves, &index, policy.as_ref(), WithoutEncoder::Substitute)?
        }
        _ => (engine.services(&index, policy.as_ref(), WithoutEncoder::Substitute), Arc::default()),
    };
    let host = engine.host();
    let outcome = match showing.trace_file {
        None => host.search_blocking(strategy, request, &services, &limits, CancelToken::new()),
        Some(path) => {
            let (outcome, recording) =
                host.search_recorded_blocking(strategy, request, &services, &limits, CancelToken::new());
            TraceFile::new(strategy, showing.authors_file, outcome.clone(), recording)
                .write(path)
                .attempt("recording the search")?;
            outcome
        }
    };
    for reason in notes.reasons() {
        session.terminal.warn(&reason);
    }
    let ids = outcome.ranking.iter().map(|hit| hit.id.clone()).chain(shown_ids(&outcome.trace));
    let documents = engine.shown(&index, ids)?;
    if session.terminal.json {
        let mut value = to_json(&outcome, &documents, showing.tree);
        if matches!(collection, Collection::Elsewhere(..)) {
            value["backends"] = serde_json::json!(notes.reasons());
        }
        value["plugin"] = serde_json::json!(strategy.statistics());
        session.terminal.print_json(&value)?;
    } else {
        session.terminal.print(&to_text(&outcome, &documents, showing.tree, &session.terminal))?;
        session.terminal.say(&summary(&outcome));
    }
    warn_if_degraded(&outcome, &session.terminal);
    if let (Some(failure), Some(_)) = (&outcome.failure, showing.authors_file) {
        session.terminal.warn(&failure.to_string());
    }
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
        "failure": outcome.failure,
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
