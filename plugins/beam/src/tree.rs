//! The tree: expansion, one batched retrieval for each turn, survival, stopping, and the fused answer.
//!
//! Branch 0 is the user's query itself (turn 0); every other branch is one query, its ranking and its doubt. Doubt is
//! the natural logarithm of the branch's perplexity: lower is better. Traces show confidence = exp(-doubt), in (0, 1].
//!
//! Invariants
//! - A branch's parent has a smaller number; no branch repeats the query and retriever of an ancestor or sibling.
//! - Survivors are never more than `beam`; at the end every branch but the root is either chosen (on a survivor's path)
//!   or was reported as pruned, never both.
//! - Backtracking is visible as a branch whose parent's turn is not the turn before its own.
//! - No query is retrieved twice under the same retriever; a repeated one shares the earlier ranking.

use std::collections::BTreeMap;

use orion_sdk::fusion::Weighted;
use orion_sdk::signals::Routed;
use orion_sdk::text::normalise;
use orion_sdk::{
    Error, Event, Expanded, Hit, Host, Judged, Level, Outcome, Query, Request, Retrieved, Retriever, Setting,
};

use crate::settings::Tree as Settings;

/// What proposes queries and judges what they found.
pub(crate) trait Driver {
    /// Whether doubts mean anything. Where not, nothing is reported as judged and patience has nothing to wait for.
    const JUDGES: bool;

    /// Reads the user's query; the state that stands for it.
    fn begin(&mut self, host: &mut impl Host) -> Result<u64, Error>;

    /// `width` proposals for each state, in order.
    fn propose(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        states: &[u64],
    ) -> Result<Vec<Vec<Proposal>>, Error>;

    /// Reads what each child retrieved and judges it, in order.
    fn judge(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        children: &[Retrieval<'_>],
    ) -> Result<Vec<Judgement>, Error>;
}

/// One proposed action.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) think: String,
    pub(crate) query: String,
    /// The policy's choice, where it makes one.
    pub(crate) retriever: Option<Retriever>,
    /// The driver's state after this action.
    pub(crate) state: u64,
}

/// One child and what it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retrieval<'a> {
    pub(crate) state: u64,
    pub(crate) query: &'a str,
    pub(crate) hits: &'a [Hit],
}

#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// The driver's state after it read the hits.
    pub(crate) state: u64,
    /// Natural logarithm of the perplexity; lower is better.
    pub(crate) doubt: f32,
    /// What the trace should show beside the confidence.
    pub(crate) options: Vec<Setting>,
}

/// Identity of a retrieval: normalised query and retriever.
type Key = (String, u8);

#[derive(Debug)]
struct Branch {
    /// `None` for the root alone.
    parent: Option<usize>,
    turn: u32,
    think: String,
    query: String,
    retriever: Retriever,
    key: Key,
    state: u64,
    /// Infinite for the root, which nobody judges.
    doubt: f32,
    pruned: bool,
}

/// Why the search ended; the outcome's option `stopped`.
#[derive(Clone, Debug, PartialEq)]
enum Stop {
    Turns,
    Patience,
    /// No branch proposed anything new for so long that patience ran out.
    Exhausted,
    /// The budget of this name is used up.
    Budget(String),
    Cancelled,
}

