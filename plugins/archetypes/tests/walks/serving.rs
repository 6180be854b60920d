//! What all archetypes have in common: answers, budgets, and walks without a policy or a judge.

use std::collections::BTreeSet;

use orion_sdk::mock::{Call, MockHost};
use orion_sdk::{Error, Kind, Request};

use crate::walked::{ARCHETYPES, Walked, describe, read, search};
use crate::worlds::{World, world};

const QUERY: &str = "why do heat pumps freeze in winter";

/// Documents alone: no policy, nobody who judges.
fn library() -> MockHost {
    MockHost::new()
        .document("pumps", "Heat pumps", "an overview of heat pumps and how they warm a house")
        .document(
            "ice",
            "Ice on coils",
            "outdoor coils of heat pumps collect ice when humid air meets cold metal",
        )
        .document("defrost", "Defrost cycle", "a reversing valve melts ice on coils in winter")
        .document("cars", "Cars", "winter tyres and engines freeze")
}

fn request() -> Request {
    Request::new(QUERY, 10, 7).with("retriever", "lexical")
}

fn walk(name: &str, host: &mut MockHost, request: &Request) -> (Walked, Vec<String>) {
    let outcome = search(name, host, request).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let ranking = outcome.ranking.iter().map(|hit| hit.id.clone()).collect();
    (read(host, request, &outcome), ranking)
}

#[test]
fn without_a_policy_queries_are_made_by_rules() {
    for name in ARCHETYPES {
        let (walked, ranking) = walk(name, &mut library(), &request());
        assert!(walked.steps.len() >= 2, "{name}\n{walked}");
        assert!(ranking.contains(&"pumps".to_owned()), "{name}: {ranking:?}");
        assert!(walked.steps.iter().all(|step| step.think.ends_with('.')), "{name}\n{walked}");
        // Nobody judges, so it is how many of the user's words were found.
        assert!(walked.steps.iter().any(|step| step.quality > 0.0), "{name}\n{walked}");
    }
}

#[test]
fn walks_are_well_formed_with_a_policy_and_without() {
    for name in ARCHETYPES {
        for policy in [true, false] {
            let World { host, request, .. } = world("wrong-direction-specialist");
            let (mut host, request) = if policy { (host, request) } else { (library(), self::request()) };
            let (walked, _) = walk(name, &mut host, &request);
            let queries: BTreeSet<&String> = walked.steps.iter().map(|step| &step.query).collect();
            assert_eq!(queries.len(), walked.steps.len(), "{name} repeats itself\n{walked}");
            for step in &walked.steps {
                assert!(step.parent < step.branch, "{name}\n{walked}");
                assert!(step.chosen != step.pruned, "{name}\n{walked}");
            }
            let kept = walked.steps.iter().filter(|step| step.chosen).count();
            assert!(kept <= 5, "{name} keeps more than its turns\n{walked}");
        }
    }
}

#[test]
fn the_same_request_makes_the_same_walk_and_another_seed_may_not() {
    for name in ARCHETYPES {
        let lines = |seed| {
            let request = Request { seed, ..request() };
            walk(name, &mut library(), &request).0.lines()
        };
        assert_eq!(lines(7), lines(7), "{name}");
    }
    let wanders = |seed| {
        let World { mut host, request, .. } = world("random-walk-wanderer");
        walk("random-walk-wanderer", &mut host, &Request { seed, ..request }).0.lines()
    };
    let walks: BTreeSet<Vec<String>> = (0..20).map(wanders).collect();
    assert!(walks.len() > 15, "20 seeds make only {} walks", walks.len());
}

#[test]
fn a_used_up_budget_is_answered_with_what_is_there() {
    for name in ARCHETYPES {
        for retrievals in 1..6 {
            let World { host, request, .. } = world("breadth-first-explorer");
            let mut host = host.retrievals(retrievals);
            let (walked, _) = walk(name, &mut host, &request);
            assert!(walked.steps.len() < retrievals as usize, "{name}\n{walked}");
            if retrievals == 1 {
                assert_eq!(walked.stopped, "budget retrievals", "{name}\n{walked}");
            }
        }
        for tokens in [0, 3, 10, 40] {
            let World { host, request, .. } = world("breadth-first-explorer");
            walk(name, &mut host.tokens(tokens), &request);
        }
        let nothing = search(name, &mut library().retrievals(0), &request());
        assert_eq!(nothing, Err(Error::BudgetExhausted("retrievals".to_owned())), "{name}");
    }
}

#[test]
fn turns_are_kept_to() {
    for name in ARCHETYPES {
        for turns in [1, 2, 8] {
            let (walked, _) = walk(name, &mut library(), &request().with("turns", turns));
            let kept = walked.steps.iter().filter(|step| step.chosen).count();
            assert!(kept <= turns, "{name}, {turns} turns\n{walked}");
        }
    }
}

#[test]
fn better_steps_weigh_more_and_the_users_query_takes_part() {
    let answer = |first: f32, second: f32| {
        let mut host = MockHost::new()
            .document("own", "question", "")
            .document("a", "alpha", "")
            .document("b", "beta", "")
            .proposes("question", &["alpha", "beta", "gamma", "delta"])
            .quality_of("alpha", first)
            .quality_of("beta", second);
        let request = Request::new("question", 10, 7).with("turns", 2).with("retriever", "lexical");
        walk("breadth-first-explorer", &mut host, &request).1
    };
    assert_eq!(answer(0.9, 0.3), ["own", "a", "b"]);
    assert_eq!(answer(0.3, 0.9), ["own", "b", "a"]);
}

#[test]
fn lookups_that_go_together_cost_one_call() {
    let World { mut host, request, .. } = world("multi-beam-parallel");
    walk("multi-beam-parallel", &mut host, &request);
    let sizes = host.calls.iter().filter_map(|call| match call {
        Call::Search(queries) => Some(queries.len()),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [1, 3, 2]);
}

#[test]
fn descriptions_name_what_they_read() {
    for name in ARCHETYPES {
        let description = describe(name);
        assert_eq!(description.name, name);
        assert!(description.help.starts_with("archetype: ") && !description.help.contains('\n'));
        let names: BTreeSet<&str> =
            description.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names.len(), description.parameters.len(), "{name} names a parameter twice");
        for parameter in &description.parameters {
            let accepted = search(name, &mut library(), &request().with(&parameter.name, &parameter.default));
            assert!(accepted.is_ok(), "{name}: {parameter:?}");
            let refused = search(name, &mut library(), &request().with(&parameter.name, "sorcery"));
            assert!(matches!(refused, Err(Error::InvalidInput(_))), "{name} reads no {}", parameter.name);
            assert!(parameter.kind != Kind::Boolean, "{name}: thresholds and counts alone");
        }
    }
}
