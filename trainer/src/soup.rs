//! Merges the weights of policies that came from the same start: linear, exponential by order, spherical, TIES.
//!
//! The paper trains one specialist for each search behaviour and merges them, later archetypes weighing more; it names
//! MergeKit's recipes. Each recipe here is its published formula, a tensor at a time, in f64. What is merged must have
//! the same config, tensor names and shapes, trajectory format and vocabulary: a merge of models that do not share
//! those is noise that loads.

use crate::error::{Result, TrainError};
use crate::nano;
use crate::terminal;
use crate::variants::LESSONS;
use orion_policy::{Checkpoint, Config, NumberFormat, Tensor, TrajectoryFormat, Weights};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How models become one.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// The weighted mean of all (model soups, arXiv 2203.05482); weights are brought to a sum of 1.
    Linear {
        /// One for each model, not negative, not all 0.
        weights: Vec<f64>,
    },
    /// Along the great circle between two models, a tensor at a time (Shoemake, "Animating rotation with quaternion
    /// curves", 1985): `sin((1-t)a)/sin a x + sin(t a)/sin a y` with `a` the angle between them. Tensors that are
    /// almost parallel, or zero, are mixed linearly, where both formulas agree to rounding.
    Slerp {
        /// Place between the first (0) and the second (1).
        share: f64,
    },
    /// TIES (arXiv 2306.01708): differences from a base are trimmed to their largest entries, each entry elects a
    /// sign by the sum over models, the mean over those that agree with it is added to the base.
    Ties {
        /// Share of entries of each tensor's difference that are kept, in (0, 1].
        density: f64,
        /// What the merged difference is multiplied by.
        scale: f64,
    },
}

/// Weights that grow with the place in the list: the last has `growth` times the weight of the one before it.
///
/// # Errors
/// A growth that is not a finite number above 0.
pub fn exponential_weights(count: usize, growth: f64) -> Result<Vec<f64>> {
    if !(0.0 < growth && growth.is_finite()) {
        return Err(fault("growth", "a finite number above 0", growth));
    }
    let raw: Vec<f64> = (0..count).map(|place| growth.powf(place as f64 - (count as f64 - 1.0))).collect();
    let sum: f64 = raw.iter().sum();
    Ok(raw.into_iter().map(|weight| weight / sum).collect())
}

fn fault(name: &'static str, expected: &str, got: impl std::fmt::Display) -> TrainError {
    TrainError::Setting { name, expected: expected.to_owned(), got: got.to_string() }
}

/// Below this angle, in radians, the arc is as straight as f64 can tell from the chord in f32 weights.
const STRAIGHT: f64 = 1e-6;

fn linear(tensors: &[&Tensor], weights: &[f64]) -> Vec<f64> {
    (0..tensors[0].data.len())
        .map(|place| {
            tensors.iter().zip(weights).map(|(tensor, weight)| weight * f64::from(tensor.data[place])).sum()
        })
        .collect()
}

