//! The core of every archetype: steps over the graph of reformulations, what they found and how good that was, the
//! trace, and the fused answer.
//!
//! Step 0 is the user's query itself (turn 0, not judged); every other step is one query. An archetype asks for offers,
//! makes moves, and prunes what it tried for comparison alone; it may end early, and is ended by budgets.
//!
//! Invariants
//! - A step's parent has a smaller number; no query is retrieved twice under the same retriever.
//! - At the end every step but the root is either chosen or was reported as pruned, never both.
//! - Turns count up by one with each move; moves made together share their turn.

use std::collections::BTreeSet;

use orion_sdk::fusion::Weighted;
use orion_sdk::random::Random;
use orion_sdk::reading::Reading;
use orion_sdk::text::normalise;
use orion_sdk::{
    Error, Event, Expanded, Hit, Host, Issued, Judged, Level, Node, Outcome, Query, Request, Retrieved,
    Retriever, Segment, Snippet, Turn, setting,
};

use crate::offers::Offer;
use crate::rules;
use crate::settings::{FUSION, Settings};
use crate::terms::{content, topics};

/// The user's own query.
pub(crate) const ROOT: usize = 0;

/// What even a worthless step weighs in the answer, on the scale of quality. Ours: judges err, and a document that only
/// this step found should rather come last than not at all.
const LEAST_WEIGHT: f32 = 0.05;

/// Why a walk ended; the outcome's option `stopped`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    Turns,
    /// There is nothing new to ask.
    Exhausted,
    /// An early success was confirmed.
    Validated,
    /// No variant was better than what was there.
    LocalOptimum,
    /// The budget of this name is used up.
    Budget(String),
    Cancelled,
}

impl Stop {
    fn name(&self) -> String {
        match self {
            Self::Turns => "turns".to_owned(),
            Self::Exhausted => "exhausted".to_owned(),
            Self::Validated => "validated".to_owned(),
            Self::LocalOptimum => "local optimum".to_owned(),
            Self::Budget(name) => format!("budget {name}"),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

/// What interrupts an archetype: an end that still has an answer, or a failure.
#[derive(Debug)]
pub(crate) enum Halt {
    Stop(Stop),
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        match error {
            Error::BudgetExhausted(name) => Self::Stop(Stop::Budget(name)),
            Error::Cancelled => Self::Stop(Stop::Cancelled),
            other => Self::Failed(other),
        }
    }
}

/// One query on the way.
#[derive(Debug)]
pub(crate) struct Step {
    /// The step that it reformulates; `None` for the root alone.
    pub(crate) parent: Option<usize>,
    pub(crate) query: String,
    /// In [0, 1]; NaN for the root, which nobody judges.
    pub(crate) quality: f32,
    /// How many of the documents that were read no earlier step of this walk had brought.
    pub(crate) new_documents: usize,
    turn: u32,
    think: String,
    retriever: Retriever,
    hits: Vec<Hit>,
    /// The policy's state after it read the hits; `None` without a policy.
    node: Option<Node>,
    pruned: bool,
    offered: Vec<Offer>,
}

/// One query to search next: the step it reformulates, and the archetype's reason.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) from: usize,
    pub(crate) offer: Offer,
    pub(crate) why: String,
}

/// A search under way.
#[derive(Debug)]
pub(crate) struct Walk<'a, H> {
    host: &'a mut H,
    pub(crate) request: &'a Request,
    settings: Settings,
    reading: Reading,
    steps: Vec<Step>,
    turn: u32,
    /// Ids of documents that a step has brought among its first.
    seen: BTreeSet<String>,
}

