//! Dense search over all vector segments: each in the way that is quickest for it, and all of them to exact scores.
//!
//! - Exact: every row (`scan.rs`). The definition; the other ways are judged by it.
//! - By codes: every row's short codes (`codes.rs`), then the exact scores of the best candidates.
//! - By graph: a walk over some rows (`graph.rs`), then the exact scores of the best candidates. Candidates that are
//!   deleted or filtered out are passed over, so the walk keeps as many more rows as the filter is narrow; where that is
//!   dearer than looking at all codes, or finds too few, all codes are looked at.
//!
//! Vectors that are not compared by cosine are searched exactly always: codes and graphs are made for that alone.
//!
//! Whatever the way, a hit's score is the exact one, and ties go to the smaller id. Candidates by codes depend on the
//! collection and the query alone, as exact results do; what a walk finds depends also on how rows lie in segments.

use crate::codes::{self, Coded};
use crate::scan::{self, PlacedSegment, Slot, Top};
use crate::settings::{DenseSearch, Space};
use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

/// Rows of one piece of work by codes: those of 384 dimensions fill 200 kB, which stays in the cache while all queries
/// pass over it.
const BLOCK_ROWS: usize = 512;
/// Queries looked at together; bounds the memory for candidates.
const QUERIES_AT_ONCE: usize = 16;
/// Fewer candidates than this save no time and cost recall.
const LEAST_CANDIDATES: usize = 100;
/// A row of a walk's list costs about as much as this many rows whose codes are read one after the other: it has some 32
/// neighbours, each of them somewhere else in memory.
const WALK_COST: f64 = 128.0;

/// What is asked of all segments.
pub(crate) struct Asked<'a> {
    /// [queries, dimensions], row-major.
    pub(crate) queries: &'a [f32],
    pub(crate) dimensions: usize,
    pub(crate) space: Space,
    pub(crate) k: usize,
    pub(crate) search: DenseSearch,
    /// Candidates for each hit that is wanted.
    pub(crate) oversampling: usize,
    /// Which documents may be found; all where there is none.
    pub(crate) wanted: Option<&'a (dyn Fn(Slot) -> bool + Sync)>,
    /// The share of documents that `wanted` lets through.
    pub(crate) share: f64,
    pub(crate) tie: &'a (dyn Fn(Slot, Slot) -> Ordering + Sync),
}

impl Asked<'_> {
    fn candidates(&self) -> usize {
        self.k.saturating_mul(self.oversampling).max(LEAST_CANDIDATES)
    }

    pub(crate) fn wants(&self, slot: Slot) -> bool {
        self.wanted.is_none_or(|wanted| wanted(slot))
    }

    /// How many rows a walk has to keep, so that as many candidates are left of them as are wanted.
    fn list(&self, segment: &PlacedSegment) -> f64 {
        let found = self.share * segment.living as f64 / segment.slots.len().max(1) as f64;
        (self.candidates() as f64 / found).ceil()
    }
}

/// How one segment is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Exact,
    Codes,
    Graph,
}

fn way(segment: &PlacedSegment, asked: &Asked<'_>) -> Way {
    let rows = segment.slots.len();
    // With as many candidates as rows, codes exclude nothing.
    if segment.segment.codes().is_none() || rows <= asked.candidates() || asked.search == DenseSearch::Exact {
        return Way::Exact;
    }
    // Whoever asks for another way gets the right answer instead.
    if asked.space != Space::Cosine {
        return Way::Exact;
    }
    // A list of half the rows is no short cut at all; whoever asks for the graph gets it below that.
    let cost = match asked.search {
        DenseSearch::Graph => 2.0,
        DenseSearch::Auto => WALK_COST,
        DenseSearch::Exact | DenseSearch::Quantised => return Way::Codes,
    };
    let is_short = asked.list(segment) * cost < rows as f64;
    if segment.segment.graph().is_some() && is_short { Way::Graph } else { Way::Codes }
}

/// A row that may be a hit.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    slot: Slot,
    place: usize,
    row: usize,
}

/// For each query its best `k` rows among those that are wanted.
pub(crate) fn search(segments: &[PlacedSegment], asked: &Asked<'_>) -> Vec<Vec<(f32, Slot)>> {
    let ways: Vec<Way> = segments.iter().map(|segment| way(segment, asked)).collect();
    let some = asked.queries.chunks(QUERIES_AT_ONCE * asked.dimensions);
    if ways.iter().all(|way| *way == Way::Exact) {
        return scan::search(&segments.iter().collect::<Vec<_>>(), asked);
    }
    some.flat_map(|queries| search_some(segments, &ways, &Asked { queries, ..*asked })).collect()
}

fn search_some(segments: &[PlacedSegment], ways: &[Way], asked: &Asked<'_>) -> Vec<Vec<(f32, Slot)>> {
    let places = |wanted: Way| {
        let places = ways.iter().enumerate().filter(move |(_, way)| **way == wanted);
        places.map(|(place, _)| place).collect::<Vec<usize>>()
    };
    let exact: Vec<&PlacedSegment> = places(Way::Exact).into_iter().map(|place| &segments[place]).collect();
    let exact = scan::search(&exact, asked);
    let coded: Vec<Coded> = asked.queries.chunks_exact(asked.dimensions).map(codes::code).collect();
    let all: Vec<usize> = (0..coded.len()).collect();
    let mut candidates = scan_codes(segments, &places(Way::Codes), &coded, &all, asked);
    for place in places(Way::Graph) {
        let walked = walk(&segments[place], place, &coded, asked);
        let mut lacking = Vec::new();
        for (query, walked) in walked.into_iter().enumerate() {
            match walked {
                Some(walked) => candidates[query].extend(walked),
                None => lacking.push(query),
            }
        }
        let scanned = scan_codes(segments, &[place], &coded, &lacking, asked);
        for (query, scanned) in lacking.into_iter().zip(scanned) {
            candidates[query].extend(scanned);
        }
    }
    score(segments, asked, candidates, &exact)
}

