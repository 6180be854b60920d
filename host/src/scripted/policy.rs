//! The scripted policy: thoughts, queries and perplexities by the trajectory's last query and turn.
//!
//! A token is a word here. Nodes are trajectories; which proposal a node gives next is counted at the node, so that ten
//! candidates of one node go through the list, whatever other branches did. Neighbour: `scenario.rs` has the entries.
use std::sync::{Arc, Mutex, PoisonError};

use super::scenario::{ScriptedPerplexity, ScriptedProposal, ScriptedRetriever, Scripts};
use super::world::words;
use crate::contract::{Candidate, Issued, JudgedText, Node, Retriever, Sampling, Segment};
use crate::services::{BoxFuture, Generate, GenerateSession, Metered, ServiceError, Usage};

/// Perplexity where no script fits: a policy that is not convinced.
const DEFAULT_PERPLEXITY: f32 = 10.0;

pub(super) struct ScriptedPolicy(Arc<Lines>);

struct Lines {
    proposals: Vec<ScriptedProposal>,
    perplexities: Vec<ScriptedPerplexity>,
}

impl ScriptedPolicy {
    pub(super) fn new(scripts: &Scripts) -> Self {
        let (proposals, perplexities) = (scripts.proposal.clone(), scripts.perplexity.clone());
        Self(Arc::new(Lines { proposals, perplexities }))
    }
}

impl Generate for ScriptedPolicy {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(ScriptedSession { lines: self.0.clone(), nodes: Mutex::default() })
    }
}

struct ScriptedSession {
    lines: Arc<Lines>,
    nodes: Mutex<Vec<Trajectory>>,
}

/// What the policy has read and written at a node, as far as scripts ask for it.
#[derive(Clone, Default)]
struct Trajectory {
    last_query: String,
    search_queries: u32,
    proposals_given: usize,
}

impl Trajectory {
    fn read(&mut self, segment: &Segment) {
        match segment {
            Segment::UserQuery(text) => self.last_query.clone_from(text),
            Segment::SearchQuery(issued) => {
                self.last_query.clone_from(&issued.query);
                self.search_queries += 1;
            }
            Segment::Think(_) | Segment::TopKResponse(_) => {}
        }
    }
}

fn count_words(segment: &Segment) -> usize {
    match segment {
        Segment::UserQuery(text) | Segment::Think(text) => words(text).len(),
        Segment::SearchQuery(issued) => words(&issued.query).len(),
        Segment::TopKResponse(snippets) => {
            snippets.iter().map(|snippet| words(&snippet.title).len() + words(&snippet.text).len()).sum()
        }
    }
}

fn fits(after: Option<&String>, turn: Option<u32>, trajectory: &Trajectory, current_turn: u32) -> bool {
    after.is_none_or(|query| *query == trajectory.last_query)
        && turn.is_none_or(|number| number == current_turn)
}

impl Lines {
    /// What a trajectory proposes next: thought, query, retriever, tokens, log-probability.
    fn propose(&self, trajectory: &Trajectory) -> ScriptedProposal {
        let turn = trajectory.search_queries + 1;
        let fitting: Vec<&ScriptedProposal> = self
            .proposals
            .iter()
            .filter(|script| fits(script.after.as_ref(), script.turn, trajectory, turn))
            .collect();
        let proposal = fitting.get(trajectory.proposals_given % fitting.len().max(1));
        proposal.map_or_else(
            || ScriptedProposal {
                after: None,
                turn: None,
                think: None,
                query: trajectory.last_query.clone(),
                retriever: None,
                tokens: None,
                log_probability: None,
            },
            |proposal| (*proposal).clone(),
        )
    }

    fn perplexity(&self, trajectory: &Trajectory) -> f32 {
        let script = self
            .perplexities
            .iter()
            .find(|script| fits(script.after.as_ref(), script.turn, trajectory, trajectory.search_queries));
        script.map_or(DEFAULT_PERPLEXITY, |script| script.value)
    }
}

