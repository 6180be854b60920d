//! The second step: reads run files and judgements, makes Table A and the per-query file.
//!
//! Measures come from the TREC run files that are on disk, so that anyone's scorer of those files gets the same
//! numbers. Neighbours: [`super::runs`] wrote the files, [`orion_eval`] knows the measures.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use orion_eval::{
    Dataset, Excluded, Judgements, Measure, TableA, TableRow,
    behaviour::{self, Episode, Turn},
    measures::{best_rank, evaluate, mean},
    run::read_run,
    significance::{Comparison, compare_all},
    without_excluded,
};

use super::journal::{self, Answer, RunFiles};
use crate::failure::{Explain, Failure};

/// Table A's measures, in the order of its columns.
const MEASURES: [Measure; 4] =
    [Measure::NdcgCut(10), Measure::Success(10), Measure::Recall(100), Measure::ReciprocalRank];
/// A turn succeeds where a relevant document is among its first ten: the cut of the table's other measures.
const SUCCESS_CUT: u32 = 10;
/// Seed of the randomisation test: any fixed number makes tables repeatable.
const TEST_SEED: u64 = 17;
/// Strategies that act on what a policy makes of results; all others are controls.
const ADAPTIVE: [&str; 13] = [
    "beam",
    "auto",
    "adaptive-context-learner",
    "random-walk-wanderer",
    "breadth-first-explorer",
    "depth-first-driller",
    "wrong-direction-specialist",
    "early-success-validator",
    "exploitation-heavy-validator",
    "greedy-hill-climber",
    "best-first-hypothesis-selector",
    "multi-beam-parallel",
    "pseudo-document",
];

/// Name of the JSON table in a folder of runs.
pub const TABLE_FILE: &str = "table.json";

/// What to score.
#[derive(Debug)]
pub struct ScoreOrder<'a> {
    /// The judged set.
    pub dataset: &'a Dataset,
    /// Its split.
    pub split: &'a str,
    /// The queries that count, by id; judged queries beside these are left out.
    pub queries: &'a [String],
    /// Documents that do not count for a query; they are taken out of its rankings.
    pub excluded: &'a Excluded,
    /// Depth of rankings without them.
    pub k: u32,
    /// Row names in order.
    pub systems: &'a [String],
    /// Seeds of every row.
    pub seeds: &'a [u64],
    /// Where the run files are, and where tables go.
    pub folder: &'a Path,
    /// The row to compare with.
    pub control: Option<&'a str>,
    /// Lowest grade that binary measures count.
    pub relevance_threshold: i32,
    /// Further measures whose means are wanted of each row.
    pub further: &'a [Measure],
}

/// The table, and for each row the means of the further measures.
#[derive(Debug)]
pub struct Scored {
    /// The table.
    pub table: TableA,
    /// One list a row.
    pub further: Vec<Vec<f64>>,
}

/// Scores all systems and writes `table.json`, `table.md` and `per-query.tsv` beside the run files.
pub fn score(order: &ScoreOrder<'_>) -> Result<Scored, Failure> {
    let judgements = judgements(order)?;
    let mut per_query = String::from(
        "system\tseed\tquery\tndcg_cut_10\tsuccess_10\trecall_100\trecip_rank\tretrievals\ttokens_prefilled\ttokens_decoded\tmilliseconds\tdegraded\n",
    );
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    let mut further = Vec::new();
    for system in order.systems {
        let scored = score_system(order, system, &judgements, &mut per_query)?;
        rows.push(scored.row);
        columns.push(scored.ndcg_10);
        further.push(scored.further);
    }
    if let Some(control) = order.control {
        let names: Vec<&str> = rows.iter().map(|row| row.system.as_str()).collect();
        let comparisons = against(&names, &columns, control)?;
        rows.iter_mut().zip(comparisons).for_each(|(row, comparison)| row.against_control = comparison);
    }
    let mut notes = Vec::new();
    let answered = rows.iter().map(|row| row.queries).min().unwrap_or(0);
    if answered < judgements.len() as u64 {
        notes
            .push(format!("A judged query without a ranking counts 0; the shortest run answers {answered}."));
    }
    let excluded = order.queries.iter().filter(|query| order.excluded.contains_key(*query)).count();
    if excluded != 0 {
        notes.push(format!(
            "Documents that the set excludes are left out of the rankings of {excluded} queries."
        ));
    }
    if rows.iter().any(|row| 0 < row.degraded) {
        notes.push("Degraded: the strategy failed and the plain hybrid ranking stands in.".to_owned());
    }
    let table = TableA {
        dataset: order.dataset.name().to_owned(),
        split: order.split.to_owned(),
        judged_queries: judgements.len() as u64,
        relevance_threshold: order.relevance_threshold,
        control: order.control.map(str::to_owned),
        rows,
        notes,
    };
    let json = serde_json::to_string_pretty(&table).attempt("writing Table A as JSON")?;
    write(&order.folder.join(TABLE_FILE), &format!("{json}\n"))?;
    write(&order.folder.join("table.md"), &table.to_markdown())?;
    write(&order.folder.join("per-query.tsv"), &per_query)?;
    Ok(Scored { table, further })
}

