//! Greedy Hill Climber: "always picks the next query that seems like the biggest improvement".
//!
//! Movement: several variants of the last query are tried side by side, the best of them is the next step if it is an
//! improvement, the others are pruned. Where none is, this is a local optimum and the walk ends.

use orion_sdk::parameters::Integer;
use orion_sdk::{Host, Parameter};

use crate::walk::{Halt, Move, ROOT, Stop, Walk};

/// Ours: with the default turns that is the cost of `beam`'s default tree.
const VARIANTS: Integer =
    Integer { name: "variants", default: 3, min: 2, max: 16, help: "variants tried for each step" };

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![VARIANTS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let variants = VARIANTS.read(&walk.request.options)? as usize;
    let mut last = ROOT;
    while walk.left() > 0 {
        let offers = walk.offers(last, variants)?;
        let count = offers.len().min(variants);
        let step = walk.step(last);
        let why = match last {
            ROOT => format!("I try {count} queries and take the best."),
            _ => format!("I am at {:.2}; of {count} variants I take the biggest improvement.", step.quality),
        };
        let height = if last == ROOT { f32::NEG_INFINITY } else { step.quality };
        let moves = offers.into_iter().take(count).map(|offer| Move { from: last, offer, why: why.clone() });
        if count == 0 {
            return Ok(Stop::Exhausted);
        }
        let tried = walk.go_together(moves.collect())?;
        let best = walk.best_of(&tried).filter(|&best| height < walk.step(best).quality);
        walk.prune(tried.into_iter().filter(|&step| Some(step) != best));
        match best {
            Some(step) => last = step,
            None => return Ok(Stop::LocalOptimum),
        }
    }
    Ok(Stop::Turns)
}
