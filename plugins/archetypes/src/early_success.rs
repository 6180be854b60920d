//! Early-Success Validator: "recognizes good results early and sticks with successful approaches".
//!
//! Movement: one first query after another until one is a success; from then on only refinements of the success, by the
//! offer closest to it. When enough of them are as good, the success is confirmed and the walk ends early.

use orion_sdk::parameters::{Integer, Number};
use orion_sdk::{Host, Parameter};

use crate::offers::{first, nearest};
use crate::walk::{Halt, ROOT, Stop, Walk};

/// Ours: clearly above the middle, where self-assessment is undecided.
const SUCCESS: Number = Number {
    name: "success",
    default: 0.6,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "quality that counts as a success",
};

/// Ours: one refinement may agree by chance.
const CONFIRMATIONS: Integer = Integer {
    name: "confirmations",
    default: 2,
    min: 1,
    max: 15,
    help: "successful refinements after which the search ends",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![SUCCESS.describe(), CONFIRMATIONS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let success = SUCCESS.read(&walk.request.options)?;
    let confirmations = CONFIRMATIONS.read(&walk.request.options)?;
    let mut anchor = ROOT;
    let mut last = ROOT;
    let mut confirmed = 0;
    while walk.left() > 0 {
        let offers = walk.offers(anchor, 1)?;
        let query = walk.step(anchor).query.clone();
        let offer = if anchor == ROOT { first(offers) } else { nearest(offers, &query) };
        let Some(offer) = offer else { return Ok(Stop::Exhausted) };
        let quality = walk.step(last).quality;
        let why = if last == ROOT {
            "A good first query would show at once.".to_owned()
        } else if anchor == ROOT {
            format!("No success yet ({quality:.2}), so I try another way in.")
        } else if quality >= success {
            format!("This gives me relevant results ({quality:.2}); I stay with {query} and refine it.")
        } else {
            format!("That refinement was weaker ({quality:.2}); I stay with {query}, which works.")
        };
        last = walk.go(anchor, offer, why)?;

        let quality = walk.step(last).quality;
        if quality < success {
            continue;
        }
        if anchor != ROOT {
            confirmed += 1;
            if confirmed == confirmations {
                return Ok(Stop::Validated);
            }
        }
        if anchor == ROOT || walk.step(anchor).quality < quality {
            anchor = last;
        }
    }
    Ok(Stop::Turns)
}
