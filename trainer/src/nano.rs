//! The whole line for a policy made from scratch: vocabulary, data, stages, report, folder.
//!
//! Every step leaves its product in the run folder and is skipped where the product is there, so a line that was cut
//! off goes on where it stood. The products depend on the settings, the data and the seed alone. `command` is its command
//! line.

pub mod command;

use crate::checkpoint;
use crate::data::{Example, Part, Record, read_records, write_records};
use crate::error::{Result, TrainError};
use crate::model::Lfm2;
use crate::settings::{LineSettings, StageData};
use crate::sft::{self, Outcome};
use crate::trajectories::collection::{SharedEncoder, open_encoder};
use crate::trajectories::{PermittedSet, Source, copies, walk};
use crate::{report, tokenizer};
use indicatif::{ProgressBar, ProgressStyle};
use orion_policy::{
    Config, FormatKind, FormatSpec, NumberFormat, PolicyTokenizer, TrajectoryFormat, Weights,
};
use std::path::{Path, PathBuf};

/// Where data and the encoder are found.
#[derive(Debug, Clone, clap::Args)]
pub struct Inputs {
    /// Folder of data sets in BEIR layout.
    #[arg(long, default_value = "../shared/data")]
    pub data: PathBuf,
    /// The bundled corpus.
    #[arg(long, default_value = "corpus")]
    pub bundled: PathBuf,
    /// Folder of the MiniLM encoder.
    #[arg(long, default_value = "models/all-MiniLM-L6-v2")]
    pub encoder: PathBuf,
    /// Folder of cached embeddings.
    #[arg(long, default_value = ".orion/cache")]
    pub cache: PathBuf,
}

impl Inputs {
    /// Reads a set.
    pub fn source(&self, set: PermittedSet) -> Result<Source> {
        Source::read(set, &set.folder(&self.bundled, &self.data))
    }

    /// Opens the encoder.
    pub fn open_encoder(&self) -> Result<SharedEncoder> {
        open_encoder(&self.encoder, &self.cache)
    }
}

/// Where a line finds and leaves things.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// What it starts from.
    #[command(flatten)]
    pub inputs: Inputs,
    /// Folder for what the steps make; a line that was cut off goes on from there.
    #[arg(long, default_value = "target/nano")]
    pub run: PathBuf,
}

/// Padding id of every tokenizer made here: the first special token.
pub const PAD: u32 = 0;

fn policy_error(error: orion_policy::CheckpointError) -> TrainError {
    TrainError::Policy(error.to_string())
}

/// Reads the permitted sets.
pub fn sources(places: &Places) -> Result<Vec<Source>> {
    PermittedSet::SHIPPABLE.into_iter().map(|set| places.inputs.source(set)).collect()
}

/// What `orion.json` says of a format; a policy that is made here chooses its retriever and, being small, asks in words
/// that it has read.
pub fn spec(format: FormatKind) -> FormatSpec {
    FormatSpec { grounded_queries: format.has_marker_tokens(), ..FormatSpec::new(format, true) }
}

/// `tokenizer.json` of the run.
pub fn make_tokenizer(settings: &LineSettings, places: &Places) -> Result<PathBuf> {
    let path = places.run.join("tokenizer.json");
    if !path.exists() {
        let sources = sources(places)?;
        // The thoughts' own words, as often as a common word, so that each becomes one token.
        let texts: Vec<String> =
            sources.iter().flat_map(|source| source.texts().collect::<Vec<_>>()).collect();
        let copies = copies::make(
            &sources,
            &copies::CopySettings { count: 3000, ..Default::default() },
            settings.seed,
        )?;
        let thoughts = copies.iter().flat_map(|record| &record.segments).filter_map(|piece| match piece {
            crate::data::Piece::Think(text) => Some(text.clone()),
            _ => None,
        });
        let all: Vec<String> = texts.into_iter().chain(thoughts).collect();
        let json = tokenizer::train(all.into_iter(), settings.vocabulary)?;
        std::fs::write(&path, json).map_err(TrainError::file("write", &path))?;
    }
    Ok(path)
}

/// The format over the run's tokenizer.
pub fn format(settings: &LineSettings, places: &Places) -> Result<TrajectoryFormat> {
    let path = make_tokenizer(settings, places)?;
    let bytes = std::fs::read(&path).map_err(TrainError::file("read", &path))?;
    let tokenizer = PolicyTokenizer::parse(&bytes, &path.display().to_string()).map_err(policy_error)?;
    TrajectoryFormat::new(spec(settings.format), tokenizer, &settings.config()?).map_err(policy_error)
}

/// `copies.jsonl` of the run, or another draw of them.
pub fn make_copies(settings: &LineSettings, places: &Places, draw: u64) -> Result<Vec<Record>> {
    let name = if draw == 0 { "copies.jsonl".to_owned() } else { format!("copies-{draw}.jsonl") };
    let path = places.run.join(name);
    if !path.exists() {
        let seed = settings.seed.wrapping_add(draw);
        write_records(&path, &copies::make(&sources(places)?, &settings.copies, seed)?)?;
    }
    read_records(&path)
}

