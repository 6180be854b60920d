//! Low-rank adapters (LoRA, arXiv 2106.09685): frozen weights plus a trained product of two thin matrices.
//!
//! `y = W x + (alpha / rank) B A x`, with A random and B zero at the start, so that the adapted model begins as the
//! model. Adapters are read and written as PEFT has them (`adapter_config.json`, `adapter_model.safetensors`); merged
//! into the weights they cost nothing when served.

use super::Lfm2;
use crate::checkpoint;
use crate::error::{Result, TrainError};
use candle_core::{Device, Tensor, Var};
use orion_policy::{Config, NumberFormat, Random, Weights};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Which layers get adapters, and how wide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// Inner width, at least 1.
    pub rank: usize,
    /// What is added is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Last parts of the names of adapted projections.
    pub targets: Vec<String>,
    /// Draws A.
    pub seed: u64,
}

impl Default for LoraSettings {
    /// All projections of LFM2, the choice of its own fine-tuning recipes; twice the rank as alpha is customary.
    fn default() -> Self {
        let targets = ["in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "w1", "w2", "w3"];
        Self { rank: 16, alpha: 32.0, targets: targets.map(str::to_owned).to_vec(), seed: 1 }
    }
}

/// What the command line says of adapters; without a rank all weights are trained.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LoraArguments {
    /// Train adapters of this inner width and leave the weights frozen; the result is merged, and the adapters stand
    /// in `adapter/` as PEFT has them.
    #[arg(long)]
    pub lora_rank: Option<usize>,
    /// Scale of adapters, before it is divided by the rank; twice the rank, where none is given.
    #[arg(long, requires = "lora_rank")]
    pub lora_alpha: Option<f64>,
    /// Last part of the names of adapted projections; repeat for each. All projections, where none is given.
    #[arg(long = "lora-target", requires = "lora_rank")]
    pub lora_targets: Vec<String>,
}

impl LoraArguments {
    /// The settings, where there are to be adapters; `seed` draws them.
    pub fn settings(&self, seed: u64) -> Option<LoraSettings> {
        let rank = self.lora_rank?;
        let alpha = self.lora_alpha.unwrap_or(2.0 * rank as f64);
        let targets = match &self.lora_targets[..] {
            [] => LoraSettings::default().targets,
            given => given.to_vec(),
        };
        Some(LoraSettings { rank, alpha, targets, seed })
    }
}

/// What PEFT keeps beside the matrices.
#[derive(Debug, Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    task_type: String,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    bias: String,
    target_modules: Vec<String>,
    base_model_name_or_path: String,
}

/// What PEFT puts before every name.
const PREFIX: &str = "base_model.model.";
/// The matrices, in PEFT's folder and in a training checkpoint.
pub(crate) const MATRICES: &str = "adapter_model.safetensors";

/// The adapted projections with their inputs and outputs.
fn targets(config: &Config, settings: &LoraSettings) -> Result<Vec<(String, usize, usize)>> {
    let fault =
        |name, expected: &str, got: String| TrainError::Setting { name, expected: expected.into(), got };
    if settings.rank == 0 || !settings.alpha.is_finite() || settings.alpha <= 0.0 {
        let got = format!("{} and {}", settings.rank, settings.alpha);
        return Err(fault("lora rank and alpha", "a rank of at least 1 and an alpha above 0", got));
    }
    let found: Vec<(String, usize, usize)> = config
        .tensors()
        .into_iter()
        .filter_map(|(name, shape)| {
            let module = name.strip_suffix(".weight")?;
            let last = module.rsplit('.').next()?;
            let [outputs, inputs] = shape[..] else { return None };
            let is_projection = module.starts_with("model.layers.");
            (is_projection && settings.targets.iter().any(|target| target == last))
                .then(|| (module.to_owned(), inputs, outputs))
        })
        .collect();
    for target in &settings.targets {
        if !found.iter().any(|(module, _, _)| module.ends_with(&format!(".{target}"))) {
            return Err(fault("lora target", "the last part of a projection's name", format!("`{target}`")));
        }
    }
    if found.is_empty() {
        return Err(fault("lora target", "at least one projection", "none".into()));
    }
    Ok(found)
}

