//! Immutable vector segments: written once, synced, then mapped and never changed.
//!
//! One file, `vectors/<number>.vec`, of the shape in `mapped.rs` (`ORIONVEC`): the rows as f32, then one u64 key for
//! each row. Keys rise from row to row and are never used twice, so a replaced or deleted document leaves a dead row
//! behind until a merge drops it. Which rows live is the lexical half's to say (`searcher.rs`).
//!
//! Beside it may lie what is derived from it and makes searching quicker: short codes (`codes.rs`) and a graph over
//! them (`graph.rs`). Where those are missing or damaged, the segment is searched without them and says so: the vectors
//! alone decide what is right.

use crate::codes::{self, Codes};
use crate::error::{IndexError, Result};
use crate::graph::{self, Graph};
use crate::mapped::{Draft, FileKind, Head, Mapped};
use crate::phase::{Hook, Phase};
use crate::settings::{DenseSettings, Space};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

const KIND: FileKind = FileKind { magic: b"ORIONVEC", name: "a vector segment" };

/// What the manifest says of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) rows: u64,
    pub(crate) crc32: u32,
    /// Checksum of the short codes, where there are any.
    // Left out where there are none: manifests of before stay what they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) codes_crc32: Option<u32>,
    /// Checksum of the graph, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph_crc32: Option<u32>,
}

impl SegmentEntry {
    /// Names of the files that this entry is about.
    pub(crate) fn file_names(self) -> Vec<String> {
        let mut names = vec![file_name(self.number)];
        names.extend(self.codes_crc32.map(|_| codes::file_name(self.number)));
        names.extend(self.graph_crc32.map(|_| graph::file_name(self.number)));
        names
    }
}

fn file_name(number: u64) -> String {
    format!("{number:010}.vec")
}

/// A segment that is being written. Until the manifest names it, it does not exist.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    draft: Draft,
    number: u64,
    dimensions: usize,
    keys: Vec<u64>,
    hook: Hook,
    phase: Phase,
}

impl SegmentWriter {
    /// Starts segment `number`; `phase` is reported after every push.
    pub(crate) fn create(
        dir: &Path,
        number: u64,
        dimensions: usize,
        hook: Hook,
        phase: Phase,
    ) -> Result<Self> {
        let draft = Draft::create(dir.join(file_name(number)))?;
        Ok(Self { draft, number, dimensions, keys: Vec::new(), hook, phase })
    }

    /// Appends one row; keys must rise.
    pub(crate) fn push(&mut self, key: u64, vector: &[f32]) -> Result<()> {
        debug_assert!(vector.len() == self.dimensions && self.keys.last().is_none_or(|&last| last < key));
        let mut bytes = Vec::with_capacity(vector.len() * 4);
        for value in vector {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.draft.write(&bytes)?;
        self.keys.push(key);
        self.hook.reached(self.phase);
        Ok(())
    }

    /// Completes and syncs the file; the folder is synced by the caller.
    pub(crate) fn finish(mut self) -> Result<SegmentEntry> {
        let mut bytes = Vec::with_capacity(self.keys.len() * 8);
        for key in &self.keys {
            bytes.extend_from_slice(&key.to_le_bytes());
        }
        self.draft.write(&bytes)?;
        let rows = self.keys.len() as u64;
        let before_sync = || self.hook.reached(Phase::VectorSync);
        let crc32 = self.draft.finish(KIND, self.dimensions, rows, before_sync)?;
        Ok(SegmentEntry { number: self.number, rows, crc32, codes_crc32: None, graph_crc32: None })
    }
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    dimensions: usize,
    mapped: Mapped,
    keys: Vec<u64>,
    codes: Option<Arc<Codes>>,
    graph: Option<Graph>,
    /// What was expected beside the vectors and could not be read.
    damage: Vec<String>,
}

impl Segment {
    /// Maps the segment that `entry` names; `verify` reads all of it and compares the checksum.
    pub(crate) fn open(dir: &Path, entry: SegmentEntry, dimensions: usize, verify: bool) -> Result<Self> {
        let head = Head { kind: KIND, width: dimensions, rows: entry.rows, crc32: entry.crc32 };
        let rows = entry.rows as usize;
        let mapped = Mapped::open(dir.join(file_name(entry.number)), head, verify)?;
        mapped.check_length(rows * (dimensions * 4 + 8))?;
        let (chunks, _) = mapped.bytes(rows * dimensions * 4..mapped.len()).as_chunks::<8>();
        let keys = chunks.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let mut damage = Vec::new();
        let mut kept_back = |error: IndexError| damage.push(error.to_string());
        let codes = entry.codes_crc32.and_then(|crc32| {
            Codes::open(dir, entry, crc32, dimensions, verify).map_err(&mut kept_back).ok().map(Arc::new)
        });
        let graph = entry.graph_crc32.zip(codes.as_ref()).and_then(|(crc32, codes)| {
            Graph::open(dir, entry, crc32, Arc::clone(codes), verify).map_err(&mut kept_back).ok()
        });
        Ok(Self { entry, dimensions, mapped, keys, codes, graph, damage })
    }

