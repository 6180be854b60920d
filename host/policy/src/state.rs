//! What the model remembers of a sequence, as a tree.
//!
//! A [`State`] is a place in a tree of tokens: it has its own tokens only and points to its parent for the rest. What
//! the model remembers there is its [`Memory`]: keys and values of the state's own tokens, so branches share their
//! common prefix and extending never copies it. What cannot be shared is small and is copied: the last inputs of each
//! convolution. A memory never changes, but may be forgotten: the tokens stay, and reading them again after the parent
//! gives the same bits. A [`Sequence`] is a memory in the making: `model` feeds it, `lane` owns it until it is finished,
//! and it pins the memories of the states before it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use orion_kernels::CacheSegment;

use crate::config::{Config, LayerKind};
use crate::cuda::{DeviceMemory, DeviceSequence};

/// Keys and values of one attention layer for a run of positions, laid out as `orion_kernels::push_position` does.
#[derive(Default)]
pub(crate) struct KeyValues {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    pub(crate) positions: usize,
}

impl KeyValues {
    /// The first of its positions, as a run to attend to.
    pub(crate) fn first(&self, positions: usize) -> CacheSegment<'_> {
        CacheSegment { keys: &self.keys, values: &self.values, positions }
    }
}

/// Sizes of states under a config.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateSizes {
    pub(crate) attention_layers: usize,
    /// Floats of the keys of sixteen positions in one layer.
    pub(crate) key_panel_floats: usize,
    /// Floats of the values of one position in one layer.
    pub(crate) value_floats: usize,
    /// Floats of the inputs that one convolution remembers.
    pub(crate) convolution_floats: usize,
    pub(crate) convolution_layers: usize,
    pub(crate) hidden_size: usize,
    /// Bytes on a device, of a token and of a state; on the CPU 0.
    pub(crate) device_token_bytes: usize,
    pub(crate) device_state_bytes: usize,
}

impl StateSizes {
    /// Of states that lie on a device: nothing but their tokens is here.
    pub(crate) fn on_device(token_bytes: usize, state_bytes: usize) -> Self {
        Self {
            attention_layers: 0,
            key_panel_floats: 0,
            value_floats: 0,
            convolution_floats: 0,
            convolution_layers: 0,
            hidden_size: 0,
            device_token_bytes: token_bytes,
            device_state_bytes: state_bytes,
        }
    }

    pub(crate) fn of(config: &Config) -> Self {
        let attention_layers = config.layers.iter().filter(|kind| **kind == LayerKind::Attention).count();
        Self {
            attention_layers,
            key_panel_floats: config.key_value_heads * config.head_size * 16,
            value_floats: config.key_value_heads * config.head_size.next_multiple_of(16),
            convolution_floats: (config.convolution_length - 1) * config.hidden_size,
            convolution_layers: config.layers.len() - attention_layers,
            hidden_size: config.hidden_size,
            device_token_bytes: 0,
            device_state_bytes: 0,
        }
    }

    /// Memory of a state with `tokens` tokens of its own.
    pub(crate) fn state_bytes(&self, tokens: usize) -> usize {
        let layer = tokens.div_ceil(16) * self.key_panel_floats + tokens * self.value_floats;
        let floats = self.attention_layers * layer
            + self.convolution_layers * self.convolution_floats
            + self.hidden_size
            + tokens;
        // The rest is the struct itself and its vectors' headers.
        let on_device = tokens * self.device_token_bytes + self.device_state_bytes;
        floats * size_of::<f32>() + 256 + 56 * self.attention_layers + on_device
    }
}

/// What the model remembers of a state's own tokens.
pub(crate) struct Memory {
    pub(crate) own: Vec<KeyValues>,
    pub(crate) convolutions: Vec<f32>,
    /// Output of the last norm at the last token, `[hidden]`: whatever follows is predicted from it.
    pub(crate) hidden: Vec<f32>,
    /// All of it, where the model runs on a device.
    device: Option<DeviceMemory>,
    bytes: usize,
    gauge: Arc<AtomicUsize>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A point in a tree of sequences.
pub(crate) struct State {
    parent: Option<Arc<State>>,
    pub(crate) tokens: Vec<u32>,
    /// Tokens from the root to here.
    pub(crate) length: usize,
    memory: Mutex<Option<Arc<Memory>>>,
    /// When it was last needed, in turns of the scheduler.
    used: AtomicU64,
}

/// A state whose memory, and that of all before it, stays as long as this does.
pub(crate) struct Pinned {
    state: Arc<State>,
    /// From the root on.
    chain: Vec<Arc<Memory>>,
}

impl State {
    /// All tokens from the root to here.
    pub(crate) fn all_tokens(&self) -> Vec<u32> {
        let spans: Vec<&Vec<u32>> = self.line().map(|state| &state.tokens).collect();
        spans.into_iter().rev().flatten().copied().collect()
    }

    /// From here to the root.
    pub(crate) fn line(&self) -> impl Iterator<Item = &State> {
        std::iter::successors(Some(self), |state| state.parent.as_deref())
    }

    pub(crate) fn parent(&self) -> Option<&Arc<State>> {
        self.parent.as_ref()
    }

