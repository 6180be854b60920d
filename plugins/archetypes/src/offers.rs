//! What a step offers: queries that might follow it, from the policy or from rules, and the choice among them.

use orion_sdk::{Node, Retriever};

use crate::terms::kept_share;

/// A query that might be searched next.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Why, in the words of who offers it; may be empty.
    pub(crate) think: String,
    pub(crate) query: String,
    /// The policy's choice, where it makes one.
    pub(crate) retriever: Option<Retriever>,
    /// The policy's state after its own think and query; `None` where a rule or the archetype wrote the query.
    pub(crate) node: Option<Node>,
}

impl Offer {
    /// A query of the archetype's own; its reason is the move's.
    pub(crate) fn own(query: String) -> Self {
        Self { think: String::new(), query, retriever: None, node: None }
    }

    /// A query made by a rule.
    pub(crate) fn by_rule(query: String, think: String) -> Self {
        Self { think, query, retriever: None, node: None }
    }
}

/// The first offer.
pub(crate) fn first(offers: Vec<Offer>) -> Option<Offer> {
    offers.into_iter().next()
}

/// The offer that keeps most of `query`'s words; the first of those that keep as much.
pub(crate) fn nearest(offers: Vec<Offer>, query: &str) -> Option<Offer> {
    let ranked = offers.into_iter().rev().map(|offer| (kept_share(query, &offer.query), offer));
    ranked.max_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, offer)| offer)
}
