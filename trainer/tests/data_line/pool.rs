//! The pool: made by rules and by models, resumed, counted, refused where it does not fit.

use crate::endpoint::arguments;
use crate::server::{Asked, Reply, Server};
use crate::world::World;
use indicatif::ProgressBar;
use orion_policy::{Policy, PolicyOptions, Source, tiny_policy};
use orion_trainer::data::Part;
use orion_trainer::endpoint::{Endpoint, EndpointArguments};
use orion_trainer::pool::{Collected, Pool, PoolHeader, PoolWriter, Rewriter, collect, statistics};
use orion_trainer::trajectories::collection::{Collection, RetrieverChoice};
use std::collections::BTreeSet;
use std::path::Path;

pub(crate) fn add(
    collections: &[Collection],
    header: &PoolHeader,
    path: &Path,
    rewriter: &Rewriter,
    draws: u32,
) -> orion_trainer::Result<Collected> {
    let mut pool = PoolWriter::open(path, header)?;
    collect(collections, rewriter, header, draws, &mut pool, &ProgressBar::hidden())
}

#[test]
fn rules_fill_a_pool_that_is_the_same_again() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    let made = add(&collections, &header, &path, &Rewriter::Rules, 2).unwrap();
    assert_eq!((made.kept, made.added, made.bad_answers, made.failed), (0, 18, 0, 0));
    let whole = std::fs::read_to_string(&path).unwrap();

    let again = world.folder.path().join("again.jsonl");
    add(&collections, &header, &again, &Rewriter::Rules, 2).unwrap();
    assert_eq!(std::fs::read_to_string(&again).unwrap(), whole);

    let pool = Pool::read(&path).unwrap();
    assert_eq!(pool.header, header);
    let held_out = pool.traces.iter().filter(|trace| trace.part == Part::HeldOut).count();
    assert_eq!(held_out, 4);
    for trace in &pool.traces {
        assert!((1..=4).contains(&trace.turns.len()), "{trace:?}");
        for turn in &trace.turns {
            assert!(turn.rank.is_none_or(|rank| (1..=12).contains(&rank)) && turn.cosine.is_none());
            // The rank is that of the judged document in a fresh lookup.
            let ranking = collections[0].search(&turn.query, turn.retriever, 12).unwrap();
            let targets = collections[0].targets(&trace.query_id);
            let slow = ranking.iter().position(|id| targets.contains(id)).map(|place| place as u32 + 1);
            assert_eq!(turn.rank, slow);
        }
    }
    let counted = statistics(&pool);
    assert_eq!((counted.traces, counted.queries, counted.may_ship), (18, 9, true));
    let rules = &counted.sources["rules"];
    assert!(rules.mrr_first <= rules.mrr_best && rules.copied < 0.5, "{rules:?}");
    assert_eq!(rules.cosine, None);
    assert!(counted.table().contains("may be passed on"));
}

