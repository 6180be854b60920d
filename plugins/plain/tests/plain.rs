//! The one-shot strategies and controls on small scripted worlds.

use orion_plain::{Dense, Hybrid, Lexical, Perturb, Rm3, Router};
use orion_sdk::mock::{Call, MockHost};
use orion_sdk::{Error, Event, Outcome, Request, Retriever, Strategy};

fn world() -> MockHost {
    MockHost::new()
        .document("a1", "Sleep", "melatonin helps sleep; melatonin rises at night")
        .document("a2", "Sleep at night", "melatonin and light")
        .document("b", "Jet lag", "melatonin tablets for travellers")
        .document("c", "Gardens", "roses and light soil")
}

fn request() -> Request {
    Request::new("sleep at night", 10, 7)
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.ranking.iter().map(|hit| hit.id.as_str()).collect()
}

fn queries(host: &MockHost) -> Vec<(String, Retriever, f32)> {
    let batches = host.calls.iter().filter_map(|call| match call {
        Call::Search(queries) => Some(queries),
        _ => None,
    });
    batches.flatten().map(|query| (query.text.clone(), query.retriever, query.dense_weight)).collect()
}

#[test]
fn one_shot_strategies_ask_once_with_the_query_as_it_is() {
    let mut host = world();
    let outcome = Lexical::search(&mut host, &request()).unwrap();
    Dense::search(&mut host, &request()).unwrap();
    Hybrid::search(&mut host, &request().with("dense-weight", 0.3)).unwrap();
    let asked = queries(&host);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(text, ..)| text == "sleep at night"));
    assert_eq!(
        asked.iter().map(|query| query.1).collect::<Vec<_>>(),
        [Retriever::Lexical, Retriever::Dense, Retriever::Hybrid]
    );
    assert!((asked[2].2 - 0.3).abs() < f32::EPSILON);
    assert_eq!(ids(&outcome), ["a1", "a2"]);
    assert!(matches!(host.events[..3], [Event::Expanded(_), Event::Retrieved(_), Event::Chosen(0)]));
}

#[test]
fn hybrid_by_reciprocal_rank_is_asked_for_with_nan() {
    let mut host = world();
    Hybrid::search(&mut host, &request().with("fusion", "rrf")).unwrap();
    assert!(queries(&host)[0].2.is_nan());
}

#[test]
fn answers_are_cut_at_k() {
    let outcome = Lexical::search(&mut world(), &Request::new("sleep at night", 1, 7)).unwrap();
    assert_eq!(ids(&outcome), ["a1"]);
}

#[test]
fn rm3_finds_by_a_word_that_the_first_results_share() {
    let mut host = world();
    let outcome = Rm3::search(&mut host, &request().with("fb-terms", 2).with("fb-documents", 2)).unwrap();
    let asked = queries(&host);
    let expanded: Vec<&str> = asked[1].0.split(' ').collect();
    // `melatonin` is the heaviest word of both documents, `at` a stop word that only the user's share carries.
    assert!(expanded.contains(&"melatonin"), "{expanded:?}");
    assert!(!expanded.contains(&"light"), "{expanded:?}");
    assert!(ids(&outcome).contains(&"b"));
    assert!(!ids(&outcome).contains(&"c"));
}

#[test]
fn rm3_with_all_weight_on_the_original_ranks_as_lexical_does() {
    let plain = Lexical::search(&mut world(), &request()).unwrap();
    let fed_back = Rm3::search(&mut world(), &request().with("original-weight", 1)).unwrap();
    assert_eq!(ids(&plain), ids(&fed_back));
}

#[test]
fn rm3_answers_from_the_first_ranking_when_the_budget_ends_there() {
    let outcome = Rm3::search(&mut world().retrievals(1), &request()).unwrap();
    assert_eq!(ids(&outcome), ["a1", "a2"]);
}

#[test]
fn rm3_survives_a_query_that_finds_nothing() {
    let outcome = Rm3::search(&mut world(), &Request::new("xylophone", 10, 7)).unwrap();
    assert!(outcome.ranking.is_empty());
}

