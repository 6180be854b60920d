//! Exact dense search: every living row against every query, in parallel, best k kept.
//!
//! A score is one `orion_kernels::dot`, or minus a squared distance, the same bits whatever else is asked beside it and however many threads
//! there are; ties go to the smaller id. So results depend on the collection and the query alone.

use crate::dense::Asked;
use crate::settings::Space;
use crate::vectors::Segment;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

/// Rows of one piece of work: 384-dimensional rows of this many fill half a megabyte, which stays in the cache
/// while all queries of the batch pass over it.
const BLOCK_ROWS: usize = 512;

/// Where a row's document is in the lexical half: segment ordinal and document number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) segment: u32,
    pub(crate) document: u32,
}

/// A segment with the slot of each row; `None` where the row is dead.
#[derive(Debug, Clone)]
pub(crate) struct PlacedSegment {
    pub(crate) segment: Arc<Segment>,
    pub(crate) slots: Vec<Option<Slot>>,
    /// How many rows are not dead.
    pub(crate) living: usize,
}

/// The best `k` candidates seen, by score descending and then `tie`.
pub(crate) struct Top<T, F> {
    k: usize,
    kept: Vec<(f32, T)>,
    /// Score of the k-th best, once there are k.
    floor: f32,
    tie: F,
}

impl<T: Copy, F: Fn(T, T) -> Ordering> Top<T, F> {
    pub(crate) fn new(k: usize, tie: F) -> Self {
        Self { k, kept: Vec::new(), floor: f32::NEG_INFINITY, tie }
    }

    /// Whether a candidate of this score would be kept for now.
    pub(crate) fn may_take(&self, score: f32) -> bool {
        // Equal scores are kept until `cut` can compare ids.
        self.floor <= score
    }

    pub(crate) fn push(&mut self, score: f32, candidate: T) {
        if self.may_take(score) {
            self.kept.push((score, candidate));
            if 2 * self.k.max(16) <= self.kept.len() {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        let tie = &self.tie;
        let order =
            |left: &(f32, T), right: &(f32, T)| right.0.total_cmp(&left.0).then_with(|| tie(left.1, right.1));
        if self.k < self.kept.len() && 0 < self.k {
            self.kept.select_nth_unstable_by(self.k - 1, order);
            self.kept.truncate(self.k);
            self.floor = self.kept[self.k - 1].0;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<(f32, T)> {
        let tie = &self.tie;
        self.kept.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| tie(left.1, right.1)));
        self.kept.truncate(self.k);
        self.kept
    }
}

/// For each query and row minus the square of their distance: [queries, rows].
fn minus_squared_distances(queries: &[f32], rows: &[f32], dimensions: usize, scores: &mut [f32]) {
    let row_count = rows.len() / dimensions;
    for (query, scores) in queries.chunks_exact(dimensions).zip(scores.chunks_exact_mut(row_count)) {
        for (row, score) in rows.chunks_exact(dimensions).zip(scores) {
            *score = minus_squared_distance(query, row);
        }
    }
}

/// In eight sums side by side, which vector instructions can make at once, added in a fixed order. Through the
/// difference of each pair of values, because the short way through inner products loses near neighbours to rounding.
fn minus_squared_distance(left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += (left - right) * (left - right);
        }
    }
    let rest = left_rest.iter().zip(right_rest).map(|(left, right)| (left - right) * (left - right));
    -(sums.into_iter().sum::<f32>() + rest.sum::<f32>())
}

/// For each query its best `k` rows among those that are wanted.
pub(crate) fn search(segments: &[&PlacedSegment], asked: &Asked<'_>) -> Vec<Vec<(f32, Slot)>> {
    let Asked { queries, dimensions, space, k, tie, .. } = *asked;
    let query_count = queries.len() / dimensions;
    let mut blocks = Vec::new();
    for (place, segment) in segments.iter().enumerate() {
        for start in (0..segment.slots.len()).step_by(BLOCK_ROWS) {
            blocks.push((place, start, (start + BLOCK_ROWS).min(segment.slots.len())));
        }
    }
    let threads = orion_kernels::Threads::global();
    // Few parts, so that each fills its own lists and there is little to merge at the end.
    let parts = (threads.count() * 4).min(blocks.len());
    let found: Mutex<Vec<Vec<(f32, Slot)>>> = Mutex::new(vec![Vec::new(); query_count]);
    threads.run(parts, |part| {
        let mut tops: Vec<_> = (0..query_count).map(|_| Top::new(k, tie)).collect();
        let mut scores = vec![0.0; query_count * BLOCK_ROWS];
        for &(place, start, end) in &blocks[part * blocks.len() / parts..(part + 1) * blocks.len() / parts] {
            let slots = &segments[place].slots[start..end];
            let living: Vec<(usize, Slot)> = (0_usize..)
                .zip(slots)
                .filter_map(|(row, slot)| slot.filter(|&slot| asked.wants(slot)).map(|slot| (row, slot)))
                .collect();
            if living.is_empty() {
                continue;
            }
            let rows = &segments[place].segment.rows()[start * dimensions..end * dimensions];
            let row_count = end - start;
            // scores: [queries, rows of the block]
            let scores = &mut scores[..query_count * row_count];
            match space {
                Space::Cosine | Space::InnerProduct => {
                    orion_kernels::dot_many(queries, rows, dimensions, scores, threads);
                }
                Space::Euclidean => minus_squared_distances(queries, rows, dimensions, scores),
            }
            for (top, scores) in tops.iter_mut().zip(scores.chunks_exact(row_count)) {
                for &(row, slot) in &living {
                    // Adding zero turns a negative zero into zero, so that the two tie.
                    top.push(scores[row] + 0.0, slot);
                }
            }
        }
        let mut all = found.lock().unwrap_or_else(PoisonError::into_inner);
        for (all, top) in all.iter_mut().zip(tops) {
            all.extend(top.finish());
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found
        .into_iter()
        .map(|candidates| {
            let mut top = Top::new(k, tie);
            candidates.into_iter().for_each(|(score, slot)| top.push(score, slot));
            top.finish()
        })
        .collect()
}
