//! `orion plugin bench`: what a component costs, on a scripted world or on the bundled corpus.

use orion_host::{CancelToken, Limits, Outcome, Request, Strategy, scripted::Scenario};

use super::{load, quantile};
use crate::{
    Verdict,
    args::PluginBenchArgs,
    commands::{Session, demo::index_corpus, doctor::warn_of_slow_processor},
    corpus::DEMO_QUERIES,
    engine::{Engine, WithoutEncoder},
    failure::{Explain, Failure},
    meant::{PolicyChoice, check_options, strategy_options},
    terminal::{Terminal, grouped},
};

/// Documents asked for on the bundled corpus.
const DOCUMENTS: u32 = 10;

/// What was measured; times in microseconds unless the name says otherwise.
struct Measured {
    world: String,
    instantiate: Vec<f64>,
    /// Whole searches.
    search: Vec<f64>,
    /// Of them: retrieval, the policy and the judge.
    services: Vec<f64>,
    outcomes: Vec<Outcome>,
}

pub(super) fn run(args: &PluginBenchArgs, session: &Session) -> Result<Verdict, Failure> {
    warn_of_slow_processor(&session.terminal);
    let engine = Engine::new(session, &args.strategy_args.plugin)?;
    let strategy = load(&engine, &args.file, session)?;
    let instantiations = engine
        .host()
        .time_instantiations(&strategy, args.instances as usize)
        .attempt(format!("starting `{}`", args.file.display()))?;
    let instantiate = sorted(instantiations.iter().map(|time| time.as_secs_f64() * 1e6));
    let (world, outcomes) = match &args.scenario {
        Some(path) => {
            let scenario = Scenario::read(path).attempt(format!("reading `{}`", path.display()))?;
            (format!("scenario {}", scenario.name), on_scenario(&engine, &strategy, &scenario, args)?)
        }
        None => ("the bundled corpus".to_owned(), on_corpus(&engine, &strategy, args, session)?),
    };
    let measured = Measured {
        world,
        instantiate,
        search: sorted(outcomes.iter().map(|outcome| outcome.cost.total_ms * 1e3)),
        services: sorted(outcomes.iter().map(|outcome| service_ms(outcome) * 1e3)),
        outcomes,
    };
    if session.terminal.json {
        session.terminal.print_json(&to_json(&strategy, &measured))?;
    } else {
        session.terminal.print(&to_text(&strategy, &measured, &session.terminal))?;
    }
    if let Some(degraded) = measured.outcomes.iter().find_map(|outcome| outcome.degraded.as_ref()) {
        session.terminal.warn(&format!("a search failed, so this measures a failure: {degraded}"));
        return Ok(Verdict::NoAnswer);
    }
    Ok(Verdict::Answered)
}

fn service_ms(outcome: &Outcome) -> f64 {
    outcome.cost.model_ms + outcome.cost.retrieval_ms
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut list: Vec<f64> = values.collect();
    list.sort_by(f64::total_cmp);
    list
}

fn on_scenario(
    engine: &Engine<'_>,
    strategy: &Strategy,
    scenario: &Scenario,
    args: &PluginBenchArgs,
) -> Result<Vec<Outcome>, Failure> {
    check_options(strategy, &scenario.request().options)?;
    let services = scenario.services();
    let search = || {
        let (request, limits) = (scenario.request(), scenario.limits());
        engine.host().search_blocking(strategy, request, &services, limits, CancelToken::new())
    };
    // The first search warms up.
    search();
    Ok((0..args.searches).map(|_| search()).collect())
}

