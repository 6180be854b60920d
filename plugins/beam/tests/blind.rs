//! `blind`: the same tree as `beam` without a policy, at no fewer retrievals.

use orion_beam::{Beam, Blind};
use orion_sdk::mock::{Call, MockHost};
use orion_sdk::{Event, Request, Strategy};

fn world() -> MockHost {
    MockHost::new()
        .document("pumps", "Heat pumps", "an overview of heat pumps and how they warm a house")
        .document("ice", "Ice on coils", "outdoor coils collect ice when humid air meets cold metal")
}

#[test]
fn it_searches_as_often_as_a_beam_that_never_repeats_itself() {
    let query = "why do heat pumps freeze";
    let mut blind = world();
    Blind::search(&mut blind, &Request::new(query, 10, 7)).unwrap();

    // A policy with something new to say at every turn.
    let mut beam = world();
    let mut level = vec![query.to_owned()];
    for turn in 0..4 {
        let mut next = Vec::new();
        for (index, from) in level.iter().enumerate() {
            let proposals = [format!("left {turn} {index}"), format!("right {turn} {index}")];
            beam = beam.proposes(from, &proposals.each_ref().map(String::as_str));
            for proposal in proposals {
                beam = beam.perplexity_after(&proposal, 9.0 - turn as f32);
                next.push(proposal);
            }
        }
        level = next;
    }
    Beam::search(&mut beam, &Request::new(query, 10, 7)).unwrap();

    // The user's query, 2 children of it, then 2 of each of 2 survivors for 3 turns.
    assert_eq!(beam.searched().len(), 1 + 2 + 3 * 4);
    assert_eq!(blind.searched().len(), 1 + 2 + 3 * 4);
}

#[test]
fn no_variant_repeats_and_none_leaves_the_users_words() {
    let mut host = world();
    Blind::search(&mut host, &Request::new("why do heat pumps freeze", 10, 3)).unwrap();
    let searched = host.searched();
    let mut distinct = searched.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(searched.len(), distinct.len());
    assert!(
        searched
            .iter()
            .flat_map(|text| text.split(' '))
            .all(|word| "why do heat pumps freeze".contains(word))
    );
}

#[test]
fn it_asks_no_policy_and_judges_nothing() {
    let mut host = world();
    let outcome = Blind::search(&mut host, &Request::new("why do heat pumps freeze", 10, 3)).unwrap();
    assert!(host.calls.iter().all(|call| matches!(call, Call::Search(_))));
    assert!(!host.events.iter().any(|event| matches!(event, Event::Judged(_))));
    assert!(outcome.confidence.is_nan());
}

#[test]
fn the_seed_decides() {
    let searched = |seed| {
        let mut host = world();
        Blind::search(&mut host, &Request::new("why do heat pumps freeze", 10, seed)).unwrap();
        host.searched().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(searched(1), searched(1));
    assert_ne!(searched(1), searched(2));
}
