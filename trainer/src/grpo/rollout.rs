//! Episodes: at every turn a group of candidates from one node, of which the best goes on.
//!
//! The engine is the one that serves (`orion-policy`), started on the trainer's weights of the moment, so what is
//! learned from is what a search would meet. All episodes of a step advance together: one proposal call and one batch
//! of look-ups a turn. A rollout depends on weights, tasks, settings and seed alone.
//!
//! Departures from the published algorithm ("Think Before You Retrieve", section on GRPO) and choices where its text
//! says nothing:
//! 1. Decoding is constrained to the trajectory format, as in serving; log-probabilities are those of the
//!    unconstrained model, and tokens that the format forces are not learned from.
//! 2. Ties for the best go to the earlier candidate.
//! 3. A candidate that leads the way has the same weight as its siblings.

use super::advantage::advantages;
use super::grounds::{Found, Grounds, Task};
use super::settings::{LookUp, RolloutSettings};
use super::update::Sample;
use crate::data::Example;
use crate::error::{Result, TrainError};
use crate::proposals::wait;
use orion_policy::{
    Candidate, FedToken, NodeId, Policy, PolicyError, Random, Retriever, Sampling, Segment, Session, Snippet,
};

/// One candidate of a group with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its query.
    pub query: String,
    /// Its tokens, which follow the group's context.
    pub trace: Vec<FedToken>,
    /// What it found.
    pub found: Found,
    /// What the plugin gave for that.
    pub reward: f32,
}

/// The candidates of one turn of one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Which of the step's tasks.
    pub task: usize,
    /// From 0.
    pub turn: u32,
    /// All tokens before the candidates.
    pub context: Vec<u32>,
    /// In the order in which they were proposed.
    pub members: Vec<Member>,
    /// Place of the member that advances the episode: the first with the highest reward.
    pub best: usize,
}

struct Episode {
    task: usize,
    node: NodeId,
}

fn policy_error(error: PolicyError) -> TrainError {
    TrainError::Policy(error.to_string())
}

/// Plays one episode for each task; gives all groups, turn by turn, in the order of the tasks.
///
/// # Errors
/// A policy that cannot choose retrievers where the settings ask it to; failures of policy, index or reward.
pub fn roll_out(
    policy: &Policy,
    grounds: &Grounds,
    tasks: &[Task],
    settings: &RolloutSettings,
    seed: u64,
) -> Result<Vec<Group>> {
    if settings.look_up != LookUp::Dense && !policy.format().spec().retriever_choice {
        return Err(TrainError::Setting {
            name: "rollout.look_up",
            expected: "a policy that chooses retrievers, for all but `dense`".into(),
            got: "one that does not".into(),
        });
    }
    let session = policy.session();
    let opening = tasks.iter().map(|task| (None, vec![Segment::UserQuery(task.text.clone())])).collect();
    let nodes = wait(session.extend(opening)).map_err(policy_error)?;
    let mut episodes: Vec<Episode> =
        nodes.into_iter().enumerate().map(|(task, node)| Episode { task, node }).collect();
    let mut groups = Vec::new();
    for turn in 0..settings.horizon {
        let contexts = fitting(policy, &session, &mut episodes, settings)?;
        if episodes.is_empty() {
            break;
        }
        let sampling = Sampling {
            candidates: settings.group,
            temperature: settings.temperature,
            top_p: settings.top_p,
            max_think_tokens: settings.max_think_tokens,
            max_query_tokens: settings.max_query_tokens,
            seed: Random::split(seed, &[u64::from(turn)]).next_u64(),
        };
        let nodes = episodes.iter().map(|episode| episode.node).collect();
        let proposed = wait(session.propose(nodes, sampling)).map_err(policy_error)?;
        let played = judge(grounds, tasks, &episodes, &proposed, settings)?;
        let mut steps = Vec::new();
        let mut going_on = Vec::new();
        for (((episode, context), candidates), members) in
            episodes.iter().zip(contexts).zip(&proposed).zip(played)
        {
            let best = best_of(&members);
            let chosen = &members[best];
            let results = response(&chosen.found);
            let read = policy.format().encode(std::slice::from_ref(&results));
            let read: usize = read.iter().map(|span| span.tokens.len()).sum();
            let length = context.len() + chosen.trace.len() + read;
            if settings.stop_at_rank < chosen.found.rank && length <= context_limit(policy, settings) {
                steps.push((Some(candidates[best].node), vec![results]));
                going_on.push(episode.task);
            }
            groups.push(Group { task: episode.task, turn, context, members, best });
        }
        if turn + 1 == settings.horizon || steps.is_empty() {
            break;
        }
        let nodes = wait(session.extend(steps)).map_err(policy_error)?;
        episodes = going_on.into_iter().zip(nodes).map(|(task, node)| Episode { task, node }).collect();
    }
    Ok(groups)
}

