//! Making traces: each question is handed to a rewriter turn by turn, each query is looked up, and what it found is
//! measured against the judged documents. The rewriter sees results, never measurements.

use super::file::{KEPT_HITS, PoolHeader, PoolTrace, PoolTurn, PoolWriter, TraceKey};
use super::prompt;
use crate::data::{Part, Snippet};
use crate::endpoint::{Endpoint, EndpointError};
use crate::error::{Result, TrainError};
use crate::ordered::in_order;
use crate::proposals::wait;
use crate::trajectories::collection::{Collection, best_rank};
use crate::trajectories::rules::{Reformulation, RuleRewriter};
use indicatif::ProgressBar;
use orion_eval::dataset::Query;
use orion_policy::{NodeId, Policy, PolicyError, Retriever, Sampling, Segment, Session};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Requests that may fail one after another before the run gives up: more than one back-off's worth of threads.
const MOST_FAILURES: usize = 12;

/// Who rewrites.
pub enum Rewriter {
    /// The rules, by chance.
    Rules,
    /// A policy in this process, under the name that traces carry.
    Policy(String, Policy),
    /// A model behind an address.
    Endpoint(Box<Endpoint>),
}

impl Rewriter {
    /// The name in traces.
    pub fn name(&self) -> String {
        match self {
            Self::Rules => "rules".to_owned(),
            Self::Policy(name, _) => format!("policy {name}"),
            Self::Endpoint(endpoint) => format!("endpoint {}", endpoint.model()),
        }
    }

    /// Traces that are worth making at once.
    fn concurrency(&self) -> usize {
        match self {
            // The processor's threads are busy inside one lookup or one step of the model already.
            Self::Rules => 1,
            // The scheduler batches what several sessions ask.
            Self::Policy(..) => 4,
            Self::Endpoint(endpoint) => endpoint.concurrency(),
        }
    }
}

/// A turn with what a rewriter sees of it.
pub struct Turned {
    /// The turn.
    pub turn: PoolTurn,
    /// The documents as they are shown.
    pub shown: Vec<Snippet>,
}

/// What became of the traces that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Traces that were there already.
    pub kept: usize,
    /// Traces added.
    pub added: usize,
    /// Answers that held no query; their traces end there, and one without any turn is left out.
    pub bad_answers: usize,
    /// Traces left out because not one turn came of them.
    pub empty: usize,
    /// Traces left for the next run because requests failed.
    pub failed: usize,
    /// The last failure or bad answer, for a look.
    pub last_trouble: Option<String>,
}

struct Job<'a> {
    collection: &'a Collection,
    query: &'a Query,
    part: Part,
    draw: u32,
}

/// What a rewriter made of one question.
struct Made {
    turns: Vec<PoolTurn>,
    trouble: Option<Trouble>,
}

enum Trouble {
    /// An answer that is none; the trace ends with what it has.
    Bad(String),
    /// No answer; the trace is not to be kept.
    Failed(String),
}

/// Adds `draws` traces for each query of each collection by one rewriter; those that are there are not made again.
/// Traces are added in the order of sets, queries and draws.
///
/// # Errors
/// Failing lookups, a pool that cannot be written, an endpoint that fails [`MOST_FAILURES`] times in a row.
pub fn collect(
    collections: &[Collection],
    rewriter: &Rewriter,
    header: &PoolHeader,
    draws: u32,
    pool: &mut PoolWriter,
    bar: &ProgressBar,
) -> Result<Collected> {
    let name = rewriter.name();
    let mut collected = Collected::default();
    let mut jobs = Vec::new();
    for collection in collections {
        for (query, part) in &collection.source.queries {
            for draw in 0..draws {
                let key: TraceKey =
                    (collection.source.set.name().into(), query.id.clone(), name.clone(), draw);
                if pool.has(&key) {
                    collected.kept += 1;
                } else if !collection.targets(&query.id).is_empty() {
                    jobs.push(Job { collection, query, part: *part, draw });
                }
            }
        }
    }
    bar.set_length(jobs.len() as u64);
    let mut failures_in_a_row = 0;
    let work = |job: &Job<'_>| make(job, rewriter, header);
    in_order(&jobs, rewriter.concurrency(), work, |job, made| {
        bar.inc(1);
        let made = made?;
        match made.trouble {
            Some(Trouble::Failed(reason)) => {
                collected.failed += 1;
                failures_in_a_row += 1;
                if failures_in_a_row == MOST_FAILURES {
                    let url = match rewriter {
                        Rewriter::Endpoint(endpoint) => endpoint.url().to_owned(),
                        _ => name.clone(),
                    };
                    return Err(TrainError::Endpoint { url, failures: MOST_FAILURES, last: reason });
                }
                collected.last_trouble = Some(reason);
                return Ok(());
            }
            Some(Trouble::Bad(reason)) => {
                collected.bad_answers += 1;
                collected.last_trouble = Some(reason);
            }
            None => {}
        }
        failures_in_a_row = 0;
        if made.turns.is_empty() {
            collected.empty += 1;
            return Ok(());
        }
        collected.added += 1;
        pool.append(&PoolTrace {
            set: job.collection.source.set.name().to_owned(),
            query_id: job.query.id.clone(),
            part: job.part,
            question: job.query.text.trim().to_owned(),
            source: name.clone(),
            draw: job.draw,
            turns: made.turns,
        })
    })?;
    Ok(collected)
}

