//! Short codes of vectors: one byte a dimension, a quarter of what is read where every row is looked at.
//!
//! `vectors/<number>.codes`, of the shape in `mapped.rs` (`ORIONCOD`): each row's codes, padded with zeros to a multiple
//! of 32 bytes, then each row's scale as f32. A value is its code times the scale of its row; the largest value of a row
//! has code 127 or -127. A score from codes is good to some thousandths, so it only picks the rows whose exact scores
//! are then made from the vectors themselves (`dense.rs`).

use crate::error::Result;
use crate::files;
use crate::mapped::{Draft, FileKind, Head, Mapped};
use crate::phase::{Hook, Phase};
use crate::vectors::{Segment, SegmentEntry};
use orion_kernels::{BYTES_STEP, byte_dots, byte_dots_of};
use std::ops::Range;
use std::path::Path;

const KIND: FileKind = FileKind { magic: b"ORIONCOD", name: "a file of vector codes" };

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.codes")
}

/// One vector in short.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coded {
    /// Padded with zeros.
    pub(crate) codes: Vec<i8>,
    pub(crate) scale: f32,
}

/// The codes of one vector, which depend on it alone.
pub(crate) fn code(vector: &[f32]) -> Coded {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let mut codes = vec![0; vector.len().next_multiple_of(BYTES_STEP)];
    if largest == 0.0 {
        return Coded { codes, scale: 0.0 };
    }
    for (code, value) in codes.iter_mut().zip(vector) {
        // In -127.0 ..= 127.0 by the choice of `largest`.
        *code = (value / largest * 127.0).round() as i8;
    }
    Coded { codes, scale: largest / 127.0 }
}

/// The mapped codes of one segment.
#[derive(Debug)]
pub(crate) struct Codes {
    mapped: Mapped,
    rows: usize,
    /// Bytes of one row.
    stride: usize,
}

impl Codes {
    pub(crate) fn open(
        dir: &Path,
        entry: SegmentEntry,
        crc32: u32,
        dimensions: usize,
        verify: bool,
    ) -> Result<Self> {
        let head = Head { kind: KIND, width: dimensions, rows: entry.rows, crc32 };
        let mapped = Mapped::open(dir.join(file_name(entry.number)), head, verify)?;
        let (rows, stride) = (entry.rows as usize, dimensions.next_multiple_of(BYTES_STEP));
        mapped.check_length(rows * (stride + 4))?;
        Ok(Self { mapped, rows, stride })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Codes of some rows, one after the other.
    fn rows(&self, rows: Range<usize>) -> &[i8] {
        self.mapped.signed_bytes(rows.start * self.stride..rows.end * self.stride)
    }

    fn scales(&self) -> &[f32] {
        self.mapped.floats(self.rows * self.stride..self.mapped.len())
    }

    /// The scores of some rows against a query; `sums` is space of the same length.
    pub(crate) fn scores(&self, query: &Coded, rows: Range<usize>, sums: &mut [i32], scores: &mut [f32]) {
        byte_dots(&query.codes, self.rows(rows.clone()), sums);
        for ((score, sum), scale) in scores.iter_mut().zip(sums).zip(&self.scales()[rows]) {
            *score = *sum as f32 * (query.scale * scale);
        }
    }

    /// Gives `found` each of some rows, which must exist, with its score against a query; `sums` is space.
    pub(crate) fn scores_of(
        &self,
        query: &Coded,
        rows: &[u32],
        sums: &mut Vec<i32>,
        mut found: impl FnMut(u32, f32),
    ) {
        sums.clear();
        sums.resize(rows.len(), 0);
        byte_dots_of(&query.codes, self.rows(0..self.rows), rows, sums);
        let scales = self.scales();
        for (&row, &sum) in rows.iter().zip(&*sums) {
            found(row, sum as f32 * (query.scale * scales[row as usize]));
        }
    }

    /// The score of one row against another.
    pub(crate) fn score_between(&self, left: usize, right: usize) -> f32 {
        let mut sum = [0];
        byte_dots(self.rows(left..left + 1), self.rows(right..right + 1), &mut sum);
        let scales = self.scales();
        sum[0] as f32 * (scales[left] * scales[right])
    }

    /// One row as a query.
    pub(crate) fn coded(&self, row: usize) -> Coded {
        Coded { codes: self.rows(row..row + 1).to_vec(), scale: self.scales()[row] }
    }
}

/// Writes the codes of a segment, durably but for the folder; returns their checksum.
pub(crate) fn write(dir: &Path, segment: &Segment, dimensions: usize, hook: &Hook) -> Result<u32> {
    let path = dir.join(file_name(segment.entry.number));
    let temporary = path.with_extension(files::TEMPORARY);
    let mut draft = Draft::create(temporary.clone())?;
    let mut scales = Vec::with_capacity(segment.keys().len() * 4);
    for vector in segment.rows().chunks_exact(dimensions) {
        let coded = code(vector);
        // Two's complement: the same bits.
        draft.write(&coded.codes.iter().map(|&code| code as u8).collect::<Vec<u8>>())?;
        scales.extend_from_slice(&coded.scale.to_le_bytes());
        hook.reached(Phase::CodesWrite);
    }
    draft.write(&scales)?;
    let crc32 = draft.finish(KIND, dimensions, segment.entry.rows, || ())?;
    files::rename(&temporary, &path)?;
    Ok(crc32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_the_largest_value_and_round_the_rest() {
        let coded = code(&[0.5, -1.0, 0.25, 0.0]);
        assert_eq!(&coded.codes[..4], [64, -127, 32, 0]);
        assert_eq!((coded.codes.len(), coded.codes[4..].iter().any(|&code| code != 0)), (BYTES_STEP, false));
        assert_eq!(coded.scale, 1.0 / 127.0);
        // Values that nearly overflow, and nothing at all.
        assert_eq!(&code(&[f32::MAX, -f32::MAX, 1.0]).codes[..3], [127, -127, 0]);
        assert_eq!(code(&[0.0; 3]), Coded { codes: vec![0; BYTES_STEP], scale: 0.0 });
    }
}
