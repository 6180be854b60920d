//! One sequence on its way through the scheduler: what it still has to feed, and what is done with its logits.
//!
//! A lane waits, pinning nothing; is admitted, and pins what its base remembers; reads again what the base has
//! forgotten, state by state from the root on, unless another lane is at the same state; then does its own work.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use orion_kernels::Threads;

use crate::cuda::{Answer, Asked};
use crate::format::TrajectoryFormat;
use crate::generate::{DecodingTables, Generation};
use crate::sampling::LogSoftmax;
use crate::session::{Candidate, JudgedText, NodeId, UsageCounters};
use crate::state::{Memory, Sequence, State, StateSizes};

/// What a lane is for.
pub(crate) enum Purpose {
    /// Read tokens; becomes the node of this number.
    Extend { node: usize },
    /// Generate a candidate; becomes the node of this number.
    Propose { generation: Generation, node: usize },
    /// Read a text and note how likely each of its tokens was.
    Score(Scoring),
}

/// A text under judgement.
pub(crate) struct Scoring {
    text: Vec<u32>,
    /// Fed tokens before the first of the text.
    lead: usize,
    log_probabilities: Vec<f32>,
}

impl Scoring {
    pub(crate) fn new(text: Vec<u32>, lead: usize) -> Self {
        Self { log_probabilities: Vec::with_capacity(text.len()), text, lead }
    }
}

/// What came of a lane.
pub(crate) enum Outcome {
    Extended,
    Proposed(Candidate),
    Judged(JudgedText),
}

/// How far a lane is.
enum Stage {
    Waiting,
    /// Memories of its base that are there and must stay, and the forgotten one that it reads now.
    Restoring {
        pins: Vec<Arc<Memory>>,
        part: Option<Restoration>,
    },
    Running(Sequence),
}

/// A forgotten state that is read again.
struct Restoration {
    state: Arc<State>,
    sequence: Sequence,
    fed: usize,
}

/// One sequence of one call.
pub(crate) struct Lane {
    pub(crate) session: u64,
    pub(crate) job: u64,
    /// Its place among the lanes of its call.
    pub(crate) slot: usize,
    pub(crate) usage: Arc<UsageCounters>,
    base: Option<Arc<State>>,
    stage: Stage,
    /// Tokens that are still to be fed.
    pending: VecDeque<u32>,
    /// Memory that its state can come to need.
    reserved_bytes: usize,
    /// Memory that its base needs and does not have yet; 0 before it is admitted.
    missing_bytes: usize,
    purpose: Purpose,
    fed: usize,
    /// The next logits are those after the base, before anything is fed.
    from_base: bool,
    /// Sampled tokens already charged, and those among them already fed.
    charged_decoded: u64,
    charged_fed: u64,
}

impl Lane {
    pub(crate) fn new(
        session: u64,
        usage: Arc<UsageCounters>,
        slot: usize,
        base: Option<Arc<State>>,
        feed: Vec<u32>,
        purpose: Purpose,
        reserved_bytes: usize,
    ) -> Self {
        let from_base = match &purpose {
            Purpose::Extend { .. } => false,
            Purpose::Propose { .. } => feed.is_empty(),
            Purpose::Score(scoring) => scoring.lead == 0,
        };
        Self {
            session,
            job: 0,
            slot,
            usage,
            base,
            stage: Stage::Waiting,
            pending: feed.into(),
            reserved_bytes,
            missing_bytes: 0,
            purpose,
            fed: 0,
            from_base,
            charged_decoded: 0,
            charged_fed: 0,
        }
    }

    /// Pins what its base remembers; from here on it counts with [`Lane::held_bytes`].
    pub(crate) fn admit(&mut self, sizes: &StateSizes, turn: u64) {
        let mut pins = Vec::new();
        self.missing_bytes = 0;
        if let Some(base) = &self.base {
            base.touch(turn);
            for state in base.line() {
                match state.memory() {
                    Some(memory) => pins.push(memory),
                    None => self.missing_bytes += sizes.state_bytes(state.tokens.len()),
                }
            }
        }
        self.stage = Stage::Restoring { pins, part: None };
    }

