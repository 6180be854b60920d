//! A strategy that cannot go on: the caller gets the plain hybrid ranking, and the reason.

use std::sync::Arc;

use orion_host::{CancelToken, DegradedKind, EmbeddedRetriever, Limits, Outcome, Request, Services};

use crate::world::World;

const QUERY: &str = "how do divers avoid crooked joints when coming up";

#[track_caller]
fn expect_plain(world: &World, outcome: &Outcome, kind: DegradedKind) {
    let degraded = outcome.degraded.as_ref().expect("the strategy could not go on");
    assert_eq!(degraded.kind, kind, "{degraded}");
    assert!(!degraded.reason.is_empty());
    assert_eq!(outcome.ranking, world.plain(QUERY, 10, None));
    assert_eq!(outcome.confidence, None);
}

#[test]
fn without_a_policy() {
    let Some(world) = World::get() else { return };
    let services = Services::retrieval_only(Arc::new(EmbeddedRetriever(world.searcher.clone())));
    let outcome = world.search_with("beam", Request::new(QUERY, 10), &services, &Limits::unhurried());
    expect_plain(world, &outcome, DegradedKind::Failed);
}

#[test]
fn without_fuel() {
    let Some(world) = World::get() else { return };
    let limits = Limits { fuel: 5_000, ..Limits::unhurried() };
    let outcome = world.search_with("beam", Request::new(QUERY, 10), &world.services(), &limits);
    expect_plain(world, &outcome, DegradedKind::Fuel);
}

#[test]
fn with_a_caller_that_has_gone() {
    let Some(world) = World::get() else { return };
    let cancel = CancelToken::new();
    cancel.cancel();
    let strategy = world.strategy("beam");
    let limits = Limits::unhurried();
    let outcome =
        world.host.search_blocking(&strategy, Request::new(QUERY, 10), &world.services(), &limits, cancel);
    assert_eq!(outcome.degraded.expect("it was cancelled").kind, DegradedKind::Cancelled);
}

#[test]
fn a_small_budget_still_gives_the_strategys_own_answer() {
    let Some(world) = World::get() else { return };
    let limits = Limits { retrievals: 3, ..Limits::unhurried() };
    let outcome = world.search_with("beam", Request::new(QUERY, 10), &world.services(), &limits);
    assert_eq!(outcome.degraded, None);
    assert!(outcome.cost.retrievals <= 3, "{:?}", outcome.cost);
    assert!(!outcome.ranking.is_empty());
}