    /// One rising key for each row.
    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// All rows, one after the other: [rows, dimensions].
    pub(crate) fn rows(&self) -> &[f32] {
        self.mapped.floats(0..self.keys.len() * self.dimensions * 4)
    }

    /// The vector of one row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.rows()[row * self.dimensions..(row + 1) * self.dimensions]
    }

    /// The short codes, where there are any and they could be read.
    pub(crate) fn codes(&self) -> Option<&Arc<Codes>> {
        self.codes.as_ref()
    }

    /// The graph, where there is one and it could be read.
    pub(crate) fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// What should lie beside the vectors and could not be read, with the reason.
    pub(crate) fn damage(&self) -> &[String] {
        &self.damage
    }
}

/// Longest a vector may be where lengths matter: products and squared distances of two such are far from the end of f32.
const LONGEST: f64 = 1e18;

/// What [`accepted`] takes, for messages.
pub(crate) fn acceptable(dense: &DenseSettings) -> String {
    match dense.space {
        Space::Cosine => format!("{} finite values that are not all zero", dense.dimensions),
        _ => format!("{} finite values of a length below {LONGEST:e}", dense.dimensions),
    }
}

/// `vector` as a segment of these settings keeps it, or what is wrong with it.
pub(crate) fn accepted(vector: Vec<f32>, dense: &DenseSettings) -> std::result::Result<Vec<f32>, String> {
    if dense.space == Space::Cosine {
        return normalised(vector, dense.dimensions);
    }
    let length = checked_length(&vector, dense.dimensions)?;
    if LONGEST <= length { Err(format!("a length of {length:.1e}")) } else { Ok(vector) }
}

/// The Euclidean length of a vector of `dimensions` finite values, or what is wrong with it.
fn checked_length(vector: &[f32], dimensions: usize) -> std::result::Result<f64, String> {
    if vector.len() != dimensions {
        return Err(format!("{} values", vector.len()));
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err("a value that is not finite".to_owned());
    }
    Ok(vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt())
}

/// `vector` at unit length. A vector that has it already keeps every bit.
/// Errors with a description where it has another length, a value that is not finite, or no direction.
pub(crate) fn normalised(mut vector: Vec<f32>, dimensions: usize) -> std::result::Result<Vec<f32>, String> {
    let norm = checked_length(&vector, dimensions)?;
    if norm < 1e-30 {
        return Err("all zeros".to_owned());
    }
    // 1e-5 is above the rounding of any encoder in f32 and far below what could change a ranking.
    if 1e-5 < (norm - 1.0).abs() {
        for value in &mut vector {
            *value = (f64::from(*value) / norm) as f32;
        }
    }
    Ok(vector)
}
