//! `orion eval`: rankings first, without judgements; then their scores: Table A, or Table B.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use orion_eval::{Dataset, Excluded, Measure, Query, TableA, TableB};
use orion_host::{
    Limits, Strategy,
    index::{Index, IndexSettings, JsonLines},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Session, doctor::warn_of_slow_processor};
use crate::{
    Verdict,
    adapters::backends::Backends,
    args::EvalArgs,
    engine::{Engine, WithoutEncoder},
    evaluation::{
        oracle_stop::score_with_oracle,
        runs::{RunOrder, System, run_system},
        score::{ScoreOrder, Scored, best_control, score},
    },
    failure::{Explain, Failure},
    meant::{PolicyChoice, StrategyChoice, floors, limits, share_options, strategy_options},
};

/// The parameter that says where a strategy looks queries up, and its value for vectors alone.
const RETRIEVER: &str = "retriever";
const DENSE: &str = "dense";

/// What was asked for, checked before anything slow begins.
struct Order<'a> {
    args: &'a EvalArgs,
    dataset: Dataset,
    queries: Vec<Query>,
    excluded: Excluded,
    choices: Vec<StrategyChoice>,
    seeds: Vec<u64>,
    folder: PathBuf,
    control: Option<String>,
    floors: Vec<(Measure, f64)>,
}

pub(super) fn run(args: &EvalArgs, session: &Session) -> Result<Verdict, Failure> {
    let order = meant(args, session)?;
    std::fs::create_dir_all(&order.folder).attempt(format!("creating `{}`", order.folder.display()))?;
    if !args.score_only {
        make_runs(&order, session)?;
        if args.run_only {
            session.terminal.say("rankings written; no judgement was read");
            return print_folder(&order.folder, session);
        }
    }
    let scored = score_runs(&order, session)?;
    session
        .terminal
        .say(&format!("run files, tables and per-query numbers are in {}", order.folder.display()));
    Ok(check_floors(&order, &scored, session))
}

fn meant<'a>(args: &'a EvalArgs, session: &Session) -> Result<Order<'a>, Failure> {
    let dataset = Dataset::open(&args.data)?;
    let mut queries = dataset.split_queries(&args.split)?;
    if let Some(limit) = args.limit_queries {
        queries.truncate(limit);
    }
    if queries.is_empty() {
        return Err(Failure::new(format!(
            "evaluating split `{}`: expected at least one query, got none",
            args.split
        )));
    }
    let excluded = dataset.excluded(&args.split)?;
    let default_policy = PolicyChoice::parse(&args.strategy_args.policy)?;
    let choices = args
        .strategy
        .iter()
        .map(|text| StrategyChoice::parse(text.trim(), &default_policy))
        .collect::<Result<Vec<_>, _>>()?;
    for (position, choice) in choices.iter().enumerate() {
        if choices[..position].iter().any(|earlier| earlier.label == choice.label) {
            return Err(Failure::new(format!(
                "evaluating `{}`: expected each row once, got it twice",
                choice.label
            )));
        }
    }
    let control = match (&args.control, &args.control_from) {
        (Some(control), _) => Some(control.clone()),
        (None, Some(folder)) => Some(best_control(folder)?),
        (None, None) => None,
    };
    if let Some(control) = &control
        && !choices.iter().any(|choice| choice.label == *control)
    {
        return Err(Failure::new(format!(
            "comparing with control `{control}`: it is not among the strategies"
        ))
        .hint(format!("add it: --strategy {control},{}", args.strategy.join(","))));
    }
    let mut seeds = args.seeds.clone();
    seeds.dedup();
    let folder = args.out.clone().unwrap_or_else(|| session.places.runs(dataset.name(), &args.split));
    let floors = floors(&args.floor)?;
    Ok(Order { args, dataset, queries, excluded, choices, seeds, folder, control, floors })
}