    /// What is remembered, unless it was forgotten.
    pub(crate) fn memory(&self) -> Option<Arc<Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a memory that was computed again.
    pub(crate) fn remember(&self, memory: Arc<Memory>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
    }

    /// Bytes that forgetting would free: none where the memory is pinned or already forgotten.
    pub(crate) fn evictable_bytes(&self) -> usize {
        let guard = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().filter(|memory| Arc::strong_count(memory) == 1).map_or(0, |memory| memory.bytes)
    }

    pub(crate) fn forget(&self) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that it is needed, and so all before it.
    pub(crate) fn touch(&self, turn: u64) {
        self.line().for_each(|state| state.used.store(turn, Ordering::Relaxed));
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Pins all memories from the root to here; where one is missing, the first state without.
    pub(crate) fn pin(self: &Arc<Self>) -> Result<Pinned, Arc<State>> {
        let mut chain = Vec::new();
        let mut missing = None;
        let mut next = Some(self);
        while let Some(state) = next {
            match state.memory() {
                Some(memory) => chain.push(memory),
                None => missing = Some(state),
            }
            next = state.parent.as_ref();
        }
        if let Some(state) = missing {
            return Err(state.clone());
        }
        chain.reverse();
        Ok(Pinned { state: self.clone(), chain })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A long chain that dropped itself recursively would overflow the stack.
        let mut next = self.parent.take();
        while let Some(state) = next {
            next = Arc::into_inner(state).and_then(|mut last| last.parent.take());
        }
    }
}

/// A state in the making: a base, and what was fed since.
pub(crate) struct Sequence {
    base: Option<Pinned>,
    pub(crate) own: Vec<KeyValues>,
    pub(crate) convolutions: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    /// All of that, where the model runs on a device, once it has been fed.
    pub(crate) device: Option<DeviceSequence>,
    tokens: Vec<u32>,
}

impl Sequence {
    /// A sequence that goes on from `base`, or begins.
    pub(crate) fn new(sizes: &StateSizes, base: Option<Pinned>) -> Self {
        let last = base.as_ref().and_then(|pinned| pinned.chain.last());
        Self {
            own: (0..sizes.attention_layers).map(|_| KeyValues::default()).collect(),
            convolutions: last.map_or_else(
                || vec![0.0; sizes.convolution_layers * sizes.convolution_floats],
                |memory| memory.convolutions.clone(),
            ),
            hidden: last.map_or_else(Vec::new, |memory| memory.hidden.clone()),
            device: None,
            tokens: Vec::new(),
            base,
        }
    }

    /// Makes it follow a state without its memory, which a chain of many thousand would take long to pin.
    #[cfg(test)]
    pub(crate) fn follow(&mut self, base: Option<Arc<State>>) {
        self.base = base.map(|state| Pinned { state, chain: Vec::new() });
    }

    /// Tokens from the root to here.
    pub(crate) fn length(&self) -> usize {
        self.base.as_ref().map_or(0, |pinned| pinned.state.length) + self.tokens.len()
    }

    pub(crate) fn note_tokens(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Keys and values of one layer from the root to the base, oldest first; the sequence's own are not among them.
    pub(crate) fn collect_base<'a>(&'a self, layer: usize, segments: &mut Vec<CacheSegment<'a>>) {
        let chain = self.base.iter().flat_map(|pinned| &pinned.chain);
        segments.extend(chain.map(|memory| memory.own[layer].first(memory.own[layer].positions)));
    }

    /// What the states from the root to the base hold on the device, oldest first.
    pub(crate) fn device_base(&self) -> impl Iterator<Item = &DeviceMemory> {
        let chain = self.base.iter().flat_map(|pinned| &pinned.chain);
        chain.filter_map(|memory| memory.device.as_ref())
    }

    /// The finished state. `gauge` counts the bytes of all memories.
    pub(crate) fn finish(mut self, sizes: &StateSizes, gauge: &Arc<AtomicUsize>) -> Arc<State> {
        let length = self.length();
        let tokens = std::mem::take(&mut self.tokens);
        let base = self.base.take().map(|pinned| pinned.state);
        if tokens.is_empty()
            && let Some(state) = base
        {
            return state;
        }
        Arc::new(State {
            length,
            parent: base,
            memory: Mutex::new(Some(self.remembered(tokens.len(), sizes, gauge))),
            tokens,
            used: AtomicU64::new(0),
        })
    }

    /// The memory alone, for a state that had forgotten it.
    pub(crate) fn finish_memory(self, sizes: &StateSizes, gauge: &Arc<AtomicUsize>) -> Arc<Memory> {
        let count = self.tokens.len();
        self.remembered(count, sizes, gauge)
    }

    fn remembered(mut self, tokens: usize, sizes: &StateSizes, gauge: &Arc<AtomicUsize>) -> Arc<Memory> {
        for layer in &mut self.own {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        let bytes = sizes.state_bytes(tokens);
        gauge.fetch_add(bytes, Ordering::Relaxed);
        let Self { own, convolutions, hidden, device, .. } = self;
        let device = device.map(DeviceSequence::finish);
        Arc::new(Memory { own, convolutions, hidden, device, bytes, gauge: gauge.clone() })
    }
}
