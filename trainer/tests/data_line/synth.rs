//! Synthesis end to end: the carried archetypes walk a pool through the host that serves, and what comes out is checked.

use crate::endpoint::arguments;
use crate::pool::add;
use crate::server::{Reply, Server};
use crate::world::World;
use indicatif::ProgressBar;
use orion_host::contract::{Candidate, Node, Sampling, Segment};
use orion_host::{CancelToken, EmbeddedRetriever, Generate, Host, HostOptions, Limits, Request, Services};
use orion_policy::{Policy, PolicyOptions, Retriever, Source, tiny_policy};
use orion_trainer::data::{Part, Piece, Record, SearchQuery, TurnNote};
use orion_trainer::endpoint::Endpoint;
use orion_trainer::pool::{Pool, PoolTrace, PoolTurn, Rewriter};
use orion_trainer::synth::{
    Archetypes, Dropped, GraphPolicy, QueryGraph, Scorer, TargetJudge, TestTexts, Thinker, WalkPlan, Walked,
    balance, clean, preview, rethink, statistics, turns_back, walk,
};
use orion_trainer::trajectories::collection::Collection;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn turn(query: &str) -> PoolTurn {
    let (think, query) = (format!("because of {query}"), query.to_owned());
    PoolTurn { think, query, retriever: Retriever::Dense, hits: Vec::new(), cosine: None, rank: None }
}

fn trace(draw: u32, queries: &[&str]) -> PoolTrace {
    PoolTrace {
        set: "bundled".into(),
        query_id: "q".into(),
        part: Part::Train,
        question: "which bears ate what".into(),
        source: "rules".into(),
        draw,
        turns: queries.iter().map(|query| turn(query)).collect(),
    }
}

/// The graph answers at once, so one poll suffices.
fn now<T>(mut future: orion_host::BoxFuture<'_, T>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("expected an answer at once"),
    }
}

fn sampling(candidates: u32, seed: u64) -> Sampling {
    Sampling {
        candidates,
        temperature: 0.7,
        top_p: 0.95,
        max_think_tokens: 48,
        max_query_tokens: 32,
        seed,
        options: Vec::new(),
    }
}

#[test]
fn the_graph_proposes_what_followed_and_then_the_rest() {
    let traces = [
        trace(0, &["cave bears", "cave bear diet", "isotopes bone"]),
        trace(1, &["bears food", "Cave  bears!", "brown bear berries"]),
        trace(2, &["cave bears", "cave bear diet", "teeth"]),
    ];
    let graph = Arc::new(QueryGraph::of(&traces));
    assert_eq!(graph.len(), 6);
    assert!(graph.holds("CAVE bears") && !graph.holds("bears"));
    for seed in 0..20 {
        let session = GraphPolicy::new(graph.clone(), true).session();
        let root = now(session.extend(vec![(None, vec![Segment::UserQuery("q".into())])])).unwrap().value[0];
        let propose = |node: Node, count: u32| -> Vec<Candidate> {
            now(session.propose(vec![node], sampling(count, seed))).unwrap().value.remove(0)
        };
        let queries = |all: &[Candidate]| all.iter().map(|each| each.query.clone()).collect::<Vec<_>>();
        let openings = propose(root, 6);
        let first: BTreeSet<String> = queries(&openings[..2]).into_iter().collect();
        assert_eq!(first, ["bears food", "cave bears"].map(str::to_owned).into());
        assert_eq!(queries(&openings).into_iter().collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(openings[0].retriever, Some(orion_host::contract::Retriever::Dense));

        let opened = openings.iter().find(|each| each.query == "cave bears").unwrap();
        // Asked in two parts, the second goes on where the first ended; then it begins again.
        let mut replies = queries(&propose(opened.node, 2));
        let followers: BTreeSet<String> = replies.iter().cloned().collect();
        assert_eq!(followers, ["brown bear berries", "cave bear diet"].map(str::to_owned).into());
        replies.extend(queries(&propose(opened.node, 3)));
        assert!(!replies.contains(&"cave bears".to_owned()));
        assert_eq!(replies.iter().collect::<BTreeSet<_>>().len(), 5);
        assert_eq!(queries(&propose(opened.node, 1))[0], replies[0]);
        assert_eq!(openings[0].think, format!("because of {}", openings[0].query));
    }
    let session = GraphPolicy::new(graph, false).session();
    assert!(now(session.propose(vec![9], sampling(1, 0))).is_err());
    assert!(now(session.perplexity(vec![])).is_err());
}

fn walked(world: &World) -> (Archetypes, Walked, Pool) {
    let collections = [world.collection()];
    let header = world.header(&collections[0]);
    let path = world.folder.path().join("pool.jsonl");
    add(&collections, &header, &path, &Rewriter::Rules, 2).unwrap();
    let pool = Pool::read(&path).unwrap();
    let collections = collections.map(Arc::new);
    let options = vec![("rank".to_owned(), "logarithmic".to_owned())];
    let archetypes = Archetypes::load(Some(&compiled()), "reward", options).unwrap();
    let plan = |workers| WalkPlan { turns: 4, seed: 1, workers, retriever: "lexical" };
    let names = archetypes.names();
    let walk = |workers, draws| {
        walk(&archetypes, &names, draws, &collections, &pool, &plan(workers), &ProgressBar::hidden()).unwrap()
    };
    let walked = walk(1, 0..1);
    // Whatever runs beside, the walks are the same.
    assert_eq!(walked.records, walk(3, 0..1).records);
    // A further draw is another walk.
    let paths = |walked: &Walked| walked.records.iter().map(|each| each.segments.clone()).collect::<Vec<_>>();
    assert_ne!(paths(&walked), paths(&walk(3, 1..2)));
    (archetypes, walked, pool)
}

/// Compiled components, shared with the other tests of this build: compiling takes seconds each.
fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("components")
}

