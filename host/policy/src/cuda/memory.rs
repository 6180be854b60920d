//! What states hold on a device: slots for keys and values, one for each token, and a small place for what cannot be
//! shared (what convolutions remember, and the last output).
//!
//! Slots come from one arena; a sequence in the making has a line in a table that says where each of its positions
//! lies, those of its base among them, so that branches share their common prefix slot by slot. Everything goes back to
//! the pool when it is dropped; launches that still read it come before any that could write it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::DeviceError;
use super::launcher::{Buffer, Launcher, bytes_of_words};
use crate::config::{Config, LayerKind};
use crate::state::StateSizes;

/// Places that are allocated at once.
const PLACES_AT_ONCE: usize = 64;

/// Sequences beside those that the scheduler runs: the root's, the format check's, a check's.
const SPARE_LINES: usize = 8;

/// Sizes of what states hold under a config.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceSizes {
    pub(crate) attention_layers: usize,
    /// Numbers of the keys, or of the values, of one token in one layer.
    pub(crate) key_numbers: usize,
    pub(crate) number_bytes: usize,
    /// Floats that one convolution remembers.
    pub(crate) convolution_floats: usize,
    /// Floats of a place: all convolutions, then the last output.
    pub(crate) place_floats: usize,
    pub(crate) output_floats: usize,
}

impl DeviceSizes {
    pub(crate) fn of(config: &Config, number_bytes: usize) -> Self {
        let attention_layers = config.layers.iter().filter(|kind| **kind == LayerKind::Attention).count();
        let convolution_floats = (config.convolution_length - 1) * config.hidden_size;
        let convolutions = config.layers.len() - attention_layers;
        Self {
            attention_layers,
            key_numbers: config.key_value_heads * config.head_size,
            number_bytes,
            convolution_floats,
            place_floats: convolutions * convolution_floats + config.hidden_size,
            output_floats: config.hidden_size,
        }
    }

    pub(crate) fn token_bytes(&self) -> usize {
        2 * self.attention_layers * self.key_numbers * self.number_bytes
    }

    /// Bytes of a place, a multiple of 256.
    pub(crate) fn place_bytes(&self) -> usize {
        (self.place_floats * size_of::<f32>()).next_multiple_of(256)
    }

    /// Where the last output lies in a place.
    pub(crate) fn output_offset(&self) -> u64 {
        ((self.place_floats - self.output_floats) * size_of::<f32>()) as u64
    }

    /// What the scheduler counts with.
    pub(crate) fn state_sizes(&self) -> StateSizes {
        StateSizes::on_device(self.token_bytes(), self.place_bytes())
    }
}

struct Free {
    slots: Vec<u32>,
    lines: Vec<u32>,
    places: Vec<u64>,
    slabs: Vec<Buffer>,
}

/// The memory that states of one model share.
pub(crate) struct Pool {
    launcher: Arc<dyn Launcher>,
    pub(crate) sizes: DeviceSizes,
    slots: usize,
    /// Positions in a line.
    pub(crate) context: usize,
    keys: Buffer,
    values: Buffer,
    table: Buffer,
    free: Mutex<Free>,
}

