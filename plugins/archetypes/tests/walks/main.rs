//! The archetypes on small scripted worlds.
//!
//! `worlds` has one world for each, made so that its characteristic move shows, with the exact walk that is expected;
//! `moves` says what each characteristic move is, as a test of any walk; here all walk through all worlds. `serving`
//! tests what they have in common: answers, budgets, walks without a policy.

mod moves;
mod serving;
mod walked;
mod worlds;

use walked::{ARCHETYPES, walk};
use worlds::{World, world};

#[test]
fn each_archetype_walks_as_its_row_in_the_table_says() {
    for name in ARCHETYPES {
        let World { host, request, expected } = world(name);
        let walked = walk(name, host, &request);
        assert_eq!(walked.lines(), expected, "{name}\n{walked}");
    }
}

#[test]
fn no_other_archetype_makes_its_characteristic_move_there() {
    let mut findings = Vec::new();
    for of in ARCHETYPES {
        let holds = moves::characteristic(of);
        for name in ARCHETYPES {
            let World { host, request, .. } = world(of);
            let walked = walk(name, host, &request);
            match (name == of, holds(&walked)) {
                (true, false) => findings.push(format!("{name} does not make its move:\n{walked}")),
                (false, true) => findings.push(format!("{name} moves as {of} does in its world:\n{walked}")),
                (true, true) | (false, false) => {}
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn thoughts_say_why() {
    for (name, turn, expected) in [
        (
            "wrong-direction-specialist",
            3,
            "Quality fell from 0.60 to 0.30: I look for python tutorials but keep finding snake. This is the wrong \
             direction, so I turn back to python lessons and leave out feeding. look for coding course",
        ),
        (
            "depth-first-driller",
            4,
            "transformers brings nothing new: exhausted. I go back up to deep learning and drill elsewhere. look for \
             convolution filters",
        ),
        (
            "best-first-hypothesis-selector",
            5,
            "malaria travel history is down to 0.50; lyme disease with 0.60 is now the most promising, so I pursue that. \
             look for tick bites",
        ),
        (
            "adaptive-context-learner",
            2,
            "The results speak of carbon and emissions, so I add that to climate change effects.",
        ),
    ] {
        let World { host, request, .. } = world(name);
        let walked = walk(name, host, &request);
        let think = walked.steps.iter().find(|step| step.turn == turn).map(|step| step.think.as_str());
        assert_eq!(think, Some(expected), "{name}\n{walked}");
    }
}

/// What an archetype writes itself goes into the policy's state as think and query; a policy's proposal continues its own.
#[test]
fn the_policy_reads_the_archetypes_thought_where_the_query_is_the_archetypes() {
    let World { mut host, request, .. } = world("adaptive-context-learner");
    walked::search("adaptive-context-learner", &mut host, &request).expect("an answer");
    let last = host.calls.iter().rev().find_map(|call| match call {
        orion_sdk::mock::Call::Quality(turns) => turns[0].node,
        _ => None,
    });
    let trajectory = host.trajectory(last.expect("the last turn was judged with a node"));
    let thoughts: Vec<&str> = trajectory
        .iter()
        .filter_map(|segment| match segment {
            orion_sdk::Segment::Think(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(thoughts[0], "look for climate change effects");
    assert_eq!(
        thoughts[1],
        "The results speak of carbon and emissions, so I add that to climate change effects."
    );
}