/// `walks.jsonl` of the run. `only` restricts it to one set, under another file name.
pub fn make_walks(
    settings: &LineSettings,
    places: &Places,
    only: Option<PermittedSet>,
    show: bool,
) -> Result<Vec<Record>> {
    let name = only.map_or_else(|| "walks.jsonl".to_owned(), |set| format!("walks-{}.jsonl", set.name()));
    let path = places.run.join(name);
    if path.exists() {
        return read_records(&path);
    }
    let mut records = Vec::new();
    for (place, source) in sources(places)?.into_iter().enumerate() {
        if only.is_some_and(|set| set != source.set) {
            continue;
        }
        let walks = &settings.walks;
        let source =
            source.sample(walks.documents[place], walks.train_queries[place], walks.held_out_queries[place]);
        let part = places.run.join(format!("walks-{}.jsonl", source.set.name()));
        if !part.exists() {
            let folder = places.run.join("index");
            let encoder = if walks.dense[place] { Some(places.inputs.open_encoder()?) } else { None };
            let mut results = walk::Results::open(&source, &folder, encoder, walks.depth)?;
            let bar =
                if show { ProgressBar::new(source.queries.len() as u64) } else { ProgressBar::hidden() };
            if let Ok(style) =
                ProgressStyle::with_template("{msg:8} {bar:30} {pos}/{len} {elapsed} left {eta}")
            {
                bar.set_style(style);
            }
            bar.set_message(source.set.name());
            let made = walk::make(&source, &mut results, &settings.walks, settings.seed, &bar)?;
            bar.finish();
            write_records(&part, &made)?;
        }
        records.extend(read_records(&part)?);
    }
    if only.is_none() {
        write_records(&path, &records)?;
    }
    Ok(records)
}

/// Encoded examples of one part.
pub fn encode(records: &[Record], part: Part, format: &TrajectoryFormat) -> Result<Vec<Example>> {
    records
        .iter()
        .filter(|record| record.part == part)
        .map(|record| {
            let span = format.encode_trajectory(&record.policy_segments()?);
            Ok(Example { tokens: span.tokens, learn: span.learn })
        })
        .collect()
}

/// Runs the line up to and including stage `until` (all of it without one); gives the outcomes of the stages.
pub fn run(
    settings: &LineSettings,
    places: &Places,
    until: Option<&str>,
    show: bool,
) -> Result<(Lfm2, Vec<Outcome>)> {
    std::fs::create_dir_all(&places.run).map_err(TrainError::file("create", &places.run))?;
    let say = |text: String| {
        if show {
            eprintln!("{text}");
        }
    };
    let format = format(settings, places)?;
    let mut model = Lfm2::random(settings.config()?, &settings.initial, settings.seed)?;
    let mut outcomes = Vec::new();
    for stage in &settings.stages {
        let folder = places.run.join(format!("stage-{}", stage.name));
        let summary = folder.join("outcome.json");
        if summary.exists() {
            if let Some((_, newest)) = checkpoint::list(&folder)?.pop() {
                model = checkpoint::load_model(&newest)?;
            }
            let bytes = std::fs::read(&summary).map_err(TrainError::file("read", &summary))?;
            outcomes.push(
                serde_json::from_slice(&bytes)
                    .map_err(|error| TrainError::content(&summary, "a stage's outcome", error))?,
            );
        } else {
            let records = match stage.data {
                StageData::Copies => make_copies(settings, places, stage.draw)?,
                StageData::Walks => make_walks(settings, places, None, show)?,
            };
            let train = encode(&records, Part::Train, &format)?;
            let held_out = encode(&records, Part::HeldOut, &format)?;
            let tokens: usize = train.iter().map(|example| example.tokens.len()).sum();
            say(format!(
                "stage {}: {} examples, {} tokens, {} held out",
                stage.name,
                train.len(),
                tokens,
                held_out.len()
            ));
            let (trained, outcome) = sft::run(
                model,
                sft::Job {
                    train: &train,
                    held_out: &held_out,
                    settings: &stage.sft,
                    pad: PAD,
                    run: &folder,
                    resume: true,
                    lessons: None,
                    show,
                },
            )?;
            model = trained;
            let json = serde_json::to_vec_pretty(&outcome)
                .map_err(|error| TrainError::content(&summary, "an outcome that is JSON", error))?;
            std::fs::write(&summary, json).map_err(TrainError::file("write", &summary))?;
            outcomes.push(outcome);
        }
        if until == Some(stage.name.as_str()) {
            break;
        }
    }
    Ok((model, outcomes))
}

/// Writes a policy folder of freshly trained weights: config, format, tokenizer, weights. What serves it obeys the format.
pub fn export(
    model: &Lfm2,
    tokenizer: &Path,
    spec: &FormatSpec,
    out: &Path,
    numbers: NumberFormat,
) -> Result<()> {
    export_weights(&model.to_weights()?, model.config(), tokenizer, &spec.for_new_weights(), out, numbers)
}

/// [`export`] of weights that are in no model.
pub fn export_weights(
    weights: &Weights,
    config: &Config,
    tokenizer: &Path,
    spec: &FormatSpec,
    out: &Path,
    numbers: NumberFormat,
) -> Result<()> {
    // Read before anything is written: the folder may be the one that the tokenizer is in.
    let words = checkpoint::read(tokenizer)?;
    weights.save(config, out, numbers).map_err(policy_error)?;
    let path = out.join("orion.json");
    let json = serde_json::to_string_pretty(spec)
        .map_err(|error| TrainError::content(&path, "a format that is JSON", error))?;
    std::fs::write(&path, format!("{json}\n")).map_err(TrainError::file("write", &path))?;
    let path = out.join("tokenizer.json");
    std::fs::write(&path, words).map_err(TrainError::file("write", &path))
}

/// Measures a model on the run's held-out walks.
pub fn measure(model: &Lfm2, settings: &LineSettings, places: &Places) -> Result<report::Report> {
    let records = make_walks(settings, places, None, false)?;
    let format = format(settings, places)?;
    let untrained = Lfm2::random(settings.config()?, &settings.initial, settings.seed)?;
    report::measure(model, &untrained, &records, &format, settings.seed)
}
