//! Where the model runs: on the CPU or on a device. The scheduler, the checks and the format check ask this, and see no
//! difference but the device's failures.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use orion_kernels::Threads;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::cuda::{self, DeviceError, DeviceModel};
use crate::error::PolicyError;
use crate::matrices::WeightFormat;
use crate::model::{Feed, Model, Scratch};
use crate::session::PolicyOptions;
use crate::state::StateSizes;

/// Where a policy is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Device {
    /// On a CUDA device where there is one that does, else on the CPU.
    Auto,
    /// On the CPU.
    #[default]
    Cpu,
    /// On the CUDA device of this number, or not at all.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

/// A name that is no [`Device`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading a device: expected `auto`, `cpu`, `cuda` or `cuda:N`, got `{0}`")]
pub struct UnknownDevice(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

/// A model where it runs.
pub(crate) enum Backend {
    Cpu(Box<Model>),
    Cuda(Box<DeviceModel>),
}

impl Backend {
    /// Loads a checkpoint where the options say; with it, what the user should be warned of.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        context: usize,
        options: &PolicyOptions,
    ) -> Result<(Self, Vec<String>), PolicyError> {
        let wanted = match options.device {
            Device::Cpu => None,
            Device::Auto => Some(None),
            Device::Cuda(index) => Some(Some(index)),
        };
        let mut warnings = Vec::new();
        if let Some(index) = wanted {
            let loaded = cuda::open(index)
                .map_err(PolicyError::from)
                .and_then(|launcher| DeviceModel::load(launcher, checkpoint, context, options));
            match loaded {
                Ok(model) => {
                    if options.weights != WeightFormat::AsStored {
                        warnings.push(format!(
                            "weights are not rounded to {} on a device: they are kept in {:?}",
                            options.weights,
                            model.numbers()
                        ));
                    }
                    return Ok((Self::Cuda(Box::new(model)), warnings));
                }
                Err(error) if index.is_some() => return Err(error),
                // A machine without a device is nothing to warn of.
                Err(PolicyError::Device(DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {}
                Err(PolicyError::Device(error)) => {
                    warnings.push(format!("the policy runs on the CPU: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        let threads = (options.threads > 0).then(|| Arc::new(Threads::new(options.threads)));
        let model = Model::load(checkpoint, context, options.weights, threads)?;
        Ok((Self::Cpu(Box::new(model)), warnings))
    }

    /// Where it runs, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Cpu(_) => "CPU".to_owned(),
            Self::Cuda(model) => model.describe(),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        match self {
            Self::Cpu(model) => &model.config,
            Self::Cuda(model) => &model.config,
        }
    }

    pub(crate) fn sizes(&self) -> &StateSizes {
        match self {
            Self::Cpu(model) => &model.sizes,
            Self::Cuda(model) => &model.sizes,
        }
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Cpu(model) => model.weight_bytes(),
            Self::Cuda(model) => model.weight_bytes(),
        }
    }

    /// Feeds tokens to sequences; see [`Model::forward`].
    pub(crate) fn forward(&self, feeds: &mut [Feed<'_>], scratch: &mut Scratch) -> Result<(), PolicyError> {
        match self {
            Self::Cpu(model) => {
                model.forward(feeds, scratch);
                Ok(())
            }
            Self::Cuda(model) => model.forward(feeds),
        }
    }

    /// Logits `[rows, vocabulary]` of some of the wanted rows of the last step.
    pub(crate) fn logits(
        &self,
        scratch: &Scratch,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), PolicyError> {
        match self {
            Self::Cpu(model) => {
                let hidden = model.config.hidden_size;
                model.logits(&scratch.hidden[rows.start * hidden..rows.end * hidden], out);
                Ok(())
            }
            Self::Cuda(model) => {
                let outputs: Vec<u64> = rows.map(|row| model.wanted_output(row)).collect();
                model.logits(&outputs, out)
            }
        }
    }
}
