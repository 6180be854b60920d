//! `beam` on small scripted worlds: what survives, what is dropped, when it stops, what the answer is made of.

use orion_beam::Beam;
use orion_sdk::mock::{Call, MockHost};
use orion_sdk::{Error, Event, Host, Outcome, Request, Retriever, Segment, Strategy};

/// Documents about freezing heat pumps; `defrost` can only be found by words that the user does not use.
fn world() -> MockHost {
    MockHost::new()
        .document("pumps", "Heat pumps", "an overview of heat pumps and how they warm a house")
        .document("ice", "Ice on coils", "outdoor coils collect ice when humid air meets cold metal")
        .document("defrost", "Defrost cycle", "reversing valve melts coils periodically")
        .document("cars", "Cars", "winter tyres and engines")
}

fn request() -> Request {
    Request::new("why do heat pumps freeze", 10, 7).with("retriever", "lexical")
}

fn run(host: &mut MockHost, request: &Request) -> Outcome {
    Beam::search(host, request).expect("the search answers")
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.ranking.iter().map(|hit| hit.id.as_str()).collect()
}

fn stopped(outcome: &Outcome) -> &str {
    &outcome.options.iter().find(|option| option.name == "stopped").expect("says why it stopped").value
}

fn chosen(host: &MockHost) -> Vec<String> {
    let numbers = host.events.iter().filter_map(|event| match event {
        Event::Chosen(branch) => Some(*branch),
        _ => None,
    });
    numbers.map(|number| query_of(host, number)).collect()
}

fn pruned(host: &MockHost) -> Vec<String> {
    let numbers = host.events.iter().filter_map(|event| match event {
        Event::Pruned(branch) => Some(*branch),
        _ => None,
    });
    numbers.map(|number| query_of(host, number)).collect()
}

fn query_of(host: &MockHost, number: u32) -> String {
    let mut expanded = host.events.iter().filter_map(|event| match event {
        Event::Expanded(expanded) if expanded.branch == number => Some(expanded.query.clone()),
        _ => None,
    });
    expanded.next().expect("a branch is expanded before anything else happens to it")
}

#[test]
fn the_better_branch_survives_and_the_worse_is_pruned() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["ice on coils", "winter tyres"])
        .perplexity_after("ice on coils", 2.0)
        .perplexity_after("winter tyres", 30.0)
        .proposes("ice on coils", &["reversing valve", "coils humid air"])
        .perplexity_after("reversing valve", 1.5)
        .perplexity_after("coils humid air", 9.0);
    let outcome = run(&mut host, &request().with("beam", 1).with("turns", 2));

    assert_eq!(chosen(&host), ["why do heat pumps freeze", "ice on coils", "reversing valve"]);
    assert_eq!(pruned(&host), ["winter tyres", "coils humid air"]);
    // Only pruned branches found `cars`.
    let mut found = ids(&outcome);
    found.sort_unstable();
    assert_eq!(found, ["defrost", "ice", "pumps"]);
    assert!((outcome.confidence - 1.0 / 1.5).abs() < 1e-5);
    assert_eq!(stopped(&outcome), "turns");
}

#[test]
fn the_more_confident_branch_weighs_more() {
    let answer = |first: f32, second: f32| {
        let mut host = MockHost::new()
            .document("a", "alpha", "")
            .document("b", "beta", "")
            .proposes("question", &["alpha", "beta"])
            .perplexity_after("alpha", first)
            .perplexity_after("beta", second);
        let outcome =
            run(&mut host, &Request::new("question", 10, 7).with("turns", 1).with("retriever", "lexical"));
        ids(&outcome).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(answer(2.0, 3.0), ["a", "b"]);
    assert_eq!(answer(3.0, 2.0), ["b", "a"]);
}

#[test]
fn duplicates_of_siblings_and_ancestors_are_not_retrieved() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["Ice on coils", "ice, on COILS!"])
        .proposes("Ice on coils", &["ice on coils?", "reversing valve"]);
    run(&mut host, &request().with("turns", 2));
    assert_eq!(host.searched(), ["why do heat pumps freeze", "Ice on coils", "reversing valve"]);
}

#[test]
fn the_same_query_for_another_retriever_is_no_duplicate() {
    let both = [("ice on coils", Some(Retriever::Lexical)), ("ice on coils", Some(Retriever::Dense))];
    let mut host = world().proposes_with("why do heat pumps freeze", &both);
    run(
        &mut host,
        &Request::new("why do heat pumps freeze", 10, 7).with("turns", 1).with("retriever", "policy"),
    );
    assert_eq!(host.searched(), ["why do heat pumps freeze", "ice on coils", "ice on coils"]);
}