impl ScriptedSession {
    fn locked<T>(&self, work: impl FnOnce(&mut Vec<Trajectory>) -> T) -> T {
        work(&mut self.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn find(nodes: &[Trajectory], node: Node) -> Result<usize, ServiceError> {
    let place = usize::try_from(node).ok().filter(|place| *place < nodes.len());
    place.ok_or_else(|| {
        ServiceError::InvalidInput(format!("node: expected one of {}, got {node}", nodes.len()))
    })
}

fn add(nodes: &mut Vec<Trajectory>, trajectory: Trajectory) -> Node {
    nodes.push(trajectory);
    nodes.len() as Node - 1
}

fn ready<'a, T: Send + 'a>(answer: Result<T, ServiceError>) -> BoxFuture<'a, Result<T, ServiceError>> {
    Box::pin(std::future::ready(answer))
}

fn candidate(nodes: &mut Vec<Trajectory>, place: usize, lines: &Lines) -> Candidate {
    let proposal = lines.propose(&nodes[place]);
    nodes[place].proposals_given += 1;
    let think = proposal.think.unwrap_or_else(|| format!("look for {}", proposal.query));
    let tokens = (words(&think).len() + words(&proposal.query).len()) as u32;
    let tokens = proposal.tokens.unwrap_or(tokens);
    let retriever: Option<Retriever> = proposal.retriever.map(ScriptedRetriever::to_contract);
    let mut trajectory = Trajectory { proposals_given: 0, ..nodes[place].clone() };
    trajectory.read(&Segment::SearchQuery(Issued { query: proposal.query.clone(), retriever }));
    Candidate {
        node: add(nodes, trajectory),
        think,
        query: proposal.query,
        retriever,
        log_probability: proposal.log_probability.unwrap_or(-(tokens as f32)),
        tokens,
        options: Vec::new(),
    }
}

impl GenerateSession for ScriptedSession {
    fn extend(
        &self,
        steps: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>> {
        ready(self.locked(|nodes| {
            let mut value = Vec::with_capacity(steps.len());
            let mut read = 0;
            for (parent, segments) in &steps {
                let mut trajectory = match parent {
                    Some(parent) => nodes[find(nodes, *parent)?].clone(),
                    None => Trajectory::default(),
                };
                trajectory.proposals_given = 0;
                segments.iter().for_each(|segment| trajectory.read(segment));
                read += segments.iter().map(count_words).sum::<usize>();
                value.push(add(nodes, trajectory));
            }
            Ok(Metered { value, usage: Usage { prefilled_tokens: read as u64, decoded_tokens: 0 } })
        }))
    }

    fn propose(
        &self,
        asked: Vec<Node>,
        sampling: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>> {
        ready(self.locked(|nodes| {
            let mut value = Vec::with_capacity(asked.len());
            for node in asked {
                let place = find(nodes, node)?;
                let drawn = (0..sampling.candidates).map(|_| candidate(nodes, place, &self.lines));
                value.push(drawn.collect::<Vec<_>>());
            }
            let written = value.iter().flatten().map(|candidate| u64::from(candidate.tokens)).sum();
            Ok(Metered { value, usage: Usage { prefilled_tokens: 0, decoded_tokens: written } })
        }))
    }

    fn perplexity(
        &self,
        requests: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>> {
        ready(self.locked(|nodes| {
            let mut value = Vec::with_capacity(requests.len());
            let mut read = 0;
            for (node, texts) in &requests {
                let perplexity = self.lines.perplexity(&nodes[find(nodes, *node)?]);
                let judge = |text: &String| {
                    let tokens = words(text).len();
                    read += tokens as u64;
                    JudgedText {
                        perplexity,
                        tokens: tokens as u32,
                        log_probabilities: vec![-perplexity.ln(); tokens],
                    }
                };
                value.push(texts.iter().map(judge).collect::<Vec<_>>());
            }
            Ok(Metered { value, usage: Usage { prefilled_tokens: read, decoded_tokens: 0 } })
        }))
    }
}
