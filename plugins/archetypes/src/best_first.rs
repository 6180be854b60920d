//! Best-First Hypothesis Selector: "manages multiple search ideas and picks the most promising one to pursue".
//!
//! Movement: several hypotheses are opened, one a turn; then always the most promising open one is pursued by one query,
//! which takes its place among the open ones. When that disappoints, another hypothesis is the most promising.

use orion_sdk::parameters::Integer;
use orion_sdk::{Host, Parameter};

use crate::offers::first;
use crate::walk::{Halt, ROOT, Stop, Walk};

/// The table's example has three search directions.
const HYPOTHESES: Integer = Integer {
    name: "hypotheses",
    default: 3,
    min: 2,
    max: 16,
    help: "hypotheses opened before one is pursued",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![HYPOTHESES.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let hypotheses = HYPOTHESES.read(&walk.request.options)? as usize;
    let mut open: Vec<usize> = Vec::new();
    for number in 1..=hypotheses {
        if walk.left() == 0 {
            return Ok(Stop::Turns);
        }
        let Some(offer) = first(walk.offers(ROOT, hypotheses + 1 - number)?) else { break };
        let why = format!("Hypothesis {number} of {hypotheses}, to be compared.");
        open.push(walk.go(ROOT, offer, why)?);
    }
    let mut pursued = None;
    while walk.left() > 0 {
        let Some(best) = walk.best_of(&open) else { return Ok(Stop::Exhausted) };
        open.retain(|&step| step != best);
        let Some(offer) = first(walk.offers(best, 1)?) else { continue };
        let step = walk.step(best);
        let why = match pursued {
            Some(last) if last != best => format!(
                "{} is down to {:.2}; {} with {:.2} is now the most promising, so I pursue that.",
                walk.step(last).query,
                walk.step(last).quality,
                step.query,
                step.quality
            ),
            _ => format!("{} is the most promising ({:.2}), so I pursue it.", step.query, step.quality),
        };
        let child = walk.go(best, offer, why)?;
        open.push(child);
        pursued = Some(child);
    }
    Ok(Stop::Turns)
}
