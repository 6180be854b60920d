//! `orion-train select`: a subset of trajectories by diversity and complexity.
//!
//! The paper keeps a small, diverse and demanding part of what it synthesises; how it chose is not said. Here it is greedy
//! farthest-point selection (Gonzalez 1985, a 2-approximation of k-centre) over MiniLM embeddings of a trajectory's
//! queries, with complexity as a bonus. Neighbours: `greedy` is the algorithm, `synth` makes the trajectories.

mod greedy;

pub use greedy::choose;

use crate::data::{Part, Record, read_records, write_records};
use crate::error::{Result, TrainError};
use crate::nano::Inputs;
use crate::synth::{Shape, reciprocal_ranks, statistics, turns_back};
use crate::terminal;
use crate::trajectories::collection::{SharedEncoder, embed};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is selected, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    orion-train select trajectories.jsonl --out small.jsonl --records 500 --complexity 0.5")]
pub struct SelectArguments {
    /// JSON lines of trajectories.
    pub trajectories: PathBuf,
    /// JSON lines of those selected, in the order of selection; a shorter subset is its beginning.
    #[arg(long)]
    pub out: PathBuf,
    /// Training trajectories to select.
    #[arg(long)]
    pub records: usize,
    /// Weight of complexity against distance, 0 to 1.
    #[arg(long, default_value_t = 0.3)]
    pub complexity: f64,
    /// Let archetypes have unequal shares.
    #[arg(long)]
    pub any_share: bool,
    /// Where data is found.
    #[command(flatten)]
    pub inputs: Inputs,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelectReport {
    /// Training trajectories before.
    pub before: Shape,
    /// Those selected.
    pub after: Shape,
    /// Held-out trajectories, which are kept all.
    pub held_out: usize,
    /// Mean distance of a trajectory to its nearest other one before, (1 - cosine) / 2.
    pub spread_before: f64,
    /// The same among those selected.
    pub spread_after: f64,
    /// Largest distance of any trajectory to its nearest selected one: what k-centre makes small.
    pub radius: f64,
    /// Selected by archetype.
    pub archetypes: BTreeMap<String, usize>,
}

/// How demanding a trajectory is, in [0, 1]: the mean of its turns (against `most_turns`), of the share of its turns that
/// turn back, and of its gain in reciprocal rank from the first turn to the best.
pub fn complexity(record: &Record, most_turns: usize) -> f64 {
    let turns = record.turns.len();
    let (first, best) = reciprocal_ranks(record);
    let length = turns as f64 / most_turns.max(1) as f64;
    let back = turns_back(record) as f64 / turns.saturating_sub(1).max(1) as f64;
    (length + back + (best - first)) / 3.0
}

/// The direction of a trajectory: the normalised mean of the embeddings of its user query and search queries.
///
/// # Errors
/// An encoder or a cache that fails.
pub fn directions(records: &[&Record], encoder: SharedEncoder) -> Result<Vec<Vec<f32>>> {
    let mut texts: Vec<&str> = Vec::new();
    for record in records {
        texts.push(record.user_query());
        texts.extend(record.queries().map(|issued| issued.query.as_str()));
    }
    texts.sort_unstable();
    texts.dedup();
    let mut vectors: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    let dimensions = encoder.0.dimensions();
    embed(&texts, encoder, "embedding queries", |place, vector| {
        vectors.insert(texts[place], vector);
    })?;
    let direction = |record: &&Record| {
        let mut sum = vec![0f32; dimensions];
        let queries = record.queries().map(|issued| issued.query.as_str());
        for text in std::iter::once(record.user_query()).chain(queries) {
            for (total, value) in sum.iter_mut().zip(&vectors[text]) {
                *total += value;
            }
        }
        let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        if norm > 0.0 {
            sum.iter_mut().for_each(|value| *value /= norm);
        }
        sum
    };
    Ok(records.iter().map(direction).collect())
}

/// Selects and writes; held-out trajectories stay, behind the selected ones.
///
/// # Errors
/// Trajectories that cannot be read, a weight that is none, an encoder that fails.
pub fn run(arguments: &SelectArguments) -> Result<()> {
    if !(0.0..=1.0).contains(&arguments.complexity) {
        return Err(TrainError::Setting {
            name: "complexity",
            expected: "0 to 1".to_owned(),
            got: arguments.complexity.to_string(),
        });
    }
    let records = read_records(&arguments.trajectories)?;
    let (train, held_out): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| record.part == Part::Train);
    if train.is_empty() {
        let reason = format!("`{}` holds no training records", arguments.trajectories.display());
        return Err(TrainError::Nothing { what: "trajectories", reason });
    }
    let vectors = directions(&train, arguments.inputs.open_encoder()?)?;
    let most_turns = train.iter().map(|record| record.turns.len()).max().unwrap_or(0);
    let bonus: Vec<f64> = train.iter().map(|record| complexity(record, most_turns)).collect();
    let mut names: Vec<Option<&str>> = train.iter().map(|record| record.archetype.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let group = |record: &&Record| {
        if arguments.any_share { 0 } else { names.binary_search(&record.archetype.as_deref()).unwrap_or(0) }
    };
    let groups: Vec<usize> = train.iter().map(group).collect();
    let chosen = choose(&vectors, &bonus, &groups, arguments.complexity, arguments.records);

    let selected: Vec<Record> = chosen.iter().map(|&place| train[place].clone()).collect();
    let everything: Vec<usize> = (0..train.len()).collect();
    let mut archetypes = BTreeMap::new();
    for record in &selected {
        let name = record.archetype.clone().unwrap_or_else(|| "rules".to_owned());
        *archetypes.entry(name).or_default() += 1;
    }
    let before: Vec<Record> = train.iter().map(|record| (*record).clone()).collect();
    let report = SelectReport {
        before: statistics(&before).all,
        after: statistics(&selected).all,
        held_out: held_out.len(),
        spread_before: greedy::spread(&vectors, &everything),
        spread_after: greedy::spread(&vectors, &chosen),
        radius: greedy::radius(&vectors, &chosen),
        archetypes,
    };
    let mut written = selected;
    written.extend(held_out.into_iter().cloned());
    write_records(&arguments.out, &written)?;
    terminal::print(&report, &readable(&report), arguments.json)
}

fn readable(report: &SelectReport) -> String {
    let row = |name: &str, shape: &Shape, spread: f64| {
        vec![
            name.to_owned(),
            shape.records.to_string(),
            format!("{:.2}", shape.turns),
            format!("{:.1}%", 100.0 * shape.turns_back),
            format!("{:.3}", shape.mrr_first),
            format!("{:.3}", shape.mrr_best),
            format!("{:.1}%", 100.0 * shape.improved),
            format!("{spread:.4}"),
        ]
    };
    let heading = ["", "records", "turns", "back", "mrr first", "best", "improved", "spread"];
    let table = terminal::table(&[
        heading.map(str::to_owned).to_vec(),
        row("before", &report.before, report.spread_before),
        row("after", &report.after, report.spread_after),
    ]);
    let shares: Vec<String> =
        report.archetypes.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!(
        "{table}\nradius {:.4}; {} held-out trajectories kept; {}\n",
        report.radius,
        report.held_out,
        shares.join(", ")
    )
}
