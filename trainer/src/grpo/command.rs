//! `orion-train grpo`: the command line of GRPO.

use super::grounds::{Grounds, Task};
use super::settings::{GrpoOverrides, GrpoSettings};
use super::{Job, Outcome, run};
use crate::checkpoint;
use crate::data::Part;
use crate::error::{Result, TrainError};
use crate::model::LoraArguments;
use crate::nano::{self, Inputs, PAD};
use crate::reward::STANDARD;
use crate::terminal;
use crate::trajectories::collection::Collection;
use crate::trajectories::{PermittedSet, Source};
use orion_policy::{NumberFormat, TrajectoryFormat};
use std::path::{Path, PathBuf};

/// Arguments of `orion-train grpo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train grpo --model host/policy/nano --set bundled --out target/grpo --steps 50
  orion-train grpo --model host/policy/nano --out target/grpo --steps 50 --resume
  orion-train grpo --model my-policy --set scifact --config grpo.toml --look-up chosen --out target/chosen

Metrics go to metrics.jsonl in the run folder, checkpoints to step-N, the policy to final. A run that collapses stops
with exit code 1 and keeps its last good checkpoint.")]
pub struct GrpoArguments {
    /// Policy folder to start from: config.json, orion.json, tokenizer.json, model.safetensors.
    #[arg(long)]
    model: PathBuf,
    /// Policy folder to stay near; the starting policy, where none is given.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Set whose training queries are learned from; weights made from bundled, scifact and fm2 may be passed on.
    #[arg(long, default_value = "bundled", value_enum)]
    set: PermittedSet,
    /// TOML file with settings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder for metrics, checkpoints and, at the end, `final/`.
    #[arg(long)]
    out: PathBuf,
    /// Go on from the newest checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    inputs: Inputs,
    /// Documents at most: all that are judged, and a sample of the others. Fewer cost less encoding.
    #[arg(long)]
    documents: Option<usize>,
    /// Training queries at most.
    #[arg(long)]
    train_queries: Option<usize>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: GrpoOverrides,
    #[command(flatten)]
    lora: LoraArguments,
}

/// The queries of one part of a source that have judged documents, by id.
pub fn tasks(source: &Source, wanted: Part) -> Vec<Task> {
    source
        .queries
        .iter()
        .filter(|(_, part)| *part == wanted)
        .filter_map(|(query, _)| {
            let targets = source.targets.get(&query.id).filter(|targets| !targets.is_empty())?;
            let text = query.text.trim().to_owned();
            Some(Task { id: query.id.clone(), text, targets: targets.clone() })
        })
        .collect()
}

/// Runs the command: talk to stderr, the policy's folder and the outcome, or JSON, to stdout.
pub fn command(arguments: &GrpoArguments) -> Result<()> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let mut settings = arguments.overrides.apply(GrpoSettings::load(arguments.config.as_deref())?);
    settings.check()?;
    let adapters = arguments.lora.settings(settings.seed);
    let model = checkpoint::load_start(&arguments.model, adapters.as_ref())?;
    let format = TrajectoryFormat::load(&arguments.model, model.config()).map_err(policy_error)?;
    let reference = checkpoint::load_frozen(arguments.reference.as_ref().unwrap_or(&arguments.model))?;
    if let Some(warning) = PermittedSet::shipping_warning([arguments.set].into_iter()) {
        eprintln!("{warning}");
    }
    let source = arguments.inputs.source(arguments.set)?.sample(
        arguments.documents.unwrap_or(usize::MAX),
        arguments.train_queries.unwrap_or(usize::MAX),
        usize::MAX,
    );
    let (train, held_out) = (tasks(&source, Part::Train), tasks(&source, Part::HeldOut));
    std::fs::create_dir_all(&arguments.out).map_err(TrainError::file("create", &arguments.out))?;
    eprintln!(
        "{}: {} documents, {} training queries, {} held out",
        arguments.set.name(),
        source.documents.len(),
        train.len(),
        held_out.len()
    );
    let encoder = arguments.inputs.open_encoder()?;
    let collection = Collection::over(source, &arguments.out.join("index"), Some(encoder))?;
    let plugin = settings.rollout.reward_plugin.clone();
    let grounds = Grounds::new(collection.searcher, &plugin)?;
    if plugin != STANDARD {
        let sha256 = grounds.reward().component_sha256().to_owned();
        eprintln!("reward: {} ({plugin}, {sha256})", grounds.reward().description().name);
        settings.rollout.reward_component = Some(sha256);
    }
    let pad = format.tokenizer().special("<pad>").unwrap_or(PAD);
    let job = Job {
        train: &train,
        held_out: &held_out,
        grounds: &grounds,
        format: &format,
        settings: &settings,
        pad,
        run: &arguments.out,
        resume: arguments.resume,
        show: true,
    };
    let (trained, outcome) = run(model, &reference, job)?;
    let out = arguments.out.join("final");
    nano::export(&trained, &arguments.model.join("tokenizer.json"), format.spec(), &out, NumberFormat::F32)?;
    if let Some(adapters) = &adapters {
        let base = arguments.model.display().to_string();
        trained.save_adapters(&arguments.out.join("adapter"), adapters, &base)?;
    }
    terminal::print(&outcome, &readable(&outcome, &out), arguments.json)
}

fn readable(outcome: &Outcome, policy: &Path) -> String {
    let mut text = format!(
        "{}\n{} steps, {} candidates in {:.0} s ({:.1} a second)\n",
        policy.display(),
        outcome.steps,
        outcome.candidates,
        outcome.seconds,
        outcome.candidates_per_second
    );
    for (when, dev) in [("before", &outcome.before), ("after", &outcome.after)] {
        if let Some(dev) = dev {
            text.push_str(&format!(
                "dev {when}: reward {:.4}, rank {:.1} at the first turn, success@10 {:.3} at the first, {:.3} at any\n",
                dev.reward, dev.first_rank, dev.first_success, dev.any_success
            ));
        }
    }
    text
}