fn context_limit(policy: &Policy, settings: &RolloutSettings) -> usize {
    settings.max_context_tokens.min(policy.describe().context_tokens)
}

/// The tokens of each episode's node; episodes without room for another turn end here.
fn fitting(
    policy: &Policy,
    session: &Session,
    episodes: &mut Vec<Episode>,
    settings: &RolloutSettings,
) -> Result<Vec<Vec<u32>>> {
    // A candidate's caps, and its markers: two pairs and a retriever, each a few tokens where markers are text.
    let room = (settings.max_think_tokens + settings.max_query_tokens) as usize + 64;
    let limit = context_limit(policy, settings);
    let mut contexts = Vec::with_capacity(episodes.len());
    let mut kept = Vec::with_capacity(episodes.len());
    for episode in episodes.drain(..) {
        let context = wait(session.tokens(episode.node)).map_err(policy_error)?;
        if context.len() + room <= limit {
            contexts.push(context);
            kept.push(episode);
        }
    }
    *episodes = kept;
    Ok(contexts)
}

fn judge(
    grounds: &Grounds,
    tasks: &[Task],
    episodes: &[Episode],
    proposed: &[Vec<Candidate>],
    settings: &RolloutSettings,
) -> Result<Vec<Vec<Member>>> {
    let queries: Vec<(&Task, &str, Option<Retriever>)> = episodes
        .iter()
        .zip(proposed)
        .flat_map(|(episode, candidates)| {
            candidates
                .iter()
                .map(|candidate| (&tasks[episode.task], candidate.query.as_str(), candidate.retriever))
        })
        .collect();
    let found = grounds.look_up(&queries, settings)?;
    let rewards = grounds.rewards(&found, settings)?;
    let mut judged = found.into_iter().zip(rewards);
    Ok(proposed
        .iter()
        .map(|candidates| {
            candidates
                .iter()
                .zip(judged.by_ref())
                .map(|(candidate, (found, reward))| Member {
                    query: candidate.query.clone(),
                    trace: candidate.trace.clone(),
                    found,
                    reward,
                })
                .collect()
        })
        .collect())
}

/// The first member with the highest reward.
fn best_of(members: &[Member]) -> usize {
    let mut best = 0;
    for (place, member) in members.iter().enumerate() {
        if members[best].reward < member.reward {
            best = place;
        }
    }
    best
}

fn response(found: &Found) -> Segment {
    let snippets = found.snippets.iter();
    Segment::TopKResponse(
        snippets
            .map(|snippet| Snippet { title: snippet.title.clone(), text: snippet.text.clone() })
            .collect(),
    )
}

/// The candidates of all groups as they enter the update, in order, without reference values; and the serving engine's
/// own log-probabilities of their learned tokens.
///
/// Sampled tokens are learned from, forced ones are not; where look-ups ignore the choice of retriever, `ignored`
/// names its tokens, and they are not learned from either.
pub fn samples(groups: &[Group], ignored: &[u32]) -> Result<Vec<(Sample, Vec<f32>)>> {
    let mut all = Vec::new();
    for group in groups {
        let rewards: Vec<f32> = group.members.iter().map(|member| member.reward).collect();
        for (member, advantage) in group.members.iter().zip(advantages(&rewards)?) {
            let mut tokens = group.context.clone();
            let mut learn = vec![false; tokens.len()];
            let mut served = Vec::new();
            for token in &member.trace {
                let learned = token.log_probability.filter(|_| !ignored.contains(&token.id));
                tokens.push(token.id);
                learn.push(learned.is_some());
                served.extend(learned);
            }
            let example = Example { tokens, learn };
            all.push((Sample { example, advantage, old: None, reference: Vec::new() }, served));
        }
    }
    Ok(all)
}
