//! What a file of synthesised trajectories holds, counted by archetype and set; and a readable preview.

use crate::data::{Piece, Record};
use crate::terminal::{one_line, table};
use orion_eval::behaviour::{self, Episode, Turn};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rank up to which a turn counts as a success: the first page.
const SUCCESS_CUT: u32 = 10;

/// Counts over some records.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Shape {
    /// Records.
    pub records: usize,
    /// Share of all records.
    pub share: f64,
    /// Mean turns.
    pub turns: f64,
    /// Mean words of a search query.
    pub query_words: f64,
    /// Mean words of a thought.
    pub think_words: f64,
    /// Share of turns that reformulate another query than the last one.
    pub turns_back: f64,
    /// Share of trajectories that lose ground and then more than recover it (`orion-eval`'s definition).
    pub backtracking: f64,
    /// Mean reciprocal rank of the best judged document at the first turn; 0 where none came back.
    pub mrr_first: f64,
    /// The same at each trajectory's best turn.
    pub mrr_best: f64,
    /// Share of trajectories that at some turn rank a judged document higher than at the first.
    pub improved: f64,
    /// Share of trajectories with a judged document among the first ten at some turn.
    pub success: f64,
    /// Share of queries that stand in the pool; the others are the archetype's own.
    pub from_pool: f64,
}

/// Counts over a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SynthStatistics {
    /// All records.
    pub all: Shape,
    /// By archetype.
    pub archetypes: BTreeMap<String, Shape>,
    /// By set.
    pub sets: BTreeMap<String, Shape>,
    /// Records by archetype and set.
    pub cells: BTreeMap<String, BTreeMap<String, usize>>,
    /// Records by part.
    pub parts: BTreeMap<String, usize>,
}

/// Counts.
pub fn statistics(records: &[Record]) -> SynthStatistics {
    let all: Vec<&Record> = records.iter().collect();
    let mut archetypes: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    let mut sets: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    let mut counted = SynthStatistics::default();
    for record in records {
        let archetype = record.archetype.clone().unwrap_or_else(|| "rules".to_owned());
        *counted.cells.entry(archetype.clone()).or_default().entry(record.set.clone()).or_default() += 1;
        let part = if record.part == crate::data::Part::Train { "train" } else { "held-out" };
        *counted.parts.entry(part.to_owned()).or_default() += 1;
        archetypes.entry(archetype).or_default().push(record);
        sets.entry(record.set.clone()).or_default().push(record);
    }
    let shapes = |groups: BTreeMap<String, Vec<&Record>>| {
        groups.into_iter().map(|(name, group)| (name, shape(&group, records.len()))).collect()
    };
    counted.all = shape(&all, records.len());
    counted.archetypes = shapes(archetypes);
    counted.sets = shapes(sets);
    counted
}

/// A record as the measures of behaviour see it.
pub fn episode(record: &Record) -> Episode {
    let ranks = record.turns.iter().map(|note| note.rank).chain(std::iter::repeat(None));
    let turns = record
        .queries()
        .zip(ranks)
        .map(|(issued, best_rank)| Turn { query: issued.query.clone(), best_rank });
    Episode { turns: turns.collect(), confidence: None }
}

/// Turns of a record that reformulate another query than the last one; a first turn never does.
pub fn turns_back(record: &Record) -> usize {
    let notes = record.turns.iter().enumerate().skip(1);
    notes.filter(|(place, note)| note.parent.is_some_and(|parent| parent as usize != *place)).count()
}

/// Reciprocal rank of the best judged document at the first turn and at the best one.
pub fn reciprocal_ranks(record: &Record) -> (f64, f64) {
    let reciprocal = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / f64::from(rank));
    let first = reciprocal(record.turns.first().and_then(|note| note.rank));
    (first, record.turns.iter().map(|note| reciprocal(note.rank)).fold(0.0, f64::max))
}

