//! Named instants of a write. A hook that is called at each of them lets the crash tests stop a process exactly
//! there; in ordinary use there is no hook and the calls cost a null check.

use std::sync::Arc;

/// An instant of a write, in the order in which one commit passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// A document was accepted and not logged yet.
    Add,
    /// Half of a block of log records is in the file.
    LogWrite,
    /// The log records are in the file and not synced yet.
    LogSync,
    /// The log records are synced and not marked as acknowledged yet.
    LogMark,
    /// Rows were written to a vector segment.
    VectorWrite,
    /// A vector segment is complete and not synced yet.
    VectorSync,
    /// A row's short codes were written.
    CodesWrite,
    /// A row's neighbours were written to a graph.
    GraphWrite,
    /// The vector segments are durable; the lexical half is not prepared yet.
    Prepare,
    /// Everything is durable but the one commit point.
    Commit,
    /// The commit point has passed; the log is not trimmed yet.
    Committed,
    /// The new log exists; the old one does as well.
    LogTrim,
    /// Lexical segments are about to be merged.
    MergeLexical,
    /// Rows were written to a merged vector segment.
    MergeVectors,
    /// The merged segments are committed; the old files still exist.
    Merged,
}

/// What is called at every [`Phase`].
#[derive(Clone, Default)]
pub struct Hook(Option<Arc<dyn Fn(Phase) + Send + Sync>>);

impl Hook {
    /// A hook that calls `action`.
    pub fn new(action: impl Fn(Phase) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(action)))
    }

    pub(crate) fn reached(&self, phase: Phase) {
        if let Some(action) = &self.0 {
            action(phase);
        }
    }

    /// Whether anybody listens; writes that can be interrupted half-way are split only then.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.is_set() { "Hook(set)" } else { "Hook(none)" })
    }
}
