//! What one search may use. Every number is enforced by the host, none is advice.
//!
//! Budgets (`retrievals`, `tokens`, `nodes`, `deadline_ms`) answer a guest with `budget-exhausted`, so that it can stop
//! and answer with what it has. Shapes (`*_bytes`, `list_items`, `candidates`) answer with `invalid-input`. Floods
//! (`host_calls`, `trace_events`, `trace_bytes`, `log_lines`), memory and fuel trap. Neighbours: `state.rs` counts, `calls/` checks.
use serde::{Deserialize, Serialize};

/// Limits of one search; the defaults suit an interactive search on a small machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock milliseconds after which host calls answer `budget-exhausted("milliseconds")`.
    pub deadline_ms: u64,
    /// Milliseconds that a guest has after the deadline or a cancellation to return what it has, before it is killed.
    pub grace_ms: u64,
    /// WebAssembly instructions, roughly; 2·10^10 is about a second of computing.
    pub fuel: u64,
    /// Linear memory of all the guest's memories together. At most [`crate::HostOptions::max_memory_bytes`].
    pub memory_bytes: u64,
    /// Elements of one table.
    pub table_elements: u32,
    /// Queries that may be looked up.
    pub retrievals: u64,
    /// Tokens that the policy may read and write.
    pub tokens: u64,
    /// Policy nodes that may be made.
    pub nodes: u64,
    /// Calls of any host function.
    pub host_calls: u64,
    /// Events that may be emitted to the trace.
    pub trace_events: u64,
    /// Bytes of all texts and ids in the trace's events.
    pub trace_bytes: u64,
    /// Lines that may be logged.
    pub log_lines: u64,
    /// Bytes of one log line that are kept.
    pub log_line_bytes: u32,
    /// UTF-8 bytes of one string argument.
    pub string_bytes: u32,
    /// Bytes of all that one host call passes.
    pub call_bytes: u32,
    /// Elements of one list argument.
    pub list_items: u32,
    /// Hits that one query may ask for.
    pub hits: u32,
    /// Candidates that one proposal may ask for, over all its nodes.
    pub candidates: u32,
    /// Tokens that one think or search query may have.
    pub generated_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 10_000,
            grace_ms: 250,
            fuel: 20_000_000_000,
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            retrievals: 256,
            tokens: 200_000,
            nodes: 4_096,
            host_calls: 10_000,
            trace_events: 10_000,
            trace_bytes: 16 << 20,
            log_lines: 1_000,
            log_line_bytes: 1_024,
            string_bytes: 64 << 10,
            call_bytes: 8 << 20,
            list_items: 1_024,
            hits: 1_000,
            candidates: 256,
            generated_tokens: 512,
        }
    }
}

impl Limits {
    /// Bounds nothing: what a manifest without limits asks for.
    pub(crate) const NONE: Self = Self {
        deadline_ms: u64::MAX,
        grace_ms: u64::MAX,
        fuel: u64::MAX,
        memory_bytes: u64::MAX,
        table_elements: u32::MAX,
        retrievals: u64::MAX,
        tokens: u64::MAX,
        nodes: u64::MAX,
        host_calls: u64::MAX,
        trace_events: u64::MAX,
        trace_bytes: u64::MAX,
        log_lines: u64::MAX,
        log_line_bytes: u32::MAX,
        string_bytes: u32::MAX,
        call_bytes: u32::MAX,
        list_items: u32::MAX,
        hits: u32::MAX,
        candidates: u32::MAX,
        generated_tokens: u32::MAX,
    };

    /// The lower of both, field by field.
    #[must_use]
    pub fn lowest(&self, other: &Self) -> Self {
        Self {
            deadline_ms: self.deadline_ms.min(other.deadline_ms),
            grace_ms: self.grace_ms.min(other.grace_ms),
            fuel: self.fuel.min(other.fuel),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            table_elements: self.table_elements.min(other.table_elements),
            retrievals: self.retrievals.min(other.retrievals),
            tokens: self.tokens.min(other.tokens),
            nodes: self.nodes.min(other.nodes),
            host_calls: self.host_calls.min(other.host_calls),
            trace_events: self.trace_events.min(other.trace_events),
            trace_bytes: self.trace_bytes.min(other.trace_bytes),
            log_lines: self.log_lines.min(other.log_lines),
            log_line_bytes: self.log_line_bytes.min(other.log_line_bytes),
            string_bytes: self.string_bytes.min(other.string_bytes),
            call_bytes: self.call_bytes.min(other.call_bytes),
            list_items: self.list_items.min(other.list_items),
            hits: self.hits.min(other.hits),
            candidates: self.candidates.min(other.candidates),
            generated_tokens: self.generated_tokens.min(other.generated_tokens),
        }
    }

    /// Names of all limits, sorted.
    pub(crate) fn names() -> Vec<String> {
        let value = serde_json::to_value(Self::NONE).unwrap_or_default();
        let mut names: Vec<String> =
            value.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
        names.sort();
        names
    }

    /// The named limits, and no bound for the others; `None` where a name or a number does not fit.
    pub(crate) fn from_named(named: serde_json::Map<String, serde_json::Value>) -> Option<Self> {
        let mut value = serde_json::to_value(Self::NONE).ok()?;
        value.as_object_mut()?.extend(named);
        serde_json::from_value(value).ok()
    }

    /// Whether nothing but the numbers of this search bounds it: used by offline work such as an evaluation, where a
    /// slow machine must not change results. Deadline an hour; everything else as in [`Limits::default`].
    pub fn unhurried() -> Self {
        Self { deadline_ms: 3_600_000, ..Self::default() }
    }
}
