//! Random Walk Wanderer: "explores randomly in different directions without a clear plan".
//!
//! Movement: always on from where it stands, to any of the queries offered there, drawn from the request's seed. What
//! the last results were worth does not matter.

use orion_sdk::{Host, Parameter};

use crate::walk::{Halt, ROOT, Stop, Walk};

/// Reasons of one who has none.
const WHIMS: [&str; 4] = [
    "I have no plan and see where this leads.",
    "Something else comes to mind.",
    "I wander on, whatever the last results were.",
    "Why not look over here.",
];

pub(crate) fn parameters() -> Vec<Parameter> {
    Vec::new()
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let mut last = ROOT;
    while walk.left() > 0 {
        let mut offers = walk.offers(last, 2)?;
        if offers.is_empty() {
            return Ok(Stop::Exhausted);
        }
        let mut random = walk.random();
        let offer = offers.swap_remove(random.below(offers.len()));
        let whim = WHIMS[random.below(WHIMS.len())].to_owned();
        last = walk.go(last, offer, whim)?;
    }
    Ok(Stop::Turns)
}
