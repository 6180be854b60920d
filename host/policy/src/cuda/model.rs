//! The model on a device, a step at a time: what `model::Model` is on the CPU.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answers::{Answer, HeadBuffers, RowRequest};
use super::error::DeviceError;
use super::launcher::{Buffer, Launcher};
use super::memory::{DeviceMemory, DeviceSequence, DeviceSizes, Pool};
use super::steps::{Brief, Buffers, Extent, Kernels, SPAN, Step};
use super::weights::{self, DeviceWeights};
use crate::checkpoint::{Checkpoint, NumberFormat};
use crate::config::Config;
use crate::error::PolicyError;
use crate::model::Feed;
use crate::session::PolicyOptions;
use crate::state::{Sequence, StateSizes};

/// Steps of at most so many rows, one for each sequence, are recorded and replayed: launching their many small kernels
/// one by one would take longer than running them.
const RECORDED_ROWS: usize = 64;

/// An LFM2 whose weights and states lie in a device's memory.
pub(crate) struct DeviceModel {
    pub(crate) config: Config,
    pub(crate) sizes: StateSizes,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) kernels: Kernels,
    pub(super) weights: DeviceWeights,
    pool: Arc<Pool>,
    work: Mutex<Work>,
}

/// What changes from step to step.
struct Work {
    buffers: Option<Buffers>,
    head: Option<HeadBuffers>,
    /// Tokens that may stand in content, then those that may begin a query, a byte each.
    lists: Option<Buffer>,
    /// By rows and runs.
    graphs: BTreeMap<(usize, usize), usize>,
    /// Cleared where recording fails: then every step is launched kernel by kernel.
    records: bool,
    first_rows: usize,
}

impl DeviceModel {
    /// Copies a checkpoint to the device and makes room for states.
    pub(crate) fn load(
        launcher: Arc<dyn Launcher>,
        checkpoint: &Checkpoint,
        context: usize,
        options: &PolicyOptions,
    ) -> Result<Self, PolicyError> {
        let config = checkpoint.config().clone();
        weights::check_shape(&config)?;
        let weights = weights::load(&launcher, checkpoint, context)?;
        let sizes = DeviceSizes::of(&config, weights.numbers.size_bytes());
        let pool =
            Pool::new(&launcher, sizes, options.max_state_bytes, context, options.max_sequences.max(1))?;
        let work = Work {
            buffers: None,
            head: None,
            lists: None,
            graphs: BTreeMap::new(),
            records: options.record_steps,
            first_rows: options.max_step_tokens.clamp(1, 4096),
        };
        Ok(Self {
            sizes: sizes.state_sizes(),
            kernels: Kernels::of(weights.numbers),
            config,
            launcher,
            weights,
            pool,
            work: Mutex::new(work),
        })
    }

    /// The device, for people.
    pub(crate) fn describe(&self) -> String {
        let mib = (self.weights.matrix_bytes + self.pool.bytes()) >> 20;
        format!("{}, {:?}, {mib} MiB", self.launcher.describe(), self.weights.numbers)
    }

