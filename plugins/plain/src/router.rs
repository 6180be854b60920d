//! The policy-free router: how much to trust each retriever is decided for each query, from what both found.
//!
//! One lexical and one dense search of the user's own query, a logistic model over [`orion_sdk::signals`] for the dense
//! share, and their convex fusion: the index's own rule for hybrid rankings, at the same depth. No language model takes
//! part, so this is the control that adaptive search has to beat where choosing a retriever is all it does; and, for two
//! lookups, a sensible strategy by itself.

use orion_sdk::parameters::Boolean;
use orion_sdk::signals::{DENSE_SHARE, Routed, WEAKNESS, logistic, route};
use orion_sdk::{
    Description, Error, Event, Expanded, Host, Outcome, Request, Retrieved, Retriever, Strategy,
};

/// The control of that name.
#[derive(Debug)]
pub struct Router;

const EXPLAIN: Boolean =
    Boolean { name: "explain", default: false, help: "also report the signals that the share follows from" };

impl Strategy for Router {
    fn describe() -> Description {
        let help = "control: lexical and dense, fused by a share that is chosen for each query";
        Description::new(
            "router",
            help,
            vec![DENSE_SHARE.describe(), WEAKNESS.describe(), EXPLAIN.describe()],
        )
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let share_model = DENSE_SHARE.read(&request.options)?;
        let weakness_model = WEAKNESS.read(&request.options)?;
        let explain = EXPLAIN.read(&request.options)?;
        let Routed { fused, lexical, dense, dense_share, signals } =
            route(host, request, |seen| logistic(&share_model, seen))?;
        for (branch, (retriever, hits)) in
            [(Retriever::Lexical, lexical), (Retriever::Dense, dense)].into_iter().enumerate()
        {
            let branch = branch as u32;
            let query = request.query.clone();
            host.trace(&[
                Event::Expanded(Expanded {
                    branch,
                    parent: None,
                    turn: 1,
                    think: String::new(),
                    query,
                    retriever,
                }),
                Event::Retrieved(Retrieved { branch, hits }),
                Event::Chosen(branch),
            ]);
        }
        let confidence = 1.0 - logistic(&weakness_model, &signals);
        let outcome = Outcome::ranked(fused, request.k, confidence).with("dense-share", dense_share);
        if !explain {
            return Ok(outcome);
        }
        Ok(outcome.with("signals", signals.map(|signal| signal.to_string()).join(",")))
    }
}
