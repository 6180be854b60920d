//! The worlds of the contract: what a component can be, and what that lets it import and makes it export.
//!
//! Neighbours: `check.rs` holds a component against these names, `mismatch.rs` against their types.

/// What a component is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// A search strategy.
    Strategy,
    /// A reward for training.
    Reward,
}

impl World {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Strategy, Self::Reward];

    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strategy => "strategy",
            Self::Reward => "reward",
        }
    }

    /// The world that exports a function of one of these names and no other world has; `None` for what is no plugin.
    pub fn of_exports<'e>(mut names: impl Iterator<Item = &'e str>) -> Option<Self> {
        names.find_map(|name| Self::ALL.into_iter().find(|world| world.own_export() == name))
    }

    /// Interfaces that a component of this world may import.
    pub(crate) fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Strategy => {
                &["about", "budget", "feedback", "log", "policy", "retrieval", "trace", "types"]
            }
            Self::Reward => &["about", "log", "types"],
        }
    }

    /// Functions that it exports.
    pub fn exports(self) -> &'static [&'static str] {
        match self {
            Self::Strategy => &["describe", "search"],
            Self::Reward => &["describe", "score"],
        }
    }

    /// The one exported function that no other world has.
    pub(crate) fn own_export(self) -> &'static str {
        match self {
            Self::Strategy => "search",
            Self::Reward => "score",
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Strategy => Self::Reward,
            Self::Reward => Self::Strategy,
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
