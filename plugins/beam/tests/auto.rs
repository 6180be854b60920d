//! `auto` and `rewrite` on small scripted worlds, and `beam` from a routed first look.

use orion_beam::{Auto, Beam, Rewrite};
use orion_sdk::mock::{Call, MockHost};
use orion_sdk::signals::SIGNALS;
use orion_sdk::{Error, Outcome, Request, Retriever, Strategy};

fn world() -> MockHost {
    MockHost::new()
        .document("pumps", "Heat pumps", "an overview of heat pumps and how they warm a house")
        .document("ice", "Ice on coils", "outdoor coils collect ice when humid air meets cold metal")
        .document("cars", "Cars", "winter tyres and engines")
        .proposes("why do heat pumps freeze", &["ice on coils", "winter tyres"])
        .perplexity_after("ice on coils", 2.0)
}

fn request() -> Request {
    Request::new("why do heat pumps freeze", 10, 7)
}

/// A model that says the same of every query: 0 with -50, 1 with 50.
fn constant(value: f32) -> String {
    format!("{value},{}", ["0"; SIGNALS - 1].join(","))
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.ranking.iter().map(|hit| hit.id.as_str()).collect()
}

fn asks_the_policy(host: &MockHost) -> bool {
    host.calls.iter().any(|call| matches!(call, Call::Propose(..)))
}

fn retrievers(host: &MockHost) -> Vec<Retriever> {
    let batches = host.calls.iter().filter_map(|call| match call {
        Call::Search(queries) => Some(queries),
        _ => None,
    });
    batches.flatten().map(|query| query.retriever).collect()
}

fn value<'a>(outcome: &'a Outcome, name: &str) -> &'a str {
    &outcome.options.iter().find(|option| option.name == name).expect("the option").value
}

#[test]
fn a_strong_first_look_is_the_answer_and_costs_no_model() {
    let mut host = world();
    let outcome = Auto::search(&mut host, &request().with("weakness-model", constant(-50.0))).unwrap();
    assert!(!asks_the_policy(&host));
    assert_eq!(retrievers(&host), [Retriever::Lexical, Retriever::Dense]);
    assert_eq!(ids(&outcome)[0], "pumps");
    assert_eq!(value(&outcome, "stopped"), "first look");
    assert!(0.99 < outcome.confidence);
}

#[test]
fn a_weak_first_look_goes_on_as_beam_does_without_looking_the_query_up_again() {
    let mut host = world();
    let weak = request().with("weakness-model", constant(50.0)).with("turns", 1);
    let outcome = Auto::search(&mut host, &weak).unwrap();
    assert!(asks_the_policy(&host));
    // Both looks, then one lookup for each of the two proposals.
    assert_eq!(retrievers(&host).len(), 4);
    assert!(ids(&outcome).contains(&"ice"));
    assert_eq!(value(&outcome, "stopped"), "turns");
    assert_eq!(value(&outcome, "weakness"), "1");
}

#[test]
fn the_threshold_is_a_probability() {
    let even = request().with("weakness-model", constant(0.0)).with("turns", 1);
    for (threshold, adaptive) in [(0.51, false), (0.49, true)] {
        let mut host = world();
        Auto::search(&mut host, &even.clone().with("threshold", threshold)).unwrap();
        assert_eq!(asks_the_policy(&host), adaptive, "{threshold}");
    }
}

#[test]
fn beam_can_begin_with_a_routed_ranking() {
    let mut host = world();
    let routed = request().with("route", true).with("share-model", constant(50.0)).with("turns", 1);
    Beam::search(&mut host, &routed).unwrap();
    assert_eq!(retrievers(&host)[..2], [Retriever::Lexical, Retriever::Dense]);
    let weights: Vec<f32> = host
        .calls
        .iter()
        .filter_map(|call| match call {
            Call::Search(queries) => Some(queries),
            _ => None,
        })
        .flatten()
        .filter(|query| query.retriever == Retriever::Hybrid)
        .map(|query| query.dense_weight)
        .collect();
    assert!(!weights.is_empty() && weights.iter().all(|weight| (weight - 1.0).abs() < 1e-6), "{weights:?}");
}

#[test]
fn a_fixed_retriever_has_nothing_to_route() {
    let mut host = world();
    Beam::search(&mut host, &request().with("route", true).with("retriever", "lexical")).unwrap();
    assert!(retrievers(&host).iter().all(|retriever| *retriever == Retriever::Lexical));
}

#[test]
fn a_rewrite_is_looked_up_once_and_alone() {
    let mut host = world();
    let outcome = Rewrite::search(&mut host, &request().with("retriever", "lexical")).unwrap();
    assert_eq!(retrievers(&host), [Retriever::Lexical]);
    assert_eq!(ids(&outcome), ["ice"]);
    let both = request().with("retriever", "lexical").with("include-original", true);
    let outcome = Rewrite::search(&mut world(), &both).unwrap();
    assert_eq!(ids(&outcome)[0], "pumps");
    assert!(ids(&outcome).contains(&"ice"));
}

#[test]
fn a_policy_without_words_is_an_error_that_says_so() {
    let mut host = MockHost::new().document("a", "A", "a").proposes("why do heat pumps freeze", &["", " "]);
    let refused = Rewrite::search(&mut host, &request());
    assert_eq!(
        refused,
        Err(Error::Other(("no-query".to_owned(), "the policy proposed no query".to_owned())))
    );
}
