//! `auto`: one look first, adaptive search only where that looks weak.
//!
//! The first look is the hybrid ranking, made of two lookups and no language model (with `route`, the router's). A logistic
//! model over what both found (`orion_sdk::signals`) says how likely no relevant document is among its first ten; at `threshold` and above the tree of `beam` goes
//! on from there, and below it the first ranking is the answer, at a hundredth of the cost. The model is calibrated on
//! the permitted training queries (`orion-train router`), so the threshold is a probability.

use orion_sdk::parameters::Number;
use orion_sdk::signals::{Routed, WEAKNESS, logistic, route};
use orion_sdk::{
    Description, Error, Event, Expanded, Host, Outcome, Request, Retrieved, Retriever, Strategy,
};

use crate::{policy, settings, tree};

/// Adaptive search where one look does not suffice.
#[derive(Debug)]
pub struct Auto;

/// Ours: a first ranking that misses one time in three is worth a second thought.
const THRESHOLD: Number = Number {
    name: "threshold",
    default: 0.33,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "probability of a miss from which the search goes on adaptively",
};

impl Strategy for Auto {
    fn describe() -> Description {
        let mut parameters = vec![THRESHOLD.describe(), WEAKNESS.describe()];
        parameters.extend(settings::describe_tree());
        parameters.extend(policy::describe());
        Description::new("auto", "one look first, then `beam` where that looks weak", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let threshold = THRESHOLD.read(&request.options)?;
        let weakness_model = WEAKNESS.read(&request.options)?;
        let settings = settings::Tree::read(request)?;
        let mut driver = policy::Driver::new(request, &settings)?;
        // Reciprocal rank fusion has no share; its first look has even ones.
        let fixed = if settings.dense_weight.is_nan() { 0.5 } else { settings.dense_weight };
        let share = |seen: &_| settings.share_model.as_ref().map_or(fixed, |model| logistic(model, seen));
        let routed = match route(host, request, share) {
            Ok(routed) => routed,
            // Nothing to tell weak from good by: what was asked for is adaptive search.
            Err(Error::Unavailable(_)) => return tree::search(host, request, &settings, &mut driver, None),
            Err(other) => return Err(other),
        };
        let weakness = logistic(&weakness_model, &routed.signals);
        let outcome = if weakness < threshold {
            Ok(first_look(host, request, &routed, weakness))
        } else {
            tree::search(host, request, &settings, &mut driver, Some(routed))
        };
        outcome.map(|outcome| outcome.with("weakness", weakness))
    }
}

fn first_look(host: &mut impl Host, request: &Request, routed: &Routed, weakness: f32) -> Outcome {
    let mut hits = routed.fused.clone();
    hits.truncate(request.k as usize);
    host.trace(&[
        Event::Expanded(Expanded {
            branch: 0,
            parent: None,
            turn: 0,
            think: String::new(),
            query: request.query.clone(),
            retriever: Retriever::Hybrid,
        }),
        Event::Retrieved(Retrieved { branch: 0, hits: hits.clone() }),
        Event::Chosen(0),
    ]);
    Outcome::ranked(hits, request.k, 1.0 - weakness).with("stopped", "first look")
}
