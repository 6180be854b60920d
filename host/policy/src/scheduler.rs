//! One thread owns the model and serves all sessions, a step at a time.
//!
//! Each call becomes lanes: one for each sequence that it extends, proposes or judges. A step takes some tokens of
//! many lanes, runs them through the model as the rows of one batch, and moves each lane on. New calls join at the
//! next step; a call whose future is gone, and a session that was dropped, leave at the next step. What a lane
//! computes does not depend on who shares its steps.
//!
//! Fairness: lanes that decode go first, for they need a row or two; prompts share the rest of a step in turn, a
//! chunk each, beginning one lane further every step; sessions are admitted in turn.
//!
//! Memory: a lane is admitted when all that it can come to need fits beside what the running lanes need; states that
//! none of them reads are forgotten for it, longest unused first, and read again when they are needed (see `room` and
//! `lane`). A lane that has to wait for memory holds its session's turn, so none starves; one that could never fit is
//! refused when it is asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

mod outputs;

use crate::backend::Backend;
use crate::counters::Counters;
use crate::error::{CheckpointError, PolicyError};
use crate::format::TrajectoryFormat;
use crate::generate::{DecodingTables, Generation, Sampling};
use crate::grounding::{Spellings, Words};
use crate::lane::{Lane, Outcome, Purpose, Scoring};
use crate::model::{Feed, Scratch};
use crate::prompt;
use crate::request::{Job, Request, Waiter};
use crate::room;
use crate::session::{Candidate, NodeId, PolicyOptions, UsageCounters};
use crate::state::{Sequence, State};

/// Tokens that one prompt takes of a step before the next one's turn.
const CHUNK_TOKENS: usize = 64;

/// What is forgotten beyond need, as a part of the memory.
const ROOM_SHARE: usize = 16;

/// The thread's world.
pub(crate) struct Scheduler {
    model: Backend,
    format: Arc<TrajectoryFormat>,
    tables: DecodingTables,
    spellings: Spellings,
    context_tokens: usize,
    options: PolicyOptions,
    requests: Receiver<Request>,
    /// The state after what every trajectory begins with.
    root: Option<Arc<State>>,
    /// By session: its nodes by number; `None` while one is in the making or after its call was given up.
    nodes: BTreeMap<u64, Vec<Option<Arc<State>>>>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    waiting: BTreeMap<u64, VecDeque<Lane>>,
    last_admitted: u64,
    active: Vec<Lane>,
    turn: usize,
    /// Counts admissions: when states were last needed.
    clock: u64,
    state_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    scratch: Scratch,
    logits: Vec<f32>,
    /// Working memory of lanes that propose.
    buffers: Vec<Vec<f32>>,
}

impl Scheduler {
    /// Prepares the root state; returns the scheduler and what the user should be warned of.
    pub(crate) fn new(
        model: Backend,
        format: Arc<TrajectoryFormat>,
        context_tokens: usize,
        options: PolicyOptions,
        requests: Receiver<Request>,
    ) -> Result<(Self, Vec<String>), PolicyError> {
        let tables = DecodingTables::new(&format, model.config().vocabulary_size).ok_or_else(|| {
            CheckpointError::Tokenizer {
                file: format.tokenizer().file().to_owned(),
                what: "vocabulary".to_owned(),
                expected: "a token with a letter or digit".to_owned(),
                got: "none".to_owned(),
            }
        })?;
        let mut scheduler = Self {
            model,
            format,
            tables,
            spellings: Spellings::default(),
            context_tokens,
            options,
            requests,
            root: None,
            nodes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            waiting: BTreeMap::new(),
            last_admitted: 0,
            active: Vec::new(),
            turn: 0,
            clock: 0,
            state_bytes: Arc::default(),
            counters: Arc::default(),
            scratch: Scratch::default(),
            logits: Vec::new(),
            buffers: Vec::new(),
        };
        if let Backend::Cuda(model) = &scheduler.model {
            model.allow(&scheduler.tables.content, &scheduler.tables.opening)?;
        }
        let begin = scheduler.format.begin().tokens;
        scheduler.check_context(begin.len())?;
        if !begin.is_empty() {
            let mut sequence = Sequence::new(scheduler.model.sizes(), None);
            for chunk in begin.chunks(scheduler.options.max_step_tokens.max(1)) {
                let feed = Feed { sequence: &mut sequence, tokens: chunk, wanted_from: chunk.len() - 1 };
                scheduler.model.forward(&mut [feed], &mut scheduler.scratch)?;
            }
            scheduler.root = Some(sequence.finish(scheduler.model.sizes(), &scheduler.state_bytes));
        }
        let root = scheduler.root.as_ref();
        let warnings = prompt::check(&scheduler.model, &scheduler.format, root, context_tokens)?;
        let warnings = warnings.into_iter().collect();
        Ok((scheduler, warnings))
    }

