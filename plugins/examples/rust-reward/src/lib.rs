//! Rewards a turn for how near to the top its best target stands.

use orion_sdk::parameters::Integer;
use orion_sdk::{Description, Error, Observation, Reward, Setting};

/// The reward; `export_reward!` below makes a component of it.
pub struct NearTop;

const DEPTH: Integer = Integer { name: "depth", default: 10, min: 1, max: 1000, help: "ranks that count" };

impl Reward for NearTop {
    fn describe() -> Description {
        Description::new("near-top", "how near to the top the best target stands", vec![DEPTH.describe()])
    }

    fn score(turns: &[Observation], options: &[Setting]) -> Result<Vec<f32>, Error> {
        let depth = DEPTH.read(options)? as u64;
        Ok(turns.iter().map(|turn| nearness(turn.rank, depth)).collect())
    }
}

/// 1 for the first rank, falling evenly to 0 behind the last that counts.
fn nearness(rank: u64, depth: u64) -> f32 {
    let above = (depth + 1).saturating_sub(rank).min(depth);
    above as f32 / depth as f32
}

orion_sdk::export_reward!(NearTop);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_is_worth_most() -> Result<(), Error> {
        let turns = [1, 6, 11].map(|rank| Observation::new(0.5, rank, 100));
        assert_eq!(NearTop::score(&turns, &[])?, [1.0, 0.5, 0.0]);
        Ok(())
    }
}
