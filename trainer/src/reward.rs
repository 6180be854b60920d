//! What judges the turns of `synth` and the candidates of `grpo`: the reward that the program carries, or a component of
//! one's own (`--reward FILE`), in the sandbox either way.

use crate::error::{Result, TrainError};
use orion_host::{Host, Reward};
use std::path::Path;
use std::sync::Arc;

/// The name of the reward that is taken unless another is asked for.
pub const STANDARD: &str = "reward";

/// Loads a reward: a name that the program carries, or a component's file, with the manifest beside it.
///
/// # Errors
/// Neither a carried name nor a file, a component that is no reward or does not load.
pub fn load(host: &Host, named: &str) -> Result<Arc<Reward>> {
    if let Some(carried) = orion_bundle::reward(named) {
        let loaded = host.load_reward(carried.name, carried.bytes);
        return loaded.map_err(|error| TrainError::Host(error.to_string()));
    }
    let path = Path::new(named);
    if !path.is_file() {
        let names: Vec<&str> = orion_bundle::rewards().iter().map(|reward| reward.name).collect();
        let expected = format!("`{}` or a component's file", names.join("`, `"));
        return Err(TrainError::Setting { name: "reward", expected, got: named.to_owned() });
    }
    host.load_reward_file(path).map_err(|error| TrainError::Host(error.to_string()))
}
