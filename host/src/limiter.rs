//! Counts a guest's memory and tables and stops it at its limits.
//!
//! Wasmtime's own `StoreLimits` bounds each memory alone and cannot say which limit was hit; this bounds the sum, keeps
//! the peak and fails with a typed fault.
use wasmtime::ResourceLimiter;

use crate::fault::Fault;

/// Limits and the highest use so far.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit_bytes: u64,
    table_elements: usize,
    held_bytes: u64,
}

/// Memories, tables and core instances of one component: a component that wit-component or a language's tool chain
/// makes has one to three memories, up to ten core instances and a few tables.
pub(crate) const MEMORIES: usize = 8;
pub(crate) const TABLES: usize = 32;
pub(crate) const CORE_INSTANCES: usize = 64;

impl MemoryLimiter {
    pub(crate) fn new(limit_bytes: u64, table_elements: u32) -> Self {
        let table_elements = usize::try_from(table_elements).unwrap_or(usize::MAX);
        Self { limit_bytes, table_elements, held_bytes: 0 }
    }

    /// Memories never shrink, so what is held is also the peak.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.held_bytes
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth_bytes = desired.saturating_sub(current) as u64;
        let wanted_bytes = self.held_bytes.saturating_add(growth_bytes);
        if wanted_bytes > self.limit_bytes {
            return Err(Fault::Memory { wanted_bytes, limit_bytes: self.limit_bytes }.into());
        }
        self.held_bytes = wanted_bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            return Err(Fault::Table { wanted: desired, limit: self.table_elements }.into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
