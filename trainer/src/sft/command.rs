//! `orion-train sft`: the command line of supervised fine-tuning.

use super::{Job, run};
use crate::checkpoint;
use crate::data::{Part, read_records};
use crate::device::DeviceArguments;
use crate::error::Result;
use crate::model::LoraArguments;
use crate::nano::{self, PAD};
use crate::settings::{SftOverrides, load_sft};
use crate::terminal;
use crate::variants::VariantArguments;
use orion_policy::NumberFormat;
use std::path::PathBuf;

/// Number format of the final weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Numbers {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
}

impl From<Numbers> for NumberFormat {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::F32 => Self::F32,
            Numbers::F16 => Self::F16,
            Numbers::Bf16 => Self::Bf16,
        }
    }
}

/// Arguments of `orion-train sft`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train sft --model host/policy/nano --data small.jsonl --out run
  orion-train sft --model host/policy/nano --data small.jsonl --out run --resume --json
  orion-train sft --model LFM2-350M --data small.jsonl --out adapted --lora-rank 16 --numbers bf16

Metrics go to metrics.jsonl in the run folder, checkpoints to step-N, the policy to final.")]
pub struct SftArguments {
    /// Checkpoint folder to start from: config.json, orion.json, tokenizer.json, model.safetensors.
    #[arg(long)]
    model: PathBuf,
    /// JSON lines of trajectories.
    #[arg(long)]
    data: PathBuf,
    /// TOML file with the stage's settings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder for metrics, checkpoints and, at the end, `final/`.
    #[arg(long)]
    out: PathBuf,
    /// Go on from the newest checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Number format of the final weights.
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    numbers: Numbers,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: SftOverrides,
    #[command(flatten)]
    variant: VariantArguments,
    #[command(flatten)]
    lora: LoraArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command: talk to stderr, the policy's folder and the outcome, or JSON, to stdout.
pub fn command(arguments: &SftArguments) -> Result<()> {
    let settings = arguments.overrides.apply(load_sft(arguments.config.as_deref())?);
    let adapters = arguments.lora.settings(settings.seed);
    let start =
        checkpoint::load_start(&arguments.model, adapters.as_ref())?.on(&arguments.device.open()?)?;
    let variant = &arguments.variant;
    let format = variant.format(&arguments.model, start.config())?;
    let records = variant.select(read_records(&arguments.data)?)?;
    let lessons = variant.lessons_of(records.iter().filter(|record| record.part == Part::Train))?;
    let train = nano::encode(&records, Part::Train, &format)?;
    let held_out = nano::encode(&records, Part::HeldOut, &format)?;
    let job = Job {
        train: &train,
        held_out: &held_out,
        settings: &settings,
        pad: format.tokenizer().special("<pad>").unwrap_or(PAD),
        lessons: lessons.as_deref(),
        run: &arguments.out,
        resume: arguments.resume,
        show: true,
    };
    let (trained, outcome) = run(start, job)?;
    let tokenizer = arguments.model.join("tokenizer.json");
    let out = arguments.out.join("final");
    nano::export(&trained, &tokenizer, format.spec(), &out, arguments.numbers.into())?;
    if let Some(adapters) = &adapters {
        let base = arguments.model.display().to_string();
        trained.save_adapters(&arguments.out.join("adapter"), adapters, &base)?;
    }
    terminal::print(&outcome, &format!("{}\n{}", out.display(), outcome.text()), arguments.json)
}
