//! Numbers of a step and of a dev evaluation.

use super::collapse::Signals;
use super::grounds::{Grounds, Task};
use super::rollout::{Group, Member, roll_out};
use super::settings::RolloutSettings;
use crate::error::Result;
use crate::trajectories::words::words;
use orion_policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Depth of the success measures: a judged document ranked this high is a success.
pub const SUCCESS_DEPTH: u64 = 10;

/// What a step's candidates came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMeasures {
    /// Mean reward of all candidates.
    pub reward: f64,
    /// Mean reward of those that led the way.
    pub best_reward: f64,
    /// Share of all candidates that rank a judged document in the first ten.
    pub success: f64,
    /// Share of groups whose candidates all have the same reward, which teach nothing.
    pub flat_groups: f64,
    /// Candidates.
    pub candidates: usize,
    /// Sampled tokens.
    pub sampled_tokens: u64,
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

fn share(flags: impl Iterator<Item = bool>) -> f64 {
    mean(flags.map(|flag| f64::from(u8::from(flag))))
}

fn members(groups: &[Group]) -> impl Iterator<Item = &Member> {
    groups.iter().flat_map(|group| &group.members)
}

/// Measures the candidates of a step.
pub fn step(groups: &[Group]) -> StepMeasures {
    let sampled =
        |member: &Member| member.trace.iter().filter(|token| token.log_probability.is_some()).count();
    StepMeasures {
        reward: mean(members(groups).map(|member| f64::from(member.reward))),
        best_reward: mean(groups.iter().map(|group| f64::from(group.members[group.best].reward))),
        success: share(members(groups).map(|member| member.found.rank <= SUCCESS_DEPTH)),
        flat_groups: share(
            groups.iter().map(|group| group.members.windows(2).all(|pair| pair[0].reward == pair[1].reward)),
        ),
        candidates: members(groups).count(),
        sampled_tokens: members(groups).map(|member| sampled(member) as u64).sum(),
    }
}

/// The signals by which a collapse is seen. `divergence` comes from the update.
///
/// A query counts as repeated if its words, case and punctuation aside, are those of an earlier candidate of its group
/// or of a query that led an earlier turn of its episode.
pub fn signals(groups: &[Group], divergence: f64) -> Signals {
    let (mut repeats, mut candidates) = (0usize, 0usize);
    for group in groups {
        let mut known: BTreeSet<Vec<String>> = groups
            .iter()
            .filter(|earlier| earlier.task == group.task && earlier.turn < group.turn)
            .map(|earlier| words(&earlier.members[earlier.best].query))
            .collect();
        for member in &group.members {
            candidates += 1;
            repeats += usize::from(!known.insert(words(&member.query)));
        }
    }
    let surprises =
        members(groups).flat_map(|member| &member.trace).filter_map(|token| token.log_probability);
    Signals {
        query_words: mean(members(groups).map(|member| member.query.split_whitespace().count() as f64)),
        entropy: mean(surprises.map(|log_probability| -f64::from(log_probability))),
        divergence,
        repeats: repeats as f64 / candidates.max(1) as f64,
    }
}

/// Greedy episodes over held-out queries; means over queries.
///
/// The best turn is picked by the judgements, so what is said of it compares steps of one run; it is no retrieval
/// quality. The first turn needs no picking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DevMeasures {
    /// Held-out queries.
    pub queries: usize,
    /// Mean reward over turns.
    pub reward: f64,
    /// Mean rank of the best judged document at the first turn.
    pub first_rank: f64,
    /// Mean reciprocal rank of that document.
    #[serde(default)]
    pub first_reciprocal_rank: f64,
    /// The same at the best turn.
    pub best_rank: f64,
    /// Mean turns of an episode.
    pub turns: f64,
    /// Share of queries issued that repeat an earlier one of their episode.
    pub repeats: f64,
    /// Share of queries with a judged document in the first ten at the first turn.
    pub first_success: f64,
    /// The same at any turn.
    pub any_success: f64,
}

/// Plays one greedy episode for each task, to the full horizon.
pub fn dev(
    policy: &Policy,
    grounds: &Grounds,
    tasks: &[Task],
    settings: &RolloutSettings,
) -> Result<DevMeasures> {
    let greedy = RolloutSettings { group: 1, temperature: 0.0, stop_at_rank: 0, ..settings.clone() };
    // Greedy decoding draws nothing: the seed has no effect.
    let groups = roll_out(policy, grounds, tasks, &greedy, 0)?;
    let of =
        |task: usize| groups.iter().filter(move |group| group.task == task).map(|group| &group.members[0]);
    let played: Vec<usize> = (0..tasks.len()).filter(|task| of(*task).next().is_some()).collect();
    let worst = |task: &usize| grounds.documents(&tasks[*task]);
    let first = |task: &usize| of(*task).next().map_or(worst(task), |member| member.found.rank);
    let best = |task: &usize| of(*task).map(|member| member.found.rank).min().unwrap_or(worst(task));
    Ok(DevMeasures {
        queries: played.len(),
        reward: mean(played.iter().map(|task| mean(of(*task).map(|member| f64::from(member.reward))))),
        first_rank: mean(played.iter().map(|task| first(task) as f64)),
        first_reciprocal_rank: mean(played.iter().map(|task| 1.0 / first(task) as f64)),
        best_rank: mean(played.iter().map(|task| best(task) as f64)),
        turns: groups.len() as f64 / played.len().max(1) as f64,
        repeats: signals(&groups, 0.0).repeats,
        first_success: share(played.iter().map(|task| first(task) <= SUCCESS_DEPTH)),
        any_success: share(played.iter().map(|task| best(task) <= SUCCESS_DEPTH)),
    })
}
