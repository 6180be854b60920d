//! Wrong-Direction Specialist: "recognizes when searches are getting worse and explains why".
//!
//! Movement: onwards, while it watches the quality. Where that has fallen from the best on the way, the thought says by
//! how much and what the results speak of instead; then back to that best query, and on by the offer that has least in
//! common with the wrong one.

use orion_sdk::parameters::Number;
use orion_sdk::{Host, Parameter};

use crate::offers::{Offer, first};
use crate::terms::{added, kept_share};
use crate::walk::{Halt, ROOT, Stop, Walk};

/// Ours: a tenth of the scale; less is within what a judge of itself varies by.
const DROP: Number = Number {
    name: "drop",
    default: 0.1,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "fall of quality from the best on the way that counts as a wrong direction",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![DROP.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let drop = DROP.read(&walk.request.options)?;
    let mut last = ROOT;
    while walk.left() > 0 {
        let above: Vec<usize> = walk.path(last).into_iter().skip(1).filter(|&step| step != ROOT).collect();
        let peak = walk.best_of(&above);
        let fallen = peak.filter(|&peak| walk.step(peak).quality - walk.step(last).quality >= drop);
        let from = fallen.unwrap_or(last);
        let offers = walk.offers(from, 1)?;
        let wrong = &walk.step(last).query;
        let offer = if fallen.is_some() { farthest(offers, wrong) } else { first(offers) };
        let Some(offer) = offer else { return Ok(Stop::Exhausted) };
        let why = match fallen {
            Some(peak) => explain(walk, peak, last),
            None if last == ROOT => "I set out and watch whether the results get worse.".to_owned(),
            None => format!("Quality is {:.2}, no worse than before, so I go on.", walk.step(last).quality),
        };
        last = walk.go(from, offer, why)?;
    }
    Ok(Stop::Turns)
}

fn explain(walk: &Walk<'_, impl Host>, peak: usize, wrong: usize) -> String {
    let (good, bad) = (walk.step(peak), walk.step(wrong));
    let keep_finding = match walk.topics(wrong).first() {
        Some(topic) => {
            format!("I look for {} but keep finding {topic}", walk.request.query.trim_end_matches(['?', '.']))
        }
        None => "hardly anything comes back".to_owned(),
    };
    let misleading = added(&good.query, &bad.query);
    let culprit = if misleading.is_empty() { bad.query.clone() } else { misleading.join(" ") };
    format!(
        "Quality fell from {:.2} to {:.2}: {keep_finding}. This is the wrong direction, so I turn back to {} and leave \
         out {culprit}.",
        good.quality, bad.quality, good.query
    )
}

/// The offer that keeps least of the wrong query's words; the first of those that keep as little.
fn farthest(offers: Vec<Offer>, wrong: &str) -> Option<Offer> {
    let ranked = offers.into_iter().map(|offer| (kept_share(wrong, &offer.query), offer));
    ranked.min_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, offer)| offer)
}