impl Stop {
    fn name(&self) -> String {
        match self {
            Self::Turns => "turns".to_owned(),
            Self::Patience => "patience".to_owned(),
            Self::Exhausted => "exhausted".to_owned(),
            Self::Budget(name) => format!("budget {name}"),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

/// Turns an error that ends the search early into the reason; others stay errors.
fn graceful(error: Error) -> Result<Stop, Error> {
    match error {
        Error::BudgetExhausted(name) => Ok(Stop::Budget(name)),
        Error::Cancelled => Ok(Stop::Cancelled),
        other => Err(other),
    }
}

struct Tree<'a> {
    request: &'a Request,
    settings: &'a Settings,
    /// Share of the dense score in hybrid rankings; NaN is reciprocal rank fusion.
    dense_weight: f32,
    branches: Vec<Branch>,
    rankings: BTreeMap<Key, Vec<Hit>>,
}

/// Runs a whole search, from a first ranking of the user's own query where there already is one.
///
/// # Errors
/// What the driver's beginning returns (no policy, no tokens), and every error but used up budgets and cancellation.
/// Those two end the search with what is there, unless nothing has been retrieved at all.
pub(crate) fn search<D: Driver>(
    host: &mut impl Host,
    request: &Request,
    settings: &Settings,
    driver: &mut D,
    opening: Option<Routed>,
) -> Result<Outcome, Error> {
    let root_state = driver.begin(host)?;
    let dense_weight = opening.as_ref().map_or(settings.dense_weight, |routed| routed.dense_share);
    let mut tree = Tree { request, settings, dense_weight, branches: Vec::new(), rankings: BTreeMap::new() };
    tree.add_root(host, root_state);
    tree.open_with(opening);

    let mut survivors = vec![0];
    let mut least_doubt = f32::INFINITY;
    let mut turns_without_gain = 0;
    let mut stop = Stop::Turns;
    for turn in 1..=settings.turns {
        let states: Vec<u64> = survivors.iter().map(|&branch| tree.branches[branch].state).collect();
        let proposals = match driver.propose(host, turn, &states) {
            Ok(proposals) => proposals,
            Err(error) => {
                stop = graceful(error)?;
                break;
            }
        };
        let (children, retrieved) = tree.grow(host, turn, &survivors, proposals)?;
        let mut ended = retrieved;
        if !children.is_empty() {
            ended = tree.judge(host, turn, driver, &children)?.or(ended);
            survivors = tree.survivors(&survivors, &children);
            tree.report_pruned(host, &survivors);
        }
        let doubt = survivors.iter().map(|&branch| tree.branches[branch].doubt).fold(f32::INFINITY, f32::min);
        turns_without_gain = if doubt < least_doubt { 0 } else { turns_without_gain + 1 };
        least_doubt = least_doubt.min(doubt);
        if let Some(reason) = ended {
            stop = reason;
            break;
        }
        // Without judgement nothing ever gains; only a tree that no longer grows is given up.
        let impatient = settings.patience > 0 && turns_without_gain >= settings.patience;
        if impatient && (D::JUDGES || children.is_empty()) {
            stop = if children.is_empty() { Stop::Exhausted } else { Stop::Patience };
            break;
        }
    }
    tree.answer(host, &survivors, &stop, D::JUDGES)
}

impl Tree<'_> {
    fn add_root(&mut self, host: &mut impl Host, state: u64) {
        // The user's own query is looked up as blind queries are: by the fixed retriever, or hybrid.
        let retriever = self.settings.retriever.unwrap_or(Retriever::Hybrid);
        self.branches.push(Branch {
            parent: None,
            turn: 0,
            think: String::new(),
            query: self.request.query.clone(),
            retriever,
            key: key(&self.request.query, retriever),
            state,
            doubt: f32::INFINITY,
            pruned: false,
        });
        host.trace(&[self.expanded(0)]);
    }

    /// What routing found stands for the lookups that it made: the fused ranking, and both it was made of.
    fn open_with(&mut self, opening: Option<Routed>) {
        let Some(Routed { fused, lexical, dense, .. }) = opening else { return };
        let rankings = [(Retriever::Hybrid, fused), (Retriever::Lexical, lexical), (Retriever::Dense, dense)];
        for (retriever, mut hits) in rankings {
            hits.truncate(self.settings.depth as usize);
            self.rankings.insert(key(&self.request.query, retriever), hits);
        }
    }

    /// Adds the new branches of one turn and retrieves for all of them in one call. Returns the branches that have a
    /// ranking, and the reason to end where the budget did not suffice for all.
    fn grow(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        parents: &[usize],
        proposals: Vec<Vec<Proposal>>,
    ) -> Result<(Vec<usize>, Option<Stop>), Error> {
        let mut admitted = self.admit(turn, parents, proposals);

        // What is not known yet, each once, the user's own query first: it is the floor of the answer.
        let mut affordable = host.budget().retrievals;
        let mut wanted: Vec<(Key, Query)> = Vec::new();
        let mut stop = None;
        let root = &self.branches[0];
        if turn == 1 && self.settings.original_weight > 0.0 && !self.rankings.contains_key(&root.key) {
            wanted.push((root.key.clone(), self.query(&root.query, root.retriever)));
            affordable = affordable.saturating_sub(1);
        }
        admitted.retain(|branch| {
            let known =
                self.rankings.contains_key(&branch.key) || wanted.iter().any(|(key, _)| *key == branch.key);
            if !known && affordable == 0 {
                stop = Some(Stop::Budget("retrievals".to_owned()));
                return false;
            }
            if !known {
                affordable -= 1;
                wanted.push((branch.key.clone(), self.query(&branch.query, branch.retriever)));
            }
            true
        });

        let (keys, queries): (Vec<Key>, Vec<Query>) = wanted.into_iter().unzip();
        if !queries.is_empty() {
            match host.search(&queries) {
                Ok(rankings) => self.rankings.extend(keys.into_iter().zip(rankings)),
                Err(error) => return Ok((Vec::new(), Some(graceful(error)?))),
            }
        }

        let first = self.branches.len();
        self.branches.extend(admitted);
        let children: Vec<usize> = (first..self.branches.len()).collect();
        let mut events = Vec::new();
        if let (1, Some(hits)) = (turn, self.rankings.get(&self.branches[0].key)) {
            events.push(Event::Retrieved(Retrieved { branch: 0, hits: hits.clone() }));
        }
        events.extend(children.iter().map(|&child| self.expanded(child)));
        events.extend(children.iter().map(|&child| {
            Event::Retrieved(Retrieved { branch: child as u32, hits: self.hits(child).to_vec() })
        }));
        host.trace(&events);
        Ok((children, stop))
    }

    /// The proposals that are new: not empty, and neither an ancestor nor an earlier sibling asks the same of the same
    /// retriever. In the order first proposals, second proposals, …, so that a short budget is shared fairly.
    fn admit(&self, turn: u32, parents: &[usize], proposals: Vec<Vec<Proposal>>) -> Vec<Branch> {
        let mut taken: Vec<Vec<Key>> = parents.iter().map(|&parent| self.keys_around(parent)).collect();
        let rounds = proposals.iter().map(Vec::len).max().unwrap_or_default();
        let mut queues: Vec<_> = proposals.into_iter().take(parents.len()).map(Vec::into_iter).collect();

        let mut admitted = Vec::new();
        for _ in 0..rounds {
            for (position, queue) in queues.iter_mut().enumerate() {
                let Some(proposal) = queue.next() else { continue };
                let retriever = self.settings.retriever.or(proposal.retriever).unwrap_or(Retriever::Hybrid);
                let key = key(&proposal.query, retriever);
                if key.0.is_empty() || taken[position].contains(&key) {
                    continue;
                }
                taken[position].push(key.clone());
                admitted.push(Branch {
                    parent: Some(parents[position]),
                    turn,
                    think: proposal.think,
                    query: proposal.query,
                    retriever,
                    key,
                    state: proposal.state,
                    doubt: f32::INFINITY,
                    pruned: false,
                });
            }
        }
        admitted
    }

    /// Keys of a branch's path and of the children it already has. The root is left out: to repeat the user's query is
    /// a legitimate first step, and costs no second retrieval.
    fn keys_around(&self, branch: usize) -> Vec<Key> {
        let path = self.path(branch).into_iter();
        let children = (1..self.branches.len()).filter(|&child| self.branches[child].parent == Some(branch));
        path.chain(children).map(|index| self.branches[index].key.clone()).collect()
    }

    /// Fills in states and doubts of the children. Where the driver could not judge them in time they inherit their
    /// parents' doubt, so that what was retrieved is not lost.
    fn judge<D: Driver>(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        driver: &mut D,
        children: &[usize],
    ) -> Result<Option<Stop>, Error> {
        let retrievals: Vec<Retrieval<'_>> = children
            .iter()
            .map(|&child| {
                let branch = &self.branches[child];
                Retrieval { state: branch.state, query: &branch.query, hits: self.hits(child) }
            })
            .collect();
        let judgements = match driver.judge(host, turn, &retrievals) {
            Ok(judgements) => judgements,
            Err(error) => {
                let stop = graceful(error)?;
                for &child in children {
                    let inherited =
                        self.branches[child].parent.map_or(0.0, |parent| self.branches[parent].doubt);
                    self.branches[child].doubt = if inherited.is_finite() { inherited } else { 0.0 };
                }
                return Ok(Some(stop));
            }
        };
        let mut events = Vec::new();
        for (&child, judgement) in children.iter().zip(judgements) {
            let branch = &mut self.branches[child];
            branch.state = judgement.state;
            // A model that answers with NaN is in no position to recommend the branch.
            branch.doubt = if judgement.doubt.is_nan() { f32::MAX } else { judgement.doubt };
            let confidence = confidence(branch.doubt);
            events.push(Event::Judged(Judged {
                branch: child as u32,
                confidence,
                options: judgement.options,
            }));
        }
        if D::JUDGES {
            host.trace(&events);
        }
        Ok(None)
    }

    /// The least doubtful of the children and of those parents that doubt less than all their children (each of which
    /// was a step back); ties in order of number. At most `beam`.
    fn survivors(&self, parents: &[usize], children: &[usize]) -> Vec<usize> {
        let doubt = |branch: usize| self.branches[branch].doubt;
        let stays = |parent: usize| {
            let of_children =
                (1..self.branches.len()).filter(|&child| self.branches[child].parent == Some(parent));
            doubt(parent) < of_children.map(doubt).fold(f32::INFINITY, f32::min)
        };
        let mut pool: Vec<usize> = parents.iter().copied().filter(|&parent| stays(parent)).collect();
        pool.extend_from_slice(children);
        pool.sort_unstable_by(|&left, &right| doubt(left).total_cmp(&doubt(right)).then(left.cmp(&right)));
        pool.truncate(self.settings.beam);
        pool
    }

    /// Reports every branch that has dropped off all survivors' paths.
    fn report_pruned(&mut self, host: &mut impl Host, survivors: &[usize]) {
        let alive = self.alive(survivors);
        let mut events = Vec::new();
        for (index, branch) in self.branches.iter_mut().enumerate().skip(1) {
            if !branch.pruned && !alive[index] {
                branch.pruned = true;
                events.push(Event::Pruned(index as u32));
            }
        }
        if !events.is_empty() {
            host.trace(&events);
        }
    }

    /// One fused ranking: the user's own query with its share, the branches on survivors' paths with the rest, divided
    /// by softmax(-doubt / temperature).
    fn answer(
        &self,
        host: &mut impl Host,
        survivors: &[usize],
        stop: &Stop,
        judged: bool,
    ) -> Result<Outcome, Error> {
        let alive = self.alive(survivors);
        let chosen: Vec<usize> = (1..self.branches.len()).filter(|&branch| alive[branch]).collect();
        // A ranking that several branches share counts once, for the most confident of them.
        let mut doubts: BTreeMap<&Key, f32> = BTreeMap::new();
        for &branch in &chosen {
            let Branch { key, doubt, .. } = &self.branches[branch];
            let least = doubts.entry(key).or_insert(f32::INFINITY);
            *least = least.min(*doubt);
        }
        let doubts: Vec<(&Key, f32)> = doubts.into_iter().collect();
        let weights = softmax(&doubts, self.settings.confidence_temperature);

        let own =
            if self.settings.original_weight > 0.0 { self.rankings.get(&self.branches[0].key) } else { None };
        let own_share = match own {
            None => 0.0,
            Some(_) if doubts.is_empty() => 1.0,
            Some(_) => self.settings.original_weight,
        };
        let mut rankings: Vec<Weighted<'_>> = Vec::new();
        rankings.extend(own.map(|hits| Weighted { weight: own_share, hits }));
        for ((key, _), weight) in doubts.iter().zip(&weights) {
            let hits = self.rankings.get(*key).map_or(&[][..], Vec::as_slice);
            rankings.push(Weighted { weight: (1.0 - own_share) * weight, hits });
        }
        if rankings.is_empty() {
            return Err(match stop {
                Stop::Budget(name) => Error::BudgetExhausted(name.clone()),
                Stop::Cancelled => Error::Cancelled,
                _ => Error::Other(("no-query".to_owned(), "the policy proposed no query".to_owned())),
            });
        }

        let mut events: Vec<Event> = Vec::new();
        events.extend(own.map(|_| Event::Chosen(0)));
        events.extend(chosen.iter().map(|&branch| Event::Chosen(branch as u32)));
        host.trace(&events);
        host.log(Level::Debug, &format!("stopped: {}, {} branches", stop.name(), self.branches.len() - 1));

        let least_doubt = doubts.iter().map(|(_, doubt)| *doubt).fold(f32::INFINITY, f32::min);
        let outcome_confidence =
            if judged && least_doubt.is_finite() { confidence(least_doubt) } else { f32::NAN };
        let turns = self.branches.iter().map(|branch| branch.turn).max().unwrap_or_default();
        let fused = self.settings.fusion.fuse(&rankings);
        Ok(Outcome::ranked(fused, self.request.k, outcome_confidence)
            .with("stopped", stop.name())
            .with("turns", turns)
            .with("branches", self.branches.len() - 1)
            .with("chosen", chosen.len()))
    }

    /// A branch and its ancestors, without the root.
    fn path(&self, branch: usize) -> Vec<usize> {
        let mut path = Vec::new();
        let mut next = Some(branch);
        while let Some(index) = next {
            if index != 0 {
                path.push(index);
            }
            next = self.branches[index].parent;
        }
        path
    }

    /// For each branch, whether it is on a survivor's path; never the root.
    fn alive(&self, survivors: &[usize]) -> Vec<bool> {
        let mut alive = vec![false; self.branches.len()];
        for index in survivors.iter().flat_map(|&branch| self.path(branch)) {
            alive[index] = true;
        }
        alive
    }

    fn hits(&self, branch: usize) -> &[Hit] {
        self.rankings.get(&self.branches[branch].key).map_or(&[], Vec::as_slice)
    }

    fn query(&self, text: &str, retriever: Retriever) -> Query {
        Query::new(text, retriever, self.dense_weight, self.settings.depth)
    }

    fn expanded(&self, index: usize) -> Event {
        let branch = &self.branches[index];
        Event::Expanded(Expanded {
            branch: index as u32,
            parent: branch.parent.map(|parent| parent as u32),
            turn: branch.turn,
            think: branch.think.clone(),
            query: branch.query.clone(),
            retriever: branch.retriever,
        })
    }
}

fn key(query: &str, retriever: Retriever) -> Key {
    (normalise(query), retriever as u8)
}

/// The geometric mean of the judged tokens' probabilities, in (0, 1].
fn confidence(doubt: f32) -> f32 {
    (-doubt).exp().clamp(0.0, 1.0)
}

/// softmax(-doubt / temperature); sums to 1 unless there is nothing.
fn softmax(doubts: &[(&Key, f32)], temperature: f32) -> Vec<f32> {
    let least = doubts.iter().map(|(_, doubt)| *doubt).fold(f32::INFINITY, f32::min);
    let raised: Vec<f32> = doubts.iter().map(|(_, doubt)| ((least - doubt) / temperature).exp()).collect();
    let total: f32 = raised.iter().sum();
    raised.iter().map(|value| value / total).collect()
}
