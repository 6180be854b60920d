//! The paper's beam search over a search policy, and its blind twin.
//!
//! `tree.rs` grows the tree and fuses the answer; what proposes queries and judges branches is a driver: the policy
//! (`policy.rs`, section 3.4 of the paper, arXiv title: Think Before You Retrieve) or blind perturbation (`blind.rs`,
//! the control that shows what more retrievals bring by themselves). `settings.rs` lists the parameters both share.
//!
//! Two more strategies are made of the same parts: `auto.rs` looks first and searches adaptively only where the first
//! ranking looks weak, `rewrite.rs` is the one-query baseline.
//!
//! Where this departs from the paper, or fills what it leaves open:
//! 1. The answer is a fused ranking over the surviving branches' whole paths; the paper scores single retrievals and
//!    stops at the judged document, which a search server does not know.
//! 2. The user's own query is retrieved as well (turn 0) and takes part in the fusion: `include-original`.
//! 3. A branch whose children all look worse stays in the beam and is asked for alternatives: backtracking.
//! 4. Search also stops when confidence no longer improves (`patience`), and at the host's budgets.
//! 5. Duplicates of an ancestor or sibling are dropped before they are retrieved.
//! 6. Sampling settings, snippet lengths and fusion constants are ours; the paper states none.

mod auto;
mod blind;
mod policy;
mod rewrite;
mod settings;
mod tree;

pub use auto::Auto;
pub use rewrite::Rewrite;

use orion_sdk::signals::{Routed, logistic, route};
use orion_sdk::{Description, Error, Host, Outcome, Request, Retriever, Strategy};

/// Beam search: the policy proposes, reads what was retrieved, and judges its own branches.
#[derive(Debug)]
pub struct Beam;

/// The same tree, fusion and number of retrievals with blind queries and no judgement.
#[derive(Debug)]
pub struct Blind;

impl Strategy for Beam {
    fn describe() -> Description {
        let mut parameters = settings::describe_tree();
        parameters.extend(policy::describe());
        Description::new(
            "beam",
            "adaptive search: a policy proposes, reads and judges branches of a beam",
            parameters,
        )
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let settings = settings::Tree::read(request)?;
        let mut driver = policy::Driver::new(request, &settings)?;
        let opening = opening(host, request, &settings)?;
        tree::search(host, request, &settings, &mut driver, opening)
    }
}

impl Strategy for Blind {
    fn describe() -> Description {
        let help = "control: the tree of `beam` with blind perturbations of the query and no policy";
        Description::new("blind", help, settings::describe_tree())
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let settings = settings::Tree::read(request)?;
        let mut driver = blind::Driver::new(request, &settings);
        let opening = opening(host, request, &settings)?;
        tree::search(host, request, &settings, &mut driver, opening)
    }
}

/// The routed first ranking where one is asked for and both retrievers are there; a search by one fixed retriever has
/// nothing to route, and without an encoder or budget for two lookups the tree begins as it does otherwise.
fn opening(
    host: &mut impl Host,
    request: &Request,
    settings: &settings::Tree,
) -> Result<Option<Routed>, Error> {
    let is_hybrid = settings.retriever.is_none_or(|retriever| retriever == Retriever::Hybrid);
    let Some(share_model) = settings.share_model.as_ref().filter(|_| is_hybrid) else { return Ok(None) };
    match route(host, request, |seen| logistic(share_model, seen)) {
        Ok(routed) => Ok(Some(routed)),
        Err(Error::Unavailable(_) | Error::BudgetExhausted(_)) => Ok(None),
        Err(other) => Err(other),
    }
}
