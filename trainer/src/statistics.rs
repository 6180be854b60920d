//! What a file of trajectories holds, counted.

use crate::data::{Part, Piece, Record};
use crate::report::is_copy;
use serde::Serialize;
use std::collections::BTreeMap;

/// Counts over records.
#[derive(Debug, Default, Serialize)]
pub struct Statistics {
    /// Records by set and part.
    pub records: BTreeMap<String, usize>,
    /// Records by number of turns.
    pub turns: BTreeMap<usize, usize>,
    /// Turns by rule.
    pub rules: BTreeMap<String, usize>,
    /// Turns by retriever.
    pub retrievers: BTreeMap<String, usize>,
    /// Share of turns with a judged document among the snippets shown, by turn.
    pub shown: BTreeMap<usize, f64>,
    /// Share of thoughts that are the reflection sentence.
    pub reflections: f64,
    /// Share of queries that repeat the question.
    pub copied: f64,
    /// Mean words of a query.
    pub query_words: f64,
}

impl Statistics {
    /// For people.
    pub fn table(&self) -> String {
        fn row<T: ToString>(name: &str, counts: &BTreeMap<T, usize>) -> String {
            let counts: Vec<String> =
                counts.iter().map(|(key, count)| format!("{} {count}", key.to_string())).collect();
            format!("{name:<12}{}\n", counts.join(", "))
        }
        let percent = |share: f64| format!("{:.1}%", 100.0 * share);
        let shown: Vec<String> =
            self.shown.iter().map(|(turn, share)| format!("{turn} {}", percent(*share))).collect();
        [
            row("records", &self.records),
            row("turns", &self.turns),
            row("rules", &self.rules),
            row("retrievers", &self.retrievers),
            format!("{:<12}{}\n", "shown by", shown.join(", ")),
            format!(
                "queries of {:.1} words, {} of them copies of the question; {} of the thoughts are reflections\n",
                self.query_words,
                percent(self.copied),
                percent(self.reflections)
            ),
        ]
        .concat()
    }
}

/// Counts.
pub fn of(records: &[Record]) -> Statistics {
    let mut statistics = Statistics::default();
    let (mut thoughts, mut reflections, mut queries, mut copied, mut words) = (0, 0, 0, 0, 0);
    let mut by_turn: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for record in records {
        let part = if record.part == Part::Train { "train" } else { "held-out" };
        *statistics.records.entry(format!("{} {part}", record.set)).or_default() += 1;
        *statistics.turns.entry(record.turns.len()).or_default() += 1;
        for (turn, note) in record.turns.iter().enumerate() {
            *statistics.rules.entry(note.rule.clone()).or_default() += 1;
            let (shown, all) = by_turn.entry(turn + 1).or_default();
            *shown += usize::from(note.shown);
            *all += 1;
        }
        for piece in &record.segments {
            match piece {
                Piece::Think(text) => {
                    thoughts += 1;
                    reflections += usize::from(text.starts_with("Given turn "));
                }
                Piece::SearchQuery(issued) => {
                    queries += 1;
                    copied += usize::from(is_copy(&issued.query, record.user_query()));
                    words += issued.query.split_whitespace().count();
                    let retriever = issued.retriever.clone().unwrap_or_else(|| "none".into());
                    *statistics.retrievers.entry(retriever).or_default() += 1;
                }
                Piece::UserQuery(_) | Piece::TopKResponse(_) => {}
            }
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    statistics.reflections = share(reflections, thoughts);
    statistics.copied = share(copied, queries);
    statistics.query_words = share(words, queries);
    statistics.shown = by_turn.into_iter().map(|(turn, (shown, all))| (turn, share(shown, all))).collect();
    statistics
}
