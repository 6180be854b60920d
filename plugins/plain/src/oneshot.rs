//! One query, one ranking: lexical, dense, hybrid.

use orion_sdk::parameters::{Choice, Number};
use orion_sdk::{
    Description, Error, Event, Expanded, Host, Outcome, Query, Request, Retrieved, Retriever, Strategy,
};

/// The user's query by BM25.
#[derive(Debug)]
pub struct Lexical;

/// The user's query by the dense encoder.
#[derive(Debug)]
pub struct Dense;

/// The user's query by both, fused by the index.
#[derive(Debug)]
pub struct Hybrid;

/// How the index fuses; `true` is by weighted scores, the better rule on five of the six reference sets.
const FUSION: Choice<bool> = Choice {
    name: "fusion",
    choices: &[("convex", true), ("rrf", false)],
    help: "rule that fuses both rankings",
};

/// Even shares are where DESIGN's reference points were measured; a tuned share comes from `index tune`.
const DENSE_WEIGHT: Number = Number {
    name: "dense-weight",
    default: 0.5,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "share of the dense score where fusion is convex",
};

impl Strategy for Lexical {
    fn describe() -> Description {
        Description::new("lexical", "one lexical search with the query as it is", Vec::new())
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        one_shot(host, request, Retriever::Lexical, f32::NAN)
    }
}

impl Strategy for Dense {
    fn describe() -> Description {
        Description::new("dense", "one dense search with the query as it is", Vec::new())
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        one_shot(host, request, Retriever::Dense, f32::NAN)
    }
}

impl Strategy for Hybrid {
    fn describe() -> Description {
        let parameters = vec![FUSION.describe(), DENSE_WEIGHT.describe()];
        Description::new("hybrid", "one hybrid search with the query as it is", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let convex = FUSION.read(&request.options)?;
        let dense_weight = DENSE_WEIGHT.read(&request.options)?;
        one_shot(host, request, Retriever::Hybrid, if convex { dense_weight } else { f32::NAN })
    }
}

fn one_shot(
    host: &mut impl Host,
    request: &Request,
    retriever: Retriever,
    dense_weight: f32,
) -> Result<Outcome, Error> {
    let query = Query::new(&request.query, retriever, dense_weight, request.k);
    let ranking = host.search(&[query])?.pop().unwrap_or_default();
    host.trace(&[
        Event::Expanded(Expanded {
            branch: 0,
            parent: None,
            turn: 1,
            think: String::new(),
            query: request.query.clone(),
            retriever,
        }),
        Event::Retrieved(Retrieved { branch: 0, hits: ranking.clone() }),
        Event::Chosen(0),
    ]);
    Ok(Outcome::ranked(ranking, request.k, f32::NAN))
}
