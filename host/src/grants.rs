//! What a plugin may be granted: the interfaces of the contract that reach something of the host's.
//!
//! Neighbours: `manifest.rs` reads grants, `check.rs` holds imports against them. Both this file and `check.rs` need
//! nothing else of the crate, so that the fuzz target in `tests/fuzz` builds them alone.
use std::collections::BTreeSet;

/// What can be granted. Everything else that a strategy may import (`budget`, `trace`, `log`) carries no power and is
/// always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// Look documents up in the collection.
    Retrieval,
    /// Ask the policy model.
    Policy,
    /// Have turns judged.
    Feedback,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Retrieval, Self::Policy, Self::Feedback];

    /// The interface of the contract that is granted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrieval => "retrieval",
            Self::Policy => "policy",
            Self::Feedback => "feedback",
        }
    }
}

/// Interfaces granted to a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// All of them: for standard strategies, and for a component that somebody names on the command line.
    pub fn all() -> Self {
        Self(Grant::ALL.into())
    }

    /// Gives one more; false where it was given already.
    pub(crate) fn give(&mut self, grant: Grant) -> bool {
        self.0.insert(grant)
    }

    /// Whether this one is given.
    pub fn has(&self, grant: Grant) -> bool {
        self.0.contains(&grant)
    }

    /// Names, in the contract's order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|grant| grant.name()).collect()
    }
}
