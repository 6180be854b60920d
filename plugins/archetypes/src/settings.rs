//! The parameters that all archetypes have; those of one alone are in its own file.

use orion_sdk::fusion::Fusion;
use orion_sdk::parameters::Integer;
use orion_sdk::reading::Reading;
use orion_sdk::usual::{DENSE_WEIGHT, DEPTH, ORIGINAL_WEIGHT, RETRIEVER, describe_sampling, sampling};
use orion_sdk::{Error, Parameter, Request, Retriever, Sampling};

/// The length of the traces that the paper's pool is made of (appendix B.1: 5-turn iterative retrieval).
const TURNS: Integer = Integer {
    name: "turns",
    default: 5,
    min: 1,
    max: 16,
    help: "turns of search, each one query that is kept",
};

/// The paper's group size (section 3.3): as many proposals as a turn of training compares.
const CANDIDATES: Integer = Integer {
    name: "candidates",
    default: 4,
    min: 1,
    max: 16,
    help: "queries asked of the policy at a time, to choose among",
};

/// The rule that fuses the steps' rankings: as in `beam`.
pub(crate) const FUSION: Fusion = Fusion::MinMax;

/// The values of one request.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) turns: usize,
    /// The seed is replaced for each proposal.
    pub(crate) sampling: Sampling,
    /// Hits asked of each retrieval.
    pub(crate) depth: u32,
    /// `None` leaves the choice to the policy.
    pub(crate) retriever: Option<Retriever>,
    /// NaN is reciprocal rank fusion.
    pub(crate) dense_weight: f32,
    /// Share of the user's own query in the answer; 0 leaves it out.
    pub(crate) original_weight: f32,
}

impl Settings {
    pub(crate) fn read(request: &Request) -> Result<Self, Error> {
        let options = &request.options;
        Ok(Self {
            turns: TURNS.read(options)? as usize,
            sampling: sampling(options, CANDIDATES.read(options)?)?,
            depth: DEPTH.read(options)?.max(request.k),
            retriever: RETRIEVER.read(options)?,
            dense_weight: DENSE_WEIGHT.read(options)?,
            original_weight: ORIGINAL_WEIGHT.read(options)?,
        })
    }
}

/// All parameters of an archetype, its own (`own`) behind the turns.
pub(crate) fn describe(own: Vec<Parameter>) -> Vec<Parameter> {
    let mut parameters = vec![TURNS.describe()];
    parameters.extend(own);
    parameters.extend([CANDIDATES, DEPTH].map(|parameter| parameter.describe()));
    parameters.extend([RETRIEVER.describe(), DENSE_WEIGHT.describe(), ORIGINAL_WEIGHT.describe()]);
    parameters.extend(describe_sampling());
    parameters.extend(Reading::describe());
    parameters
}
