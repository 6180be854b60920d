//! `orion-train nano`, `tokenizer`, `trajectories` and `report`: the command lines of the line and of its steps.

use super::{Places, export, make_tokenizer, make_walks, measure, run, spec};
use crate::error::{Result, TrainError};
use crate::proposals::{self, ProposalReport};
use crate::report::Report;
use crate::settings::LineSettings;
use crate::sft::Outcome;
use crate::statistics::{self, Statistics};
use crate::synth::preview;
use crate::trajectories::PermittedSet;
use crate::{checkpoint, terminal};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use orion_policy::NumberFormat;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The line's settings and folders.
#[derive(Debug, clap::Args)]
struct Line {
    /// TOML file with the settings of the line.
    #[arg(long, default_value = "trainer/nano.toml")]
    config: PathBuf,
    #[command(flatten)]
    places: Places,
}

impl Line {
    fn read(&self) -> Result<(LineSettings, &Places)> {
        let run = &self.places.run;
        std::fs::create_dir_all(run).map_err(TrainError::file("create", run))?;
        Ok((LineSettings::load(&self.config)?, &self.places))
    }
}

/// Arguments of `orion-train nano`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train nano --out my-nano
  orion-train nano --config my-line.toml --run target/my-line --until copies --json")]
pub struct NanoArguments {
    #[command(flatten)]
    line: Line,
    /// Folder for config, format, tokenizer and weights.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Stop after this stage, writing no folder.
    #[arg(long)]
    until: Option<String>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NanoReport<'a> {
    stages: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<&'a Path>,
}

/// Runs the whole line.
pub fn nano(arguments: &NanoArguments) -> Result<()> {
    let (settings, places) = arguments.line.read()?;
    let (model, stages) = run(&settings, places, arguments.until.as_deref(), true)?;
    let mut report = NanoReport { stages, report: None, out: None };
    if arguments.until.is_none() {
        report.report = Some(measure(&model, &settings, places)?);
        if let Some(out) = &arguments.out {
            let tokenizer = make_tokenizer(&settings, places)?;
            export(&model, &tokenizer, &spec(settings.format), out, NumberFormat::F16)?;
            report.out = Some(out);
        }
    }
    let mut text = String::new();
    if let Some(out) = report.out {
        text.push_str(&format!("{}\n", out.display()));
    }
    for (stage, outcome) in settings.stages.iter().zip(&report.stages) {
        text.push_str(&format!("stage {}: {}", stage.name, outcome.text()));
    }
    if let Some(report) = &report.report {
        text.push_str(&report.text());
    }
    terminal::print(&report, &text, arguments.json)
}

/// Arguments of `orion-train tokenizer`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orion-train tokenizer --run target/my-line")]
pub struct TokenizerArguments {
    #[command(flatten)]
    line: Line,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct TokenizerReport<'a> {
    tokenizer: &'a Path,
    vocabulary: usize,
}

/// Learns the vocabulary.
pub fn tokenizer(arguments: &TokenizerArguments) -> Result<()> {
    let (settings, places) = arguments.line.read()?;
    let path = make_tokenizer(&settings, places)?;
    let report = TokenizerReport { tokenizer: &path, vocabulary: settings.vocabulary };
    let text = format!("{}\n{} tokens at most\n", path.display(), settings.vocabulary);
    terminal::print(&report, &text, arguments.json)
}

/// Arguments of `orion-train trajectories`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train trajectories --preview 5
  orion-train trajectories --set bundled --run target/my-line --json")]
pub struct TrajectoriesArguments {
    #[command(flatten)]
    line: Line,
    /// One set only, of those that weights which ship may be made from.
    #[arg(long, value_parser = shippable())]
    set: Option<PermittedSet>,
    /// Records to print.
    #[arg(long, default_value_t = 2)]
    preview: usize,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

fn shippable() -> impl TypedValueParser<Value = PermittedSet> {
    PossibleValuesParser::new(PermittedSet::SHIPPABLE.map(PermittedSet::name))
        .try_map(|name| PermittedSet::named(&name).ok_or("no such set"))
}

#[derive(Serialize)]
struct TrajectoriesReport<'a> {
    statistics: Statistics,
    preview: &'a [crate::data::Record],
}

/// Makes the walks.
pub fn trajectories(arguments: &TrajectoriesArguments) -> Result<()> {
    let (settings, places) = arguments.line.read()?;
    let records = make_walks(&settings, places, arguments.set, true)?;
    let shown = &records[..arguments.preview.min(records.len())];
    let report = TrajectoriesReport { statistics: statistics::of(&records), preview: shown };
    let mut text: String = shown.iter().map(|record| preview(record) + "\n").collect();
    text.push_str(&report.statistics.table());
    terminal::print(&report, &text, arguments.json)
}

/// Arguments of `orion-train report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  orion-train report --model host/policy/nano --run target/my-line --json")]
pub struct ReportArguments {
    #[command(flatten)]
    line: Line,
    /// Checkpoint folder.
    #[arg(long)]
    model: PathBuf,
    /// Held-out walks to propose queries for.
    #[arg(long, default_value_t = 100)]
    proposals: usize,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct WholeReport {
    report: Report,
    proposals: ProposalReport,
}

/// Measures a checkpoint.
pub fn report(arguments: &ReportArguments) -> Result<()> {
    let (settings, places) = arguments.line.read()?;
    let report = measure(&checkpoint::load_model(&arguments.model)?, &settings, places)?;
    let records = make_walks(&settings, places, None, false)?;
    let proposals = proposals::look(&arguments.model, &records, arguments.proposals, settings.seed)?;
    let text = format!("{}{}", report.text(), proposals.text());
    terminal::print(&WholeReport { report, proposals }, &text, arguments.json)
}