#[test]
fn eleven_archetypes_walk_the_same_way_and_share_equally() {
    let world = World::new();
    let (archetypes, walked, pool) = walked(&world);
    let names = archetypes.names();
    assert_eq!((names.len(), walked.walks), (11, 99));
    assert!(walked.degraded.is_empty(), "{:?}", walked.degraded);
    let collection: Collection = world.collection();
    for record in &walked.records {
        let queries: Vec<&SearchQuery> = record.queries().collect();
        assert!((1..=4).contains(&queries.len()), "{record:?}");
        assert_eq!(queries.len(), record.turns.len());
        assert!(record.archetype.as_ref().is_some_and(|name| names.contains(name)));
        let part = pool.traces.iter().find(|trace| trace.query_id == record.query_id).map(|trace| trace.part);
        assert_eq!(Some(record.part), part);
        // User query, then thought, query, results in turn; the last results are left out.
        assert_eq!(record.segments.len(), 3 * queries.len());
        assert!(matches!(record.segments.last(), Some(Piece::SearchQuery(_))));
        for (place, (note, issued)) in record.turns.iter().zip(&queries).enumerate() {
            // The same lookup once more, by the definition.
            let ranking = collection.search(&issued.query, Retriever::Lexical, 100).unwrap();
            let targets = collection.targets(&record.query_id);
            let rank = ranking.iter().position(|id| targets.contains(id)).map(|at| at as u32 + 1);
            assert_eq!((note.rank, note.shown), (rank, rank.is_some_and(|rank| rank <= 5)));
            assert!(note.parent.is_some_and(|parent| parent as usize <= place) && issued.retriever.is_none());
            if let Some(Piece::TopKResponse(shown)) = record.segments.get(3 * place + 3) {
                assert_eq!(*shown, collection.snippets(ranking.iter().map(String::as_str)));
            }
        }
        assert!(!preview(record).is_empty());
    }
    let mut dropped = Dropped::default();
    let test = TestTexts::read(&world.places.inputs).unwrap();
    assert_eq!(test.splits, ["corpus/test"]);
    let total = walked.records.len();
    let kept = clean(walked.records, &test, 1, &mut dropped);
    let kept = balance(kept, &names, None, 3, &mut dropped);
    assert_eq!(kept.len() + dropped.leaks + dropped.short + dropped.duplicates + dropped.over_share, total);
    let counted = statistics(&kept);
    for part in [Part::Train, Part::HeldOut] {
        let of = |name: &String| {
            let own =
                kept.iter().filter(|record| record.part == part && record.archetype.as_ref() == Some(name));
            own.count()
        };
        assert!(names.iter().all(|name| of(name) == of(&names[0])), "{}", counted.table());
    }
    assert!(counted.all.records >= 11 && counted.all.turns > 1.5, "{}", counted.table());
    assert!(counted.all.mrr_first <= counted.all.mrr_best && counted.all.from_pool > 0.3);
}

