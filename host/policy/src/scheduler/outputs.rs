//! The second half of a step: what is done with the outputs that the model has computed.

use std::collections::BTreeSet;

use super::Scheduler;
use crate::backend::Backend;
use crate::cuda::{DeviceModel, RowRequest};
use crate::error::PolicyError;
use crate::format::TrajectoryFormat;
use crate::generate::DecodingTables;
use crate::lane::{self, Context, Lane};

/// Most logits held at once, in floats (8 MiB): 256 rows of a small vocabulary, 32 of LFM2's.
const LOGITS_FLOATS: usize = 1 << 21;

impl Scheduler {
    /// Moves each lane on by the logits of its wanted outputs, of which it has so many.
    pub(super) fn advance(&mut self, counts: &[usize]) -> Result<(), PolicyError> {
        match &self.model {
            Backend::Cpu(_) => self.advance_by_logits(counts),
            Backend::Cuda(model) => {
                let lanes = Lanes { active: &mut self.active, format: &self.format, tables: &self.tables };
                return advance_by_answers(model, lanes, counts, &mut self.logits);
            }
        }
        Ok(())
    }

    fn advance_by_logits(&mut self, counts: &[usize]) {
        let Backend::Cpu(model) = &self.model else { return };
        let hidden = model.config.hidden_size;
        // Rows that logits are needed of, and the lane of each.
        let mut rows: Vec<usize> = Vec::new();
        let mut gathered: Vec<f32> = Vec::new();
        let mut row = 0;
        for (index, (lane, outputs)) in self.active.iter().zip(counts).enumerate() {
            if let Some(output) = lane.base_output() {
                gathered.extend_from_slice(output);
                rows.push(index);
            } else if lane.needs_logits() {
                gathered.extend_from_slice(&self.scratch.hidden[row * hidden..][..outputs * hidden]);
                rows.extend(std::iter::repeat_n(index, *outputs));
            }
            row += outputs;
        }
        let vocabulary = model.config.vocabulary_size;
        let at_once = (LOGITS_FLOATS / vocabulary).max(1);
        for (block, part) in gathered.chunks(at_once * hidden).zip(rows.chunks(at_once)) {
            model.logits(block, &mut self.logits);
            let context = Context { format: &self.format, tables: &self.tables, threads: model.threads() };
            lane::advance(&mut self.active, part, &self.logits, &mut self.buffers, &context);
        }
    }

    /// After a failure of the device: every call with a lane under way is told, and its lanes are dropped.
    pub(super) fn give_up(&mut self, error: &PolicyError) {
        let failed: BTreeSet<u64> = self.active.drain(..).map(|lane| lane.job).collect();
        for lanes in self.waiting.values_mut() {
            lanes.retain(|lane| !failed.contains(&lane.job));
        }
        self.waiting.retain(|_, lanes| !lanes.is_empty());
        self.count_lanes();
        for id in failed {
            if let Some(job) = self.jobs.remove(&id) {
                job.waiter.refuse(copy_of(error));
            }
        }
    }
}

/// The same error for one more waiter.
fn copy_of(error: &PolicyError) -> PolicyError {
    match error {
        PolicyError::Device(device) => PolicyError::Device(device.clone()),
        PolicyError::ContextFull { needed_tokens, limit_tokens } => {
            PolicyError::ContextFull { needed_tokens: *needed_tokens, limit_tokens: *limit_tokens }
        }
        _ => PolicyError::Stopped,
    }
}

/// Lanes and what they need to move on.
struct Lanes<'a> {
    active: &'a mut [Lane],
    format: &'a TrajectoryFormat,
    tables: &'a DecodingTables,
}

fn advance_by_answers(
    model: &DeviceModel,
    Lanes { active, format, tables }: Lanes<'_>,
    counts: &[usize],
    logits: &mut Vec<f32>,
) -> Result<(), PolicyError> {
    let mut requests = Vec::new();
    let mut lanes = Vec::new();
    let mut row = 0;
    for (index, (lane, outputs)) in active.iter_mut().zip(counts).enumerate() {
        let mut addresses = Vec::new();
        if let Some(sequence) = lane.base_sequence() {
            addresses.push(model.last_output(sequence)?);
        } else if lane.needs_logits() {
            addresses.extend((row..row + outputs).map(|wanted| model.wanted_output(wanted)));
        }
        if lane.needs_words()
            && let Some(last) = addresses.last()
        {
            model.logits(&[*last], logits)?;
            lane.advance(logits, format, tables, &mut Vec::new());
            addresses.clear();
        }
        for (ahead, output) in addresses.into_iter().enumerate() {
            if let Some(asked) = lane.ask(ahead, format) {
                requests.push(RowRequest { output, asked });
                lanes.push(index);
            }
        }
        row += outputs;
    }
    for (answer, lane) in model.answer(&requests)?.into_iter().zip(lanes) {
        active[lane].take_answer(answer, format);
    }
    Ok(())
}
