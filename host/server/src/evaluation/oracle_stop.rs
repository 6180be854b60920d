//! Table B: where the judgements would have ended each search, read off the journals.
//!
//! Searches ran to their ends without a judgement, as for Table A; [`orion_eval::oracle`] says what an oracle would have
//! made of them. Neighbours: [`super::score`] has made Table A of the same files before.

use orion_eval::{
    Judgements, Look, OracleRow, TableA, TableB,
    measures::mean,
    oracle::{STOP_RANK, Stopped, stop},
};

use super::{
    journal::{self, Answer, RunFiles},
    score::{ScoreOrder, against, judgements, write},
};
use crate::failure::{Explain, Failure};

/// Scores the systems of `honest` by the paper's protocol; writes `table-b.json` and `table-b.md` beside the run files.
pub fn score_with_oracle(order: &ScoreOrder<'_>, honest: &TableA) -> Result<TableB, Failure> {
    let judgements = judgements(order)?;
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    for row in &honest.rows {
        let (row, column) = score_system(order, &row.system, row.ndcg_10, &judgements)?;
        rows.push(row);
        columns.push(column);
    }
    if let Some(control) = order.control {
        let names: Vec<&str> = rows.iter().map(|row| row.system.as_str()).collect();
        let comparisons = against(&names, &columns, control)?;
        rows.iter_mut().zip(comparisons).for_each(|(row, comparison)| row.against_control = comparison);
    }
    let table = TableB {
        dataset: honest.dataset.clone(),
        split: honest.split.clone(),
        judged_queries: honest.judged_queries,
        relevance_threshold: honest.relevance_threshold,
        control: honest.control.clone(),
        rows,
    };
    let json = serde_json::to_string_pretty(&table).attempt("writing Table B as JSON")?;
    write(&order.folder.join("table-b.json"), &format!("{json}\n"))?;
    write(&order.folder.join("table-b.md"), &table.to_markdown())?;
    Ok(table)
}

/// The row, and its nDCG@10 of each judged query, a mean over seeds.
fn score_system(
    order: &ScoreOrder<'_>,
    system: &str,
    honest_ndcg_10: f64,
    judgements: &Judgements,
) -> Result<(OracleRow, Vec<f64>), Failure> {
    let mut stopped: Vec<Stopped> = Vec::new();
    let mut ndcg_sums = vec![0.0; judgements.len()];
    for seed in order.seeds {
        let files = RunFiles::new(order.folder, system, *seed);
        let (_, journal) = journal::read(&files.journal)?;
        for ((query, grades), sum) in judgements.iter().zip(&mut ndcg_sums) {
            let (looks, ranking) = match journal.get(query) {
                Some(answer) => taken(order, answer).ok_or_else(|| lacks_looks(&files))?,
                None => (Vec::new(), Vec::new()),
            };
            let search = stop(&looks, &ranking, grades, order.relevance_threshold);
            *sum += search.ndcg_10;
            stopped.push(search);
        }
    }
    let over = |value: fn(&Stopped) -> f64| mean(&stopped.iter().map(value).collect::<Vec<f64>>());
    let row = OracleRow {
        system: system.to_owned(),
        means: Stopped {
            ndcg_10: over(|search| search.ndcg_10),
            ndcg_10_of_retrieved: over(|search| search.ndcg_10_of_retrieved),
            success_10: over(|search| search.success_10),
            mrr: over(|search| search.mrr),
            turns: over(|search| search.turns),
            looks: over(|search| search.looks),
        },
        honest_ndcg_10,
        seeds: order.seeds.to_vec(),
        against_control: None,
    };
    let seeds = order.seeds.len() as f64;
    Ok((row, ndcg_sums.into_iter().map(|sum| sum / seeds).collect()))
}

/// What a search looked at, and its own ranking, both without excluded documents. A search that keeps no tree looked once,
/// at what it answered.
fn taken(order: &ScoreOrder<'_>, answer: &Answer) -> Option<(Vec<Look>, Vec<String>)> {
    let excluded = order.excluded.get(&answer.query);
    let counts = |id: &&String| !excluded.is_some_and(|excluded| excluded.contains(*id));
    let ranking: Vec<String> =
        answer.ranking.iter().map(|(id, _)| id).filter(counts).take(STOP_RANK).cloned().collect();
    let looks = match answer.looks.as_deref()? {
        [] => vec![Look { turn: 0, hits: ranking.clone() }],
        looks => looks.to_vec(),
    };
    Some((looks, ranking))
}

fn lacks_looks(files: &RunFiles) -> Failure {
    Failure::new(format!(
        "scoring `{}` by the paper's protocol: expected what each branch found, got a journal without",
        files.journal.display()
    ))
    .hint("it was written by an earlier version; --fresh answers its queries anew")
}