impl Pool {
    /// For states of `state_bytes` in all and `sequences` that are worked on at once.
    pub(crate) fn new(
        launcher: &Arc<dyn Launcher>,
        sizes: DeviceSizes,
        state_bytes: usize,
        context: usize,
        sequences: usize,
    ) -> Result<Arc<Self>, DeviceError> {
        // The scheduler keeps to `state_bytes`; what it does not count is one sequence before it serves.
        let slots = (state_bytes / sizes.token_bytes().max(1)).saturating_add(context);
        let lines = sequences + SPARE_LINES;
        let Ok(most) = u32::try_from(slots) else {
            return Err(DeviceError::Shape {
                what: "tokens that the memory of states holds",
                expected: "fewer than 2^32",
                got: slots,
            });
        };
        let half = slots * sizes.token_bytes() / 2;
        let what = "keys and values";
        let free = Free {
            slots: (0..most).rev().collect(),
            lines: (0..lines as u32).rev().collect(),
            places: Vec::new(),
            slabs: Vec::new(),
        };
        Ok(Arc::new(Self {
            keys: Buffer::new(launcher, what, half)?,
            values: Buffer::new(launcher, what, half)?,
            table: Buffer::new(launcher, "the table of slots", lines * context * size_of::<u32>())?,
            launcher: launcher.clone(),
            sizes,
            slots,
            context,
            free: Mutex::new(free),
        }))
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys and values of one attention layer.
    pub(crate) fn layer(&self, index: usize) -> (u64, u64) {
        let offset = (index * self.slots * self.sizes.key_numbers * self.sizes.number_bytes) as u64;
        (self.keys.address() + offset, self.values.address() + offset)
    }

    pub(crate) fn table(&self) -> u64 {
        self.table.address()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes() + self.table.bytes()
    }

    fn place(&self) -> Result<u64, DeviceError> {
        let mut free = self.free();
        if free.places.is_empty() {
            let bytes = self.sizes.place_bytes();
            let slab = Buffer::new(&self.launcher, "states", PLACES_AT_ONCE * bytes)?;
            let places = (0..PLACES_AT_ONCE).rev().map(|index| slab.address() + (index * bytes) as u64);
            free.places.extend(places);
            free.slabs.push(slab);
        }
        free.places.pop().ok_or(DeviceError::Memory { what: "states", needed_bytes: 0, free_bytes: 0 })
    }

    /// A sequence that goes on from the last of `chain`, or begins.
    pub(crate) fn begin(self: &Arc<Self>, chain: &[&DeviceMemory]) -> Result<DeviceSequence, DeviceError> {
        let line = self.free().lines.pop().ok_or(DeviceError::Memory {
            what: "one more sequence",
            needed_bytes: self.context * size_of::<u32>(),
            free_bytes: 0,
        })?;
        let mut sequence = DeviceSequence { pool: self.clone(), line, slots: Vec::new(), place: None };
        let place = self.place()?;
        sequence.place = Some(place);
        let slots: Vec<u32> = chain.iter().flat_map(|memory| &memory.slots).copied().collect();
        if !slots.is_empty() {
            let start = self.table() + u64::from(line) * self.context as u64 * size_of::<u32>() as u64;
            self.launcher.upload(&bytes_of_words(&slots), start)?;
        }
        match chain.last() {
            Some(base) => self.launcher.copy(base.place, place, self.sizes.place_bytes())?,
            None => self.launcher.clear(place, self.sizes.place_bytes())?,
        }
        Ok(sequence)
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        let free = self.free();
        (self.slots - free.slots.len(), free.slabs.len() * PLACES_AT_ONCE - free.places.len())
    }
}

/// A state in the making on the device.
pub(crate) struct DeviceSequence {
    pool: Arc<Pool>,
    line: u32,
    /// Of its own tokens.
    slots: Vec<u32>,
    /// Only gone while it is dropped.
    place: Option<u64>,
}

impl DeviceSequence {
    /// Slots for more tokens.
    pub(crate) fn grow(&mut self, tokens: usize) -> Result<&[u32], DeviceError> {
        let mut free = self.pool.free();
        let Some(left) = free.slots.len().checked_sub(tokens) else {
            let token_bytes = self.pool.sizes.token_bytes();
            return Err(DeviceError::Memory {
                what: "keys and values",
                needed_bytes: tokens * token_bytes,
                free_bytes: free.slots.len() * token_bytes,
            });
        };
        let before = self.slots.len();
        self.slots.extend(free.slots.drain(left..).rev());
        drop(free);
        Ok(&self.slots[before..])
    }

    /// Its line in the table.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Address of what it remembers beside keys and values.
    pub(crate) fn place(&self) -> u64 {
        self.place.unwrap_or_default()
    }

    /// Address of the last output.
    pub(crate) fn output(&self) -> u64 {
        self.place() + self.pool.sizes.output_offset()
    }

    /// What stays of it.
    pub(crate) fn finish(mut self) -> DeviceMemory {
        let place = self.place.take().unwrap_or_default();
        DeviceMemory { pool: self.pool.clone(), slots: std::mem::take(&mut self.slots), place }
    }
}

impl Drop for DeviceSequence {
    fn drop(&mut self) {
        let mut free = self.pool.free();
        free.slots.append(&mut self.slots);
        free.lines.push(self.line);
        free.places.extend(self.place.take());
    }
}

/// What a finished state holds on the device.
pub(crate) struct DeviceMemory {
    pool: Arc<Pool>,
    slots: Vec<u32>,
    place: u64,
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let mut free = self.pool.free();
        free.slots.append(&mut self.slots);
        free.places.push(self.place);
    }
}