#[test]
fn rm3_can_look_the_expansion_up_densely() {
    let mut host = world();
    Rm3::search(&mut host, &request().with("retriever", "dense").with("fb-terms", 1)).unwrap();
    assert_eq!(queries(&host)[1], ("sleep at night melatonin".to_owned(), Retriever::Dense, 0.5));
}

#[test]
fn perturb_retrieves_the_query_and_distinct_variants_in_one_call() {
    let mut host = world();
    Perturb::search(&mut host, &Request::new("what helps people sleep at night", 10, 7)).unwrap();
    assert_eq!(host.calls.len(), 1);
    let mut texts: Vec<String> = queries(&host).into_iter().map(|query| query.0).collect();
    assert_eq!(texts[0], "what helps people sleep at night");
    assert_eq!(texts.len(), 15);
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 15);
}

#[test]
fn perturb_makes_do_with_a_short_budget_and_a_one_word_query() {
    let mut host = world().retrievals(3);
    Perturb::search(&mut host, &request()).unwrap();
    assert_eq!(queries(&host).len(), 3);
    let outcome = Perturb::search(&mut world(), &Request::new("sleep", 10, 7)).unwrap();
    assert_eq!(ids(&outcome), ["a1", "a2"]);
}

#[test]
fn perturb_with_no_budget_says_so() {
    let refused = Perturb::search(&mut world().retrievals(0), &request());
    assert_eq!(refused, Err(Error::BudgetExhausted("retrievals".to_owned())));
}

#[test]
fn wrong_parameters_are_refused_before_anything_is_spent() {
    let mut host = world();
    let rm3 = Rm3::search(&mut host, &request().with("fb-documents", 0));
    let perturb = Perturb::search(&mut host, &request().with("perturbations", "many"));
    let hybrid = Hybrid::search(&mut host, &request().with("fusion", "cold"));
    for refused in [rm3, perturb, hybrid] {
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
    assert!(host.calls.is_empty());
}

/// Coefficients of the constant signal alone: the same share for every query.
fn constant(value: f32) -> String {
    let rest = ["0"; orion_sdk::signals::SIGNALS - 1].join(",");
    format!("{value},{rest}")
}

fn option<'a>(outcome: &'a Outcome, name: &str) -> &'a str {
    &outcome.options.iter().find(|option| option.name == name).expect("the option").value
}

#[test]
fn the_router_looks_up_both_ways_once_and_follows_its_model() {
    let lexical = Lexical::search(&mut world(), &request()).unwrap();
    let dense = Dense::search(&mut world(), &request()).unwrap();
    assert_ne!(ids(&lexical), ids(&dense));
    for (share, expected) in [(-50.0, &lexical), (50.0, &dense)] {
        let mut host = world();
        let outcome = Router::search(&mut host, &request().with("share-model", constant(share))).unwrap();
        let asked: Vec<Retriever> = queries(&host).into_iter().map(|query| query.1).collect();
        assert_eq!(asked, [Retriever::Lexical, Retriever::Dense]);
        assert_eq!(ids(&outcome)[..2], ids(expected)[..2]);
    }
}

#[test]
fn an_even_share_ranks_as_the_index_does() {
    let even = request().with("share-model", constant(0.0));
    let routed = Router::search(&mut world(), &even).unwrap();
    let hybrid = Hybrid::search(&mut world(), &request().with("dense-weight", 0.5)).unwrap();
    assert_eq!(ids(&routed)[0], ids(&hybrid)[0]);
    assert_eq!(option(&routed, "dense-share"), "0.5");
}

#[test]
fn the_router_reports_a_calibrated_confidence_and_its_signals_when_asked() {
    let sure = request().with("weakness-model", constant(-50.0));
    let outcome = Router::search(&mut world(), &sure).unwrap();
    assert!(0.999 < outcome.confidence);
    assert!(outcome.options.iter().all(|option| option.name != "signals"));
    let explained = Router::search(&mut world(), &sure.with("explain", true)).unwrap();
    let shown: Vec<f32> =
        option(&explained, "signals").split(',').map(|signal| signal.parse().unwrap()).collect();
    assert_eq!(shown.len(), orion_sdk::signals::SIGNALS);
    let refused = Router::search(&mut world(), &request().with("share-model", "1,2"));
    assert!(matches!(refused, Err(Error::InvalidInput(_))));
}
