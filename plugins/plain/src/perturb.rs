//! Blind perturbation without a tree: the user's query and seeded variants of it, all retrieved at once and fused.
//!
//! Shows what more retrievals bring by themselves. With as many variants as `beam` makes retrievals it is the control
//! at equal cost; the default is that number for 4 turns, beam 2 and width 2 (2 + 3 * 4, beside the query itself).

use orion_sdk::fusion::{Fusion, RECIPROCAL_RANK_CONSTANT, Weighted};
use orion_sdk::parameters::{Choice, Integer};
use orion_sdk::perturb::perturb;
use orion_sdk::random::Random;
use orion_sdk::text::normalise;
use orion_sdk::usual::{DENSE_WEIGHT, DEPTH, ORIGINAL_WEIGHT};
use orion_sdk::{
    Description, Error, Event, Expanded, Hit, Host, Outcome, Query, Request, Retrieved, Retriever, Strategy,
};

/// The control of that name.
#[derive(Debug)]
pub struct Perturb;

const PERTURBATIONS: Integer =
    Integer { name: "perturbations", default: 14, min: 1, max: 100, help: "blind variants of the query" };

const RETRIEVER: Choice<Retriever> = Choice {
    name: "retriever",
    choices: &[("hybrid", Retriever::Hybrid), ("dense", Retriever::Dense), ("lexical", Retriever::Lexical)],
    help: "what looks queries up",
};

/// Draws for one variant before the search makes do with fewer.
const DRAWS: usize = 32;

impl Strategy for Perturb {
    fn describe() -> Description {
        let parameters = vec![
            PERTURBATIONS.describe(),
            RETRIEVER.describe(),
            DENSE_WEIGHT.describe(),
            ORIGINAL_WEIGHT.describe(),
            DEPTH.describe(),
        ];
        Description::new("perturb", "control: the query and blind variants of it, fused", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let options = &request.options;
        let retriever = RETRIEVER.read(options)?;
        let dense_weight = DENSE_WEIGHT.read(options)?;
        let original_weight = ORIGINAL_WEIGHT.read(options)?;
        let depth = DEPTH.read(options)?.max(request.k);

        let mut texts = vec![request.query.clone()];
        texts.extend(variants(request, PERTURBATIONS.read(options)? as usize));
        // A short budget gives fewer variants rather than no answer.
        let affordable = usize::try_from(host.budget().retrievals).unwrap_or(usize::MAX);
        texts.truncate(affordable.max(1));
        let queries: Vec<Query> =
            texts.iter().map(|text| Query::new(text, retriever, dense_weight, depth)).collect();
        let rankings = host.search(&queries)?;

        trace(host, &texts, retriever, &rankings);
        let variant_share = (1.0 - original_weight) / rankings.len().saturating_sub(1).max(1) as f32;
        let weighted: Vec<Weighted<'_>> = rankings
            .iter()
            .enumerate()
            .map(|(index, hits)| match index {
                0 if rankings.len() == 1 => Weighted { weight: 1.0, hits },
                0 => Weighted { weight: original_weight, hits },
                _ => Weighted { weight: variant_share, hits },
            })
            .collect();
        let fused = Fusion::ReciprocalRank { constant: RECIPROCAL_RANK_CONSTANT }.fuse(&weighted);
        Ok(Outcome::ranked(fused, request.k, f32::NAN))
    }
}

/// At most `count` variants that differ from the query and from each other.
fn variants(request: &Request, count: usize) -> Vec<String> {
    let mut random = Random::derive(request.seed, &[0]);
    let mut issued = vec![normalise(&request.query)];
    let mut variants = Vec::new();
    for _ in 0..count {
        let mut draws = (0..DRAWS).map(|_| perturb(&request.query, &mut random));
        if let Some(variant) = draws.find(|variant| !issued.contains(variant)) {
            issued.push(variant.clone());
            variants.push(variant);
        }
    }
    variants
}

/// The query is branch 0, its variants are its children.
fn trace(host: &mut impl Host, texts: &[String], retriever: Retriever, rankings: &[Vec<Hit>]) {
    let mut events = Vec::new();
    for (branch, (query, hits)) in texts.iter().zip(rankings).enumerate() {
        events.push(Event::Expanded(Expanded {
            branch: branch as u32,
            parent: (branch > 0).then_some(0),
            turn: u32::from(branch > 0),
            think: String::new(),
            query: query.clone(),
            retriever,
        }));
        events.push(Event::Retrieved(Retrieved { branch: branch as u32, hits: hits.clone() }));
        events.push(Event::Chosen(branch as u32));
    }
    host.trace(&events);
}
