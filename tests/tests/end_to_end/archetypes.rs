//! The archetypes as components, with index and policy: each gives an answer of its own, and leaves a trace.

use std::sync::Arc;

use orion_host::{EmbeddedRetriever, Limits, Outcome, Request, Services};

use crate::world::World;

const QUERY: &str = "birthplace of the engineer behind the rough stone breakwater";

/// Two turns each: enough for a first query and a move.
fn request() -> Request {
    let options = vec![("turns".to_owned(), "2".to_owned())];
    Request { options, ..Request::new(QUERY, 10) }
}

/// The bundled strategies that call themselves archetypes.
fn archetypes(world: &World) -> Vec<&'static str> {
    let names = orion_bundle::components().iter().map(|component| component.name);
    names.filter(|name| world.strategy(name).description().help.starts_with("archetype: ")).collect()
}

#[track_caller]
fn expect_answer(name: &str, outcome: &Outcome) {
    assert_eq!(outcome.degraded, None, "{name}");
    assert_eq!(outcome.ranking.len(), 10, "{name}");
    let steps: Vec<_> = outcome.trace.branches.iter().filter(|branch| branch.turn > 0).collect();
    assert!(steps.iter().any(|step| step.chosen), "{name} went nowhere: {:?}", outcome.trace.branches);
    for step in steps {
        assert!(step.chosen != step.pruned, "{name}: {step:?}");
        assert!(!step.think.is_empty() && !step.query.is_empty(), "{name}: {step:?}");
        assert!(step.confidence.is_some_and(|quality| (0.0..=1.0).contains(&quality)), "{name}: {step:?}");
    }
}

#[test]
fn all_eleven_answer_with_the_policy_that_ships() {
    let Some(world) = World::get() else { return };
    let names = archetypes(world);
    assert_eq!(names.len(), 11, "{names:?}");
    for name in names {
        let outcome = world.search(name, request());
        expect_answer(name, &outcome);
        assert!(outcome.cost.tokens_decoded > 0, "{name} asked no policy");
    }
}

#[test]
fn all_eleven_answer_without_a_policy() {
    let Some(world) = World::get() else { return };
    let services = Services::retrieval_only(Arc::new(EmbeddedRetriever(world.searcher.clone())));
    for name in archetypes(world) {
        let outcome = world.search_with(name, request(), &services, &Limits::unhurried());
        expect_answer(name, &outcome);
    }
}
