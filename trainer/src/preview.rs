//! `orion-train mask preview`: the mask, made visible: which tokens of a trajectory carry loss.

use crate::data::{Example, LossOn, read_records};
use crate::error::{Result, TrainError};
use crate::terminal;
use orion_policy::{Checkpoint, PolicyTokenizer, TrajectoryFormat};
use serde::Serialize;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Arguments of `orion-train mask preview`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  orion-train mask preview --model host/policy/nano --data small.jsonl --count 1"
)]
pub struct PreviewArguments {
    /// Checkpoint folder with the tokenizer and the format.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines of trajectories.
    #[arg(long)]
    data: PathBuf,
    /// Records to print.
    #[arg(long, default_value_t = 3)]
    count: usize,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// One trajectory, as it is learned from.
#[derive(Serialize)]
struct Masked {
    id: String,
    tokens: usize,
    learned: usize,
    /// Learned text stands between `[` and `]`.
    text: String,
}

/// Runs the command: trajectories with what carries loss in colour, between brackets where there is none, or as JSON.
pub fn command(arguments: &PreviewArguments) -> Result<()> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let checkpoint = Checkpoint::open(&arguments.model).map_err(policy_error)?;
    let format = TrajectoryFormat::load(&arguments.model, checkpoint.config()).map_err(policy_error)?;
    let colour = !arguments.json && std::io::stdout().is_terminal();
    let mut shown = Vec::new();
    for record in read_records(&arguments.data)?.into_iter().take(arguments.count) {
        let span = format.encode_trajectory(&record.policy_segments()?);
        let example = Example { tokens: span.tokens, learn: span.learn };
        let example = example.prepared(usize::MAX, LossOn::Masked);
        shown.push(Masked {
            id: record.id,
            tokens: example.tokens.len(),
            learned: example.learned(),
            text: mask(&example, format.tokenizer(), colour),
        });
    }
    let text = |one: &Masked| {
        format!("{} ({} tokens, {} learned)\n{}\n\n", one.id, one.tokens, one.learned, one.text)
    };
    let text: String = shown.iter().map(text).collect();
    terminal::print(&shown, &text, arguments.json)
}

/// Learned tokens in green, the rest dim; without colour, learned tokens stand between `[` and `]`.
pub fn mask(example: &Example, tokenizer: &PolicyTokenizer, colour: bool) -> String {
    let mut text = String::new();
    let mut start = 0;
    while start < example.tokens.len() {
        let learned = example.learn[start];
        let end = (start..example.tokens.len())
            .find(|place| example.learn[*place] != learned)
            .unwrap_or(example.tokens.len());
        let words = tokenizer.decode(&example.tokens[start..end]);
        // Writing to a string cannot fail.
        let _ = match (colour, learned) {
            (true, true) => write!(text, "\x1b[32m{words}\x1b[0m"),
            (true, false) => write!(text, "\x1b[2m{words}\x1b[0m"),
            (false, true) => write!(text, "[{words}]"),
            (false, false) => write!(text, "{words}"),
        };
        start = end;
    }
    text
}