/// For each query the candidates of one segment by its graph; `None` where they are too few.
fn walk(
    segment: &PlacedSegment,
    place: usize,
    coded: &[Coded],
    asked: &Asked<'_>,
) -> Vec<Option<Vec<Candidate>>> {
    let list = (asked.list(segment) as usize).min(segment.slots.len());
    let walked: Vec<Mutex<Option<Vec<Candidate>>>> = coded.iter().map(|_| Mutex::new(None)).collect();
    orion_kernels::Threads::global().run(coded.len(), |query| {
        let found = segment.segment.graph().and_then(|graph| graph.search(&coded[query], list));
        let found: Option<Vec<Candidate>> = found.map(|rows| {
            let placed = rows.into_iter().map(|row| (row as usize, segment.slots.get(row as usize)));
            let living = placed.filter_map(|(row, slot)| slot.copied().flatten().map(|slot| (row, slot)));
            let wanted = living.filter(|&(_, slot)| asked.wants(slot));
            let best = wanted.take(asked.candidates());
            best.map(|(row, slot)| Candidate { slot, place, row }).collect()
        });
        let enough = found.filter(|found| asked.k <= found.len());
        *walked[query].lock().unwrap_or_else(PoisonError::into_inner) = enough;
    });
    walked.into_iter().map(|found| found.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// For each of the chosen queries the best candidates by codes, of all the chosen segments together.
fn scan_codes(
    segments: &[PlacedSegment],
    places: &[usize],
    coded: &[Coded],
    chosen: &[usize],
    asked: &Asked<'_>,
) -> Vec<Vec<Candidate>> {
    let mut blocks = Vec::new();
    for &place in places {
        let rows = segments[place].slots.len();
        blocks
            .extend((0..rows).step_by(BLOCK_ROWS).map(|start| (place, start..rows.min(start + BLOCK_ROWS))));
    }
    let most = asked.candidates();
    let top = || Top::new(most, |left: Candidate, right: Candidate| (asked.tie)(left.slot, right.slot));
    let threads = orion_kernels::Threads::global();
    let parts = if chosen.is_empty() { 0 } else { (threads.count() * 4).min(blocks.len()) };
    let found = Mutex::new(vec![Vec::new(); chosen.len()]);
    threads.run(parts, |part| {
        let mut tops: Vec<_> = chosen.iter().map(|_| top()).collect();
        let (mut sums, mut scores) = (vec![0; BLOCK_ROWS], vec![0.0; BLOCK_ROWS]);
        for (place, rows) in &blocks[part * blocks.len() / parts..(part + 1) * blocks.len() / parts] {
            let slots = &segments[*place].slots[rows.clone()];
            let Some(codes) = segments[*place].segment.codes() else { continue };
            if asked.wanted.is_some() && !slots.iter().flatten().any(|&slot| asked.wants(slot)) {
                continue;
            }
            let (sums, scores) = (&mut sums[..slots.len()], &mut scores[..slots.len()]);
            for (top, &query) in tops.iter_mut().zip(chosen) {
                codes.scores(&coded[query], rows.clone(), sums, scores);
                for ((row, score), slot) in rows.clone().zip(&*scores).zip(slots) {
                    // Most rows fail here, before anything is looked up about them.
                    if let Some(slot) = slot.filter(|&slot| top.may_take(*score) && asked.wants(slot)) {
                        top.push(*score + 0.0, Candidate { slot, place: *place, row });
                    }
                }
            }
        }
        let mut all = found.lock().unwrap_or_else(PoisonError::into_inner);
        for (all, top) in all.iter_mut().zip(tops) {
            all.extend(top.finish());
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let best = |candidates: Vec<(f32, Candidate)>| {
        let mut top = top();
        candidates.into_iter().for_each(|(score, candidate)| top.push(score, candidate));
        top.finish().into_iter().map(|(_, candidate)| candidate).collect()
    };
    found.into_iter().map(best).collect()
}

/// The best of all candidates by their exact scores, and of what was found exactly.
fn score(
    segments: &[PlacedSegment],
    asked: &Asked<'_>,
    candidates: Vec<Vec<Candidate>>,
    exact: &[Vec<(f32, Slot)>],
) -> Vec<Vec<(f32, Slot)>> {
    let best: Vec<Mutex<Vec<(f32, Slot)>>> = candidates.iter().map(|_| Mutex::new(Vec::new())).collect();
    orion_kernels::Threads::global().run(candidates.len(), |query| {
        let vector = &asked.queries[query * asked.dimensions..(query + 1) * asked.dimensions];
        let mut top = Top::new(asked.k, asked.tie);
        for &(score, slot) in &exact[query] {
            top.push(score, slot);
        }
        let mut own = candidates[query].clone();
        // In the order of the file, where rows that lie together are read together.
        own.sort_unstable_by_key(|candidate| (candidate.place, candidate.row));
        for candidate in own {
            let row = segments[candidate.place].segment.row(candidate.row);
            // Adding zero turns a negative zero into zero, so that the two tie.
            top.push(orion_kernels::dot(vector, row) + 0.0, candidate.slot);
        }
        *best[query].lock().unwrap_or_else(PoisonError::into_inner) = top.finish();
    });
    best.into_iter().map(|best| best.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