#[test]
fn a_pool_that_was_cut_off_goes_on_where_it_stood() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    add(&collections, &header, &path, &Rewriter::Rules, 1).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in [whole.len() - 1, whole.len() / 2, 40, 0] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let made = add(&collections, &header, &path, &Rewriter::Rules, 1).unwrap();
        assert_eq!(made.kept + made.added, 9);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    add(&collections, &header, &path, &Rewriter::Rules, 1).unwrap();
    let other = PoolHeader { seed: 8, ..header.clone() };
    let error = add(&collections, &other, &path, &Rewriter::Rules, 1).unwrap_err().to_string();
    assert!(error.ends_with("expected a pool made with seed 8, got seed 7"), "{error}");
    let dense = PoolHeader { retriever: RetrieverChoice::Dense, ..header.clone() };
    let error = add(&collections, &dense, &path, &Rewriter::Rules, 1).unwrap_err().to_string();
    assert!(error.ends_with("expected a pool made with retriever dense, got retriever lexical"), "{error}");

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cases = [
        (format!("{}\n{{\"set\": 1}}\n", lines[0]), "a trace on line 2"),
        (format!("{}\n{}\n{}\n", lines[0], lines[1], lines[1]), "a new trace on line 3"),
        (lines[0].replace("\"orion_pool\":1", "\"orion_pool\":9") + "\n", "pool version 1"),
        (format!("{}\n", lines[1]), "a pool's header on line 1"),
        (String::new(), "a pool's header on line 1"),
    ];
    for (content, expected) in cases {
        std::fs::write(&path, content).unwrap();
        let error = Pool::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_policy_in_the_process_fills_it_too() {
    let world = World::new();
    tiny_policy(&world.folder.path().join("policy"), 5).unwrap();
    let source = Source::Folder(world.folder.path().join("policy"));
    let options = PolicyOptions { threads: 1, ..PolicyOptions::default() };
    let rewriter = Rewriter::Policy("tiny".into(), Policy::load(&source, &options).unwrap());
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let paths = ["a.jsonl", "b.jsonl"].map(|name| world.folder.path().join(name));
    for path in &paths {
        let made = add(&collections, &header, path, &rewriter, 1).unwrap();
        assert_eq!((made.added, made.failed), (9, 0));
    }
    // Batched with whatever else was under way, and still the same.
    assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    assert!(Pool::read(&paths[0]).unwrap().traces.iter().all(|trace| trace.source == "policy tiny"));
}

/// A query made of the question's words, another for every turn.
fn sensible(asked: &Asked) -> Reply {
    let user = asked.body["messages"][1]["content"].as_str().unwrap_or_default().to_owned();
    let question = user.lines().next().unwrap_or_default().trim_start_matches("Question: ");
    let turn = user.matches("Query: ").count();
    let words: Vec<&str> = question.split(' ').skip(turn).collect();
    Reply::Text(format!("Thought: turn {turn}.\nQuery: {}", words.join(" ")))
}

fn rewriter(server: &Server, journal: &Path, retries: u32) -> Rewriter {
    let arguments = EndpointArguments { retries, ..arguments(&server.url) };
    Rewriter::Endpoint(Box::new(Endpoint::new(&arguments, Some(journal)).unwrap()))
}

#[test]
fn an_endpoint_that_broke_down_is_asked_nothing_twice() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    let journal = world.folder.path().join("pool.answers.jsonl");
    let (mut answered, mut added) = (BTreeSet::new(), 0);
    // The first server breaks down after some answers, in the middle of traces.
    for good in [7, usize::MAX] {
        let server = Server::start(move |number, asked| match number {
            number if number < good => sensible(asked),
            _ => Reply::Status(500, "", "down".into()),
        });
        let made = add(&collections, &header, &path, &rewriter(&server, &journal, 0), 1).unwrap();
        assert_eq!(made.failed > 0, good == 7);
        added += made.added;
        for asked in server.asked().into_iter().take(good) {
            assert!(answered.insert(asked.body.to_string()), "asked twice: {}", asked.body);
        }
    }
    assert_eq!((added, answered.len()), (9, 36));

    // Never interrupted, the same pool comes out, but for the order of traces.
    let server = Server::start(|_, asked| sensible(asked));
    let whole = world.folder.path().join("whole.jsonl");
    let other_journal = world.folder.path().join("whole.answers.jsonl");
    add(&collections, &header, &whole, &rewriter(&server, &other_journal, 0), 1).unwrap();
    let sorted = |path: &Path| {
        let mut traces = Pool::read(path).unwrap().traces;
        traces.sort_by_key(orion_trainer::pool::PoolTrace::key);
        traces
    };
    assert_eq!(sorted(&path), sorted(&whole));
}

#[test]
fn bad_answers_are_counted_and_end_their_trace() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    let journal = world.folder.path().join("answers.jsonl");
    let server = Server::start(|_, asked| {
        let user = asked.body["messages"][1]["content"].as_str().unwrap_or_default();
        let question = user.lines().next().unwrap_or_default();
        match (question.contains("cave bears"), question.contains("dough") && user.contains("Results:")) {
            (true, _) => Reply::Text("I am sorry.".into()),
            (_, true) => Reply::Status(200, "", "{\"choices\": [{".into()),
            _ => sensible(asked),
        }
    });
    let made = add(&collections, &header, &path, &rewriter(&server, &journal, 0), 1).unwrap();
    assert_eq!((made.added, made.empty, made.bad_answers, made.failed), (8, 1, 2, 0));
    let pool = Pool::read(&path).unwrap();
    let turns =
        |id: &str| pool.traces.iter().find(|trace| trace.query_id == id).map(|trace| trace.turns.len());
    assert_eq!((turns("q2"), turns("q4"), turns("q1")), (None, Some(1), Some(4)));
}

#[test]
fn a_server_that_only_refuses_ends_the_run() {
    let world = World::new();
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    let server = Server::start(|_, _| Reply::Status(401, "", "who are you".into()));
    let rewriter = rewriter(&server, &world.folder.path().join("answers.jsonl"), 0);
    let error = add(&collections, &header, &path, &rewriter, 3).unwrap_err();
    assert!(error.to_string().contains("got 12 failures in a row"), "{error}");
    assert!(error.hint().is_some());
    assert!(Pool::read(&path).unwrap().traces.is_empty());
}
