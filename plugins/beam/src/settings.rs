//! The parameters that shape the tree and the answer, shared by `beam` and `blind`.
//!
//! Those that other strategies have as well are in [`orion_sdk::usual`]. Each default says where it comes from; those called ours are open to tuning on dev splits.

use orion_sdk::fusion::{Fusion, RECIPROCAL_RANK_CONSTANT};
use orion_sdk::parameters::{Boolean, Choice, Integer, Number};
use orion_sdk::signals::{DENSE_SHARE, SIGNALS};
use orion_sdk::usual::{DENSE_WEIGHT, DEPTH, ORIGINAL_WEIGHT, RETRIEVER};
use orion_sdk::{Error, Parameter, Request, Retriever};

/// The horizon that the paper trains with (section 3.3: group size and horizon are both 4).
const TURNS: Integer = Integer { name: "turns", default: 4, min: 1, max: 16, help: "turns of search" };

/// Two hypotheses are the smallest beam that is one; the paper's text does not carry its value.
const BEAM: Integer =
    Integer { name: "beam", default: 2, min: 1, max: 16, help: "branches that survive a turn" };

/// As `beam`.
const WIDTH: Integer = Integer {
    name: "width",
    default: 2,
    min: 1,
    max: 16,
    help: "queries proposed for each surviving branch",
};

/// Ours: one turn without improvement may be bad luck, two are a habit.
const PATIENCE: Integer = Integer {
    name: "patience",
    default: 2,
    min: 0,
    max: 16,
    help: "stop after this many turns without a more confident branch, 0 never",
};

/// Scores by default: rank fusion lets a poor query's first places push good documents down (see `ORIGINAL_WEIGHT`).
const FUSION: Choice<bool> = Choice {
    name: "fusion",
    choices: &[("convex", true), ("rrf", false)],
    help: "rule that fuses the retrievals",
};

/// Cormack, Clarke and Büttcher (SIGIR 2009).
const RRF_CONSTANT: Number = Number {
    name: "rrf-constant",
    default: RECIPROCAL_RANK_CONSTANT,
    min: 0.0,
    max: 1000.0,
    optional: false,
    help: "damping of ranks where fusion is rrf",
};

/// Off until a dev split says otherwise: it costs one lookup more.
const ROUTE: Boolean = Boolean {
    name: "route",
    default: false,
    help: "choose the dense share of hybrid rankings for each query, as `router` does",
};

const INCLUDE_ORIGINAL: Boolean =
    Boolean { name: "include-original", default: true, help: "also retrieve the user's own query" };

/// Ours: a branch whose perplexity is lower by a factor of 1.65 weighs e times as much.
const CONFIDENCE_TEMPERATURE: Number = Number {
    name: "confidence-temperature",
    default: 0.5,
    min: 0.01,
    max: 100.0,
    optional: false,
    help: "softmax temperature over log perplexities that weighs the branches",
};

/// The values of one request.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) turns: u32,
    pub(crate) beam: usize,
    pub(crate) width: u32,
    /// 0 never stops.
    pub(crate) patience: u32,
    /// Hits asked of each retrieval.
    pub(crate) depth: u32,
    /// `None` leaves the choice to the policy.
    pub(crate) retriever: Option<Retriever>,
    /// NaN is reciprocal rank fusion.
    pub(crate) dense_weight: f32,
    pub(crate) fusion: Fusion,
    /// 0 leaves the user's own query out.
    pub(crate) original_weight: f32,
    pub(crate) confidence_temperature: f32,
    /// The model of the dense share, where it is to be chosen for each query.
    pub(crate) share_model: Option<[f32; SIGNALS]>,
}

impl Tree {
    pub(crate) fn read(request: &Request) -> Result<Self, Error> {
        let options = &request.options;
        let constant = RRF_CONSTANT.read(options)?;
        let fusion = if FUSION.read(options)? { Fusion::MinMax } else { Fusion::ReciprocalRank { constant } };
        let include_original = INCLUDE_ORIGINAL.read(options)?;
        let original_weight = ORIGINAL_WEIGHT.read(options)?;
        let share_model = DENSE_SHARE.read(options)?;
        Ok(Self {
            turns: TURNS.read(options)?,
            beam: BEAM.read(options)? as usize,
            width: WIDTH.read(options)?,
            patience: PATIENCE.read(options)?,
            depth: DEPTH.read(options)?.max(request.k),
            retriever: RETRIEVER.read(options)?,
            dense_weight: DENSE_WEIGHT.read(options)?,
            fusion,
            original_weight: if include_original { original_weight } else { 0.0 },
            confidence_temperature: CONFIDENCE_TEMPERATURE.read(options)?,
            share_model: ROUTE.read(options)?.then_some(share_model),
        })
    }
}

pub(crate) fn describe_tree() -> Vec<Parameter> {
    vec![
        TURNS.describe(),
        BEAM.describe(),
        WIDTH.describe(),
        PATIENCE.describe(),
        DEPTH.describe(),
        RETRIEVER.describe(),
        DENSE_WEIGHT.describe(),
        FUSION.describe(),
        RRF_CONSTANT.describe(),
        INCLUDE_ORIGINAL.describe(),
        ORIGINAL_WEIGHT.describe(),
        CONFIDENCE_TEMPERATURE.describe(),
        ROUTE.describe(),
        DENSE_SHARE.describe(),
    ]
}
