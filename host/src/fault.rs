//! Why a guest was stopped: the typed errors that travel through wasmtime as traps.
//!
//! A guest may not react to these. `outcome.rs` turns them into [`crate::Degraded`].

use crate::outcome::Degraded;

/// A stop that the host decided on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("flood: {what}: expected at most {limit}")]
    Flood { what: &'static str, limit: u64 },
    #[error("{call}: unknown node handle {handle}: this search made {made} nodes")]
    UnknownNode { call: &'static str, handle: u64, made: usize },
    #[error("trace: {0}")]
    TraceOrder(String),
    #[error("memory: tried to hold {wanted_bytes} bytes, expected at most {limit_bytes}")]
    Memory { wanted_bytes: u64, limit_bytes: u64 },
    #[error("table: tried to hold {wanted} elements, expected at most {limit}")]
    Table { wanted: usize, limit: usize },
    #[error("replay: host call {index} was `{expected}`, the guest made `{got}`")]
    ReplayDiverged { index: usize, expected: String, got: String },
    #[error("replay: the recording ends after {index} host calls, the guest made `{got}`")]
    ReplayEnded { index: usize, got: String },
    #[error("{0}")]
    ReplayStopped(Degraded),
    #[error("recording failed: {0}")]
    Recording(String),
}