fn shape(records: &[&Record], whole: usize) -> Shape {
    let share = |part: f64, all: usize| part / all.max(1) as f64;
    let episodes: Vec<Episode> = records.iter().map(|record| episode(record)).collect();
    let moved = behaviour::describe(&episodes, SUCCESS_CUT);
    let turns: usize = episodes.iter().map(|episode| episode.turns.len()).sum();
    let (mut first, mut best, mut improved, mut thoughts, mut think_words) = (0.0, 0.0, 0, 0, 0);
    for record in records {
        let (at_first, at_best) = reciprocal_ranks(record);
        first += at_first;
        best += at_best;
        improved += usize::from(at_first < at_best);
        for piece in &record.segments {
            if let Piece::Think(text) = piece {
                thoughts += 1;
                think_words += text.split_whitespace().count();
            }
        }
    }
    let count = records.len();
    let back: usize = records.iter().map(|record| turns_back(record)).sum();
    let from_pool =
        records.iter().flat_map(|record| &record.turns).filter(|note| note.rule == "pool").count();
    let successes =
        episodes.iter().filter(|each| behaviour::first_success(each, SUCCESS_CUT).is_some()).count();
    Shape {
        records: count,
        share: share(count as f64, whole),
        turns: share(turns as f64, count),
        query_words: moved.mean_query_words,
        think_words: share(think_words as f64, thoughts),
        turns_back: share(back as f64, turns),
        backtracking: moved.backtracking,
        mrr_first: share(first, count),
        mrr_best: share(best, count),
        improved: share(improved as f64, count),
        success: share(successes as f64, count),
        from_pool: share(from_pool as f64, turns),
    }
}

impl SynthStatistics {
    /// For people.
    pub fn table(&self) -> String {
        let heading = [
            "",
            "records",
            "share",
            "turns",
            "query",
            "think",
            "back",
            "backtrack",
            "mrr first",
            "best",
            "improved",
            "success",
            "pool",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        let percent = |share: f64| format!("{:.1}%", 100.0 * share);
        let groups = self.archetypes.iter().chain(&self.sets).map(|(name, shape)| (name.as_str(), shape));
        for (name, shape) in groups.chain([("all", &self.all)]) {
            rows.push(vec![
                name.to_owned(),
                shape.records.to_string(),
                percent(shape.share),
                format!("{:.2}", shape.turns),
                format!("{:.1}", shape.query_words),
                format!("{:.1}", shape.think_words),
                percent(shape.turns_back),
                percent(shape.backtracking),
                format!("{:.3}", shape.mrr_first),
                format!("{:.3}", shape.mrr_best),
                percent(shape.improved),
                percent(shape.success),
                percent(shape.from_pool),
            ]);
        }
        let sets: Vec<&String> = self.sets.keys().collect();
        let mut cells =
            vec![std::iter::once(String::new()).chain(sets.iter().map(|s| (*s).clone())).collect()];
        for (archetype, counts) in &self.cells {
            let mut row = vec![archetype.clone()];
            row.extend(sets.iter().map(|set| counts.get(*set).copied().unwrap_or(0).to_string()));
            cells.push(row);
        }
        format!("{}\n{}", table(&rows), table(&cells))
    }
}

/// A record for people: what was asked, thought, searched and found.
pub fn preview(record: &Record) -> String {
    let archetype = record.archetype.as_deref().unwrap_or("rules");
    let mut text =
        format!("{} ({archetype}, {}): {}\n", record.id, record.set, one_line(record.user_query(), 200));
    let mut turn = 0;
    for piece in &record.segments {
        match piece {
            Piece::UserQuery(_) => {}
            Piece::Think(think) => text.push_str(&format!("  think   {}\n", one_line(think, 300))),
            Piece::SearchQuery(issued) => {
                let note = record.turns.get(turn);
                turn += 1;
                let rank = note.and_then(|note| note.rank).map_or("-".to_owned(), |rank| rank.to_string());
                let from = note.and_then(|note| note.parent).map_or("?".to_owned(), |from| from.to_string());
                let retriever = issued.retriever.as_deref().unwrap_or("");
                text.push_str(&format!(
                    "  {turn} <- {from}  {retriever:7}  {}  (rank {rank})\n",
                    one_line(&issued.query, 160)
                ));
            }
            Piece::TopKResponse(snippets) => {
                for snippet in snippets.iter().take(2) {
                    text.push_str(&format!(
                        "          | {}: {}\n",
                        one_line(&snippet.title, 50),
                        one_line(&snippet.text, 70)
                    ));
                }
            }
        }
    }
    text
}