    /// Counts the bytes of all states.
    pub(crate) fn state_bytes(&self) -> Arc<AtomicUsize> {
        self.state_bytes.clone()
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Serves until the last policy and session are gone.
    pub(crate) fn run(mut self) {
        loop {
            let idle = self.active.is_empty() && self.waiting.is_empty();
            if idle {
                match self.requests.recv() {
                    Ok(request) => self.accept(request),
                    Err(_) => return,
                }
            }
            loop {
                match self.requests.try_recv() {
                    Ok(request) => self.accept(request),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.drop_the_gone();
            self.admit();
            self.count_lanes();
            self.step();
            self.count_lanes();
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Close { session } => {
                self.nodes.remove(&session);
                self.waiting.remove(&session);
                self.active.retain(|lane| lane.session != session);
                self.jobs.retain(|_, job| job.session != session);
            }
            Request::Tokens { session, node, reply } => {
                let answer = self.node(session, node).map(|state| state.all_tokens());
                // A waiter that has gone does not mind; so below.
                let _ = reply.send(answer);
            }
            Request::Extend { session, usage, steps, reply } => {
                match self.extend_lanes(session, &usage, steps) {
                    Err(error) => drop(reply.send(Err(error))),
                    Ok((lanes, ids)) => self.begin(session, lanes, Waiter::Extend(reply, ids)),
                }
            }
            Request::Propose { session, usage, nodes, sampling, reply } => {
                match self.propose_lanes(session, &usage, &nodes, &sampling) {
                    Err(error) => drop(reply.send(Err(error))),
                    Ok(lanes) => {
                        let waiter = Waiter::Propose(reply, sampling.candidates as usize);
                        self.begin(session, lanes, waiter);
                    }
                }
            }
            Request::Perplexity { session, usage, requests, reply } => {
                let counts = requests.iter().map(|(_, texts)| texts.len()).collect();
                match self.perplexity_lanes(session, &usage, requests) {
                    Err(error) => drop(reply.send(Err(error))),
                    Ok(lanes) => self.begin(session, lanes, Waiter::Perplexity(reply, counts)),
                }
            }
        }
    }

    fn node(&self, session: u64, id: NodeId) -> Result<&Arc<State>, PolicyError> {
        let nodes = self.nodes.get(&session);
        let slot = usize::try_from(id.0).ok().and_then(|index| nodes?.get(index)?.as_ref());
        slot.ok_or(PolicyError::UnknownNode(id.0))
    }

    fn check_context(&self, needed_tokens: usize) -> Result<(), PolicyError> {
        if self.context_tokens < needed_tokens {
            return Err(PolicyError::ContextFull { needed_tokens, limit_tokens: self.context_tokens });
        }
        Ok(())
    }

    /// Whether that many more nodes are within the limit.
    fn check_nodes(&self, session: u64, more_nodes: usize) -> Result<(), PolicyError> {
        let limit = self.options.max_session_nodes;
        let needed = self.nodes.get(&session).map_or(0, Vec::len).saturating_add(more_nodes);
        if limit < needed {
            return Err(PolicyError::TooManyNodes { needed, limit });
        }
        Ok(())
    }

    /// Whether a lane of so many tokens after a base would fit, were it the only one.
    fn check_memory(&self, base: Option<&Arc<State>>, tokens: usize) -> Result<(), PolicyError> {
        let sizes = self.model.sizes();
        let line = base.into_iter().flat_map(|state| state.line());
        let before: usize = line.map(|state| sizes.state_bytes(state.tokens.len())).sum();
        let needed_bytes = before.saturating_add(sizes.state_bytes(tokens));
        if self.options.max_state_bytes < needed_bytes {
            return Err(PolicyError::MemoryFull { needed_bytes, limit_bytes: self.options.max_state_bytes });
        }
        Ok(())
    }

    fn extend_lanes(
        &mut self,
        session: u64,
        usage: &Arc<UsageCounters>,
        steps: Vec<(Option<NodeId>, Vec<u32>)>,
    ) -> Result<(Vec<Lane>, Vec<NodeId>), PolicyError> {
        let mut plans = Vec::with_capacity(steps.len());
        for (parent, tokens) in steps {
            let base = match parent {
                Some(id) => Some(self.node(session, id)?.clone()),
                None => self.root.clone(),
            };
            if base.is_none() && tokens.is_empty() {
                return Err(PolicyError::InvalidInput {
                    what: "segments",
                    expected: "at least one token at the start of a trajectory".to_owned(),
                    got: "none".to_owned(),
                });
            }
            self.check_context(base.as_ref().map_or(0, |state| state.length) + tokens.len())?;
            self.check_memory(base.as_ref(), tokens.len())?;
            plans.push((base, tokens));
        }
        self.check_nodes(session, plans.len())?;
        let first = self.nodes.entry(session).or_default().len();
        let ids = (first..first + plans.len()).map(|index| NodeId(index as u64)).collect();
        let lanes = plans
            .into_iter()
            .enumerate()
            .map(|(index, (base, tokens))| {
                let purpose = Purpose::Extend { node: self.reserve_node(session) };
                self.lane(session, usage, index, base, tokens, purpose, None)
            })
            .collect();
        Ok((lanes, ids))
    }

    fn propose_lanes(
        &mut self,
        session: u64,
        usage: &Arc<UsageCounters>,
        nodes: &[NodeId],
        sampling: &Sampling,
    ) -> Result<Vec<Lane>, PolicyError> {
        let most = Generation::most_tokens(sampling, &self.format);
        let candidates = sampling.candidates as usize;
        let mut bases = Vec::with_capacity(nodes.len());
        for id in nodes {
            let base = self.node(session, *id)?.clone();
            self.check_context(base.length.saturating_add(most))?;
            self.check_memory(Some(&base), most)?;
            bases.push(base);
        }
        let count = bases.len() * candidates;
        self.check_nodes(session, count)?;
        let mut lanes = Vec::with_capacity(count);
        for (index, base) in bases.iter().enumerate() {
            let words = self.words_before(base).map(Arc::new);
            for candidate in 0..sampling.candidates {
                let (generation, feed) =
                    Generation::new(sampling, index, candidate, words.clone(), &self.format);
                let purpose = Purpose::Propose { generation, node: self.reserve_node(session) };
                let base = Some(base.clone());
                lanes.push(self.lane(session, usage, lanes.len(), base, feed, purpose, Some(most)));
            }
        }
        Ok(lanes)
    }

    /// What a query after a state may be made of, where the checkpoint's queries are grounded and something was read.
    fn words_before(&mut self, state: &State) -> Option<Words> {
        let is_grounded = self.format.spec().grounded_queries;
        is_grounded.then(|| Words::among(&state.all_tokens(), &self.format, &mut self.spellings)).flatten()
    }

    fn perplexity_lanes(
        &mut self,
        session: u64,
        usage: &Arc<UsageCounters>,
        requests: Vec<(NodeId, Vec<Vec<u32>>)>,
    ) -> Result<Vec<Lane>, PolicyError> {
        let marker = self.format.think.start.clone();
        let mut plans = Vec::new();
        for (id, texts) in requests {
            let base = self.node(session, id)?.clone();
            for text in texts {
                self.check_context(base.length + marker.len() + text.len())?;
                self.check_memory(Some(&base), marker.len() + text.len())?;
                plans.push((base.clone(), text));
            }
        }
        let lanes = plans.into_iter().enumerate().map(|(index, (base, text))| {
            let mut feed = marker.clone();
            feed.extend(&text[..text.len() - 1]);
            let purpose = Purpose::Score(Scoring::new(text, marker.len()));
            self.lane(session, usage, index, Some(base), feed, purpose, None)
        });
        Ok(lanes.collect())
    }

    fn reserve_node(&mut self, session: u64) -> usize {
        let nodes = self.nodes.entry(session).or_default();
        nodes.push(None);
        nodes.len() - 1
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site for each purpose; a struct would repeat `Lane`"
    )]
    fn lane(
        &self,
        session: u64,
        usage: &Arc<UsageCounters>,
        slot: usize,
        base: Option<Arc<State>>,
        feed: Vec<u32>,
        purpose: Purpose,
        most_tokens: Option<usize>,
    ) -> Lane {
        let reserved_bytes = self.model.sizes().state_bytes(most_tokens.unwrap_or(feed.len()));
        Lane::new(session, usage.clone(), slot, base, feed, purpose, reserved_bytes)
    }

    fn begin(&mut self, session: u64, mut lanes: Vec<Lane>, waiter: Waiter) {
        let id = self.next_job;
        self.next_job += 1;
        let job =
            Job { session, waiter, outcomes: lanes.iter().map(|_| None).collect(), missing: lanes.len() };
        if job.missing == 0 {
            return self.answer(job);
        }
        self.jobs.insert(id, job);
        for lane in &mut lanes {
            lane.job = id;
        }
        self.waiting.entry(session).or_default().extend(lanes);
    }

    fn drop_the_gone(&mut self) {
        let before = self.jobs.len();
        self.jobs.retain(|_, job| !job.waiter.is_gone());
        if self.jobs.len() == before {
            return;
        }
        let jobs = &self.jobs;
        self.active.retain(|lane| jobs.contains_key(&lane.job));
        self.waiting.retain(|_, lanes| {
            lanes.retain(|lane| jobs.contains_key(&lane.job));
            !lanes.is_empty()
        });
    }

    /// Fills free places with waiting lanes, one session after another, as far as memory goes.
    fn admit(&mut self) {
        while self.active.len() < self.options.max_sequences.max(1) {
            let later = self.waiting.range(self.last_admitted.saturating_add(1)..).next();
            let next = later.or_else(|| self.waiting.iter().next()).map(|(session, _)| *session);
            let Some(session) = next else { return };
            let Some(mut lane) = self.waiting.get_mut(&session).and_then(VecDeque::pop_front) else {
                self.waiting.remove(&session);
                continue;
            };
            self.clock += 1;
            lane.admit(self.model.sizes(), self.clock);
            let needed = self.active.iter().map(Lane::held_bytes).sum::<usize>() + lane.held_bytes();
            // With nothing running a lane that passed `check_memory` fits.
            if !self.make_room(needed) && !self.active.is_empty() {
                lane.step_back();
                self.waiting.entry(session).or_default().push_front(lane);
                return;
            }
            self.last_admitted = session;
            self.active.push(lane);
            if self.waiting.get(&session).is_some_and(VecDeque::is_empty) {
                self.waiting.remove(&session);
            }
        }
    }

    /// Forgets states until `bytes` fit beside the rest.
    fn make_room(&self, bytes: usize) -> bool {
        let held = self.state_bytes.load(Ordering::Relaxed);
        let over = held.saturating_add(bytes).saturating_sub(self.options.max_state_bytes);
        if over == 0 {
            return true;
        }
        let states = || self.nodes.values().flatten().flatten().chain(&self.root);
        // A little more than is needed, so that not every admission has to look through all states.
        let more = over.saturating_add(self.options.max_state_bytes / ROOM_SHARE);
        let Some(evicted) = room::evict(states(), more).or_else(|| room::evict(states(), over)) else {
            return false;
        };
        Counters::add(&self.counters.evicted_states, evicted.states);
        Counters::add(&self.counters.evicted_bytes, evicted.bytes as u64);
        true
    }

    fn count_lanes(&self) {
        let waiting = self.waiting.values().map(VecDeque::len).sum();
        self.counters.waiting_sequences.store(waiting, Ordering::Relaxed);
        self.counters.active_sequences.store(self.active.len(), Ordering::Relaxed);
    }

    /// How many of its pending tokens each active lane feeds in the next step.
    fn plan(&mut self) -> Vec<usize> {
        let mut left = self.options.max_step_tokens.max(1);
        let mut shares = vec![0; self.active.len()];
        let count = self.active.len();
        self.turn = self.turn.wrapping_add(1);
        // Decoding first: their few rows.
        for (share, lane) in shares.iter_mut().zip(&self.active) {
            if lane.is_decoding() {
                *share = lane.available().min(left);
                left -= *share;
            }
        }
        while left > 0 {
            let before = left;
            for offset in 0..count {
                let index = (self.turn + offset) % count;
                let more = (self.active[index].available() - shares[index]).min(CHUNK_TOKENS).min(left);
                shares[index] += more;
                left -= more;
            }
            if left == before {
                break;
            }
        }
        shares
    }

    fn step(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let started = Instant::now();
        let mut taken: BTreeSet<_> = self.active.iter().filter_map(Lane::restores).collect();
        for lane in &mut self.active {
            lane.prepare(self.model.sizes(), &mut taken);
        }
        let shares = self.plan();
        // Take the tokens of this step out of the lanes, for the feeds borrow the sequences.
        let tokens: Vec<Vec<u32>> =
            self.active.iter_mut().zip(&shares).map(|(lane, share)| lane.take(*share)).collect();
        let wanted: Vec<usize> =
            self.active.iter().zip(&tokens).map(|(lane, fed)| lane.wanted_from(fed.len())).collect();
        let mut feeds: Vec<Feed<'_>> = Vec::with_capacity(self.active.len());
        for ((lane, fed), from) in self.active.iter_mut().zip(&tokens).zip(&wanted) {
            if !fed.is_empty()
                && let Some(sequence) = lane.sequence()
            {
                feeds.push(Feed { sequence, tokens: fed, wanted_from: *from });
            }
        }
        let fed = if feeds.is_empty() { Ok(()) } else { self.model.forward(&mut feeds, &mut self.scratch) };
        drop(feeds);
        let counts: Vec<usize> =
            tokens.iter().zip(&wanted).map(|(fed, from)| fed.len().saturating_sub(*from)).collect();
        if let Err(error) = fed.and_then(|()| self.advance(&counts)) {
            return self.give_up(&error);
        }
        self.charge(&tokens, started);
        for lane in &mut self.active {
            lane.settle(self.model.sizes(), &self.state_bytes);
        }
        self.finish_lanes();
    }

    /// Notes what a step has done. What is read again counts for no session, for it is no doing of theirs.
    fn charge(&mut self, tokens: &[Vec<u32>], started: Instant) {
        let total = tokens.iter().map(Vec::len).sum::<usize>().max(1) as u64;
        let elapsed = started.elapsed().as_nanos() as u64;
        let counters = &self.counters;
        Counters::add(&counters.steps, 1);
        Counters::add(&counters.rows, tokens.iter().map(Vec::len).sum::<usize>() as u64);
        for (lane, fed) in self.active.iter_mut().zip(tokens) {
            lane.usage.model_nanoseconds.fetch_add(elapsed * fed.len() as u64 / total, Ordering::Relaxed);
            if lane.restores().is_some() {
                Counters::add(&counters.recomputed_tokens, fed.len() as u64);
                continue;
            }
            let decoded = lane.newly_decoded();
            let read = lane.newly_read(fed.len());
            Counters::add(&counters.decoded_tokens, decoded);
            Counters::add(&counters.prefilled_tokens, read);
            lane.usage.decoded_tokens.fetch_add(decoded, Ordering::Relaxed);
            lane.usage.prefilled_tokens.fetch_add(read, Ordering::Relaxed);
        }
    }

    fn finish_lanes(&mut self) {
        let mut index = 0;
        while index < self.active.len() {
            if !self.active[index].is_finished() {
                index += 1;
                continue;
            }
            let lane = self.active.remove(index);
            let (job_id, session, slot) = (lane.job, lane.session, lane.slot);
            let (outcome, node) = lane.finish(self.model.sizes(), &self.state_bytes, &self.format);
            if let Some((number, state)) = node
                && let Some(place) = self.nodes.get_mut(&session).and_then(|nodes| nodes.get_mut(number))
            {
                state.touch(self.clock);
                *place = Some(state);
            }
            let Some(job) = self.jobs.get_mut(&job_id) else { continue };
            job.outcomes[slot] = Some(outcome);
            job.missing -= 1;
            if job.missing == 0
                && let Some(done) = self.jobs.remove(&job_id)
            {
                self.answer(done);
            }
        }
    }

    fn answer(&self, job: Job) {
        // Whoever has an answer finds its lanes gone from the counters.
        self.count_lanes();
        let outcomes = job.outcomes.into_iter().flatten();
        match job.waiter {
            Waiter::Extend(reply, ids) => drop(reply.send(Ok(ids))),
            Waiter::Propose(reply, candidates) => {
                let all: Vec<Candidate> = outcomes
                    .filter_map(|outcome| if let Outcome::Proposed(one) = outcome { Some(one) } else { None })
                    .collect();
                drop(reply.send(Ok(all.chunks(candidates).map(<[Candidate]>::to_vec).collect())));
            }
            Waiter::Perplexity(reply, counts) => {
                let mut all = outcomes
                    .filter_map(|outcome| if let Outcome::Judged(one) = outcome { Some(one) } else { None });
                drop(
                    reply.send(Ok(counts.iter().map(|count| all.by_ref().take(*count).collect()).collect())),
                );
            }
        }
    }
}