#[test]
fn cousins_share_one_retrieval() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["ice on coils", "cold metal"])
        .proposes("ice on coils", &["reversing valve", "melts"])
        .proposes("cold metal", &["reversing valve", "humid air"]);
    run(&mut host, &request().with("turns", 2));
    let searched = host.searched();
    assert_eq!(searched.iter().filter(|text| **text == "reversing valve").count(), 1, "{searched:?}");
}

#[test]
fn to_repeat_the_users_query_costs_no_retrieval() {
    let mut host =
        world().proposes("why do heat pumps freeze", &["Why do heat pumps freeze?", "ice on coils"]);
    run(&mut host, &request().with("turns", 1));
    assert_eq!(host.searched(), ["why do heat pumps freeze", "ice on coils"]);
}

#[test]
fn each_turn_makes_one_call_of_each_kind() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["ice on coils", "cold metal"])
        .proposes("ice on coils", &["reversing valve", "melts"])
        .proposes("cold metal", &["winter", "humid air"])
        .perplexity_after("reversing valve", 2.0);
    run(&mut host, &request().with("turns", 2));
    let kinds: Vec<&str> = host
        .calls
        .iter()
        .map(|call| match call {
            Call::Search(_) => "search",
            Call::Documents(_) => "documents",
            Call::Extend(_) => "extend",
            Call::Propose(..) => "propose",
            Call::Perplexity(_) => "perplexity",
            _ => "other",
        })
        .collect();
    let turn = ["propose", "search", "documents", "extend", "perplexity"];
    assert_eq!(kinds, [&["extend"][..], &turn, &turn].concat());
}

#[test]
fn documents_are_fetched_once() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["ice on coils", "coils"])
        .proposes("ice on coils", &["humid coils", "coils valve"]);
    run(&mut host, &request().with("turns", 2));
    let mut fetched: Vec<&String> = host
        .calls
        .iter()
        .filter_map(|call| match call {
            Call::Documents(ids) => Some(ids),
            _ => None,
        })
        .flatten()
        .collect();
    let all = fetched.len();
    fetched.sort();
    fetched.dedup();
    assert_eq!(all, fetched.len());
}

#[test]
fn the_policy_reads_titles_and_beginnings_and_judges_by_the_papers_sentence() {
    let mut host = world().proposes("why do heat pumps freeze", &["reversing valve"]);
    run(&mut host, &request().with("turns", 1).with("width", 1).with("snippet-chars", 15));
    let Some(Call::Perplexity(requests)) = host.calls.last() else { panic!("the last call judges") };
    let (node, texts) = &requests[0];
    let sentence = "Given turn 1 and search query reversing valve, the retrieved documents are relevant to the user \
                    query why do heat pumps freeze.";
    assert_eq!(texts, &[sentence]);
    let [Segment::UserQuery(_), Segment::Think(_), Segment::SearchQuery(_), Segment::TopKResponse(read)] =
        host.trajectory(*node)
    else {
        panic!("unexpected trajectory {:?}", host.trajectory(*node))
    };
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].title.as_str(), read[0].text.as_str()), ("Defrost cycle", "reversing valve"));
}

#[test]
fn a_branch_whose_children_are_worse_is_asked_for_alternatives() {
    let mut host = world()
        .proposes("why do heat pumps freeze", &["ice on coils"])
        .perplexity_after("ice on coils", 3.0)
        // First a step back, then what the search was after.
        .proposes("ice on coils", &["winter tyres", "reversing valve"])
        .perplexity_after("winter tyres", 20.0)
        .perplexity_after("reversing valve", 1.5);
    run(&mut host, &request().with("beam", 1).with("width", 1).with("turns", 3));
    assert_eq!(chosen(&host), ["why do heat pumps freeze", "ice on coils", "reversing valve"]);
    assert_eq!(pruned(&host), ["winter tyres"]);
    // Backtracking as the trace shows it: the parent is two turns older.
    let last = host.events.iter().rev().find_map(|event| match event {
        Event::Expanded(expanded) => Some((expanded.turn, expanded.parent)),
        _ => None,
    });
    assert_eq!(last, Some((3, Some(1))));
}

#[test]
fn patience_runs_out_when_nothing_improves() {
    let worse_and_worse = |patience: u32| {
        let mut host = world()
            .proposes("why do heat pumps freeze", &["ice"])
            .perplexity_after("ice", 2.0)
            .proposes("ice", &["coils", "metal", "humid", "cold", "air"]);
        let outcome = run(
            &mut host,
            &request().with("beam", 1).with("width", 1).with("turns", 6).with("patience", patience),
        );
        (stopped(&outcome).to_owned(), host.searched().len())
    };
    // The user's query, the first branch, and as many failures as patience allows.
    assert_eq!(worse_and_worse(1), ("patience".to_owned(), 3));
    assert_eq!(worse_and_worse(3), ("patience".to_owned(), 5));
    assert_eq!(worse_and_worse(0), ("turns".to_owned(), 7));
}

