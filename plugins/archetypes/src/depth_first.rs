//! Depth-First Driller: "goes deep into one direction until exhausted, then backtracks".
//!
//! Movement: always deeper from the last query, by the offer that stays closest to it. A direction is exhausted where it
//! brings no new document, where it is worth next to nothing, or where nothing is left to ask; then back to the nearest
//! query above that has an untried continuation.

use orion_sdk::parameters::Number;
use orion_sdk::{Host, Parameter};

use crate::offers::{Offer, nearest};
use crate::walk::{Halt, ROOT, Stop, Walk};

/// Ours: a fifth of the scale; a driller is patient, a mere decline does not turn it.
const FLOOR: Number = Number {
    name: "floor",
    default: 0.2,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "quality below which a direction is exhausted",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![FLOOR.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let floor = FLOOR.read(&walk.request.options)?;
    let mut last = ROOT;
    let mut exhausted = false;
    while walk.left() > 0 {
        let start = if exhausted { walk.step(last).parent.unwrap_or(ROOT) } else { last };
        let Some((from, offer)) = nearest_open(walk, start)? else { return Ok(Stop::Exhausted) };
        let (here, query) = (&walk.step(last).query, &walk.step(from).query);
        let why = if last == ROOT {
            "I take one direction and drill into it.".to_owned()
        } else if from == last {
            format!("There is more below {here}; I drill deeper.")
        } else if exhausted && walk.step(last).new_documents == 0 {
            format!("{here} brings nothing new: exhausted. I go back up to {query} and drill elsewhere.")
        } else if exhausted {
            let quality = walk.step(last).quality;
            format!(
                "{here} leads nowhere ({quality:.2}): exhausted. I go back up to {query} and drill elsewhere."
            )
        } else {
            format!("Nothing is left to ask below {here}. I go back up to {query} and drill elsewhere.")
        };
        last = walk.go(from, offer, why)?;
        exhausted = walk.step(last).new_documents == 0 || walk.step(last).quality < floor;
    }
    Ok(Stop::Turns)
}

/// `start`, or its nearest ancestor, with an untried continuation.
fn nearest_open(walk: &mut Walk<'_, impl Host>, start: usize) -> Result<Option<(usize, Offer)>, Halt> {
    for step in walk.path(start) {
        let offers = walk.offers(step, 1)?;
        if let Some(offer) = nearest(offers, &walk.step(step).query) {
            return Ok(Some((step, offer)));
        }
    }
    Ok(None)
}
