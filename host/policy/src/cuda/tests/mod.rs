//! The device's side, run on the CPU: the kernels' own source, compiled as C, under the launches, the memory and the
//! scheduler that a device gets. What only a device can show is left to `tests/device`.

mod emulated;
mod forward;
mod kernels;
mod serving;

use std::sync::Arc;

use self::emulated::Emulated;
use super::model::DeviceModel;
use crate::checkpoint::{Checkpoint, NumberFormat};
use crate::config::Config;
use crate::session::PolicyOptions;

/// Memory of the emulated device: plenty for these models.
const MEMORY: usize = 1 << 30;

const NUMBERS: [NumberFormat; 3] = [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16];

fn options() -> PolicyOptions {
    PolicyOptions { max_state_bytes: 4 << 20, max_context_tokens: 512, ..PolicyOptions::default() }
}

fn on_device(device: &Arc<Emulated>, checkpoint: &Checkpoint) -> DeviceModel {
    DeviceModel::load(device.clone(), checkpoint, 512, &options()).unwrap()
}

/// A model with layers of both kinds whose widths divide nothing evenly.
fn uneven_config() -> Config {
    use crate::config::LayerKind::{Attention, Convolution};
    Config {
        hidden_size: 40,
        feed_forward_size: 56,
        attention_heads: 6,
        key_value_heads: 2,
        head_size: 24,
        layers: vec![Attention, Convolution, Convolution, Attention],
        convolution_length: 4,
        convolution_bias: true,
        tied_head: false,
        ..crate::random::tiny_config()
    }
}