fn on_corpus(
    engine: &Engine<'_>,
    strategy: &Strategy,
    args: &PluginBenchArgs,
    session: &Session,
) -> Result<Vec<Outcome>, Failure> {
    let options = strategy_options(&args.strategy_args)?;
    check_options(strategy, &options)?;
    let policy = engine.policy(&PolicyChoice::parse(&args.strategy_args.policy)?)?;
    let index = index_corpus(engine, session)?;
    let services = engine.services(&index, policy.as_ref(), WithoutEncoder::Substitute);
    let search = |number: u32| {
        let query = DEMO_QUERIES[number as usize % DEMO_QUERIES.len()];
        let request =
            Request { options: options.clone(), seed: u64::from(number), ..Request::new(query, DOCUMENTS) };
        let limits = Limits::unhurried();
        engine.host().search_blocking(strategy, request, &services, &limits, CancelToken::new())
    };
    search(0);
    let bar = session.terminal.bar("searching the bundled corpus", u64::from(args.searches), "searches");
    let outcomes = (1..=args.searches)
        .map(|number| {
            let outcome = search(number);
            bar.inc(1);
            outcome
        })
        .collect();
    bar.finish_and_clear();
    Ok(outcomes)
}

/// The search's own time, services and start left out, for each call that it made: an upper bound of a host call, since
/// the guest's computing is in it.
fn call_us(measured: &Measured) -> Option<f64> {
    let start = quantile(&measured.instantiate, 0.5);
    let each =
        sorted(measured.outcomes.iter().filter(|outcome| outcome.cost.host_calls > 0).map(|outcome| {
            let own = (outcome.cost.total_ms - service_ms(outcome)) * 1e3 - start;
            own.max(0.0) / outcome.cost.host_calls as f64
        }));
    (!each.is_empty()).then(|| quantile(&each, 0.5))
}

fn most(outcomes: &[Outcome], number: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(number).max().unwrap_or(0)
}

fn micros(value: f64) -> String {
    if value < 1_000.0 { format!("{value:.1} µs") } else { format!("{:.2} ms", value / 1e3) }
}

fn to_text(strategy: &Strategy, measured: &Measured, terminal: &Terminal) -> String {
    let title = format!("{} on {}", strategy.description().name, measured.world);
    let mut text = format!("{}\n", terminal.ink(crate::terminal::Ink::Strong, &title));
    text.push_str(&format!("{:<28}{:>12}{:>12}\n", "", "p50", "p99"));
    for (what, times) in [
        ("fresh instance", &measured.instantiate),
        ("whole search", &measured.search),
        ("  of it in services", &measured.services),
    ] {
        let (middle, slow) = (micros(quantile(times, 0.5)), micros(quantile(times, 0.99)));
        text.push_str(&format!("{what:<28}{middle:>12}{slow:>12}\n"));
    }
    let mut row = |what: &str, value: String| text.push_str(&format!("{what:<28}{value:>12}\n"));
    if let Some(call) = call_us(measured) {
        row("a host call, at most", micros(call));
    }
    let outcomes = &measured.outcomes;
    row("host calls, at most", grouped(most(outcomes, |outcome| outcome.cost.host_calls)));
    row("retrievals, at most", grouped(most(outcomes, |outcome| outcome.cost.retrievals)));
    row("fuel, at most", grouped(most(outcomes, |outcome| outcome.cost.fuel)));
    row(
        "memory, at most",
        format!("{} KiB", grouped(most(outcomes, |outcome| outcome.cost.peak_memory_bytes) / 1024)),
    );
    text
}

fn to_json(strategy: &Strategy, measured: &Measured) -> serde_json::Value {
    let both = |times: &[f64]| serde_json::json!({ "p50_us": quantile(times, 0.5), "p99_us": quantile(times, 0.99), "samples": times.len() });
    let outcomes = &measured.outcomes;
    serde_json::json!({
        "strategy": strategy.description().name,
        "component_sha256": strategy.component_sha256(),
        "world": measured.world,
        "instantiate": both(&measured.instantiate),
        "search": both(&measured.search),
        "services": both(&measured.services),
        "host_call_at_most_us": call_us(measured),
        "host_calls": most(outcomes, |outcome| outcome.cost.host_calls),
        "retrievals": most(outcomes, |outcome| outcome.cost.retrievals),
        "fuel": most(outcomes, |outcome| outcome.cost.fuel),
        "peak_memory_bytes": most(outcomes, |outcome| outcome.cost.peak_memory_bytes),
        "degraded": outcomes.iter().filter(|outcome| outcome.degraded.is_some()).count(),
    })
}