/// The judgements of the queries that count.
pub(super) fn judgements(order: &ScoreOrder<'_>) -> Result<Judgements, Failure> {
    let mut judgements = order.dataset.judgements(order.split)?;
    judgements.retain(|query, _| order.queries.binary_search(query).is_ok());
    Ok(judgements)
}

/// The row with the best nDCG@10 among the controls of an earlier table.
pub fn best_control(folder: &Path) -> Result<String, Failure> {
    let path = folder.join(TABLE_FILE);
    let text =
        fs::read_to_string(&path).attempt(format!("reading `{}`", path.display())).map_err(|failure| {
            failure.hint("--control-from takes the --out folder of an earlier `orion eval`")
        })?;
    let table: TableA = serde_json::from_str(&text).attempt(format!("reading `{}`", path.display()))?;
    let best = table.rows.into_iter().filter(|row| row.is_control).max_by(|a, b| {
        // Ties go to the row that stands first.
        a.ndcg_10.total_cmp(&b.ndcg_10).then(std::cmp::Ordering::Greater)
    });
    best.map(|row| row.system).ok_or_else(|| {
        Failure::new(format!("choosing a control in `{}`: it has no control row", path.display()))
    })
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).attempt(format!("writing `{}`", path.display()))
}

struct ScoredSystem {
    row: TableRow,
    /// Per judged query, mean over seeds.
    ndcg_10: Vec<f64>,
    further: Vec<f64>,
}

fn score_system(
    order: &ScoreOrder<'_>,
    system: &str,
    judgements: &Judgements,
    per_query: &mut String,
) -> Result<ScoredSystem, Failure> {
    let all_measures: Vec<Measure> = MEASURES.iter().chain(order.further).copied().collect();
    let mut means: Vec<Vec<f64>> = Vec::new();
    let mut ndcg_sums = vec![0.0; judgements.len()];
    let mut answers: Vec<Answer> = Vec::new();
    let mut queries = u64::MAX;
    for seed in order.seeds {
        let files = RunFiles::new(order.folder, system, *seed);
        let (_, mut journal) = journal::read(&files.journal)?;
        journal.retain(|query, _| judgements.contains_key(query));
        let run = without_excluded(read_run(&files.trec)?, order.excluded, order.k as usize);
        let evaluation = evaluate(judgements, &run, &all_measures, order.relevance_threshold);
        means.push(evaluation.means());
        ndcg_sums.iter_mut().zip(evaluation.column(0)).for_each(|(sum, value)| *sum += value);
        queries = queries.min(journal.len() as u64);
        for (query, values) in &evaluation.per_query {
            push_line(per_query, system, *seed, query, values, journal.get(query));
        }
        answers.extend(journal.into_values());
    }
    let column = |index: usize| means.iter().map(|values| values[index]).collect::<Vec<f64>>();
    let ndcg_by_seed = column(0);
    let range = ndcg_by_seed.iter().copied().fold(f64::MIN, f64::max)
        - ndcg_by_seed.iter().copied().fold(f64::MAX, f64::min);
    let over_answers = |value: fn(&Answer) -> f64| mean(&answers.iter().map(value).collect::<Vec<f64>>());
    let row = TableRow {
        system: system.to_owned(),
        is_control: is_control(system),
        ndcg_10: mean(&ndcg_by_seed),
        ndcg_10_spread: range,
        success_10: mean(&column(1)),
        recall_100: mean(&column(2)),
        mrr: mean(&column(3)),
        retrievals: over_answers(|answer| answer.retrievals as f64),
        tokens_prefilled: over_answers(|answer| answer.tokens_prefilled as f64),
        tokens_decoded: over_answers(|answer| answer.tokens_decoded as f64),
        milliseconds: over_answers(|answer| answer.milliseconds),
        queries,
        degraded: answers.iter().filter(|answer| answer.degraded.is_some()).count() as u64,
        seeds: order.seeds.to_vec(),
        against_control: None,
        behaviour: described(&answers, judgements, order),
    };
    let seeds = order.seeds.len() as f64;
    Ok(ScoredSystem {
        row,
        ndcg_10: ndcg_sums.into_iter().map(|sum| sum / seeds).collect(),
        further: (MEASURES.len()..all_measures.len()).map(|index| mean(&column(index))).collect(),
    })
}