fn make_runs(order: &Order<'_>, session: &Session) -> Result<(), Failure> {
    let terminal = &session.terminal;
    warn_of_slow_processor(terminal);
    let engine = Engine::new(session, &order.args.strategy_args.plugin)?;
    let strategies: Vec<Arc<Strategy>> =
        order.choices.iter().map(|choice| engine.strategy(&choice.name)).collect::<Result<_, _>>()?;
    let borrowed: Vec<&Strategy> = strategies.iter().map(Arc::as_ref).collect();
    let mut options = share_options(&borrowed, &strategy_options(&order.args.strategy_args)?)?;
    if order.args.paper_protocol {
        borrowed.iter().zip(&mut options).try_for_each(|(strategy, own)| look_up_densely(strategy, own))?;
    }
    engine.warn_without_encoder()?;
    let collection = collection_identity(&order.dataset)?;
    let index = open_collection(&engine, order, &collection, session)?;
    let encoder =
        engine.encoder()?.map_or("no encoder".to_owned(), |encoder| encoder.fingerprint().to_owned());
    let excluded: usize = order.excluded.values().map(BTreeSet::len).sum();
    // Rankings of a set that leaves documents out are longer, so they are others.
    let collection = if excluded == 0 { collection } else { format!("{collection} less {excluded}") };
    let search_limits = limits(Limits::unhurried(), &order.args.budget);
    let run_order = RunOrder {
        host: engine.host(),
        queries: &order.queries,
        seeds: &order.seeds,
        k: order.args.k,
        excluded: &order.excluded,
        limits: &search_limits,
        collection: &match &order.args.backends {
            None => format!("{collection} {encoder}"),
            Some(backends) => format!("{collection} {encoder} {backends}"),
        },
        folder: &order.folder,
        fresh: order.args.fresh,
    };
    let halves = order.args.backends.as_ref();
    let halves = halves.map(|text| Backends::named(text, order.dataset.name())).transpose()?;
    for ((choice, strategy), own_options) in order.choices.iter().zip(strategies).zip(options) {
        let policy = engine.policy(&choice.policy)?;
        let system = System {
            label: choice.label.clone(),
            strategy,
            options: own_options,
            services: match &halves {
                None => engine.services(&index, policy.as_ref(), WithoutEncoder::Refuse),
                Some(halves) => {
                    engine.services_through(halves, &index, policy.as_ref(), WithoutEncoder::Refuse)?.0
                }
            },
            policy: policy.map_or("none".to_owned(), |policy| policy.identity),
        };
        run_system(&run_order, &system, terminal)?;
    }
    Ok(())
}

/// The paper searches by vectors alone.
fn look_up_densely(strategy: &Strategy, options: &mut Vec<(String, String)>) -> Result<(), Failure> {
    if !strategy.description().parameters.iter().any(|parameter| parameter.name == RETRIEVER) {
        return Ok(());
    }
    match options.iter().find(|(name, _)| name == RETRIEVER) {
        None => options.push((RETRIEVER.to_owned(), DENSE.to_owned())),
        Some((_, value)) if value == DENSE => {}
        Some((_, value)) => {
            return Err(Failure::new(format!(
                "giving strategies `--param {RETRIEVER}={value}` with --paper-protocol: expected `{DENSE}`, got `{value}`"
            ))
            .hint("the paper searches by vectors alone; leave the parameter out"));
        }
    }
    Ok(())
}

/// SHA-256 of the corpus file, as hexadecimal.
fn collection_identity(dataset: &Dataset) -> Result<String, Failure> {
    let path = dataset.corpus_path();
    let attempted = || format!("reading `{}`", path.display());
    let mut file = File::open(&path).attempt(attempted())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer).attempt(attempted())?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The collection's index, made on first use and kept under its content's name: evaluating again costs nothing, and
