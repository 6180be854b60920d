//! Breadth-First Explorer: "systematically covers all related topics before going deeper".
//!
//! Movement: level by level, in order and whatever the results are worth: first several topics side by side from the
//! user's query, one a turn, then one query deeper into each of them, and so on.

use orion_sdk::parameters::Integer;
use orion_sdk::{Host, Parameter};

use crate::offers::first;
use crate::walk::{Halt, ROOT, Stop, Walk};

/// The table's example covers three: applications, ethics, history.
const TOPICS: Integer = Integer {
    name: "topics",
    default: 3,
    min: 2,
    max: 16,
    help: "topics covered before any is gone deeper into",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![TOPICS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let topics = TOPICS.read(&walk.request.options)? as usize;
    let mut level = Vec::new();
    for number in 1..=topics {
        if walk.left() == 0 {
            return Ok(Stop::Turns);
        }
        let Some(offer) = first(walk.offers(ROOT, topics + 1 - number)?) else { break };
        let why = match number {
            1 => "I cover the related topics first, one after another.".to_owned(),
            _ => format!("Before I go deeper, topic {number} of {topics}."),
        };
        level.push(walk.go(ROOT, offer, why)?);
    }
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for (position, &from) in level.iter().enumerate() {
            if walk.left() == 0 {
                return Ok(Stop::Turns);
            }
            let Some(offer) = first(walk.offers(from, 1)?) else { continue };
            let (query, place) = (&walk.step(from).query, position + 1);
            let why =
                format!("All topics are covered at this level; I go deeper into topic {place}, {query}.");
            deeper.push(walk.go(from, offer, why)?);
        }
        level = deeper;
    }
    Ok(Stop::Exhausted)
}
