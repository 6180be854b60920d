//! Immutable vector segments: written once, synced, then mapped and never changed.
//!
//! One file, `vectors/<number>.vec`, little-endian: a head of 64 bytes (`ORIONVEC`, format u32, dimensions u32,
//! rows u64, CRC-32 of the body u32, zeros, CRC-32 of the 60 bytes before it), then the rows as f32, then one
//! u64 key for each row. Keys rise from row to row and are never used twice, so a replaced or deleted document
//! leaves a dead row behind until a merge drops it. Which rows live is the lexical half's to say (`searcher.rs`).
#![expect(unsafe_code, reason = "maps files and reads their bytes as f32")]

use crate::error::{IndexError, Result};
use crate::phase::{Hook, Phase};
use crate::settings::FORMAT;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(target_endian = "big")]
compile_error!("vector segments are mapped as little-endian f32");

const MAGIC: &[u8; 8] = b"ORIONVEC";
const HEAD_BYTES: usize = 64;

/// What the manifest says of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) rows: u64,
    pub(crate) crc32: u32,
}

impl SegmentEntry {
    pub(crate) fn file_name(self) -> String {
        file_name(self.number)
    }
}

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.vec")
}

fn head(dimensions: usize, rows: u64, crc32: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&(dimensions as u32).to_le_bytes());
    head[16..24].copy_from_slice(&rows.to_le_bytes());
    head[24..28].copy_from_slice(&crc32.to_le_bytes());
    let own = crc32fast::hash(&head[..60]);
    head[60..].copy_from_slice(&own.to_le_bytes());
    head
}

/// A segment that is being written. Until the manifest names it, it does not exist.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    path: PathBuf,
    file: BufWriter<File>,
    number: u64,
    dimensions: usize,
    keys: Vec<u64>,
    hasher: crc32fast::Hasher,
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
        let path = dir.join(file_name(number));
        let file = File::create(&path).map_err(IndexError::io("create", &path))?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&[0; HEAD_BYTES]).map_err(IndexError::io("write", &path))?;
        let hasher = crc32fast::Hasher::new();
        Ok(Self { path, file, number, dimensions, keys: Vec::new(), hasher, hook, phase })
    }

    /// Appends one row; keys must rise.
    pub(crate) fn push(&mut self, key: u64, vector: &[f32]) -> Result<()> {
        debug_assert!(vector.len() == self.dimensions && self.keys.last().is_none_or(|&last| last < key));
        let mut bytes = Vec::with_capacity(vector.len() * 4);
        for value in vector {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.hasher.update(&bytes);
        self.file.write_all(&bytes).map_err(IndexError::io("write", &self.path))?;
        self.keys.push(key);
        self.hook.reached(self.phase);
        Ok(())
    }

    /// Completes and syncs the file; the folder is synced by the caller.
    pub(crate) fn finish(mut self) -> Result<SegmentEntry> {
        let error = IndexError::io("write", &self.path);
        let mut bytes = Vec::with_capacity(self.keys.len() * 8);
        for key in &self.keys {
            bytes.extend_from_slice(&key.to_le_bytes());
        }
        self.hasher.update(&bytes);
        let crc32 = self.hasher.finalize();
        let rows = self.keys.len() as u64;
        let head = head(self.dimensions, rows, crc32);
        let hook = self.hook.clone();
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.get_ref().write_all_at(&head, 0))
            .and_then(|()| {
                hook.reached(Phase::VectorSync);
                self.file.get_ref().sync_all()
            })
            .map_err(error)?;
        Ok(SegmentEntry { number: self.number, rows, crc32 })
    }
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    dimensions: usize,
    map: Mmap,
    keys: Vec<u64>,
}

impl Segment {
    /// Maps the segment that `entry` names; `verify` reads all of it and compares the checksum.
    pub(crate) fn open(dir: &Path, entry: SegmentEntry, dimensions: usize, verify: bool) -> Result<Self> {
        let path = dir.join(entry.file_name());
        let file = File::open(&path).map_err(IndexError::io("open", &path))?;
        // SAFETY: segment files are immutable once the manifest names them; this program only ever removes
        // them, which leaves the mapping intact.
        let map = unsafe { Mmap::map(&file) }.map_err(IndexError::io("map", &path))?;
        let corrupt = |expected: String, got: String| IndexError::corrupt(&path, expected, got);
        if map.len() < HEAD_BYTES {
            return Err(corrupt(format!("a head of {HEAD_BYTES} bytes"), format!("{} bytes", map.len())));
        }
        if &map[..8] != MAGIC {
            return Err(IndexError::Format {
                path,
                expected: "a vector segment (`ORIONVEC`)".to_owned(),
                got: format!("{:?}", String::from_utf8_lossy(&map[..8])),
            });
        }
        let wanted = head(dimensions, entry.rows, entry.crc32);
        if map[..HEAD_BYTES] != wanted {
            let format = u32::from_le_bytes([map[8], map[9], map[10], map[11]]);
            let intact = crc32fast::hash(&map[..60]).to_le_bytes() == map[60..HEAD_BYTES];
            if intact && format != FORMAT {
                let (expected, got) = (format!("format {FORMAT}"), format!("format {format}"));
                return Err(IndexError::Format { path, expected, got });
            }
            let expected = format!("a head of {} rows of {dimensions} as committed", entry.rows);
            return Err(corrupt(expected, "another head".to_owned()));
        }
        let rows = entry.rows as usize;
        let length = HEAD_BYTES + rows * (dimensions * 4 + 8);
        if map.len() != length {
            return Err(corrupt(format!("{length} bytes"), format!("{} bytes", map.len())));
        }
        if verify {
            let crc32 = crc32fast::hash(&map[HEAD_BYTES..]);
            if crc32 != entry.crc32 {
                return Err(corrupt(format!("checksum {:08x}", entry.crc32), format!("{crc32:08x}")));
            }
        }
        let (chunks, _) = map[HEAD_BYTES + rows * dimensions * 4..].as_chunks::<8>();
        let keys = chunks.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        Ok(Self { entry, dimensions, map, keys })
    }

    /// One rising key for each row.
    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// All rows, one after the other: [rows, dimensions].
    pub(crate) fn rows(&self) -> &[f32] {
        let length = self.keys.len() * self.dimensions;
        let bytes = &self.map[HEAD_BYTES..HEAD_BYTES + length * 4];
        // SAFETY: the range is inside the mapping, which is page-aligned, so offset 64 is aligned for f32;
        // every bit pattern is an f32; the mapping lives as long as `self`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<f32>(), length) }
    }

    /// The vector of one row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.rows()[row * self.dimensions..(row + 1) * self.dimensions]
    }
}

/// `vector` at unit length. A vector that has it already keeps every bit.
/// Errors with a description where it has another length, a value that is not finite, or no direction.
pub(crate) fn normalised(mut vector: Vec<f32>, dimensions: usize) -> std::result::Result<Vec<f32>, String> {
    if vector.len() != dimensions {
        return Err(format!("{} values", vector.len()));
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err("a value that is not finite".to_owned());
    }
    let norm = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
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
