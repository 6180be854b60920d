//! How multi-turn searches moved: turn-wise success, rank stagnation, backtracking, query length; and what their
//! confidence is worth.
//!
//! The paper draws the first four and defines none of them exactly; here is the one place that does, on a neutral
//! structure that a trace of any strategy, or of any model, can be turned into. The definitions agree with the
//! paper's two worked examples: ranks 12 13 8 1 backtrack, ranks 7 11 11 8 7 do not.
//! Neighbours: the caller finds ranks with [`crate::measures::best_rank`], after the run was written.

use serde::{Deserialize, Serialize};

use crate::logistic::FallingLogistic;
use crate::measures::{area_under_curve, mean};

/// One turn of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The search query that was issued.
    pub query: String,
    /// 1-based rank of the best relevant document among this turn's results; `None` where none came back.
    pub best_rank: Option<u32>,
}

/// One search, turn after turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Episode {
    /// In the order they were taken.
    pub turns: Vec<Turn>,
    /// How sure the search was at its end, where it said so.
    #[serde(default)]
    pub confidence: Option<f32>,
}

/// The measures over many episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Of the episodes that succeed, the share that first does so at turn 1, 2, …; sums to 1, or is empty.
    pub turn_wise_success: Vec<f64>,
    /// Share of the steps taken without success so far that leave the best rank where it was.
    pub rank_stagnation: f64,
    /// Share of the episodes that backtrack.
    pub backtracking: f64,
    /// Mean number of words of a search query.
    pub mean_query_words: f64,
    /// Median number of words of a search query.
    pub median_query_words: f64,
    /// Words of the shortest search query, the first quartile, the median, the third quartile, and the longest's.
    #[serde(default)]
    pub query_words_quartiles: [f64; 5],
    /// What its confidence is worth: how often an episode whose last turn succeeds was more confident than one whose
    /// last turn does not; 0.5 is chance. `None` where none, or all, succeed, or none said how sure it was.
    #[serde(default)]
    pub confidence_auc: Option<f64>,
    /// The chance that the last turn succeeds, as a curve over the negative natural logarithm of the confidence. For `beam`,
    /// whose confidence is one over a perplexity, this is what a checkpoint's `self_assessment` takes.
    #[serde(default)]
    pub confidence_fit: Option<FallingLogistic>,
    /// How many episodes were looked at.
    pub episodes: u64,
}

/// Describes episodes; a turn succeeds where its best rank is at most `success_cut`.
pub fn describe(episodes: &[Episode], success_cut: u32) -> Behaviour {
    let mut lengths: Vec<f64> = episodes
        .iter()
        .flat_map(|episode| &episode.turns)
        .map(|turn| turn.query.split_whitespace().count() as f64)
        .collect();
    lengths.sort_by(f64::total_cmp);
    let ends = ends(episodes, success_cut);
    let backtracked = episodes.iter().filter(|episode| backtracks(episode)).count() as f64;
    Behaviour {
        turn_wise_success: turn_wise_success(episodes, success_cut),
        rank_stagnation: rank_stagnation(episodes, success_cut),
        backtracking: if episodes.is_empty() { 0.0 } else { backtracked / episodes.len() as f64 },
        mean_query_words: mean(&lengths),
        median_query_words: median(&lengths),
        query_words_quartiles: quartiles(&lengths),
        confidence_auc: area_under_curve(&sure_of(&ends, true), &sure_of(&ends, false)),
        confidence_fit: FallingLogistic::fit(
            &ends.iter().map(|(sure, succeeded)| (-sure.ln(), *succeeded)).collect::<Vec<_>>(),
        ),
        episodes: episodes.len() as u64,
    }
}

/// How sure each episode was that said so, and whether its last turn succeeds.
fn ends(episodes: &[Episode], success_cut: u32) -> Vec<(f64, bool)> {
    let end = |episode: &Episode| {
        let rank = episode.turns.last().and_then(|turn| turn.best_rank);
        let succeeded = rank.is_some_and(|rank| rank <= success_cut);
        episode.confidence.map(|sure| (f64::from(sure), succeeded))
    };
    episodes.iter().filter_map(end).collect()
}

fn sure_of(ends: &[(f64, bool)], succeeded: bool) -> Vec<f64> {
    ends.iter().filter(|end| end.1 == succeeded).map(|end| end.0).collect()
}

/// Turn (0-based) of the first success.
pub fn first_success(episode: &Episode, success_cut: u32) -> Option<usize> {
    episode.turns.iter().position(|turn| turn.best_rank.is_some_and(|rank| rank <= success_cut))
}

/// Whether a search lost ground and then more than recovered: some turn's best rank is worse than the best so
/// far, and a later turn's is strictly better than that best. A turn without a relevant document is worse than any rank.
pub fn backtracks(episode: &Episode) -> bool {
    let mut best: Option<u64> = None;
    let mut has_lost_ground = false;
    for turn in &episode.turns {
        let rank = turn.best_rank.map_or(u64::MAX, u64::from);
        match best {
            Some(so_far) if so_far < rank => has_lost_ground = true,
            Some(so_far) if rank < so_far => {
                if has_lost_ground {
                    return true;
                }
                best = Some(rank);
            }
            Some(_) => {}
            None => best = Some(rank),
        }
    }
    false
}

fn turn_wise_success(episodes: &[Episode], success_cut: u32) -> Vec<f64> {
    let firsts: Vec<usize> =
        episodes.iter().filter_map(|episode| first_success(episode, success_cut)).collect();
    let Some(last) = firsts.iter().max() else { return Vec::new() };
    let share =
        |turn: usize| firsts.iter().filter(|first| **first == turn).count() as f64 / firsts.len() as f64;
    (0..=*last).map(share).collect()
}

/// Two turns stagnate where the second's best rank equals the first's; two turns that both find nothing do too.
fn rank_stagnation(episodes: &[Episode], success_cut: u32) -> f64 {
    let mut steps = 0_u64;
    let mut stagnant = 0_u64;
    for episode in episodes {
        let end = first_success(episode, success_cut).map_or(episode.turns.len(), |turn| turn + 1);
        for pair in episode.turns[..end].windows(2) {
            steps += 1;
            stagnant += u64::from(pair[0].best_rank == pair[1].best_rank);
        }
    }
    if steps == 0 { 0.0 } else { stagnant as f64 / steps as f64 }
}

/// Tukey's five numbers; the quartiles are the medians of the halves, the middle value in both.
fn quartiles(sorted: &[f64]) -> [f64; 5] {
    let half = sorted.len().div_ceil(2);
    let (least, most) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
    [least, median(&sorted[..half]), median(sorted), median(&sorted[sorted.len() - half..]), most]
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}
