//! `rewrite`: the policy writes one query, and what that finds is the answer.
//!
//! The single-rewrite baseline (DeepRetrieval, arXiv:2503.00223, is the best known of its kind): no reading, no second
//! turn, no fusion with the user's own words unless `include-original` asks for it. It shows what a policy's first query
//! is worth by itself.

use orion_sdk::fusion::{Fusion, Weighted};
use orion_sdk::parameters::Boolean;
use orion_sdk::usual::{DENSE_WEIGHT, DEPTH, ORIGINAL_WEIGHT, RETRIEVER, describe_sampling, sampling};
use orion_sdk::{
    Candidate, Description, Error, Event, Expanded, Host, Outcome, Query, Request, Retrieved, Retriever,
    Segment, Strategy,
};

/// The baseline of that name.
#[derive(Debug)]
pub struct Rewrite;

const INCLUDE_ORIGINAL: Boolean =
    Boolean { name: "include-original", default: false, help: "also retrieve the user's own query" };

impl Strategy for Rewrite {
    fn describe() -> Description {
        let mut parameters = vec![
            RETRIEVER.describe(),
            DENSE_WEIGHT.describe(),
            DEPTH.describe(),
            INCLUDE_ORIGINAL.describe(),
            ORIGINAL_WEIGHT.describe(),
        ];
        parameters.extend(describe_sampling());
        Description::new("rewrite", "control: one query written by the policy, looked up once", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let options = &request.options;
        let fixed = RETRIEVER.read(options)?;
        let dense_weight = DENSE_WEIGHT.read(options)?;
        let depth = DEPTH.read(options)?.max(request.k);
        let original_weight = ORIGINAL_WEIGHT.read(options)?;
        let original_weight = if INCLUDE_ORIGINAL.read(options)? { original_weight } else { 0.0 };
        let mut wanted = sampling(options, 1)?;
        wanted.seed = request.seed;

        let candidate = propose(host, request, &wanted)?;
        let retriever = fixed.or(candidate.retriever).unwrap_or(Retriever::Hybrid);
        let mut queries = vec![Query::new(&candidate.query, retriever, dense_weight, depth)];
        if original_weight > 0.0 {
            let own = fixed.unwrap_or(Retriever::Hybrid);
            queries.push(Query::new(&request.query, own, dense_weight, depth));
        }
        let rankings = host.search(&queries)?;
        let mut events = Vec::new();
        let thoughts = [candidate.think, String::new()];
        for (branch, ((query, hits), think)) in queries.iter().zip(&rankings).zip(thoughts).enumerate() {
            let (branch, retriever) = (branch as u32, query.retriever);
            let query = query.text.clone();
            let expanded = Expanded { branch, parent: None, turn: 1, think, query, retriever };
            events.push(Event::Expanded(expanded));
            events.push(Event::Retrieved(Retrieved { branch, hits: hits.clone() }));
            events.push(Event::Chosen(branch));
        }
        host.trace(&events);
        let weights = [1.0 - original_weight, original_weight];
        let weighted: Vec<Weighted<'_>> =
            rankings.iter().zip(weights).map(|(hits, weight)| Weighted { weight, hits }).collect();
        Ok(Outcome::ranked(Fusion::MinMax.fuse(&weighted), request.k, f32::NAN))
    }
}

/// The policy's one candidate after the user's query.
fn propose(
    host: &mut impl Host,
    request: &Request,
    wanted: &orion_sdk::Sampling,
) -> Result<Candidate, Error> {
    let nodes = host.extend(&[(None, vec![Segment::UserQuery(request.query.clone())])])?;
    let mut candidates = host.propose(&nodes, wanted)?.into_iter().flatten();
    let nothing = || Error::Other(("no-query".to_owned(), "the policy proposed no query".to_owned()));
    candidates.find(|candidate| !candidate.query.trim().is_empty()).ok_or_else(nothing)
}
