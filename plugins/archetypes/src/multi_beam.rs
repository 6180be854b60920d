//! Multi-Beam Parallel: "runs several different search strategies at the same time".
//!
//! Movement: several lines are opened in one turn, as different from each other as the offers allow, and all go on side
//! by side; where the turns do not suffice for all, the best ones do. Lines never meet.

use orion_sdk::parameters::Integer;
use orion_sdk::{Host, Parameter};

use crate::offers::{Offer, first};
use crate::terms::kept_share;
use crate::walk::{Halt, Move, ROOT, Stop, Walk};

/// The table's example searches three at once: climate data, weather patterns, temperature trends.
const BEAMS: Integer =
    Integer { name: "beams", default: 3, min: 2, max: 16, help: "lines of search that run side by side" };

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![BEAMS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let beams = BEAMS.read(&walk.request.options)? as usize;
    let opened = different(walk.offers(ROOT, beams)?, beams.min(walk.left()));
    let count = opened.len();
    let moves = opened.into_iter().enumerate().map(|(line, offer)| {
        let why = format!("Line {} of {count}, all at the same time.", line + 1);
        Move { from: ROOT, offer, why }
    });
    let mut lines = walk.go_together(moves.collect())?;
    while walk.left() > 0 {
        let mut advancing = lines.clone();
        while walk.left() < advancing.len() {
            let worst = advancing.iter().copied().rev().reduce(|worst, step| {
                if walk.step(step).quality < walk.step(worst).quality { step } else { worst }
            });
            advancing.retain(|&step| Some(step) != worst);
        }
        walk.ask(&advancing, 1)?;
        let mut moves = Vec::new();
        for &from in &advancing {
            let Some(offer) = first(walk.offers(from, 1)?) else { continue };
            let why = format!("The line of {} goes on beside the others.", walk.step(from).query);
            moves.push(Move { from, offer, why });
        }
        if moves.is_empty() {
            return Ok(Stop::Exhausted);
        }
        lines = walk.go_together(moves)?;
    }
    Ok(Stop::Turns)
}

/// The first offer, then each time the one that has least in common with those taken.
fn different(mut offers: Vec<Offer>, count: usize) -> Vec<Offer> {
    let mut taken: Vec<Offer> = Vec::new();
    while taken.len() < count && !offers.is_empty() {
        let likeness = |offer: &Offer| {
            taken.iter().map(|other| kept_share(&other.query, &offer.query)).fold(0.0, f32::max)
        };
        let least = (0..offers.len())
            .min_by(|&left, &right| likeness(&offers[left]).total_cmp(&likeness(&offers[right])));
        taken.extend(least.map(|index| offers.remove(index)));
    }
    taken
}
