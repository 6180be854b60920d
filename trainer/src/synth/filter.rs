//! Which trajectories stay: none that shows a test query, none twice, and of each archetype and set as many as of the
//! others.

use super::graph::normal;
use crate::data::{Part, Record};
use crate::error::{Result, TrainError};
use crate::nano::Inputs;
use orion_eval::dataset::Dataset;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Splits that may be learned from; every other one is a test split, whatever its name.
const OPEN_SPLITS: [&str; 2] = ["train", "dev"];

/// The texts of all test queries that are at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestTexts {
    texts: BTreeSet<String>,
    /// Sets and splits that were read, as `set/split`.
    pub splits: Vec<String>,
}

impl TestTexts {
    /// Reads the test splits of the bundled corpus and of every set below the data folder.
    ///
    /// # Errors
    /// A set that cannot be read.
    pub fn read(inputs: &Inputs) -> Result<Self> {
        let mut folders = vec![inputs.bundled.clone()];
        if inputs.data.is_dir() {
            let entries = std::fs::read_dir(&inputs.data).map_err(TrainError::file("list", &inputs.data))?;
            for entry in entries {
                folders.push(entry.map_err(TrainError::file("list", &inputs.data))?.path());
            }
        }
        folders.sort();
        Self::of(&folders)
    }

    /// Reads the test splits of these folders; a folder without queries is no set and is passed over.
    ///
    /// # Errors
    /// A set that cannot be read.
    pub fn of(folders: &[PathBuf]) -> Result<Self> {
        let fail = |error: orion_eval::EvalError| TrainError::Index(error.to_string());
        let mut all = Self::default();
        for folder in folders.iter().filter(|folder| folder.join("queries.jsonl").is_file()) {
            let dataset = Dataset::open(folder).map_err(fail)?;
            for split in dataset.splits().map_err(fail)? {
                if OPEN_SPLITS.contains(&split.as_str()) {
                    continue;
                }
                let queries = dataset.split_queries(&split).map_err(fail)?;
                all.texts.extend(queries.iter().map(|query| normal(&query.text)));
                all.splits.push(format!("{}/{split}", dataset.name()));
            }
        }
        all.texts.remove("");
        Ok(all)
    }

    /// Whether a text is a test query, case and punctuation aside.
    pub fn holds(&self, text: &str) -> bool {
        self.texts.contains(&normal(text))
    }
}

/// How many were dropped, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// With a test query as user query, thought or search query.
    pub leaks: usize,
    /// With too few turns.
    pub short: usize,
    /// Same user query, same search queries in the same order as an earlier one.
    pub duplicates: usize,
    /// More than the share of their archetype and set.
    pub over_share: usize,
}

/// Drops what shows a test query, is too short, or was there before.
pub fn clean(
    records: Vec<Record>,
    test: &TestTexts,
    least_turns: usize,
    dropped: &mut Dropped,
) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for record in records {
        let asked: Vec<(String, Option<String>)> =
            record.queries().map(|issued| (normal(&issued.query), issued.retriever.clone())).collect();
        if record.words().any(|text| test.holds(text)) {
            dropped.leaks += 1;
        } else if asked.len() < least_turns {
            dropped.short += 1;
        } else if !seen.insert((normal(record.user_query()), asked)) {
            dropped.duplicates += 1;
        } else {
            kept.push(record);
        }
    }
    kept
}

/// As many records of each of `archetypes` as of the others, at most `most` in all, taken from the sets in turn, so that
/// a small set gives all it has and large ones share the rest evenly. Training and held-out records are balanced each
/// for themselves. Which ones stay is decided by the hash of their ids and `seed`; order is kept.
pub fn balance(
    records: Vec<Record>,
    archetypes: &[String],
    most: Option<usize>,
    seed: u64,
    dropped: &mut Dropped,
) -> Vec<Record> {
    let mut kept = BTreeSet::new();
    for part in [Part::Train, Part::HeldOut] {
        let of_archetype = |name: &String| {
            let mut by_set: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (place, record) in records.iter().enumerate() {
                if record.part == part && record.archetype.as_ref() == Some(name) {
                    by_set.entry(&record.set).or_default().push(place);
                }
            }
            for places in by_set.values_mut() {
                places.sort_by_cached_key(|&place| draw(seed, &records[place].id));
            }
            by_set
        };
        let cells: Vec<BTreeMap<&str, Vec<usize>>> = archetypes.iter().map(of_archetype).collect();
        let smallest = cells.iter().map(|cell| cell.values().map(Vec::len).sum::<usize>()).min().unwrap_or(0);
        let quota = most.map_or(smallest, |most| smallest.min(most / archetypes.len().max(1)));
        for cell in &cells {
            let longest = cell.values().map(Vec::len).max().unwrap_or(0);
            let in_turn = (0..longest).flat_map(|row| cell.values().filter_map(move |set| set.get(row)));
            kept.extend(in_turn.take(quota).copied());
        }
    }
    dropped.over_share += records.len() - kept.len();
    records
        .into_iter()
        .enumerate()
        .filter(|(place, _)| kept.contains(place))
        .map(|(_, record)| record)
        .collect()
}

fn draw(seed: u64, id: &str) -> [u8; 32] {
    Sha256::digest(format!("{seed}\n{id}").as_bytes()).into()
}