/// Runs a whole search by one archetype's rule.
///
/// # Errors
/// Every error but used up budgets and cancellation, which end the search with what is there, unless not even the user's
/// own query could be retrieved.
pub(crate) fn search<H: Host>(
    host: &mut H,
    request: &Request,
    rule: impl FnOnce(&mut Walk<'_, H>) -> Result<Stop, Halt>,
) -> Result<Outcome, Error> {
    let mut walk = Walk::begin(host, request)?;
    let stop = match rule(&mut walk) {
        Ok(stop) | Err(Halt::Stop(stop)) => stop,
        Err(Halt::Failed(error)) => return Err(error),
    };
    Ok(walk.answer(&stop))
}

impl<'a, H: Host> Walk<'a, H> {
    fn begin(host: &'a mut H, request: &'a Request) -> Result<Self, Error> {
        let settings = Settings::read(request)?;
        let reading = Reading::new(&request.options)?;
        let retriever = settings.retriever.unwrap_or(Retriever::Hybrid);
        let query = Query::new(&request.query, retriever, settings.dense_weight, settings.depth);
        let hits = host.search(&[query])?.pop().unwrap_or_default();
        let node = match host.extend(&[(None, vec![Segment::UserQuery(request.query.clone())])]) {
            Ok(nodes) => nodes.first().copied(),
            Err(Error::Unavailable(_)) => {
                host.log(Level::Debug, "no policy: queries are made by rules");
                None
            }
            Err(Error::BudgetExhausted(_) | Error::Cancelled) => None,
            Err(error) => return Err(error),
        };
        let root = Step {
            parent: None,
            query: request.query.clone(),
            quality: f32::NAN,
            new_documents: 0,
            turn: 0,
            think: String::new(),
            retriever,
            hits,
            node,
            pruned: false,
            offered: Vec::new(),
        };
        let walk =
            Self { host, request, settings, reading, steps: vec![root], turn: 0, seen: BTreeSet::new() };
        let events = [walk.expanded(ROOT), walk.retrieved(ROOT)];
        walk.host.trace(&events);
        Ok(walk)
    }

    /// Turns that are left.
    pub(crate) fn left(&self) -> usize {
        self.settings.turns.saturating_sub(self.visited().count())
    }

    /// Turns made so far.
    pub(crate) fn turn_number(&self) -> usize {
        self.turn as usize
    }

    pub(crate) fn step(&self, step: usize) -> &Step {
        &self.steps[step]
    }

    /// The best step so far, the first of equals; the root where there is none.
    pub(crate) fn best(&self) -> usize {
        self.best_of(&self.visited().collect::<Vec<_>>()).unwrap_or(ROOT)
    }

    /// The best of these steps, the first of equals.
    pub(crate) fn best_of(&self, steps: &[usize]) -> Option<usize> {
        let quality = |step: usize| self.steps[step].quality;
        steps.iter().copied().reduce(|best, step| if quality(best) < quality(step) { step } else { best })
    }

    /// A step and its ancestors, nearest first, the root last.
    pub(crate) fn path(&self, step: usize) -> Vec<usize> {
        std::iter::successors(Some(step), |&step| self.steps[step].parent).collect()
    }

    /// The documents that were read of a step, best first. The root's are not read: a trajectory has not shown them.
    pub(crate) fn documents(&self, step: usize) -> Vec<Snippet> {
        if step == ROOT { Vec::new() } else { self.reading.of(&self.steps[step].hits) }
    }

    /// What a step's documents speak of beside the words of its query and the user's, most common first.
    pub(crate) fn topics(&self, step: usize) -> Vec<String> {
        let mut known = content(&self.request.query);
        known.extend(content(&self.steps[step].query));
        topics(&self.documents(step), &known)
    }

    /// An archetype's own randomness, decided by the request's seed and the turn.
    pub(crate) fn random(&self) -> Random {
        Random::derive(self.request.seed, &[0, u64::from(self.turn)])
    }

    /// Queries that may follow a step and that were not searched yet, each once, in order of preference of whoever
    /// offers them: the policy first; rules where it has fewer than `count`. There may be more or fewer.
    pub(crate) fn offers(&mut self, from: usize, count: usize) -> Result<Vec<Offer>, Halt> {
        self.ask(&[from], count)?;
        if self.unsearched(from).len() < count {
            let mut random = Random::derive(self.request.seed, &[2, from as u64]);
            let (user_query, query) = (&self.request.query, &self.steps[from].query);
            let made = match from {
                ROOT => rules::openings(user_query, &mut random),
                _ => rules::replies(user_query, query, &self.documents(from), &mut random),
            };
            self.steps[from].offered.extend(made);
        }
        Ok(self.unsearched(from))
    }

    /// Asks the policy, in one call, for proposals after those of the steps that have fewer than `count` offers.
    pub(crate) fn ask(&mut self, steps: &[usize], count: usize) -> Result<(), Halt> {
        let short = steps.iter().copied().filter(|&step| self.unsearched(step).len() < count);
        let (asked, nodes): (Vec<usize>, Vec<Node>) =
            short.filter_map(|step| Some((step, self.steps[step].node?))).unzip();
        let Some(&first) = asked.first() else { return Ok(()) };
        let mut sampling = self.settings.sampling.clone();
        sampling.candidates = sampling.candidates.max(count as u32);
        sampling.seed =
            Random::derive(self.request.seed, &[1, u64::from(self.turn), first as u64]).next_u64();
        let proposed = match self.host.propose(&nodes, &sampling) {
            Ok(candidates) => candidates,
            // A policy that has gone away is replaced by rules, as one that was never there.
            Err(Error::Unavailable(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (step, candidates) in asked.into_iter().zip(proposed) {
            let offers = candidates.into_iter().map(|candidate| Offer {
                think: candidate.think,
                query: candidate.query,
                retriever: candidate.retriever,
                node: Some(candidate.node),
            });
            self.steps[step].offered.extend(offers);
        }
        Ok(())
    }

    /// Whether a query of the archetype's own would be a new one.
    pub(crate) fn is_new(&self, query: &str) -> bool {
        let key = self.key(query, None);
        !key.0.is_empty() && !self.searched().contains(&key)
    }

    /// Makes one move; the new step.
    pub(crate) fn go(&mut self, from: usize, offer: Offer, why: String) -> Result<usize, Halt> {
        let steps = self.go_together(vec![Move { from, offer, why }])?;
        steps.first().copied().ok_or(Halt::Stop(Stop::Exhausted))
    }

    /// Makes moves side by side in one turn: retrieves for all in one call, reads, judges. The new steps, in order;
    /// fewer where the budget does not suffice for all or where two of them ask the same.
    pub(crate) fn go_together(&mut self, mut moves: Vec<Move>) -> Result<Vec<usize>, Halt> {
        let mut asked = self.searched();
        moves.retain(|next| asked.insert(self.key(&next.offer.query, next.offer.retriever)));
        let affordable = self.host.budget().retrievals;
        moves.truncate(usize::try_from(affordable).unwrap_or(usize::MAX));
        if affordable == 0 {
            return Err(Halt::Stop(Stop::Budget("retrievals".to_owned())));
        }
        let queries: Vec<Query> = moves
            .iter()
            .map(|next| {
                let retriever = self.retriever(next.offer.retriever);
                Query::new(&next.offer.query, retriever, self.settings.dense_weight, self.settings.depth)
            })
            .collect();
        let rankings = self.host.search(&queries)?;

        self.turn += 1;
        let added = self.steps.len();
        for (next, hits) in moves.into_iter().zip(rankings) {
            self.add(next, hits);
        }
        let new: Vec<usize> = (added..self.steps.len()).collect();
        let mut events: Vec<Event> = new.iter().map(|&step| self.expanded(step)).collect();
        events.extend(new.iter().map(|&step| self.retrieved(step)));
        self.host.trace(&events);
        self.read(&new)?;
        self.judge(&new)?;
        Ok(new)
    }

    /// Sets steps aside that were tried for comparison alone.
    pub(crate) fn prune(&mut self, steps: impl Iterator<Item = usize>) {
        let mut events = Vec::new();
        for step in steps {
            self.steps[step].pruned = true;
            events.push(Event::Pruned(step as u32));
        }
        self.host.trace(&events);
    }

    fn add(&mut self, next: Move, hits: Vec<Hit>) {
        let Move { from, offer, why } = next;
        let think = if offer.think.is_empty() { why } else { format!("{why} {}", offer.think) };
        let retriever = self.retriever(offer.retriever);
        let first: Vec<String> = self.reading.top(&hits).iter().map(|hit| hit.id.clone()).collect();
        let new_documents = first.into_iter().filter(|id| self.seen.insert(id.clone())).count();
        // Until it is judged, and where that fails, a step counts as much as the one before.
        let quality = self.steps[from].quality.max(0.0);
        self.steps.push(Step {
            parent: Some(from),
            query: offer.query,
            quality,
            new_documents,
            turn: self.turn,
            think,
            retriever,
            hits,
            node: offer.node,
            pruned: false,
            offered: Vec::new(),
        });
    }

    /// Reads what steps retrieved; the policy reads it too, where there is one.
    fn read(&mut self, new: &[usize]) -> Result<(), Halt> {
        self.reading.fetch(self.host, new.iter().map(|&step| self.steps[step].hits.as_slice()))?;
        let mut readers = Vec::new();
        let mut segments = Vec::new();
        for &index in new {
            let step = &self.steps[index];
            let response = Segment::TopKResponse(self.reading.of(&step.hits));
            let before = step.parent.and_then(|parent| self.steps[parent].node);
            match (step.node, before) {
                (Some(node), _) => segments.push((Some(node), vec![response])),
                (None, Some(node)) => {
                    let issued = Issued { query: step.query.clone(), retriever: Some(step.retriever) };
                    let own =
                        vec![Segment::Think(step.think.clone()), Segment::SearchQuery(issued), response];
                    segments.push((Some(node), own));
                }
                (None, None) => continue,
            }
            readers.push(index);
        }
        if readers.is_empty() {
            return Ok(());
        }
        let nodes = match self.host.extend(&segments) {
            Ok(nodes) => nodes,
            Err(error) => {
                // A state that has not read its results would propose for the wrong place.
                readers.iter().for_each(|&step| self.steps[step].node = None);
                return match error {
                    Error::Unavailable(_) => Ok(()),
                    other => Err(other.into()),
                };
            }
        };
        for (step, node) in readers.into_iter().zip(nodes) {
            self.steps[step].node = Some(node);
        }
        Ok(())
    }

    fn judge(&mut self, new: &[usize]) -> Result<(), Halt> {
        let turns: Vec<Turn> = new
            .iter()
            .map(|&index| {
                let step = &self.steps[index];
                Turn {
                    user_query: self.request.query.clone(),
                    turn: step.turn,
                    search_query: step.query.clone(),
                    hits: step.hits.clone(),
                    node: step.node,
                }
            })
            .collect();
        let qualities = match self.host.quality(&turns) {
            Ok(qualities) => qualities,
            Err(Error::Unavailable(_)) => new.iter().map(|&step| self.coverage(step)).collect(),
            Err(error) => return Err(error.into()),
        };
        let mut events = Vec::new();
        for (&index, quality) in new.iter().zip(qualities) {
            let step = &mut self.steps[index];
            step.quality = if quality.is_nan() { 0.0 } else { quality };
            events.push(Event::Judged(Judged {
                branch: index as u32,
                confidence: step.quality,
                options: vec![setting("new-documents", step.new_documents)],
            }));
        }
        self.host.trace(&events);
        Ok(())
    }

    /// A stand-in for quality where nobody can judge (no policy, no encoder): the share of the user's words that occur in
    /// the documents that were read.
    fn coverage(&self, step: usize) -> f32 {
        let texts =
            self.documents(step).into_iter().map(|document| format!("{} {}", document.title, document.text));
        let found = content(&texts.collect::<Vec<_>>().join(" "));
        let wanted = content(&self.request.query);
        let covered = wanted.iter().filter(|word| found.contains(word)).count();
        covered as f32 / wanted.len().max(1) as f32
    }

    /// One fused ranking: the user's own query with its share, the visited steps with the rest, divided by quality.
    fn answer(&mut self, stop: &Stop) -> Outcome {
        let visited: Vec<usize> = self.visited().collect();
        let weight = |step: usize| self.steps[step].quality.max(LEAST_WEIGHT);
        let total: f32 = visited.iter().map(|&step| weight(step)).sum();
        let own_share = if visited.is_empty() { 1.0 } else { self.settings.original_weight };
        let mut rankings = vec![Weighted { weight: own_share, hits: &self.steps[ROOT].hits }];
        rankings.extend(visited.iter().map(|&step| {
            let share = (1.0 - own_share) * weight(step) / total;
            Weighted { weight: share, hits: &self.steps[step].hits }
        }));
        let fused = FUSION.fuse(&rankings);

        let root = (own_share > 0.0).then_some(ROOT);
        let chosen: Vec<Event> =
            root.into_iter().chain(visited.iter().copied()).map(|step| Event::Chosen(step as u32)).collect();
        self.host.trace(&chosen);
        self.host.log(Level::Debug, &format!("stopped: {}, {} steps", stop.name(), visited.len()));

        let best = visited.iter().map(|&step| self.steps[step].quality).fold(f32::NAN, f32::max);
        Outcome::ranked(fused, self.request.k, best)
            .with("stopped", stop.name())
            .with("turns", self.turn)
            .with("branches", self.steps.len() - 1)
            .with("chosen", visited.len())
    }

    /// The steps that count: neither the root nor pruned.
    fn visited(&self) -> impl Iterator<Item = usize> {
        (1..self.steps.len()).filter(|&step| !self.steps[step].pruned)
    }

    fn unsearched(&self, from: usize) -> Vec<Offer> {
        let mut known = self.searched();
        let offered = self.steps[from].offered.iter();
        let fresh = offered.filter(|offer| {
            let key = self.key(&offer.query, offer.retriever);
            !key.0.is_empty() && known.insert(key)
        });
        fresh.cloned().collect()
    }

    fn searched(&self) -> BTreeSet<(String, u8)> {
        self.steps.iter().map(|step| (normalise(&step.query), step.retriever as u8)).collect()
    }

    fn key(&self, query: &str, chosen: Option<Retriever>) -> (String, u8) {
        (normalise(query), self.retriever(chosen) as u8)
    }

    fn retriever(&self, chosen: Option<Retriever>) -> Retriever {
        self.settings.retriever.or(chosen).unwrap_or(Retriever::Hybrid)
    }

    fn expanded(&self, index: usize) -> Event {
        let step = &self.steps[index];
        Event::Expanded(Expanded {
            branch: index as u32,
            parent: step.parent.map(|parent| parent as u32),
            turn: step.turn,
            think: step.think.clone(),
            query: step.query.clone(),
            retriever: step.retriever,
        })
    }

    fn retrieved(&self, index: usize) -> Event {
        Event::Retrieved(Retrieved { branch: index as u32, hits: self.steps[index].hits.clone() })
    }
}
