//! One sequence on its way through the scheduler: what it still has to feed, and what is done with its logits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::format::TrajectoryFormat;
use crate::generate::{DecodingTables, Generation};
use crate::sampling::LogSoftmax;
use crate::session::{Candidate, JudgedText, NodeId, UsageCounters};
use crate::state::{Sequence, State, StateSizes};

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

/// One sequence of one call.
pub(crate) struct Lane {
    pub(crate) session: u64,
    pub(crate) job: u64,
    /// Its place among the lanes of its call.
    pub(crate) slot: usize,
    pub(crate) usage: Arc<UsageCounters>,
    pub(crate) sequence: Sequence,
    /// Tokens that are still to be fed.
    pub(crate) pending: VecDeque<u32>,
    /// Memory that its state can come to need.
    pub(crate) reserved_bytes: usize,
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
        sequence: Sequence,
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
            sequence,
            pending: feed.into(),
            reserved_bytes,
            purpose,
            fed: 0,
            from_base,
            charged_decoded: 0,
            charged_fed: 0,
        }
    }

    /// Whether it feeds tokens that it sampled, a few at a time.
    pub(crate) fn is_decoding(&self) -> bool {
        matches!(self.purpose, Purpose::Propose { .. })
    }

    /// Takes the next tokens to feed; none while it waits for the logits of its base.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        if self.from_base {
            return Vec::new();
        }
        let tokens: Vec<u32> = self.pending.drain(..count).collect();
        self.fed += tokens.len();
        tokens
    }

    /// After `take` of `count` tokens: index of the first among them whose output is wanted.
    pub(crate) fn wanted_from(&self, count: usize) -> usize {
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

    pub(crate) fn needs_base_logits(&self) -> bool {
        self.from_base
    }

    /// Whether logits of its wanted outputs are needed, not only the outputs.
    pub(crate) fn needs_logits(&self) -> bool {
        match &self.purpose {
            Purpose::Extend { .. } => false,
            Purpose::Propose { generation, .. } => self.pending.is_empty() && !generation.is_done(),
            Purpose::Score(_) => true,
        }
    }

    /// Moves on by one row of logits.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        format: &TrajectoryFormat,
        tables: &DecodingTables,
        buffer: &mut Vec<f32>,
    ) {
        self.from_base = false;
        match &mut self.purpose {
            Purpose::Extend { .. } => {}
            Purpose::Propose { generation, .. } => {
                self.pending.extend(generation.advance(logits, format, tables, buffer));
            }
            Purpose::Score(scoring) => {
                if let Some(target) = scoring.text.get(scoring.log_probabilities.len()) {
                    let normaliser = LogSoftmax::of(logits, buffer);
                    scoring.log_probabilities.push(normaliser.log_probability(logits[*target as usize]));
                }
            }
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
        match &self.purpose {
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
        match self.purpose {
            Purpose::Extend { node } => (Outcome::Extended, Some((node, self.sequence.finish(sizes, gauge)))),
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
                (Outcome::Proposed(candidate), Some((node, self.sequence.finish(sizes, gauge))))
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