    pub(crate) fn numbers(&self) -> NumberFormat {
        self.weights.numbers
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        self.weights.matrix_bytes
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which tokens may stand where, by id.
    pub(crate) fn allow(&self, content: &[bool], opening: &[bool]) -> Result<(), PolicyError> {
        let bytes: Vec<u8> = content.iter().chain(opening).map(|is_in| u8::from(*is_in)).collect();
        self.work().lists = Some(Buffer::holding(&self.launcher, "lists of tokens", &bytes)?);
        Ok(())
    }

    /// Gives a sequence its memory on the device.
    fn prepare<'s>(&self, sequence: &'s mut Sequence) -> Result<&'s mut DeviceSequence, DeviceError> {
        let begun = match sequence.device.take() {
            Some(begun) => begun,
            None => {
                let chain: Vec<&DeviceMemory> = sequence.device_base().collect();
                self.pool.begin(&chain)?
            }
        };
        Ok(sequence.device.insert(begun))
    }

    /// Where the last output of a sequence, or of its base, lies.
    pub(crate) fn last_output(&self, sequence: &mut Sequence) -> Result<u64, PolicyError> {
        Ok(self.prepare(sequence)?.output())
    }

    /// Where the `row`-th wanted output of the last step lies.
    pub(crate) fn wanted_output(&self, row: usize) -> u64 {
        let bytes = (row * self.config.hidden_size * size_of::<f32>()) as u64;
        self.work().buffers.as_ref().map_or(0, |buffers| buffers.hidden.address() + bytes)
    }

    /// [`crate::model::Model::forward`].
    pub(crate) fn forward(&self, feeds: &mut [Feed<'_>]) -> Result<(), PolicyError> {
        let mut brief = Brief::default();
        let mut longest = 0;
        for (index, feed) in feeds.iter_mut().enumerate() {
            let (start, count) = (feed.sequence.length(), feed.tokens.len());
            if count == 0 {
                continue;
            }
            if self.pool.context < start + count {
                let (needed_tokens, limit_tokens) = (start + count, self.pool.context);
                return Err(PolicyError::ContextFull { needed_tokens, limit_tokens });
            }
            let first = brief.tokens.len();
            let sequence = self.prepare(feed.sequence)?;
            brief.slots.extend_from_slice(sequence.grow(count)?);
            brief.tokens.extend_from_slice(feed.tokens);
            brief.positions.extend((start..start + count).map(|position| position as u32));
            brief.lines.extend(std::iter::repeat_n(sequence.line(), count));
            brief.feed_of.extend(std::iter::repeat_n(brief.first_of.len() as u32, count));
            brief.first_of.push(first as u32);
            brief.count_of.push(count as u32);
            brief.places.push(sequence.place());
            brief.wanted.extend((first + feed.wanted_from..first + count).map(|row| row as u32));
            let wanted = count - feed.wanted_from;
            brief.destinations.extend(std::iter::repeat_n(0, wanted.saturating_sub(1)));
            brief.destinations.extend((wanted > 0).then(|| sequence.output()));
            longest = longest.max(start + count);
            debug_assert!(index < brief.tokens.len());
        }
        if !brief.tokens.is_empty() {
            self.run(&brief, longest)?;
        }
        for feed in feeds.iter_mut() {
            feed.sequence.note_tokens(feed.tokens);
        }
        Ok(())
    }

    fn run(&self, brief: &Brief, longest: usize) -> Result<(), DeviceError> {
        let work = &mut *self.work();
        let (rows, runs) = (brief.tokens.len(), longest.div_ceil(SPAN));
        let fits = |buffers: &Buffers| rows <= buffers.capacity && runs <= buffers.runs;
        if !work.buffers.as_ref().is_some_and(fits) {
            // Recordings hold the addresses of what goes now.
            work.graphs.clear();
            self.launcher.forget_graphs();
            let before = work.buffers.take().map_or((work.first_rows, 1), |one| (one.capacity, one.runs));
            let (capacity, runs) = (rows.max(before.0), runs.next_power_of_two().max(before.1));
            let made = Buffers::new(&self.launcher, &self.config, self.weights.numbers, capacity, runs)?;
            work.buffers = Some(made);
        }
        let Some(buffers) = &work.buffers else { return Ok(()) };
        self.launcher.upload(&brief.bytes(buffers.capacity), buffers.brief.address())?;
        let step = |extent| Step {
            launcher: &*self.launcher,
            config: &self.config,
            kernels: &self.kernels,
            weights: &self.weights,
            pool: &self.pool,
            buffers,
            extent,
        };
        let exact = Extent { rows, wanted: brief.wanted.len(), feeds: brief.first_of.len(), runs };
        let is_decoding = exact.feeds == rows && exact.wanted == rows && rows <= RECORDED_ROWS;
        if !(work.records && is_decoding) {
            return step(exact).run();
        }
        let key = (rows.next_power_of_two().min(buffers.capacity), runs.next_power_of_two());
        if let Some(graph) = work.graphs.get(&key) {
            return self.launcher.replay(*graph);
        }
        let extent = Extent { rows: key.0, wanted: key.0, feeds: key.0, runs: key.1 };
        let recorded = self.launcher.begin_capture().and_then(|()| {
            let launched = step(extent).run();
            // Ended in any case: a stream that still records takes nothing else.
            let graph = self.launcher.end_capture();
            launched.and(graph)
        });
        match recorded {
            Ok(graph) => {
                work.graphs.insert(key, graph);
                self.launcher.replay(graph)
            }
            Err(_) => {
                work.records = false;
                step(exact).run()
            }
        }
    }

    fn with_head<T>(
        &self,
        then: impl FnOnce(&HeadBuffers, u64) -> Result<T, DeviceError>,
    ) -> Result<T, PolicyError> {
        let mut work = self.work();
        if work.head.is_none() {
            work.head = Some(HeadBuffers::new(self)?);
        }
        let lists = work.lists.as_ref().map_or(0, Buffer::address);
        match &work.head {
            Some(head) => Ok(then(head, lists)?),
            None => Err(PolicyError::Stopped),
        }
    }

    /// Answers requests in their order.
    pub(crate) fn answer(&self, requests: &[RowRequest]) -> Result<Vec<Answer>, PolicyError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.with_head(|head, lists| head.answer(self, lists, requests))
    }

    /// Logits of outputs, by their addresses.
    pub(crate) fn logits(&self, outputs: &[u64], out: &mut Vec<f32>) -> Result<(), PolicyError> {
        self.with_head(|head, _| head.logits(self, outputs, out))
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        self.pool.held()
    }
}
