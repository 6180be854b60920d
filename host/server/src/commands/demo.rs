//! `orion demo`: from nothing to a printed adaptive search.

use orion_host::{
    Limits, Request,
    index::{Index, IndexSettings},
};

use super::{
    Session,
    doctor::warn_of_slow_processor,
    search::{answer, rule, summary, to_text, warn_if_degraded},
};
use crate::{
    Verdict,
    args::DemoArgs,
    corpus::{self, DEMO_QUERIES},
    engine::Engine,
    failure::{Explain, Failure},
    meant::{PolicyChoice, check_options, strategy_options},
    minilm,
    terminal::Ink,
    tree::shown_ids,
};

/// Documents shown for each search: the tree is the point, and three searches should fit a tall terminal.
const SHOWN: u32 = 5;

pub(super) fn run(args: &DemoArgs, session: &Session) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    warn_of_slow_processor(terminal);
    get_encoder(args, session)?;
    let engine = Engine::new(session, &args.strategy_args.plugin)?;
    let strategy = engine.strategy("beam")?;
    let options = strategy_options(&args.strategy_args)?;
    check_options(&strategy, &options)?;
    let policy = engine.policy(&PolicyChoice::parse(&args.strategy_args.policy)?)?;
    let index = index_corpus(&engine, session)?;
    let queries: Vec<&str> = if args.query.is_empty() {
        DEMO_QUERIES.to_vec()
    } else {
        args.query.iter().map(String::as_str).collect()
    };
    let mut all = Vec::new();
    for query in queries {
        let request = Request {
            query: query.to_owned(),
            k: SHOWN,
            filter: None,
            seed: args.seed,
            options: options.clone(),
        };
        // A small policy on a slow machine may take longer than an interactive search should.
        let limits = Limits { deadline_ms: 120_000, ..Limits::default() };
        let outcome = answer(&engine, &index, &strategy, policy.as_ref(), request, &limits);
        let ids = outcome.ranking.iter().map(|hit| hit.id.clone()).chain(shown_ids(&outcome.trace));
        let documents = engine.shown(&index, ids)?;
        if !terminal.json {
            let text = to_text(&outcome, &documents, true, terminal);
            let costs = terminal.ink(Ink::Faint, &summary(&outcome));
            terminal.print(&format!("{}{text}{costs}\n", rule(terminal)))?;
        }
        warn_if_degraded(&outcome, terminal);
        all.push(outcome);
    }
    if terminal.json {
        terminal.print_json(&all)?;
    } else {
        terminal.print(&format!(
            "{}Next: orion index add NAME FILE, then orion search \"…\" --index NAME --trace\n",
            rule(terminal)
        ))?;
    }
    let is_answered = all.iter().all(|outcome| !outcome.ranking.is_empty());
    Ok(if is_answered { Verdict::Answered } else { Verdict::NoAnswer })
}

/// Fetches MiniLM where it is missing; a demo without it is poorer, and goes on.
fn get_encoder(args: &DemoArgs, session: &Session) -> Result<(), Failure> {
    let terminal = &session.terminal;
    if minilm::is_present(&session.places.minilm()) {
        return Ok(());
    }
    if !args.no_fetch {
        terminal.say("fetching all-MiniLM-L6-v2 (90 MB, once), the dense encoder");
        match minilm::fetch(session.places.models(), None, terminal) {
            Ok(_) => return Ok(()),
            Err(failure) => terminal.warn(&failure.causes().join(": ")),
        }
    }
    terminal.warn("going on without a dense encoder: searches are lexical only");
    Ok(())
}

/// The bundled corpus as an index in the data folder, made anew for each version of the program.
pub(super) fn index_corpus(engine: &Engine<'_>, session: &Session) -> Result<Index, Failure> {
    let documents = corpus::documents()?;
    let has_encoder = engine.encoder()?.is_some();
    let kind = if has_encoder { "hybrid" } else { "lexical" };
    let folder =
        session.places.data().join("collections").join(format!("demo-{}-{kind}", corpus::identity()));
    let settings = if has_encoder { IndexSettings::default() } else { IndexSettings::lexical_only() };
    if folder.is_dir() {
        let index = engine.open_folder(&folder)?;
        if index.searcher().len() == documents.len() as u64 {
            return Ok(index);
        }
    }
    let attempted = "indexing the bundled corpus";
    let bar = session.terminal.bar(attempted, documents.len() as u64, "documents");
    let index = engine.open_for_writing(&folder, &settings, &bar)?;
    let mut writer = index.writer().attempt(attempted)?;
    for document in documents {
        writer.add(document).attempt(attempted)?;
    }
    writer.commit().attempt(attempted)?;
    bar.finish_and_clear();
    drop(writer);
    Ok(index)
}
