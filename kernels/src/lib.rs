//! Dense CPU kernels, in f32 and over weights in blocks of small integers, with run-time dispatch and a fixed order of reduction.
//!
//! Why here: the encoder of `index` and the policy model of `host/policy` need the same guarantee, which general
//! linear-algebra crates do not give: a result must not depend on what else was computed beside it.
//!
//! Invariants, each held by a test:
//! - Every output element of [`linear`] is one chain of multiply-adds over the input features in index order that
//!   starts at the bias (or 0), whatever the number of rows, the row's place in the batch, or the number of threads.
//!   Over weights in blocks it is a chain over the blocks, or eight of them folded by halves (see `block_linear`).
//! - [`dot`] and [`dot_many`] give the same bits for the same pair of vectors.
//! - [`exp_in_place`], [`softmax_in_place`], [`silu_mul`] and [`gelu_in_place`] give a value the same bits wherever
//!   it stands in its slice.
//!
//! On x86-64 with AVX2 and FMA, and on aarch64, multiply-adds are fused. Elsewhere the plain path multiplies and then
//! adds: every invariant above still holds, but the bits differ from those of a machine with fused multiply-adds.
//!
//! Layers: `lanes` (16 floats as one value, per instruction set) below `tile` (matrix tiles), `linear`, `activations`,
//! `norms`, `dots` and `attention`; `eights` (sums of integer products) below `bytes`, and with `blocks` (what the bytes of
//! quantised weights mean) below `interleaved` (eight rows side by side) and `block_linear`, which `linear` calls; `threads`
//! beside them. This crate knows nothing of its callers.

mod activations;
mod attention;
mod block_linear;
mod blocks;
mod bytes;
mod cached;
mod dots;
mod eights;
mod interleaved;
mod lanes;
mod linear;
mod norms;
#[cfg(test)]
mod testing;
mod threads;
mod tile;

pub use activations::{exp, exp_in_place, gelu_in_place, silu_mul, softmax_in_place};
pub use attention::{AttentionShape, attend_row, bidirectional_attention, rotate_half_in_place};
pub use block_linear::{BlockRows, SharedBytes};
pub use blocks::{BlockFormat, quantise_blocks, scale_that_is_not_finite, widen_blocks};
pub use bytes::{BYTES_STEP, byte_dots, byte_dots_of};
pub use cached::{CacheSegment, attend_rows, push_position};
pub use dots::{add_in_place, axpy, dot, dot_many};
pub use lanes::cpu_level;
pub use linear::{Packed, Precision, linear};
pub use norms::{add_rms_norm, layer_norm_in_place, rms_norm, rms_norm_in_place};
pub use threads::Threads;