/// All that is random in a trace follows from this.
fn trace_seed(header: &PoolHeader, job: &Job<'_>, source: &str) -> u64 {
    let set = job.collection.source.set.name();
    let name = format!("{}\n{set}\n{}\n{source}\n{}", header.seed, job.query.id, job.draw);
    let digest = Sha256::digest(name.as_bytes());
    digest[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn make(job: &Job<'_>, rewriter: &Rewriter, header: &PoolHeader) -> Result<Made> {
    let question = job.query.text.trim();
    let seed = trace_seed(header, job, &rewriter.name());
    let fixed = header.retriever.fixed();
    let targets = job.collection.targets(&job.query.id);
    let mut mind = Mind::begin(rewriter, job.collection, question, fixed, seed);
    let mut history: Vec<Turned> = Vec::new();
    let mut trouble = None;
    for number in 0..header.turns {
        let next = match mind.next(question, &history, seed.wrapping_add(u64::from(number)))? {
            Next::Query(next) => next,
            Next::End => break,
            Next::Trouble(what) => {
                trouble = Some(what);
                break;
            }
        };
        let retriever = fixed.unwrap_or(next.retriever);
        let ranking = job.collection.search(&next.query, retriever, header.depth as usize)?;
        let rank = best_rank(ranking.iter().map(String::as_str), targets);
        let cosine = job.collection.cosine(ranking.first().map(String::as_str), targets)?;
        let shown = job.collection.snippets(ranking.iter().map(String::as_str));
        let hits = ranking.into_iter().take(KEPT_HITS).collect();
        let turn = PoolTurn { think: next.think, query: next.query, retriever, hits, cosine, rank };
        history.push(Turned { turn, shown });
    }
    Ok(Made { turns: history.into_iter().map(|turned| turned.turn).collect(), trouble })
}

enum Next {
    Query(Reformulation),
    End,
    Trouble(Trouble),
}

/// A rewriter at work on one question.
enum Mind<'a> {
    Rules(Box<RuleRewriter<'a>>),
    Policy { session: Session, node: Option<NodeId> },
    Endpoint { endpoint: &'a Endpoint, is_choice: bool },
}

impl<'a> Mind<'a> {
    fn begin(
        rewriter: &'a Rewriter,
        collection: &'a Collection,
        question: &str,
        fixed: Option<Retriever>,
        seed: u64,
    ) -> Self {
        match rewriter {
            Rewriter::Rules => {
                Self::Rules(Box::new(RuleRewriter::new(question, &collection.rarity, fixed, seed)))
            }
            Rewriter::Policy(_, policy) => Self::Policy { session: policy.session(), node: None },
            Rewriter::Endpoint(endpoint) => Self::Endpoint { endpoint, is_choice: fixed.is_none() },
        }
    }

    fn next(&mut self, question: &str, history: &[Turned], seed: u64) -> Result<Next> {
        let shown = history.last().map_or(&[][..], |turned| turned.shown.as_slice());
        match self {
            Self::Rules(rules) => Ok(rules.next(shown).map_or(Next::End, Next::Query)),
            Self::Policy { session, node } => {
                let segment = match node {
                    None => Segment::UserQuery(question.to_owned()),
                    Some(_) => Segment::TopKResponse(shown.iter().map(policy_snippet).collect()),
                };
                match wait(by_policy(session, *node, segment, seed)) {
                    Ok((next, reached)) => {
                        *node = Some(reached);
                        Ok(Next::Query(next))
                    }
                    // A trajectory that has filled the context is a trace with fewer turns.
                    Err(PolicyError::ContextFull { .. }) if !history.is_empty() => Ok(Next::End),
                    Err(error) => Err(TrainError::Policy(error.to_string())),
                }
            }
            Self::Endpoint { endpoint, is_choice } => {
                let answer = match endpoint.ask(&prompt::next_query(question, history, *is_choice, seed)) {
                    Ok(answer) => answer,
                    Err(error @ (EndpointError::Failed { .. } | EndpointError::Refused { .. })) => {
                        return Ok(Next::Trouble(Trouble::Failed(error.to_string())));
                    }
                    Err(error @ EndpointError::Bad { .. }) => {
                        return Ok(Next::Trouble(Trouble::Bad(error.to_string())));
                    }
                    Err(EndpointError::Journal(reason)) => {
                        return Err(TrainError::content(
                            endpoint.url(),
                            "an answer that can be kept",
                            reason,
                        ));
                    }
                };
                Ok(match prompt::read(&answer) {
                    Some((think, query, retriever)) => Next::Query(Reformulation {
                        think,
                        query,
                        retriever: retriever.unwrap_or(Retriever::Hybrid),
                    }),
                    None => {
                        let got = crate::terminal::one_line(&answer, 120);
                        let reason = format!("expected a line `Query: …`, got `{got}`");
                        Next::Trouble(Trouble::Bad(reason))
                    }
                })
            }
        }
    }
}

/// A snippet as the policy's own type.
fn policy_snippet(snippet: &Snippet) -> orion_policy::Snippet {
    orion_policy::Snippet { title: snippet.title.clone(), text: snippet.text.clone() }
}

/// One proposal of the policy after it read `segment`, and the state after it.
async fn by_policy(
    session: &Session,
    node: Option<NodeId>,
    segment: Segment,
    seed: u64,
) -> std::result::Result<(Reformulation, NodeId), PolicyError> {
    // The sampling of the standard strategies.
    let sampling = Sampling {
        candidates: 1,
        temperature: 0.7,
        top_p: 0.95,
        max_think_tokens: 48,
        max_query_tokens: 32,
        seed,
    };
    let nodes = session.extend(vec![(node, vec![segment])]).await?;
    let proposed = session.propose(nodes, sampling).await?;
    let candidate = proposed.into_iter().flatten().next().ok_or(PolicyError::InvalidInput {
        what: "proposal",
        expected: "one candidate".to_owned(),
        got: "none".to_owned(),
    })?;
    let retriever = candidate.retriever.unwrap_or(Retriever::Hybrid);
    let next = Reformulation { think: candidate.think, query: candidate.query, retriever };
    Ok((next, candidate.node))
}
