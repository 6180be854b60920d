//! The shapes of the published LFM2 models, and of the small one that ships, for models of random weights.

use orion_policy::{Config, LayerKind, tiny_config};

/// The names that [`shape`] knows.
pub(crate) const NAMES: &str = "nano, 350M, 700M or 1.2B";

/// The shape of this name.
pub(crate) fn shape(name: &str) -> Option<Config> {
    use LayerKind::{Attention, Convolution};
    let layers = (0..16)
        .map(|index| if [2, 5, 8, 10, 12, 14].contains(&index) { Attention } else { Convolution })
        .collect();
    let large = |hidden_size: usize, feed_forward_size: usize| Config {
        vocabulary_size: 65536,
        hidden_size,
        feed_forward_size,
        layers,
        attention_heads: hidden_size / 64,
        key_value_heads: 8,
        head_size: 64,
        max_positions: 128_000,
        ..tiny_config()
    };
    Some(match name {
        "350M" => large(1024, 4608),
        "700M" => large(1536, 6912),
        "1.2B" => large(2048, 8192),
        "nano" => Config {
            vocabulary_size: 8192,
            hidden_size: 256,
            feed_forward_size: 640,
            layers: vec![Convolution, Convolution, Attention, Convolution, Attention, Convolution],
            attention_heads: 8,
            key_value_heads: 4,
            head_size: 32,
            ..tiny_config()
        },
        _ => return None,
    })
}