    /// Lets go of all that [`Lane::admit`] pinned.
    pub(crate) fn step_back(&mut self) {
        self.stage = Stage::Waiting;
        self.missing_bytes = 0;
    }

    /// Memory that it can still come to need, beyond what states hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.reserved_bytes + self.missing_bytes
    }

    /// The state that it reads again, if it does.
    pub(crate) fn restores(&self) -> Option<*const State> {
        match &self.stage {
            Stage::Restoring { part: Some(part), .. } => Some(Arc::as_ptr(&part.state)),
            _ => None,
        }
    }

    /// Once admitted: begins its own work where its base is whole, else takes the first forgotten state, unless that is
    /// among `taken`; then it waits a step.
    pub(crate) fn prepare(&mut self, sizes: &StateSizes, taken: &mut BTreeSet<*const State>) {
        let Stage::Restoring { part: part @ None, .. } = &mut self.stage else { return };
        let Some(base) = &self.base else {
            self.stage = Stage::Running(Sequence::new(sizes, None));
            return;
        };
        let missing = match base.pin() {
            Ok(pinned) => {
                self.stage = Stage::Running(Sequence::new(sizes, Some(pinned)));
                self.missing_bytes = 0;
                return;
            }
            Err(state) => state,
        };
        // The first without a memory has none without before it.
        let Ok(before) = missing.parent().map(State::pin).transpose() else { return };
        if taken.insert(Arc::as_ptr(&missing)) {
            *part = Some(Restoration { state: missing, sequence: Sequence::new(sizes, before), fed: 0 });
        }
    }

    /// After a step: gives a state that has been read again to the tree.
    pub(crate) fn settle(&mut self, sizes: &StateSizes, gauge: &Arc<AtomicUsize>) {
        let Stage::Restoring { pins, part } = &mut self.stage else { return };
        if let Some(done) = part.take_if(|one| one.fed == one.state.tokens.len()) {
            let memory = done.sequence.finish_memory(sizes, gauge);
            let bytes = sizes.state_bytes(done.state.tokens.len());
            self.missing_bytes = self.missing_bytes.saturating_sub(bytes);
            done.state.remember(memory.clone());
            pins.push(memory);
        }
    }

    /// Tokens that it could feed in the next step.
    pub(crate) fn available(&self) -> usize {
        match &self.stage {
            Stage::Restoring { part: Some(part), .. } => part.state.tokens.len() - part.fed,
            Stage::Running(_) if !self.from_base => self.pending.len(),
            _ => 0,
        }
    }

    /// What the tokens that it has taken are fed to.
    pub(crate) fn sequence(&mut self) -> Option<&mut Sequence> {
        match &mut self.stage {
            Stage::Waiting => None,
            Stage::Restoring { part, .. } => part.as_mut().map(|one| &mut one.sequence),
            Stage::Running(sequence) => Some(sequence),
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running(_))
    }

    /// Whether it feeds tokens that it sampled, a few at a time.
    pub(crate) fn is_decoding(&self) -> bool {
        self.is_running() && matches!(self.purpose, Purpose::Propose { .. })
    }

    /// Takes the next tokens to feed, at most as many as are available.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        if let Stage::Restoring { part: Some(part), .. } = &mut self.stage {
            let tokens = part.state.tokens[part.fed..part.fed + count].to_vec();
            part.fed += count;
            return tokens;
        }
        let tokens: Vec<u32> = self.pending.drain(..count).collect();
        self.fed += tokens.len();
        tokens
    }

    /// After `take` of `count` tokens: index of the first among them whose output is wanted.
    pub(crate) fn wanted_from(&self, count: usize) -> usize {
        if let Stage::Restoring { part, .. } = &self.stage {
            let at_its_end = part.as_ref().is_some_and(|one| one.fed == one.state.tokens.len());
            return if at_its_end { count.saturating_sub(1) } else { count };
        }
        match &self.purpose {
            Purpose::Score(scoring) => {
                let first_row = self.fed - count;
                (scoring.lead.max(1) - 1).saturating_sub(first_row).min(count)
            }
            // The last output of all: the next token is sampled from it, or whoever extends the node needs it.
            _ if self.pending.is_empty() => count.saturating_sub(1),
            _ => count,
        }
    }

    /// The output at its base, where logits after that are needed.
    pub(crate) fn base_output(&self) -> Option<&[f32]> {
        match &self.stage {
            Stage::Running(sequence) if self.from_base => Some(&sequence.hidden),
            _ => None,
        }
    }

    /// The sequence at its base, where logits after that are needed.
    pub(crate) fn base_sequence(&mut self) -> Option<&mut Sequence> {
        match &mut self.stage {
            Stage::Running(sequence) if self.from_base => Some(sequence),
            _ => None,
        }
    }

    /// Whether a device is to hand over logits in place of an answer.
    pub(crate) fn needs_words(&self) -> bool {
        matches!(&self.purpose, Purpose::Propose { generation, .. } if generation.needs_words())
    }

    /// What a device is to say of its row of logits number `row` of those not yet noted; `None` for nothing.
    pub(crate) fn ask(&mut self, row: usize, format: &TrajectoryFormat) -> Option<Asked> {
        if let Purpose::Propose { generation, .. } = &mut self.purpose {
            return Some(generation.ask(format));
        }
        self.judged_token(row).map(Asked::LogProbability)
    }

    /// Moves on by one answer of a device.
    pub(crate) fn take_answer(&mut self, answer: Answer, format: &TrajectoryFormat) {
        if let Purpose::Propose { generation, .. } = &mut self.purpose {
            self.from_base = false;
            self.pending.extend(generation.accept(answer.token, answer.log_probability, format));
        } else {
            self.note_judged(answer.log_probability);
        }
    }

    /// Whether logits of its wanted outputs are needed, not only the outputs.
    pub(crate) fn needs_logits(&self) -> bool {
        self.is_running()
            && match &self.purpose {
                Purpose::Extend { .. } => false,
                Purpose::Propose { generation, .. } => self.pending.is_empty() && !generation.is_done(),
                Purpose::Score(_) => true,
            }
    }

    /// The token whose log-probability is wanted of its row of logits number `row` of those not yet noted, where it
    /// judges a text.
    pub(crate) fn judged_token(&self, row: usize) -> Option<u32> {
        let Purpose::Score(scoring) = &self.purpose else { return None };
        scoring.text.get(scoring.log_probabilities.len() + row).copied()
    }

    /// Moves on by the log-probability of [`Lane::judged_token`].
    pub(crate) fn note_judged(&mut self, log_probability: f32) {
        self.from_base = false;
        if let Purpose::Score(scoring) = &mut self.purpose {
            scoring.log_probabilities.push(log_probability);
        }
    }

    /// Moves on by one row of logits, where it proposes.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        format: &TrajectoryFormat,
        tables: &DecodingTables,
        buffer: &mut Vec<f32>,
    ) {
        self.from_base = false;
        if let Purpose::Propose { generation, .. } = &mut self.purpose {
            self.pending.extend(generation.advance(logits, format, tables, buffer));
        }
    }

    /// Tokens sampled since it was last asked.
    pub(crate) fn newly_decoded(&mut self) -> u64 {
        let Purpose::Propose { generation, .. } = &self.purpose else { return 0 };
        let sampled = u64::from(generation.sampled());
        let new = sampled - self.charged_decoded;
        self.charged_decoded = sampled;
        new
    }

    /// Of `count` tokens just fed, those that were not sampled by this lane. A sampled token leads what is fed after
    /// it, so of all that was fed at most as many are sampled ones as had been sampled before the step.
    pub(crate) fn newly_read(&mut self, count: usize) -> u64 {
        let Purpose::Propose { generation, .. } = &self.purpose else { return count as u64 };
        let unfed = u64::from(!self.pending.is_empty());
        let sampled_fed = u64::from(generation.sampled()).saturating_sub(unfed);
        let new = sampled_fed.saturating_sub(self.charged_fed);
        self.charged_fed += new;
        (count as u64).saturating_sub(new)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.is_running()
            && match &self.purpose {
                Purpose::Extend { .. } => self.pending.is_empty(),
                Purpose::Propose { generation, .. } => self.pending.is_empty() && generation.is_done(),
                Purpose::Score(scoring) => scoring.log_probabilities.len() == scoring.text.len(),
            }
    }

    /// The result, and the new node with its number.
    pub(crate) fn finish(
        self,
        sizes: &StateSizes,
        gauge: &Arc<AtomicUsize>,
        format: &TrajectoryFormat,
    ) -> (Outcome, Option<(usize, Arc<State>)>) {
        let state = match self.stage {
            Stage::Running(sequence) => Some(sequence),
            Stage::Waiting | Stage::Restoring { .. } => None,
        };
        let finished = |node: usize| state.map(|sequence| (node, sequence.finish(sizes, gauge)));
        match self.purpose {
            Purpose::Extend { node } => (Outcome::Extended, finished(node)),
            Purpose::Propose { generation, node } => {
                let candidate = Candidate {
                    node: NodeId(node as u64),
                    think: generation.think_text(format),
                    query: generation.query_text(format),
                    retriever: generation.retriever,
                    log_probability: generation.log_probability(),
                    tokens: generation.sampled(),
                    trace: generation.into_trace(),
                };
                (Outcome::Proposed(candidate), finished(node))
            }
            Purpose::Score(scoring) => {
                let count = scoring.log_probabilities.len();
                let sum: f64 = scoring.log_probabilities.iter().map(|value| f64::from(*value)).sum();
                let judged = JudgedText {
                    perplexity: ((-sum / count as f64).exp() as f32).min(f32::MAX),
                    tokens: count as u32,
                    log_probabilities: scoring.log_probabilities,
                };
                (Outcome::Judged(judged), None)
            }
        }
    }
}