/// a changed corpus gets an index of its own.
fn open_collection(
    engine: &Engine<'_>,
    order: &Order<'_>,
    collection: &str,
    session: &Session,
) -> Result<Index, Failure> {
    let kind = if engine.encoder()?.is_some() { "hybrid" } else { "lexical" };
    let name = format!("{}-{}-{kind}", order.dataset.name(), &collection[..12]);
    let folder = session.places.data().join("collections").join(name);
    let complete = folder.join("complete");
    if !complete.is_file() {
        // Left over from a stopped evaluation: a second pass over the cached embeddings is quick and surely right.
        let _ = std::fs::remove_dir_all(&folder);
        index_collection(engine, order, &folder.join("index"), session)?;
        std::fs::write(&complete, "").attempt(format!("writing `{}`", complete.display()))?;
    }
    engine.open_folder(&folder.join("index"))
}

fn index_collection(
    engine: &Engine<'_>,
    order: &Order<'_>,
    folder: &Path,
    session: &Session,
) -> Result<(), Failure> {
    let settings =
        if engine.encoder()?.is_some() { IndexSettings::default() } else { IndexSettings::lexical_only() };
    let what = format!("indexing {}", order.dataset.name());
    let bar = session.terminal.bar(&what, 0, "documents");
    let index = engine.open_for_writing(folder, &settings, &bar)?;
    let mut writer = index.writer().attempt(what.clone())?;
    for read in JsonLines::open(&order.dataset.corpus_path()).attempt(what.clone())? {
        let mut document = read.attempt(what.clone())?;
        // Evaluation filters nothing, and metadata of foreign collections need not have one type a name.
        document.metadata.clear();
        writer.add(document).attempt(what.clone())?;
    }
    writer.commit().attempt(what)?;
    bar.finish_and_clear();
    Ok(())
}

/// Scores what is there and prints the table that was asked for.
fn score_runs(order: &Order<'_>, session: &Session) -> Result<Scored, Failure> {
    let ids: Vec<String> = order.queries.iter().map(|query| query.id.clone()).collect();
    let labels: Vec<String> = order.choices.iter().map(|choice| choice.label.clone()).collect();
    let further: Vec<Measure> = order.floors.iter().map(|(measure, _)| *measure).collect();
    let score_order = ScoreOrder {
        dataset: &order.dataset,
        split: &order.args.split,
        queries: &ids,
        excluded: &order.excluded,
        k: order.args.k,
        systems: &labels,
        seeds: &order.seeds,
        folder: &order.folder,
        control: order.control.as_deref(),
        relevance_threshold: order
            .args
            .relevance_threshold
            .unwrap_or_else(|| order.dataset.relevance_threshold()),
        further: &further,
    };
    let scored = score(&score_order)?;
    if order.args.paper_protocol {
        let table = score_with_oracle(&score_order, &scored.table)?;
        print_table(&table, TableB::to_text, TableB::to_markdown, order.args, session)?;
    } else {
        print_table(&scored.table, TableA::to_text, TableA::to_markdown, order.args, session)?;
    }
    Ok(scored)
}

fn print_table<T: Serialize>(
    table: &T,
    to_text: fn(&T) -> String,
    to_markdown: fn(&T) -> String,
    args: &EvalArgs,
    session: &Session,
) -> Result<(), Failure> {
    if session.terminal.json {
        session.terminal.print_json(table)
    } else if args.markdown {
        session.terminal.print(&to_markdown(table))
    } else {
        session.terminal.print(&to_text(table))
    }
}

fn check_floors(order: &Order<'_>, scored: &Scored, session: &Session) -> Verdict {
    let mut verdict = Verdict::Answered;
    for (row, means) in scored.table.rows.iter().zip(&scored.further) {
        for ((measure, floor), mean) in order.floors.iter().zip(means) {
            if mean < floor {
                session
                    .terminal
                    .say(&format!("{}: {measure} is {mean:.4}, below its floor {floor}", row.system));
                verdict = Verdict::NoAnswer;
            }
        }
    }
    verdict
}

fn print_folder(folder: &Path, session: &Session) -> Result<Verdict, Failure> {
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "runs": folder }))?;
    } else {
        session.terminal.print(&format!("{}\n", folder.display()))?;
    }
    Ok(Verdict::Answered)
}