#[test]
fn the_judge_is_the_reward_of_rank_and_cosine() {
    let world = World::new();
    let collection = Arc::new(world.collection());
    let options = HostOptions { cache_folder: Some(compiled()), ..HostOptions::default() };
    let host = Arc::new(Host::new(options).unwrap());
    let carried = orion_bundle::component("random-walk-wanderer").unwrap();
    let strategy = host.load_bytes(carried.name, carried.bytes).unwrap();
    let options = vec![("rank".to_owned(), "logarithmic".to_owned())];
    let scorer = Scorer::new(host.clone(), "reward", options).unwrap();
    let targets = collection.targets("q1").to_vec();
    let services = Services {
        retrieve: Arc::new(EmbeddedRetriever(collection.searcher.clone())),
        generate: None,
        feedback: Some(Arc::new(TargetJudge::new(scorer, collection.clone(), targets.clone()))),
    };
    let options = vec![("retriever".to_owned(), "lexical".to_owned())];
    let request = Request { options, ..Request::new("why does ice on the heat pump melt in winter", 5) };
    let limits = Limits::unhurried();
    let outcome = host.search_blocking(&strategy, request, &services, &limits, CancelToken::new());
    assert_eq!(outcome.degraded, None);
    let mut judged = 0;
    for branch in outcome.trace.branches.iter().filter(|branch| branch.parent.is_some()) {
        // No encoder, no cosine: half of the logarithmic rank is all there is. Not found counts as last.
        let rank = branch.hits.iter().position(|hit| targets.contains(&hit.id)).map_or(12, |place| place + 1);
        let expected = 0.5 * (1.0 - (rank as f64).ln() / 12f64.ln());
        let quality = f64::from(branch.confidence.unwrap());
        assert!((quality - expected).abs() < 1e-6, "{quality} {expected}");
        judged += 1;
    }
    assert!(judged > 1);
    assert!(Scorer::new(host, "reward", vec![("rank".into(), "cubic".into())]).is_err());
}

fn record(id: &str, archetype: &str, set: &str, queries: &[&str]) -> Record {
    let mut segments = vec![Piece::UserQuery("what did bears eat".into())];
    for query in queries {
        segments.push(Piece::Think(format!("I drill into {query}. It may help.")));
        segments.push(Piece::SearchQuery(SearchQuery { query: (*query).into(), retriever: None }));
        segments.push(Piece::TopKResponse(vec![]));
    }
    let note = |rank| TurnNote { rule: "pool".into(), rank, shown: false, parent: Some(0) };
    Record {
        id: id.into(),
        set: set.into(),
        query_id: id.into(),
        part: Part::Train,
        archetype: Some(archetype.into()),
        segments,
        turns: queries.iter().map(|_| note(Some(3))).collect(),
    }
}

#[test]
fn leaks_repeats_and_stubs_are_dropped() {
    let world = World::new();
    let test = TestTexts::read(&world.places.inputs).unwrap();
    let records = vec![
        record("a", "x", "s", &["cave bears", "teeth"]),
        record("b", "x", "s", &["Cave bears", "teeth!"]),
        record("c", "x", "s", &["cave bears"]),
        record("d", "x", "s", &["What do brown bears eat?", "teeth"]),
        record("e", "x", "s", &["teeth", "cave bears"]),
    ];
    let mut dropped = Dropped::default();
    let kept: Vec<String> = clean(records, &test, 2, &mut dropped).into_iter().map(|each| each.id).collect();
    assert_eq!(kept, ["a", "e"]);
    assert_eq!((dropped.leaks, dropped.short, dropped.duplicates), (1, 1, 1));
}