#[test]
fn a_policy_that_only_repeats_itself_ends_the_search() {
    let mut host = world();
    host = host.proposes("why do heat pumps freeze", &["ice"]);
    let outcome = run(&mut host, &request().with("turns", 16));
    assert_eq!(stopped(&outcome), "exhausted");
    assert_eq!(host.searched(), ["why do heat pumps freeze", "ice"]);
}

#[test]
fn a_short_retrieval_budget_is_used_up_and_answered_from() {
    let mut host = world()
        .retrievals(4)
        .proposes("why do heat pumps freeze", &["ice on coils", "cold metal"])
        .proposes("ice on coils", &["reversing valve", "melts"])
        .proposes("cold metal", &["winter", "humid air"]);
    let outcome = run(&mut host, &request());
    // First proposals go before second ones.
    assert_eq!(
        host.searched(),
        ["why do heat pumps freeze", "ice on coils", "cold metal", "reversing valve"]
    );
    assert_eq!(host.budget().retrievals, 0);
    assert_eq!(stopped(&outcome), "budget retrievals");
    assert!(!outcome.ranking.is_empty());
}

#[test]
fn tokens_that_run_out_while_judging_lose_no_retrieval() {
    // Enough for the user's query and one round of proposals, not for reading what they found.
    let mut host = world().tokens(20).proposes("why do heat pumps freeze", &["reversing valve", "ice"]);
    let outcome = run(&mut host, &request());
    assert_eq!(stopped(&outcome), "budget tokens");
    assert!(ids(&outcome).contains(&"defrost"));
}

#[test]
fn no_policy_is_an_error_before_anything_is_spent() {
    let mut host = world();
    assert_eq!(Beam::search(&mut host, &request()), Err(Error::Unavailable("policy".to_owned())));
    assert!(host.searched().is_empty());
}

#[test]
fn no_budget_at_all_is_an_error() {
    let mut host = world().retrievals(0).proposes("why do heat pumps freeze", &["ice"]);
    assert!(matches!(Beam::search(&mut host, &request()), Err(Error::BudgetExhausted(_))));
}

#[test]
fn the_original_query_can_be_left_out() {
    let mut host = world().proposes("why do heat pumps freeze", &["reversing valve"]);
    let outcome = run(&mut host, &request().with("turns", 1).with("include-original", false));
    assert_eq!(host.searched(), ["reversing valve"]);
    assert_eq!(ids(&outcome), ["defrost"]);
}

#[test]
fn wrong_parameters_are_refused_before_anything_is_spent() {
    for (name, value) in [("turns", "0"), ("confidence", "gut"), ("temperature", "hot"), ("beam", "-1")] {
        let mut host = world().proposes("why do heat pumps freeze", &["ice"]);
        let refused = Beam::search(&mut host, &request().with(name, value));
        assert!(
            matches!(&refused, Err(Error::InvalidInput(message)) if message.contains(name)),
            "{refused:?}"
        );
        assert!(host.calls.is_empty());
    }
}

#[test]
fn every_branch_is_either_chosen_or_pruned() {
    let words = ["ice", "coils", "metal", "humid", "cold", "air", "valve", "melts", "winter", "house"];
    for seed in 0..40_u64 {
        let mut host = world();
        let mut random = orion_sdk::random::Random::new(seed);
        for from in words.iter().chain(&["why do heat pumps freeze"]) {
            let proposals: Vec<&str> = (0..4).map(|_| words[random.below(words.len())]).collect();
            host =
                host.proposes(from, &proposals).perplexity_after(from, 1.0 + random.below(40) as f32 / 4.0);
        }
        run(&mut host, &request().with("patience", 0).with("turns", 5));
        let mut ends: Vec<u32> = Vec::new();
        let mut expanded: Vec<u32> = Vec::new();
        for event in &host.events {
            match event {
                Event::Chosen(branch) | Event::Pruned(branch) => ends.push(*branch),
                Event::Expanded(event) => {
                    assert!(event.parent.is_none_or(|parent| parent < event.branch));
                    expanded.push(event.branch);
                }
                _ => {}
            }
        }
        ends.sort_unstable();
        assert_eq!(ends, expanded, "seed {seed}");
        assert_eq!(expanded, (0..expanded.len() as u32).collect::<Vec<_>>());
    }
}

#[test]
fn the_same_request_gives_the_same_search() {
    let once = || {
        let mut host = world()
            .proposes("why do heat pumps freeze", &["ice on coils", "cold metal"])
            .proposes("ice on coils", &["reversing valve", "melts"]);
        let outcome = run(&mut host, &request());
        (format!("{:?}", outcome.ranking), host.calls)
    };
    assert_eq!(once(), once());
}
