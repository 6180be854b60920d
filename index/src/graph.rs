//! A graph over the rows of a large segment, walked towards a query instead of looking at every row.
//!
//! The graph and the walk are DiskANN's (Subramanya et al., NeurIPS 2019; the `diskann` crate): every row has some
//! neighbours, near ones and a few far ones, and a search keeps the best rows seen and looks at their neighbours until
//! none is better. Distances come from the short codes (`codes.rs`); who asks makes the exact scores.
//!
//! `vectors/<number>.graph`, of the shape in `mapped.rs` (`ORIONGRA`), numbers as u32: how many starts there are, the
//! starts; for each row where its neighbours begin, and where the last one's end; the neighbours. The same vectors in
//! the same order give the same bytes: rows go in one after the other, in an order that their number alone decides.
//! Nothing here trusts the file for safety: neighbours that do not exist are passed over.

use crate::codes::{Coded, Codes};
use crate::error::{IndexError, Result};
use crate::files;
use crate::mapped::{Draft, FileKind, Head, Mapped};
use crate::phase::{Hook, Phase};
use crate::vectors::SegmentEntry;
use crate::walk::{self, Place, Walk};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

const KIND: FileKind = FileKind { magic: b"ORIONGRA", name: "a graph of vectors" };

/// Rows that every search starts from. One is enough to reach everything in the theory; where a collection falls into
/// clusters far from each other, several find the right one sooner.
const STARTS: usize = 16;

/// More rows than this get no graph: places of neighbours are kept in 32 bits, and a row has at most some 40.
const MOST_ROWS: usize = 1 << 26;

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.graph")
}

/// Where the neighbours of a row are.
pub(crate) enum Links {
    /// While the graph is built: for each row how many neighbours it has, then room for the most it may have.
    Growing(RwLock<Vec<u32>>),
    Kept(Kept),
}

/// Neighbours in a mapped file.
pub(crate) struct Kept {
    mapped: Mapped,
    rows: usize,
    /// Where the begins of the rows are in the body, in bytes.
    begins_at: usize,
}

/// Numbers of one row while the graph grows.
const ROOM: usize = 1 + walk::MOST_NEIGHBOURS;

impl Links {
    pub(crate) fn growing(rows: usize) -> Self {
        Self::Growing(RwLock::new(vec![0; rows * ROOM]))
    }

    /// Gives `use_them` the neighbours of a row.
    pub(crate) fn with<T>(&self, row: u32, use_them: impl FnOnce(&[u32]) -> T) -> T {
        let row = row as usize;
        match self {
            Self::Growing(all) => {
                let all = all.read().unwrap_or_else(PoisonError::into_inner);
                let own = &all[row * ROOM..(row + 1) * ROOM];
                use_them(&own[1..1 + own[0] as usize])
            }
            Self::Kept(kept) => use_them(kept.neighbours(row)),
        }
    }

    /// Gives a row its neighbours, or adds to them; what finds no room is left out. Only while the graph grows.
    pub(crate) fn put(&self, row: u32, neighbours: &[u32], keep_old: bool) {
        let Self::Growing(all) = self else { return };
        let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
        let own = &mut all[row as usize * ROOM..(row as usize + 1) * ROOM];
        if !keep_old {
            own[0] = 0;
        }
        for neighbour in neighbours {
            let held = own[0] as usize;
            if held + 1 < ROOM && !own[1..=held].contains(neighbour) {
                own[held + 1] = *neighbour;
                own[0] += 1;
            }
        }
    }
}

impl Kept {
    fn neighbours(&self, row: usize) -> &[u32] {
        let begins = self.mapped.integers(self.begins_at..self.begins_at + (self.rows + 1) * 4);
        let all = self.mapped.integers(self.begins_at + (self.rows + 1) * 4..self.mapped.len());
        let (Some(begin), Some(end)) = (begins.get(row), begins.get(row + 1)) else { return &[] };
        all.get(*begin as usize..*end as usize).unwrap_or_default()
    }
}

/// A graph that can be searched.
pub(crate) struct Graph {
    walk: Walk,
}