fn slerp(first: &Tensor, second: &Tensor, share: f64) -> Vec<f64> {
    let dot = |a: &Tensor, b: &Tensor| -> f64 {
        a.data.iter().zip(&b.data).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let lengths = dot(first, first).sqrt() * dot(second, second).sqrt();
    let angle = if lengths == 0.0 { 0.0 } else { (dot(first, second) / lengths).clamp(-1.0, 1.0).acos() };
    // Opposite vectors have no one arc between them.
    let (of_first, of_second) = if angle < STRAIGHT || std::f64::consts::PI - angle < STRAIGHT {
        (1.0 - share, share)
    } else {
        (((1.0 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    };
    linear(&[first, second], &[of_first, of_second])
}

/// The difference from the base with all but its largest entries set to 0. Among equals at the border the earlier stay.
fn trimmed(tensor: &Tensor, base: &Tensor, density: f64) -> Vec<f64> {
    let mut difference: Vec<f64> =
        tensor.data.iter().zip(&base.data).map(|(own, base)| f64::from(*own) - f64::from(*base)).collect();
    let kept = ((density * difference.len() as f64).ceil() as usize).min(difference.len());
    let mut order: Vec<usize> = (0..difference.len()).collect();
    order.sort_by(|a, b| difference[*b].abs().total_cmp(&difference[*a].abs()).then(a.cmp(b)));
    for place in &order[kept..] {
        difference[*place] = 0.0;
    }
    difference
}

fn ties(tensors: &[&Tensor], base: &Tensor, density: f64, scale: f64) -> Vec<f64> {
    let differences: Vec<Vec<f64>> = tensors.iter().map(|tensor| trimmed(tensor, base, density)).collect();
    base.data
        .iter()
        .enumerate()
        .map(|(place, start)| {
            let total: f64 = differences.iter().map(|difference| difference[place]).sum();
            let agreeing = differences.iter().map(|d| d[place]).filter(|value| value * total > 0.0);
            let (sum, count) = agreeing.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
            f64::from(*start) + scale * sum / count.max(1) as f64
        })
        .collect()
}

fn check_names(number: usize, model: &Weights, first: &Weights) -> Result<()> {
    for (name, tensor) in &first.tensors {
        let own = model.tensors.get(name);
        if own.is_none_or(|own| own.shape != tensor.shape || own.data.len() != tensor.data.len()) {
            let got = own.map_or_else(|| "none".to_owned(), |own| format!("{:?}", own.shape));
            return Err(TrainError::Policy(format!(
                "model {number}: tensor `{name}`: expected shape {:?}, got {got}",
                tensor.shape
            )));
        }
    }
    if let Some(name) = model.tensors.keys().find(|name| !first.tensors.contains_key(*name)) {
        return Err(TrainError::Policy(format!(
            "model {number}: tensor `{name}`: expected one that the first model has, got another"
        )));
    }
    Ok(())
}

fn check_recipe(recipe: &Recipe, models: usize, has_base: bool) -> Result<()> {
    if models < 2 {
        return Err(fault("model", "at least 2 models", models));
    }
    match recipe {
        Recipe::Linear { weights } => {
            if weights.len() != models {
                return Err(fault("weight", &format!("one for each of {models} models"), weights.len()));
            }
            let is_usable = |weight: &f64| 0.0 <= *weight && weight.is_finite();
            if let Some(weight) = weights.iter().find(|weight| !is_usable(weight)) {
                return Err(fault("weight", "finite numbers, not negative", weight));
            }
            if weights.iter().sum::<f64>() <= 0.0 {
                return Err(fault("weight", "one above 0", "zeros"));
            }
        }
        Recipe::Slerp { share } => {
            if models != 2 {
                return Err(fault("model", "2 models for slerp", models));
            }
            if !(0.0..=1.0).contains(share) {
                return Err(fault("share", "a number from 0 to 1", share));
            }
        }
        Recipe::Ties { density, scale } => {
            if !has_base {
                return Err(fault("base", "the model that all came from, for ties", "none"));
            }
            if !(0.0 < *density && *density <= 1.0) {
                return Err(fault("density", "a number above 0 and at most 1", density));
            }
            if !scale.is_finite() {
                return Err(fault("scale", "a finite number", scale));
            }
        }
    }
    Ok(())
}

/// Merges models, in their order; `base` is what TIES counts differences from, and nothing to the others.
///
/// # Errors
/// Models that differ in names or shapes; a recipe that does not fit their number; a result that is not finite.
pub fn merge(models: &[Weights], base: Option<&Weights>, recipe: &Recipe) -> Result<Weights> {
    check_recipe(recipe, models.len(), base.is_some())?;
    let first = &models[0];
    for (number, model) in models.iter().chain(base).enumerate().skip(1) {
        check_names(number + 1, model, first)?;
    }
    let mut tensors = BTreeMap::new();
    for (name, start) in &first.tensors {
        let own: Vec<&Tensor> = models.iter().filter_map(|model| model.tensors.get(name)).collect();
        let merged = match recipe {
            Recipe::Linear { weights } => {
                let sum: f64 = weights.iter().sum();
                let shares: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
                linear(&own, &shares)
            }
            Recipe::Slerp { share } => slerp(own[0], own[1], *share),
            Recipe::Ties { density, scale } => {
                let base = base.and_then(|base| base.tensors.get(name)).unwrap_or(start);
                ties(&own, base, *density, *scale)
            }
        };
        let data: Vec<f32> = merged.into_iter().map(|value| value as f32).collect();
        if let Some(value) = data.iter().find(|value| !value.is_finite()) {
            return Err(TrainError::Policy(format!("tensor `{name}`: expected finite numbers, got {value}")));
        }
        tensors.insert(name.clone(), Tensor { shape: start.shape.clone(), data });
    }
    Ok(Weights { tensors })
}

/// Name of a recipe on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Weighted mean.
    Linear,
    /// Weighted mean; each model weighs `--growth` times what the one before it weighs.
    Exponential,
    /// Great-circle mix of two.
    Slerp,
    /// Trimmed differences from `--base` with elected signs.
    Ties,
}

/// Arguments of `orion-train soup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orion-train soup --method exponential --model a --model b --model c --out merged
  orion-train soup --method linear --weight 1 --weight 3 --model a --model b --out merged
  orion-train soup --method slerp --share 0.3 --model a --model b --out merged
  orion-train soup --method ties --base start --density 0.2 --model a --model b --out merged")]
pub struct SoupArguments {
    /// How.
    #[arg(long, value_enum)]
    method: Method,
    /// Policy folder; repeat for each, in order.
    #[arg(long, required = true)]
    model: Vec<PathBuf>,
    /// Weight of each model for `linear`, in their order; equal ones where none is given.
    #[arg(long)]
    weight: Vec<f64>,
    /// Growth of the weights for `exponential`.
    #[arg(long, default_value_t = 1.5)]
    growth: f64,
    /// Put the models into the order of the archetypes that their folders are named after.
    #[arg(long)]
    by_archetype: bool,
    /// Place between the first and the second model for `slerp`.
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Policy folder that all models were trained from, for `ties`.
    #[arg(long)]
    base: Option<PathBuf>,
    /// Share of each difference that `ties` keeps; a fifth is its authors' choice.
    #[arg(long, default_value_t = 0.2)]
    density: f64,
    /// What `ties` multiplies the merged difference by.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Folder for the merged policy.
    #[arg(long)]
    out: PathBuf,
    /// Print what was merged as JSON.
    #[arg(long)]
    json: bool,
}

/// One policy folder, read.
struct Opened {
    config: Config,
    format: TrajectoryFormat,
    tokenizer: Vec<u8>,
    weights: Weights,
}

fn open(folder: &Path) -> Result<Opened> {
    let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
    let checkpoint = Checkpoint::open(folder).map_err(policy_error)?;
    let config = checkpoint.config().clone();
    let format = TrajectoryFormat::load(folder, &config).map_err(policy_error)?;
    let tokenizer = crate::checkpoint::read(&folder.join("tokenizer.json"))?;
    Ok(Opened { format, tokenizer, weights: checkpoint.weights().map_err(policy_error)?, config })
}

fn check_kin(own: &Opened, folder: &Path, first: &Opened) -> Result<()> {
    let parts = [
        ("config", own.config == first.config),
        ("trajectory format", own.format.spec().for_new_weights() == first.format.spec().for_new_weights()),
        ("tokenizer", own.tokenizer == first.tokenizer),
    ];
    match parts.iter().find(|(_, same)| !same) {
        Some((what, _)) => {
            Err(TrainError::content(folder, format!("the {what} of the first model"), "another"))
        }
        None => Ok(()),
    }
}

/// Places of folders in the order of the archetypes they are named after.
fn archetype_order(folders: &mut [PathBuf]) -> Result<()> {
    let place = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("");
        LESSONS.iter().position(|archetype| *archetype == name)
    };
    if let Some(strange) = folders.iter().find(|folder| place(folder).is_none()) {
        let expected = "folders that are named after archetypes";
        return Err(fault("by-archetype", expected, strange.display()));
    }
    folders.sort_by_key(place);
    Ok(())
}

/// What was merged.
#[derive(Debug, Serialize)]
struct Merged<'a> {
    models: &'a [PathBuf],
    weights: Option<&'a [f64]>,
    parameters: u64,
    out: &'a Path,
}

/// Runs the command: the folder and what was merged, or JSON, to stdout.
pub fn command(arguments: &SoupArguments) -> Result<()> {
    let mut folders = arguments.model.clone();
    if arguments.by_archetype {
        archetype_order(&mut folders)?;
    }
    let recipe = match arguments.method {
        Method::Linear if arguments.weight.is_empty() => Recipe::Linear { weights: vec![1.0; folders.len()] },
        Method::Linear => Recipe::Linear { weights: arguments.weight.clone() },
        Method::Exponential => {
            Recipe::Linear { weights: exponential_weights(folders.len(), arguments.growth)? }
        }
        Method::Slerp => Recipe::Slerp { share: arguments.share },
        Method::Ties => Recipe::Ties { density: arguments.density, scale: arguments.scale },
    };
    check_recipe(&recipe, folders.len(), arguments.base.is_some())?;
    let opened = folders.iter().map(|folder| open(folder)).collect::<Result<Vec<_>>>()?;
    let base = arguments.base.as_deref().map(open).transpose()?;
    for (folder, own) in folders.iter().zip(&opened) {
        check_kin(own, folder, &opened[0])?;
    }
    if let (Some(folder), Some(base)) = (&arguments.base, &base) {
        check_kin(base, folder, &opened[0])?;
    }
    let (config, spec) = (opened[0].config.clone(), opened[0].format.spec().clone());
    let weights: Vec<Weights> = opened.into_iter().map(|opened| opened.weights).collect();
    let merged = merge(&weights, base.as_ref().map(|base| &base.weights), &recipe)?;
    let tokenizer = folders[0].join("tokenizer.json");
    nano::export_weights(
        &merged,
        &config,
        &tokenizer,
        &spec.for_new_weights(),
        &arguments.out,
        NumberFormat::F32,
    )?;
    let weights = if let Recipe::Linear { weights } = &recipe { Some(weights.as_slice()) } else { None };
    let parameters = config.parameters();
    let report = Merged { models: &folders, weights, parameters, out: &arguments.out };
    let out = arguments.out.display();
    let text = format!("{out}\n{} models of {parameters} parameters merged\n", folders.len());
    terminal::print(&report, &text, arguments.json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        soup: SoupArguments,
    }

    /// The policy that ships knows what its perplexities mean, one trained from it does not: they are kin all the same,
    /// and the soup of them knows nothing.
    #[test]
    fn what_perplexities_mean_is_neither_compared_nor_merged() {
        let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/policy/nano");
        let place = tempfile::tempdir().unwrap();
        let (other, out) = (place.path().join("other"), place.path().join("out"));
        std::fs::create_dir(&other).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            std::fs::copy(nano.join(name), other.join(name)).unwrap();
        }
        let own = open(&nano).unwrap();
        assert!(own.format.spec().self_assessment.is_some());
        let plain = serde_json::to_vec(&own.format.spec().for_new_weights()).unwrap();
        std::fs::write(other.join("orion.json"), plain).unwrap();
        let line = [Path::new("soup"), "--method".as_ref(), "linear".as_ref(), "--model".as_ref(), &nano];
        let line = line.into_iter().chain(["--model".as_ref(), other.as_path(), "--out".as_ref(), &out]);
        command(&Line::try_parse_from(line.map(Path::as_os_str)).unwrap().soup).unwrap();
        assert_eq!(open(&out).unwrap().format.spec().self_assessment, None);
    }
}
