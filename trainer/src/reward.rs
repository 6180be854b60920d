//! The reward plugin that the program carries: what judges the turns of `synth` and the candidates of `grpo`.

use crate::error::{Result, TrainError};
use orion_host::{Host, Reward};
use std::sync::Arc;

/// Loads it.
///
/// # Errors
/// A build without it, a component that does not load.
pub fn load_carried(host: &Host) -> Result<Arc<Reward>> {
    let carried = orion_bundle::reward("reward")
        .ok_or_else(|| TrainError::Host("no reward plugin is carried".to_owned()))?;
    host.load_reward(carried.name, carried.bytes).map_err(|error| TrainError::Host(error.to_string()))
}
