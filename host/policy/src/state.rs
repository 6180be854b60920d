//! What the model remembers of a sequence, as a tree.
//!
//! A [`State`] is immutable: it holds the keys and values of its own tokens only and points to its parent for the
//! rest, so branches share their common prefix and extending never copies it. What cannot be shared is small and is
//! copied: the last inputs of each convolution. A [`Sequence`] is a state in the making: `model` feeds it, `scheduler`
//! owns it until it is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orion_kernels::CacheSegment;

use crate::config::{Config, LayerKind};

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
}

impl StateSizes {
    pub(crate) fn of(config: &Config) -> Self {
        let attention_layers = config.layers.iter().filter(|kind| **kind == LayerKind::Attention).count();
        Self {
            attention_layers,
            key_panel_floats: config.key_value_heads * config.head_size * 16,
            value_floats: config.key_value_heads * config.head_size.next_multiple_of(16),
            convolution_floats: (config.convolution_length - 1) * config.hidden_size,
            convolution_layers: config.layers.len() - attention_layers,
            hidden_size: config.hidden_size,
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
        floats * size_of::<f32>() + 256 + 56 * self.attention_layers
    }
}

/// An immutable point in a tree of sequences.
pub(crate) struct State {
    parent: Option<Arc<State>>,
    pub(crate) own: Vec<KeyValues>,
    pub(crate) convolutions: Vec<f32>,
    /// Output of the last norm at the last token, `[hidden]`: whatever follows is predicted from it.
    pub(crate) hidden: Vec<f32>,
    tokens: Vec<u32>,
    /// Tokens from the root to here.
    pub(crate) length: usize,
    bytes: usize,
    gauge: Arc<AtomicUsize>,
}

impl State {
    /// All tokens from the root to here.
    pub(crate) fn all_tokens(&self) -> Vec<u32> {
        let mut spans = vec![&self.tokens];
        let mut next = &self.parent;
        while let Some(state) = next {
            spans.push(&state.tokens);
            next = &state.parent;
        }
        spans.into_iter().rev().flatten().copied().collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes, Ordering::Relaxed);
        // A long chain that dropped itself recursively would overflow the stack.
        let mut next = self.parent.take();
        while let Some(state) = next {
            next = Arc::into_inner(state).and_then(|mut last| last.parent.take());
        }
    }
}

/// A state in the making: a base, and what was fed since.
pub(crate) struct Sequence {
    base: Option<Arc<State>>,
    pub(crate) own: Vec<KeyValues>,
    pub(crate) convolutions: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    tokens: Vec<u32>,
    base_length: usize,
}

impl Sequence {
    /// A sequence that goes on from `base`, or begins.
    pub(crate) fn new(sizes: &StateSizes, base: Option<Arc<State>>) -> Self {
        Self {
            own: (0..sizes.attention_layers).map(|_| KeyValues::default()).collect(),
            convolutions: base.as_ref().map_or_else(
                || vec![0.0; sizes.convolution_layers * sizes.convolution_floats],
                |state| state.convolutions.clone(),
            ),
            hidden: base.as_ref().map_or_else(Vec::new, |state| state.hidden.clone()),
            tokens: Vec::new(),
            base_length: base.as_ref().map_or(0, |state| state.length),
            base,
        }
    }

    /// Tokens from the root to here.
    pub(crate) fn length(&self) -> usize {
        self.base_length + self.tokens.len()
    }

    pub(crate) fn note_tokens(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Keys and values of one layer from the root to the base, oldest first; the sequence's own are not among them.
    pub(crate) fn collect_base<'a>(&'a self, layer: usize, segments: &mut Vec<CacheSegment<'a>>) {
        let mut next = self.base.as_deref();
        while let Some(state) = next {
            let own = &state.own[layer];
            segments.push(own.first(own.positions));
            next = state.parent.as_deref();
        }
        segments.reverse();
    }

    /// The finished state. `gauge` counts the bytes of all states.
    pub(crate) fn finish(mut self, sizes: &StateSizes, gauge: &Arc<AtomicUsize>) -> Arc<State> {
        if self.tokens.is_empty()
            && let Some(base) = self.base
        {
            return base;
        }
        for layer in &mut self.own {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        let bytes = sizes.state_bytes(self.tokens.len());
        gauge.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(State {
            length: self.length(),
            parent: self.base,
            own: self.own,
            convolutions: self.convolutions,
            hidden: self.hidden,
            tokens: self.tokens,
            bytes,
            gauge: gauge.clone(),
        })
    }
}