impl Lfm2 {
    /// A checkpoint's weights, frozen, with fresh adapters, which are the only variables.
    ///
    /// # Errors
    /// A rank of 0, a target that no layer has, weights that do not fit the config.
    pub fn adapted(config: Config, weights: Weights, settings: &LoraSettings) -> Result<Self> {
        let modules = targets(&config, settings)?;
        let mut model = Self::frozen_from_weights(config, weights)?;
        for (place, (module, inputs, outputs)) in modules.into_iter().enumerate() {
            let mut random = Random::split(settings.seed, &[place as u64]);
            let deviation = 1.0 / (inputs as f64).sqrt();
            let values: Vec<f32> =
                (0..settings.rank * inputs).map(|_| (deviation * random.truncated_normal()) as f32).collect();
            let down = Tensor::from_vec(values, (settings.rank, inputs), &Device::Cpu)?;
            let up = Tensor::zeros((outputs, settings.rank), candle_core::DType::F32, &Device::Cpu)?;
            for (part, tensor) in [("lora_A", down), ("lora_B", up)] {
                model.variables.insert(format!("{module}.{part}.weight"), Var::from_tensor(&tensor)?);
            }
        }
        model.adapter_scale = Some(settings.alpha / settings.rank as f64);
        Ok(model)
    }

    /// Whether its variables are adapters.
    pub fn is_adapted(&self) -> bool {
        self.adapter_scale.is_some()
    }

    /// What the adapter of `module` adds to its output for `x [rows, in]`, where there is one.
    pub(super) fn adapter(&self, x: &Tensor, module: &str) -> Result<Option<Tensor>> {
        let (Some(scale), Some(down), Some(up)) = (
            self.adapter_scale,
            self.variables.get(&format!("{module}.lora_A.weight")),
            self.variables.get(&format!("{module}.lora_B.weight")),
        ) else {
            return Ok(None);
        };
        let inner = x.matmul(&down.as_tensor().t()?)?; // [rows, rank]
        Ok(Some((inner.matmul(&up.as_tensor().t()?)? * scale)?))
    }

    /// The weight of `name` with its adapter added in.
    pub(super) fn merged(&self, name: &str, weight: &Tensor) -> Result<Tensor> {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let (Some(scale), Some(down), Some(up)) = (
            self.adapter_scale,
            self.variables.get(&format!("{module}.lora_A.weight")),
            self.variables.get(&format!("{module}.lora_B.weight")),
        ) else {
            return Ok(weight.clone());
        };
        let product = up.as_detached_tensor().matmul(&down.as_detached_tensor())?; // [out, in]
        Ok((weight + (product * scale)?)?)
    }

    /// Writes the adapters into `folder` as PEFT reads them; `base` names the weights below them.
    pub fn save_adapters(&self, folder: &Path, settings: &LoraSettings, base: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(TrainError::file("create", folder))?;
        let config = PeftConfig {
            peft_type: "LORA".into(),
            task_type: "CAUSAL_LM".into(),
            r: settings.rank,
            lora_alpha: settings.alpha,
            lora_dropout: 0.0,
            bias: "none".into(),
            target_modules: settings.targets.clone(),
            base_model_name_or_path: base.into(),
        };
        let path = folder.join("adapter_config.json");
        let json = serde_json::to_string_pretty(&config)
            .map_err(|error| TrainError::content(&path, "a config that is JSON", error))?;
        std::fs::write(&path, format!("{json}\n")).map_err(TrainError::file("write", &path))?;
        let path = folder.join(MATRICES);
        std::fs::write(&path, self.adapter_bytes()?).map_err(TrainError::file("write", &path))
    }

    /// The adapters as a safetensors file.
    pub(crate) fn adapter_bytes(&self) -> Result<Vec<u8>> {
        let tensors = self
            .variables
            .iter()
            .map(|(name, variable)| {
                let data = variable.flatten_all()?.to_vec1::<f32>()?;
                Ok((
                    format!("{PREFIX}{name}"),
                    orion_policy::Tensor { shape: variable.dims().to_vec(), data },
                ))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        let bytes = Weights { tensors }.to_safetensors(NumberFormat::F32);
        bytes.map_err(|error| TrainError::Policy(error.to_string()))
    }

    /// Sets the adapters to those in `folder`; names and shapes must be this model's.
    pub fn load_adapters(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MATRICES);
        let bytes = checkpoint::read(&path)?;
        let stored = SafeTensors::deserialize(&bytes)
            .map_err(|error| TrainError::content(&path, "a safetensors file", error))?;
        if stored.len() != self.variables.len() {
            let expected = format!("{} matrices", self.variables.len());
            return Err(TrainError::content(&path, expected, stored.len()));
        }
        for (name, variable) in &self.variables {
            let expected = || format!("`{PREFIX}{name}` of shape {:?} in F32", variable.dims());
            let view = stored
                .tensor(&format!("{PREFIX}{name}"))
                .map_err(|error| TrainError::content(&path, expected(), error))?;
            if view.shape() != variable.dims() || view.dtype() != safetensors::Dtype::F32 {
                let got = format!("shape {:?} in {:?}", view.shape(), view.dtype());
                return Err(TrainError::content(&path, expected(), got));
            }
            let (quads, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect();
            variable.set(&Tensor::from_vec(values, variable.dims(), variable.device())?)?;
        }
        Ok(())
    }
}
