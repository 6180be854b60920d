//! What was learned, in numbers: held-out loss before and after, whether the model reads what was retrieved, and how
//! often it merely repeats the question.

use crate::data::{Example, Part, Piece, Record};
use crate::error::Result;
use crate::model::Lfm2;
use crate::nano::PAD;
use crate::sft::{Workers, example_losses};
use crate::trajectories::words::words;
use orion_eval::significance::paired_randomisation;
use orion_policy::TrajectoryFormat;
use serde::{Deserialize, Serialize};

/// Measurements on held-out walks; losses in nats a learned token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Parameters of the model.
    pub parameters: u64,
    /// Held-out walks.
    pub walks: usize,
    /// Learned tokens in them.
    pub tokens: usize,
    /// Loss of fresh weights.
    pub loss_untrained: f64,
    /// Loss of the model.
    pub loss: f64,
    /// Loss of the tokens that follow a response, each walk counting once.
    pub loss_true_results: f64,
    /// The same where each response is another query's.
    pub loss_swapped_results: f64,
    /// Two-sided p of a paired randomisation test of these two over walks.
    pub swap_p: f64,
    /// Share of the rules' queries that repeat the question to the letter, as a reference.
    pub copied_by_rules: f64,
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        format!(
            "{} parameters on {} held-out walks of {} tokens: loss {:.4}, untrained {:.4}\nafter results: loss {:.4}, \
             {:.4} with those of another query (p {:.4})\nqueries of the rules that repeat the question: {:.1}%\n",
            self.parameters,
            self.walks,
            self.tokens,
            self.loss,
            self.loss_untrained,
            self.loss_true_results,
            self.loss_swapped_results,
            self.swap_p,
            100.0 * self.copied_by_rules,
        )
    }
}

/// Tokens of a micro-batch when measuring; no effect on results beyond rounding.
const MICRO_TOKENS: usize = 4096;

/// Whether two texts have the same words in the same order.
pub fn is_copy(query: &str, question: &str) -> bool {
    words(query) == words(question)
}

/// The record with every response replaced by `other`'s response at the same turn, or its last one.
pub fn with_results_of(record: &Record, other: &Record) -> Record {
    let responses: Vec<&Piece> =
        other.segments.iter().filter(|piece| matches!(piece, Piece::TopKResponse(_))).collect();
    let mut swapped = record.clone();
    let mut turn = 0;
    for piece in &mut swapped.segments {
        if matches!(piece, Piece::TopKResponse(_)) {
            if let Some(response) = responses.get(turn).or(responses.last()) {
                *piece = (*response).clone();
            }
            turn += 1;
        }
    }
    swapped
}

/// The example with loss only on what follows the first response.
fn after_first_response(record: &Record, format: &TrajectoryFormat) -> Result<Example> {
    let segments = record.policy_segments()?;
    let first = record.segments.iter().position(|piece| matches!(piece, Piece::TopKResponse(_)));
    let start: usize = format.begin().tokens.len()
        + format
            .encode(&segments)
            .iter()
            .take(first.map_or(segments.len(), |place| place + 1))
            .map(|span| span.tokens.len())
            .sum::<usize>();
    let span = format.encode_trajectory(&segments);
    let learn = span.learn.iter().enumerate().map(|(place, learn)| *learn && start <= place).collect();
    Ok(Example { tokens: span.tokens, learn })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

/// Measures `model` on the held-out part of `records`.
pub fn measure(
    model: &Lfm2,
    untrained: &Lfm2,
    records: &[Record],
    format: &TrajectoryFormat,
    seed: u64,
) -> Result<Report> {
    let held_out: Vec<&Record> = records.iter().filter(|record| record.part == Part::HeldOut).collect();
    let workers = Workers::new(2)?;
    let losses_of =
        |model: &Lfm2, examples: &[Example]| example_losses(model, examples, MICRO_TOKENS, PAD, &workers);
    let flat = |losses: &[Vec<f32>]| mean(losses.iter().flatten().map(|loss| f64::from(*loss)));
    let whole = held_out
        .iter()
        .map(|record| {
            let span = format.encode_trajectory(&record.policy_segments()?);
            Ok(Example { tokens: span.tokens, learn: span.learn })
        })
        .collect::<Result<Vec<_>>>()?;
    let losses = losses_of(model, &whole)?;
    let untrained_losses = losses_of(untrained, &whole)?;
    let readers: Vec<&Record> = held_out
        .iter()
        .copied()
        .filter(|record| record.segments.iter().any(|piece| matches!(piece, Piece::TopKResponse(_))))
        .collect();
    let (mut with_true, mut with_swapped) = (Vec::new(), Vec::new());
    for (place, record) in readers.iter().enumerate() {
        // Half-way round the list: another query, and mostly one of the same set.
        let other = (1..readers.len())
            .map(|step| readers[(place + readers.len() / 2 + step) % readers.len()])
            .find(|other| other.set == record.set && other.query_id != record.query_id)
            .unwrap_or(record);
        with_true.push(after_first_response(record, format)?);
        with_swapped.push(after_first_response(&with_results_of(record, other), format)?);
    }
    let per_walk = |losses: Vec<Vec<f32>>| -> Vec<f64> {
        losses.iter().map(|walk| mean(walk.iter().map(|loss| f64::from(*loss)))).collect()
    };
    let with_true = per_walk(losses_of(model, &with_true)?);
    let with_swapped = per_walk(losses_of(model, &with_swapped)?);
    let copied = mean(records.iter().flat_map(|record| {
        record.segments.iter().filter_map(|piece| match piece {
            Piece::SearchQuery(issued) => {
                Some(f64::from(u8::from(is_copy(&issued.query, record.user_query()))))
            }
            _ => None,
        })
    }));
    Ok(Report {
        parameters: model.config().parameters(),
        walks: held_out.len(),
        tokens: losses.iter().map(Vec::len).sum(),
        loss_untrained: flat(&untrained_losses),
        loss: flat(&losses),
        loss_true_results: mean(with_true.iter().copied()),
        loss_swapped_results: mean(with_swapped.iter().copied()),
        swap_p: paired_randomisation(&with_swapped, &with_true, seed),
        copied_by_rules: copied,
    })
}
