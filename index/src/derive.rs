//! What is kept beside vector segments so that they are searched quicker (`codes.rs`, `graph.rs`): which segments get
//! it, and making it. The writer asks at each commit, so segments of an index that had none, or whose files were damaged,
//! get theirs with the next commit; the same vectors give the same bytes.

use crate::codes::{self, Codes};
use crate::error::Result;
use crate::graph::{self, Graph};
use crate::index::Shared;
use crate::settings::{DenseSearch, DenseSettings};
use crate::vectors::{Segment, SegmentEntry};
use std::sync::Arc;

/// With fewer rows than this, [`DenseSearch::Auto`] looks at all vectors: 15 MB of 384 dimensions, some 1.5 ms.
const AUTO_CODES_FROM: u64 = 10_000;

/// What a segment should have beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    codes: bool,
    graph: bool,
}

fn wanted(dense: &DenseSettings, rows: u64) -> Wanted {
    let is_large = dense.graph_from <= rows && graph::is_possible(rows);
    match dense.search {
        DenseSearch::Exact => Wanted { codes: false, graph: false },
        DenseSearch::Quantised => Wanted { codes: true, graph: false },
        DenseSearch::Graph => Wanted { codes: true, graph: is_large },
        DenseSearch::Auto => Wanted { codes: AUTO_CODES_FROM <= rows || is_large, graph: is_large },
    }
}

/// Makes what the segment of `entry` should have and does not; `known` is that segment as far as it is open. Returns
/// the entry that names all of it, or `None` where nothing was to be done. The folder is synced by the caller.
pub(crate) fn derive(
    shared: &Shared,
    mut entry: SegmentEntry,
    known: Option<&Segment>,
) -> Result<Option<SegmentEntry>> {
    let Some(dense) = &shared.settings.dense else { return Ok(None) };
    let wanted = wanted(dense, entry.rows);
    let has_codes = known.is_some_and(|segment| segment.codes().is_some());
    let has_graph = known.is_some_and(|segment| segment.graph().is_some());
    if (has_codes || !wanted.codes) && (has_graph || !wanted.graph) {
        return Ok(None);
    }
    let (dir, dimensions) = (&shared.vector_dir, dense.dimensions);
    let codes_crc32 = match entry.codes_crc32.filter(|_| has_codes) {
        Some(crc32) => crc32,
        None => {
            let bare = SegmentEntry { codes_crc32: None, graph_crc32: None, ..entry };
            codes::write(dir, &Segment::open(dir, bare, dimensions, false)?, dimensions, &shared.hook)?
        }
    };
    entry.codes_crc32 = Some(codes_crc32);
    if wanted.graph && !has_graph {
        let codes = Arc::new(Codes::open(dir, entry, codes_crc32, dimensions, false)?);
        // A whole graph may have been left aside only because its codes were damaged.
        let is_whole = |crc32: &u32| Graph::open(dir, entry, *crc32, Arc::clone(&codes), true).is_ok();
        entry.graph_crc32 = Some(match entry.graph_crc32.filter(is_whole) {
            Some(crc32) => crc32,
            None => graph::write(dir, entry, Arc::clone(&codes), &shared.hook)?,
        });
    }
    Ok(Some(entry))
}
