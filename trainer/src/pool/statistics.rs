//! What a pool holds, counted by source and set.

use super::file::{Pool, PoolTrace};
use crate::terminal::table;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Counts over a whole pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolStatistics {
    /// Traces.
    pub traces: usize,
    /// Queries with at least one trace.
    pub queries: usize,
    /// Whether weights made from all of it may be passed on.
    pub may_ship: bool,
    /// Traces by set.
    pub sets: BTreeMap<String, usize>,
    /// Each source.
    pub sources: BTreeMap<String, SourceStatistics>,
}

/// Counts over the traces of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SourceStatistics {
    /// Traces.
    pub traces: usize,
    /// Turns.
    pub turns: usize,
    /// Mean words of a search query.
    pub query_words: f64,
    /// Different search queries for each user query, on average.
    pub distinct_queries: f64,
    /// Share of turns whose search query has the words of the user's.
    pub copied: f64,
    /// Mean reciprocal rank of the best judged document at the first turn; 0 beyond the depth.
    pub mrr_first: f64,
    /// The same at each trace's best turn.
    pub mrr_best: f64,
    /// Share of traces with a turn that ranks a judged document higher than the first does.
    pub improved: f64,
    /// Mean cosine of the best hit to a judged document, over the turns that have one; none without an encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
}

/// Counts.
pub fn statistics(pool: &Pool) -> PoolStatistics {
    let mut by_source: BTreeMap<String, Vec<&PoolTrace>> = BTreeMap::new();
    let mut sets: BTreeMap<String, usize> = BTreeMap::new();
    for trace in &pool.traces {
        by_source.entry(trace.source.clone()).or_default().push(trace);
        *sets.entry(trace.set.clone()).or_default() += 1;
    }
    let queries: BTreeSet<(&str, &str)> =
        pool.traces.iter().map(|trace| (trace.set.as_str(), trace.query_id.as_str())).collect();
    PoolStatistics {
        traces: pool.traces.len(),
        queries: queries.len(),
        may_ship: pool.header.sets.iter().all(|set| set.may_ship),
        sets,
        sources: by_source.into_iter().map(|(name, traces)| (name, of_source(&traces))).collect(),
    }
}

fn reciprocal(rank: Option<u32>) -> f64 {
    rank.map_or(0.0, |rank| 1.0 / f64::from(rank))
}

fn of_source(traces: &[&PoolTrace]) -> SourceStatistics {
    let mut counted = SourceStatistics { traces: traces.len(), ..SourceStatistics::default() };
    let mut distinct: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    let mut questions: BTreeSet<(&str, &str)> = BTreeSet::new();
    let (mut words, mut copied, mut cosines, mut cosine_sum) = (0, 0, 0, 0.0);
    for trace in traces {
        questions.insert((&trace.set, &trace.query_id));
        let first = reciprocal(trace.turns.first().and_then(|turn| turn.rank));
        let best = trace.turns.iter().map(|turn| reciprocal(turn.rank)).fold(0.0, f64::max);
        counted.mrr_first += first;
        counted.mrr_best += best;
        counted.improved += f64::from(u8::from(first < best));
        for turn in &trace.turns {
            counted.turns += 1;
            words += turn.query.split_whitespace().count();
            copied += usize::from(crate::report::is_copy(&turn.query, &trace.question));
            distinct.insert((&trace.set, &trace.query_id, &turn.query));
            if let Some(cosine) = turn.cosine {
                cosines += 1;
                cosine_sum += f64::from(cosine);
            }
        }
    }
    let share = |part: f64, whole: usize| part / whole.max(1) as f64;
    counted.query_words = share(words as f64, counted.turns);
    counted.distinct_queries = share(distinct.len() as f64, questions.len());
    counted.copied = share(copied as f64, counted.turns);
    counted.mrr_first = share(counted.mrr_first, counted.traces);
    counted.mrr_best = share(counted.mrr_best, counted.traces);
    counted.improved = share(counted.improved, counted.traces);
    counted.cosine = (cosines > 0).then(|| share(cosine_sum, cosines));
    counted
}

impl PoolStatistics {
    /// For people.
    pub fn table(&self) -> String {
        let heading = [
            "source",
            "traces",
            "turns",
            "words",
            "distinct",
            "copied",
            "mrr first",
            "best",
            "improved",
            "cosine",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (name, source) in &self.sources {
            rows.push(vec![
                name.clone(),
                source.traces.to_string(),
                source.turns.to_string(),
                format!("{:.1}", source.query_words),
                format!("{:.1}", source.distinct_queries),
                format!("{:.1}%", 100.0 * source.copied),
                format!("{:.3}", source.mrr_first),
                format!("{:.3}", source.mrr_best),
                format!("{:.1}%", 100.0 * source.improved),
                source.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.3}")),
            ]);
        }
        let sets: Vec<String> = self.sets.iter().map(|(name, count)| format!("{name} {count}")).collect();
        format!(
            "{}\n{} traces of {} queries ({}); weights made from them {}\n",
            table(&rows),
            self.traces,
            self.queries,
            sets.join(", "),
            if self.may_ship { "may be passed on" } else { "must not be passed on" },
        )
    }
}
