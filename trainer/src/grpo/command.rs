//! `orion-train grpo`: the command line of GRPO.

use super::grounds::{Grounds, Task};
use super::settings::{GrpoOverrides, GrpoSettings};
use super::{Job, Outcome, run};
use crate::checkpoint;
use crate::data::Part;
use crate::device::DeviceArguments;
use crate::error::{Result, TrainError};
use crate::model::LoraArguments;
use crate::nano::{self, Inputs, PAD};
use crate::reward::STANDARD;
use crate::terminal;
use crate::trajectories::collection::Collection;
use crate::trajectories::{PermittedSet, Source};
use orion_host::index::Searcher;
use orion_policy::{NumberFormat, TrajectoryFormat};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `orion-train grpo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train grpo --model host/policy/nano --sets bundled --out target/grpo --steps 50
  orion-train grpo --model host/policy/nano --out target/grpo --steps 50 --resume
  orion-train grpo --model my-policy --sets scifact,fm2 --config grpo.toml --look-up beside --out target/beside

Metrics go to metrics.jsonl in the run folder, checkpoints to step-N, the policy to final. A run that collapses stops
with exit code 1 and keeps its last good checkpoint.")]
pub struct GrpoArguments {
    /// Policy folder to start from: config.json, orion.json, tokenizer.json, model.safetensors.
    #[arg(long)]
    model: PathBuf,
    /// Policy folder to stay near; the starting policy, where none is given.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Sets whose training queries are learned from; weights made from bundled, scifact and fm2 may be passed on.
    #[arg(long, alias = "set", default_value = "bundled", value_enum, value_delimiter = ',')]
    sets: Vec<PermittedSet>,
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
    /// Documents of a set at most: all that are judged, and a sample of the others. Fewer cost less encoding.
    #[arg(long)]
    documents: Option<usize>,
    /// Training queries of a set at most.
    #[arg(long)]
    train_queries: Option<usize>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: GrpoOverrides,
    #[command(flatten)]
    lora: LoraArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// The queries of one part of a source that have judged documents, by id.
pub fn tasks(collection: usize, source: &Source, wanted: Part) -> Vec<Task> {
    source
        .queries
        .iter()
        .filter(|(_, part)| *part == wanted)
        .filter_map(|(query, _)| {
            let targets = source.targets.get(&query.id).filter(|targets| !targets.is_empty())?;
            let text = query.text.trim().to_owned();
            Some(Task { collection, id: query.id.clone(), text, targets: targets.clone() })
        })
        .collect()
}

/// Runs the command: talk to stderr, the policy's folder and the outcome, or JSON, to stdout.
pub fn command(arguments: &GrpoArguments) -> Result<()> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let mut settings = arguments.overrides.apply(GrpoSettings::load(arguments.config.as_deref())?);
    settings.check()?;
    let adapters = arguments.lora.settings(settings.seed);
    let device = arguments.device.open()?;
    let model = checkpoint::load_start(&arguments.model, adapters.as_ref())?.on(&device)?;
    let format = TrajectoryFormat::load(&arguments.model, model.config()).map_err(policy_error)?;
    let reference =
        checkpoint::load_frozen(arguments.reference.as_ref().unwrap_or(&arguments.model))?.on(&device)?;
    if let Some(warning) = PermittedSet::shipping_warning(arguments.sets.iter().copied()) {
        eprintln!("{warning}");
    }
    let ground = Ground::read(arguments)?;
    let plugin = settings.rollout.reward_plugin.clone();
    let grounds = Grounds::new(ground.collections, &plugin)?;
    if plugin != STANDARD {
        let sha256 = grounds.reward().component_sha256().to_owned();
        eprintln!("reward: {} ({plugin}, {sha256})", grounds.reward().description().name);
        settings.rollout.reward_component = Some(sha256);
    }
    let pad = format.tokenizer().special("<pad>").unwrap_or(PAD);
    let job = Job {
        train: &ground.train,
        held_out: &ground.held_out,
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

/// The collections of all sets, and their queries.
struct Ground {
    collections: Vec<Arc<Searcher>>,
    train: Vec<Task>,
    held_out: Vec<Task>,
}

impl Ground {
    /// Reads and indexes each set below the run's folder. The sets' held-out queries take turns, so that the first few stand
    /// for all of them.
    fn read(arguments: &GrpoArguments) -> Result<Self> {
        std::fs::create_dir_all(&arguments.out).map_err(TrainError::file("create", &arguments.out))?;
        let mut ground = Self { collections: Vec::new(), train: Vec::new(), held_out: Vec::new() };
        let mut held_out = Vec::new();
        for (place, set) in arguments.sets.iter().enumerate() {
            if arguments.sets[..place].contains(set) {
                let (expected, got) = ("each set once".into(), format!("`{}` twice", set.name()));
                return Err(TrainError::Setting { name: "sets", expected, got });
            }
            let source = arguments.inputs.source(*set)?.sample(
                arguments.documents.unwrap_or(usize::MAX),
                arguments.train_queries.unwrap_or(usize::MAX),
                usize::MAX,
            );
            let train = tasks(place, &source, Part::Train);
            let kept = tasks(place, &source, Part::HeldOut);
            eprintln!(
                "{}: {} documents, {} training queries, {} held out",
                set.name(),
                source.documents.len(),
                train.len(),
                kept.len()
            );
            let folder = arguments.out.join("index").join(set.name());
            let encoder = arguments.inputs.open_encoder()?;
            ground.collections.push(Collection::over(source, &folder, Some(encoder))?.searcher);
            ground.train.extend(train);
            held_out.extend(kept.into_iter().enumerate());
        }
        held_out.sort_by_key(|(turn, task)| (*turn, task.collection));
        ground.held_out = held_out.into_iter().map(|(_, task)| task).collect();
        Ok(ground)
    }
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
                "dev {when}: reward {:.4}; first turn: rank {:.1}, MRR {:.3}, success@10 {:.3}; any turn: success@10 {:.3}\n",
                dev.reward, dev.first_rank, dev.first_reciprocal_rank, dev.first_success, dev.any_success
            ));
        }
    }
    text
}