/// What all lanes share when they move on.
pub(crate) struct Context<'a> {
    pub(crate) format: &'a TrajectoryFormat,
    pub(crate) tables: &'a DecodingTables,
    pub(crate) threads: &'a Threads,
}

/// Moves lanes on by logits `[rows, vocabulary]`; `rows` says whose each is, those of a lane together and in order.
///
/// A vocabulary is long and lanes are independent: all threads take part. `buffers` is working memory.
pub(crate) fn advance(
    lanes: &mut [Lane],
    rows: &[usize],
    logits: &[f32],
    buffers: &mut Vec<Vec<f32>>,
    context: &Context<'_>,
) {
    let vocabulary = logits.len() / rows.len().max(1);
    let row = |index: usize| &logits[index * vocabulary..][..vocabulary];
    let first = |lane: usize| rows.partition_point(|other| *other < lane);
    let judged: Vec<Option<u32>> = (rows.iter().enumerate())
        .map(|(index, lane)| lanes[*lane].judged_token(index - first(*lane)))
        .collect();
    let mut log_probabilities = vec![0.0; rows.len()];
    if judged.iter().any(Option::is_some) {
        context.threads.run_chunks(&mut log_probabilities, 1, |index, out| {
            if let Some(token) = judged[index] {
                out[0] = LogSoftmax::of(row(index)).log_probability(row(index)[token as usize]);
            }
        });
    }
    buffers.resize_with(buffers.len().max(rows.len()), Vec::new);
    let mut free = buffers.iter_mut();
    let mut proposing = Vec::new();
    for (number, lane) in lanes.iter_mut().enumerate() {
        for index in first(number)..first(number + 1) {
            if judged[index].is_some() {
                lane.note_judged(log_probabilities[index]);
            }
        }
        let last = first(number + 1).checked_sub(1).filter(|last| rows[*last] == number);
        if let Some(index) = last
            && matches!(lane.purpose, Purpose::Propose { .. })
            && let Some(buffer) = free.next()
        {
            proposing.push(Mutex::new((lane, row(index), buffer)));
        }
    }
    context.threads.run(proposing.len(), |task| {
        let mut guard = proposing[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (lane, own, buffer) = &mut *guard;
        lane.advance(own, context.format, context.tables, buffer);
    });
}
