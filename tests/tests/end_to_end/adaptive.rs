//! `beam` with a policy: it grows a tree, shows it, and does the same thing twice.

use std::collections::BTreeSet;

use orion_host::{CancelToken, Limits, Request};

use crate::world::World;

const QUERY: &str = "birthplace of the engineer behind the rough stone breakwater";

fn request() -> Request {
    let options = [("turns", "2"), ("beam", "2"), ("width", "2")];
    Request {
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Request::new(QUERY, 10)
    }
}

#[test]
fn beam_grows_a_tree_and_shows_it() {
    let Some(world) = World::get() else { return };
    let outcome = world.search("beam", request());
    assert_eq!(outcome.degraded, None);
    let branches = &outcome.trace.branches;
    let numbers: BTreeSet<u32> = branches.iter().map(|branch| branch.branch).collect();
    assert!(branches.iter().any(|branch| branch.chosen), "no branch takes part in the answer");
    assert!(branches.iter().all(|branch| branch.turn <= 2), "more turns than asked for");
    assert!(branches.iter().all(|branch| branch.parent.is_none_or(|parent| numbers.contains(&parent))));
    assert!(branches.iter().any(|branch| branch.confidence.is_some()), "no branch was judged");
    assert!(branches.iter().all(|branch| !branch.query.is_empty()), "a branch without a query");
    assert!(outcome.cost.tokens_prefilled > 0 && outcome.cost.tokens_decoded > 0, "{:?}", outcome.cost);
    assert!(outcome.cost.retrievals > 1, "{:?}", outcome.cost);
}

#[test]
fn the_same_search_gives_the_same_answer_and_tree() {
    let Some(world) = World::get() else { return };
    let (first, second) = (world.search("beam", request()), world.search("beam", request()));
    assert_eq!(first.ranking, second.ranking);
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.cost.fuel, second.cost.fuel);
}

#[test]
fn searches_side_by_side_do_not_change_one_another() {
    let Some(world) = World::get() else { return };
    let alone = world.search("beam", request());
    let together: Vec<_> = std::thread::scope(|scope| {
        let searches: Vec<_> = (0..3).map(|_| scope.spawn(|| world.search("beam", request()))).collect();
        searches.into_iter().map(|search| search.join().expect("a search ends")).collect()
    });
    for outcome in together {
        assert_eq!(outcome.ranking, alone.ranking);
        assert_eq!(outcome.trace, alone.trace);
    }
}

#[test]
fn a_recording_replays_without_index_or_policy() {
    let Some(world) = World::get() else { return };
    let strategy = world.strategy("beam");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (services, limits) = (world.services(), Limits::unhurried());
        let search = world.host.search_recorded(&strategy, request(), &services, &limits, CancelToken::new());
        let (outcome, recording) = search.await;
        let replayed = world.host.replay(&strategy, &recording).await.expect("a replay");
        assert_eq!(replayed.ranking, outcome.ranking);
        assert_eq!(replayed.trace, outcome.trace);
    });
}