/// A row is a control unless it is an adaptive strategy with a policy that was trained.
fn is_control(system: &str) -> bool {
    let (strategy, policy) = system.split_once('@').unwrap_or((system, ""));
    !ADAPTIVE.contains(&strategy) || policy == "untrained" || policy == "none"
}

fn push_line(
    text: &mut String,
    system: &str,
    seed: u64,
    query: &str,
    values: &[f64],
    answer: Option<&Answer>,
) {
    let [ndcg, success, recall, rank, ..] = values else { return };
    let _ = write!(text, "{system}\t{seed}\t{query}\t{ndcg:.6}\t{success}\t{recall:.6}\t{rank:.6}");
    let _ = match answer {
        Some(a) => writeln!(
            text,
            "\t{}\t{}\t{}\t{:.3}\t{}",
            a.retrievals,
            a.tokens_prefilled,
            a.tokens_decoded,
            a.milliseconds,
            a.degraded.as_deref().unwrap_or("").replace(['\t', '\n'], " ")
        ),
        None => writeln!(text, "\t0\t0\t0\t0\tno answer"),
    };
}

/// Behaviour of the searches that took more than one turn, if any did.
fn described(
    answers: &[Answer],
    judgements: &Judgements,
    order: &ScoreOrder<'_>,
) -> Option<behaviour::Behaviour> {
    let (ungraded, none) = (BTreeMap::new(), BTreeSet::new());
    let episodes: Vec<Episode> = answers
        .iter()
        .filter(|answer| !answer.path.is_empty())
        .map(|answer| {
            let grades = judgements.get(&answer.query).unwrap_or(&ungraded);
            let excluded = order.excluded.get(&answer.query).unwrap_or(&none);
            let turns = answer.path.iter().map(|turn| {
                // Ids in rank order, as a ranking whose scores say just that.
                let ranking: Vec<_> = turn
                    .hits
                    .iter()
                    .filter(|id| !excluded.contains(*id))
                    .enumerate()
                    .map(|(place, id)| orion_eval::RankedDocument { id: id.clone(), score: -(place as f32) })
                    .collect();
                Turn {
                    query: turn.query.clone(),
                    best_rank: best_rank(&ranking, grades, order.relevance_threshold),
                }
            });
            Episode { turns: turns.collect(), confidence: answer.confidence }
        })
        .collect();
    let is_multi_turn = episodes.iter().any(|episode| 1 < episode.turns.len());
    is_multi_turn.then(|| behaviour::describe(&episodes, SUCCESS_CUT))
}

/// Each row's column against the control's; `None` for the control itself.
pub(super) fn against(
    names: &[&str],
    columns: &[Vec<f64>],
    control: &str,
) -> Result<Vec<Option<Comparison>>, Failure> {
    let Some(control_row) = names.iter().position(|name| *name == control) else {
        return Err(Failure::new(format!("comparing with control `{control}`: it is not in the table"))
            .hint(format!("the rows are {}", names.join(", "))));
    };
    let others: Vec<Vec<f64>> =
        (0..names.len()).filter(|row| *row != control_row).map(|row| columns[row].clone()).collect();
    let mut comparisons: Vec<Option<Comparison>> =
        compare_all(&others, &columns[control_row], TEST_SEED).into_iter().map(Some).collect();
    comparisons.insert(control_row, None);
    Ok(comparisons)
}
