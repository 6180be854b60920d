//! The objective of GRPO, a token at a time, with its slope.
//!
//! For a sampled token with log-probability `p` now, `o` when it was sampled and `r` under the frozen reference, and
//! for the advantage `A` of its candidate:
//!
//! `term = -min(e^(p-o) A, clip(e^(p-o), 1-c, 1+c) A) + beta (e^(r-p) - (r-p) - 1)`
//!
//! (arXiv 2402.03300, equations 3 and 4; the last bracket is the estimator k3 of the divergence from the reference,
//! never negative.) The loss is the mean over candidates of the mean over each candidate's sampled tokens.
//!
//! Plain numbers, no tensors: the term depends on the model through `p` alone, so its slope times the gradient of `p`
//! is the gradient. [`super::update`] hands the slopes to the model as weights of its own token losses, which costs
//! one forward and one backward pass whatever the objective.

use serde::{Deserialize, Serialize};

/// Constants of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Half-width of the range in which a ratio counts in full; in (0, 1).
    pub clip: f64,
    /// Weight of the divergence from the reference, not negative.
    pub beta: f64,
}

impl Default for Objective {
    /// 0.2 and 0.04 are those of arXiv 2402.03300 (and of the golden numbers); the paper's own did not survive.
    fn default() -> Self {
        Self { clip: 0.2, beta: 0.04 }
    }
}

/// What one token adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// The term of the loss, before it is averaged.
    pub value: f64,
    /// Its derivative with respect to the token's log-probability now.
    pub slope: f64,
    /// The estimate of the divergence, in nats.
    pub divergence: f64,
    /// Whether the ratio was beyond the range and counted no further.
    pub clipped: bool,
}

/// Log-probabilities of one token, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenProbabilities {
    /// Under the weights that are being trained.
    pub policy: f64,
    /// Under the weights that sampled it.
    pub old: f64,
    /// Under the frozen reference.
    pub reference: f64,
}

/// The term of one token of a candidate with this advantage.
pub fn term(token: TokenProbabilities, advantage: f64, objective: &Objective) -> Term {
    let ratio = (token.policy - token.old).exp();
    let bounded = ratio.clamp(1.0 - objective.clip, 1.0 + objective.clip);
    let (free, held) = (ratio * advantage, bounded * advantage);
    // Where both are equal the ratio is in range (or the advantage is 0), and the slope is that of the free one.
    let clipped = held < free;
    let (gain, gain_slope) = if clipped { (held, 0.0) } else { (free, free) };
    let behind = token.reference - token.policy;
    let divergence = behind.exp() - behind - 1.0;
    Term {
        value: objective.beta * divergence - gain,
        slope: objective.beta * (1.0 - behind.exp()) - gain_slope,
        divergence,
        clipped,
    }
}