impl Graph {
    pub(crate) fn open(
        dir: &Path,
        entry: SegmentEntry,
        crc32: u32,
        codes: Arc<Codes>,
        verify: bool,
    ) -> Result<Self> {
        let path = dir.join(file_name(entry.number));
        let head = Head { kind: KIND, width: walk::MOST_NEIGHBOURS, rows: entry.rows, crc32 };
        let mapped = Mapped::open(path, head, verify)?;
        let rows = entry.rows as usize;
        let short = || mapped.corrupt("starts and the begins of all rows", format!("{} bytes", mapped.len()));
        if !mapped.len().is_multiple_of(4) || mapped.len() < 4 {
            return Err(short());
        }
        let starts = mapped.integers(0..4)[0] as usize;
        let begins_at = 4 * (1 + starts);
        if STARTS < starts || mapped.len() < begins_at + (rows + 1) * 4 {
            return Err(short());
        }
        let starts: Vec<u32> = mapped.integers(4..begins_at).to_vec();
        if starts.is_empty() || starts.iter().any(|&start| rows <= start as usize) {
            return Err(mapped.corrupt(format!("starts below {rows}"), format!("{starts:?}")));
        }
        let edges = mapped.integers(begins_at + rows * 4..begins_at + (rows + 1) * 4)[0] as usize;
        mapped.check_length(begins_at + (rows + 1 + edges) * 4)?;
        let place = Place { codes, starts, links: Links::Kept(Kept { mapped, rows, begins_at }) };
        Ok(Self { walk: Walk::new(place)? })
    }

    /// The best rows for a query, nearest first by their codes: at most `list`, of which a walk that keeps `list` rows
    /// is sure enough. `None` where the walk failed.
    pub(crate) fn search(&self, query: &Coded, list: usize) -> Option<Vec<u32>> {
        self.walk.search(query, list)
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Graph").field("starts", &self.walk.place().starts).finish_non_exhaustive()
    }
}

/// Whether a segment of so many rows can have a graph.
pub(crate) fn is_possible(rows: u64) -> bool {
    (1..=MOST_ROWS as u64).contains(&rows)
}

/// The order in which rows go in: mixed, because what comes in one piece (one source, one topic) would otherwise lie
/// in one piece of the graph. The finaliser of SplitMix64 (Steele et al. 2014) is a bijection, so keys are distinct.
fn order(rows: usize) -> Vec<u32> {
    let mixed = |row: u32| {
        let mut mixed = u64::from(row).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_unstable_by_key(|&row| mixed(row));
    order
}

/// Builds the graph of a segment over its codes and writes it, durably but for the folder; returns its checksum.
pub(crate) fn write(dir: &Path, entry: SegmentEntry, codes: Arc<Codes>, hook: &Hook) -> Result<u32> {
    let path = dir.join(file_name(entry.number));
    let rows = codes.len();
    let order = order(rows);
    let (starts, rest) = order.split_at(STARTS.min(rows));
    let mut walk = Walk::new(Place { codes, starts: starts.to_vec(), links: Links::growing(rows) })?;
    for &row in rest {
        walk.insert(row).map_err(|message| IndexError::Graph { path: path.clone(), message })?;
    }
    let place = walk.place();
    let temporary = path.with_extension(files::TEMPORARY);
    let mut draft = Draft::create(temporary.clone())?;
    let mut numbers = |numbers: &[u32]| {
        draft.write(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    };
    numbers(&[starts.len() as u32])?;
    numbers(starts)?;
    let mut begin = 0;
    for row in 0..rows as u32 {
        numbers(&[begin])?;
        begin += place.links.with(row, <[u32]>::len) as u32;
    }
    numbers(&[begin])?;
    for row in 0..rows as u32 {
        place.links.with(row, &mut numbers)?;
        hook.reached(Phase::GraphWrite);
    }
    let crc32 = draft.finish(KIND, walk::MOST_NEIGHBOURS, entry.rows, || ())?;
    files::rename(&temporary, &path)?;
    Ok(crc32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_goes_in_once_and_far_from_its_neighbours() {
        let order = order(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        let near = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 10).count();
        assert!(near < 60, "{near} of 999 steps are short");
    }

    #[test]
    fn neighbours_are_put_once_and_as_far_as_there_is_room() {
        let links = Links::growing(3);
        links.put(1, &[0, 2, 0], false);
        links.put(1, &[2, 5], true);
        assert_eq!(links.with(1, <[u32]>::to_vec), [0, 2, 5]);
        links.put(1, &(0..200).collect::<Vec<u32>>(), false);
        assert_eq!(links.with(1, <[u32]>::len), walk::MOST_NEIGHBOURS);
        assert_eq!((links.with(0, <[u32]>::len), links.with(2, <[u32]>::len)), (0, 0));
    }
}
