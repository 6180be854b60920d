//! Rewards of one group to advantages: how much better than its siblings each candidate did.
//!
//! Group-relative, as in "DeepSeekMath" (arXiv 2402.03300, section 4.1.1). [`super::rollout`] makes the groups,
//! [`super::loss`] weighs tokens by the result.

use crate::error::{Result, TrainError};

/// Added to the deviation, so that a group whose rewards hardly differ is not blown up. The golden numbers have it.
pub const DEVIATION_FLOOR: f64 = 1e-4;

/// `(reward - mean) / (population deviation + 1e-4)` of each candidate, in order; the unit is deviations.
///
/// A group of equals has advantages of exactly 0, and a shift of all rewards changes nothing beyond rounding.
///
/// # Errors
/// Fewer than two rewards (a group of one has nothing to be better than), or one that is not finite.
pub fn advantages(rewards: &[f32]) -> Result<Vec<f64>> {
    let fault =
        |expected: &str, got: String| TrainError::Setting { name: "group", expected: expected.into(), got };
    if rewards.len() < 2 {
        return Err(fault("at least 2 candidates", rewards.len().to_string()));
    }
    if let Some(reward) = rewards.iter().find(|reward| !reward.is_finite()) {
        return Err(fault("finite rewards", reward.to_string()));
    }
    // Asked of the values: rounding leaves a mean of equals beside them.
    if rewards.iter().all(|reward| *reward == rewards[0]) {
        return Ok(vec![0.0; rewards.len()]);
    }
    let count = rewards.len() as f64;
    let mean = rewards.iter().map(|reward| f64::from(*reward)).sum::<f64>() / count;
    let variance = rewards.iter().map(|reward| (f64::from(*reward) - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt() + DEVIATION_FLOOR;
    Ok(rewards.iter().map(|reward| (f64::from(*reward) - mean) / deviation).collect())
}
