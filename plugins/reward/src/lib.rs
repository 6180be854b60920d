//! The paper's reward for one turn ("Think Before You Retrieve", section on GRPO), and its variants by configuration.
//!
//! reward = similarity-weight * max(cosine, 0) + rank-weight * closeness(rank, corpus size)
//!
//! Whether the cosine is that of the best retrieved document to the search query (as the paper's text says) or to the
//! target is the caller's choice: this only weighs it. The paper's formula of the normalised rank and its shift did not
//! survive in the text that this was written from. Departures and choices:
//! 1. Linear closeness is read as 1 - (r - 1)/(N - 1): it names nothing but rank and corpus size, and spans [0, 1].
//! 2. Logarithmic closeness, 1 - ln r / ln N, is ours: the linear one barely separates rank 1 from rank 10 in a corpus of
//!    thousands, where all that a reader notices happens.
//! 3. The shift's value is lost; see [`SHIFT`].
//! 4. The paper's z-scores are over a corpus; here they are over the list that one call scores, which the caller chooses.
//!
//! Pure: no clock, no randomness, no host calls; in the sandbox the logarithm is software, so results are bit-equal on
//! every machine.

use orion_sdk::parameters::{Boolean, Choice, Number};
use orion_sdk::{Description, Error, Observation, Reward, Setting};

/// How a rank becomes a number in [0, 1]; 1 is the best rank, 0 the corpus's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// 1 - (r - 1)/(N - 1).
    Linear,
    /// 1 - ln r / ln N.
    Logarithmic,
}

/// Half: the paper lets each signal contribute equally.
pub const SIMILARITY_WEIGHT: Number = Number {
    name: "similarity-weight",
    default: 0.5,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "share of the cosine, negatives counted as 0",
};

/// Half: the paper lets each signal contribute equally.
pub const RANK_WEIGHT: Number = Number {
    name: "rank-weight",
    default: 0.5,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "share of the best target's normalised rank",
};

/// Linear is the default because it is the paper's as far as it can be read; which one trains better is for a dev split
/// to say.
pub const CLOSENESS: Choice<Closeness> = Choice {
    name: "rank",
    choices: &[("linear", Closeness::Linear), ("logarithmic", Closeness::Logarithmic)],
    help: "how a rank is normalised",
};

/// 0 by default: an advantage that is normalised within its group, as in GRPO, does not change with a shift, so a value
/// matters only to those who use rewards as they are.
pub const SHIFT: Number = Number {
    name: "shift",
    default: 0.0,
    min: -10.0,
    max: 10.0,
    optional: false,
    help: "subtracted from every reward, after z-scores where those are on",
};

/// Off by default: the paper tried it, saw no gain, and left it out.
pub const Z_SCORE: Boolean = Boolean {
    name: "z-score",
    default: false,
    help: "standardise the rewards of one call: mean 0, deviation 1; a constant list becomes zeros",
};

/// Cosines of vectors in f32 come out beyond ±1 by rounding; what lies further out is no cosine.
const COSINE_SLACK: f32 = 1e-3;

/// The component.
#[derive(Debug)]
pub struct TurnReward;

impl Reward for TurnReward {
    fn describe() -> Description {
        let parameters = vec![
            SIMILARITY_WEIGHT.describe(),
            RANK_WEIGHT.describe(),
            CLOSENESS.describe(),
            SHIFT.describe(),
            Z_SCORE.describe(),
        ];
        Description::new(
            "reward",
            "weighted sum of the best document's cosine and the best target's normalised rank",
            parameters,
        )
    }

    fn score(turns: &[Observation], options: &[Setting]) -> Result<Vec<f32>, Error> {
        let similarity_weight = f64::from(SIMILARITY_WEIGHT.read(options)?);
        let rank_weight = f64::from(RANK_WEIGHT.read(options)?);
        let closeness = CLOSENESS.read(options)?;
        let shift = f64::from(SHIFT.read(options)?);
        let is_standardised = Z_SCORE.read(options)?;
        if similarity_weight + rank_weight == 0.0 {
            let what = "parameters `similarity-weight` and `rank-weight`: expected one above 0, got 0 and 0";
            return Err(Error::InvalidInput(what.to_owned()));
        }
        let mut rewards = Vec::with_capacity(turns.len());
        for (place, turn) in turns.iter().enumerate() {
            check(place, turn)?;
            let similarity = f64::from(turn.cosine.clamp(0.0, 1.0));
            let rank = normalised_rank(closeness, turn.rank, turn.corpus_size);
            rewards.push(similarity_weight * similarity + rank_weight * rank);
        }
        if is_standardised {
            standardise(&mut rewards);
        }
        Ok(rewards.into_iter().map(|reward| (reward - shift) as f32).collect())
    }
}

fn check(place: usize, turn: &Observation) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::InvalidInput(format!("turn {place}: {what}")));
    let longest = 1.0 + COSINE_SLACK;
    // NaN is in no range.
    if !(-longest..=longest).contains(&turn.cosine) {
        return refuse(format!("cosine: expected -1 to 1, got {}", turn.cosine));
    }
    if turn.rank < 1 || turn.rank > turn.corpus_size {
        return refuse(format!(
            "rank: expected 1 to the corpus size {}, got {}",
            turn.corpus_size, turn.rank
        ));
    }
    Ok(())
}

/// 1 for the first rank, 0 for the corpus's last; a corpus of one document has a first rank only.
/// Expects `1 <= rank <= corpus_size`.
fn normalised_rank(closeness: Closeness, rank: u64, corpus_size: u64) -> f64 {
    if corpus_size == 1 {
        return 1.0;
    }
    match closeness {
        Closeness::Linear => 1.0 - (rank - 1) as f64 / (corpus_size - 1) as f64,
        Closeness::Logarithmic => 1.0 - (rank as f64).ln() / (corpus_size as f64).ln(),
    }
}

/// Mean 0 and population deviation 1. A list whose values are all the same becomes zeros; that is asked of the values
/// and not of the deviation, which rounding leaves above 0.
fn standardise(rewards: &mut [f64]) {
    let Some(&first) = rewards.first() else { return };
    if rewards.iter().all(|reward| *reward == first) {
        rewards.fill(0.0);
        return;
    }
    let count = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / count;
    let variance = rewards.iter().map(|reward| (reward - mean) * (reward - mean)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    for reward in rewards {
        *reward = (*reward - mean) / deviation;
    }
}