#[test]
fn small_sets_give_all_and_large_ones_share_the_rest() {
    let mut records = Vec::new();
    for archetype in ["x", "y"] {
        for number in 0..if archetype == "x" { 9 } else { 6 } {
            records.push(record(&format!("large-{archetype}-{number}"), archetype, "large", &["q"]));
        }
        records.push(record(&format!("small-{archetype}"), archetype, "small", &["q"]));
    }
    let names = ["x".to_owned(), "y".to_owned()];
    let count = |kept: &[Record], archetype: &str, set: &str| {
        let fits = |each: &&Record| each.archetype.as_deref() == Some(archetype) && each.set == set;
        kept.iter().filter(fits).count()
    };
    let mut dropped = Dropped::default();
    let kept = balance(records.clone(), &names, None, 1, &mut dropped);
    assert_eq!((count(&kept, "x", "large"), count(&kept, "x", "small")), (6, 1));
    assert_eq!((count(&kept, "y", "large"), count(&kept, "y", "small"), dropped.over_share), (6, 1, 3));
    let few = balance(records.clone(), &names, Some(5), 1, &mut Dropped::default());
    assert_eq!((few.len(), count(&few, "x", "small"), count(&few, "y", "small")), (4, 1, 1));
    assert_ne!(few, balance(records, &names, Some(5), 2, &mut Dropped::default()));
}

#[test]
fn turning_back_is_reformulating_another_query_than_the_last() {
    let mut one = record("a", "x", "s", &["a", "b", "c"]);
    assert_eq!(turns_back(&one), 2);
    one.turns[1].parent = Some(1);
    assert_eq!(turns_back(&one), 1);
    one.turns[2].parent = None;
    assert_eq!(turns_back(&one), 0);
}

#[test]
fn a_model_edits_thoughts_and_is_kept_from_inventing() {
    let server = Server::start(|_, asked| {
        let user = asked.body["messages"][1]["content"].as_str().unwrap_or_default();
        let next = user.rsplit("Next thought: ").next().unwrap_or_default();
        Reply::Text(match () {
            () if next.contains("bones") => {
                "Thought: Collagen isotopes reveal everything anyone wants.".into()
            }
            () if next.contains("cave") => "Thought: I drill into cave bears, which may help.".into(),
            () => "as you wish".into(),
        })
    });
    let journal = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new(&arguments(&server.url), Some(&journal.path().join("a.jsonl"))).unwrap();
    let thinker = Thinker::Endpoint(Box::new(endpoint));
    let mut records =
        vec![record("a", "x", "s", &["cave bears", "bones"]), record("b", "x", "s", &["teeth"])];
    let before = records.clone();
    let counts = rethink(&mut records, &thinker, 5, &ProgressBar::hidden()).unwrap();
    assert_eq!((counts.edited, counts.unchanged, counts.refused, counts.failed), (1, 0, 2, 0));
    assert_eq!(records[0].segments[1], Piece::Think("I drill into cave bears, which may help.".into()));
    assert_eq!(records[0].segments[2..], before[0].segments[2..]);
    assert_eq!(records[1], before[1]);
    // The second thought was shown the first as it was edited.
    let shown = server.asked();
    let of_second = shown.iter().filter_map(|asked| asked.body["messages"][1]["content"].as_str());
    assert!(
        of_second.into_iter().any(|user| user.contains("Thought: I drill into cave bears, which may help."))
    );
}

#[test]
fn a_policy_chooses_among_the_sentences() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 5).unwrap();
    let source = Source::Folder(folder.path().to_owned());
    let options = PolicyOptions { threads: 1, ..PolicyOptions::default() };
    let thinker = Thinker::Policy(Policy::load(&source, &options).unwrap());
    let before = vec![record("a", "x", "s", &["cave bears", "bones"]), record("b", "x", "s", &["teeth"])];
    let (mut once, mut twice) = (before.clone(), before.clone());
    let counts = rethink(&mut once, &thinker, 5, &ProgressBar::hidden()).unwrap();
    rethink(&mut twice, &thinker, 9, &ProgressBar::hidden()).unwrap();
    assert_eq!(once, twice);
    assert_eq!((counts.edited + counts.unchanged, counts.refused, counts.failed), (3, 0, 0));
    for (new, old) in once.iter().zip(&before) {
        for (new, old) in new.words().zip(old.words()) {
            assert!(old.contains(new) && !new.is_empty(), "{new} | {old}");
        }
    }
}
