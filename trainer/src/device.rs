//! Where training computes: the CPU, or a CUDA device in a build with candle's CUDA (`trainer/CUDA.md`).
//!
//! Forward and backward passes run there; gradients come back, and the optimiser moves weights on the CPU. The rollouts of
//! GRPO have the serving engine's own device.

use crate::error::{Result, TrainError};
use candle_core::Device;

/// The device of a command.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DeviceArguments {
    /// Where tensors are computed: cpu, cuda:N, or auto, which is a GPU where this build can use one.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: orion_policy::Device,
}

impl DeviceArguments {
    /// Opens it.
    ///
    /// # Errors
    /// A CUDA device that was asked for by number and is not there, or that this build cannot use.
    pub fn open(self) -> Result<Device> {
        let can_use_one = candle_core::utils::cuda_is_available();
        match self.device {
            orion_policy::Device::Cpu => Ok(Device::Cpu),
            orion_policy::Device::Auto if !can_use_one => Ok(Device::Cpu),
            orion_policy::Device::Auto => Ok(Device::new_cuda(0).unwrap_or_else(|error| {
                eprintln!("training on the CPU: {error}");
                Device::Cpu
            })),
            orion_policy::Device::Cuda(number) => {
                Device::new_cuda(number).map_err(|error| TrainError::Setting {
                    name: "device",
                    expected: if can_use_one {
                        "a CUDA device that answers".into()
                    } else {
                        "`cpu` or `auto`, or a build with `--features cuda` (trainer/CUDA.md)".into()
                    },
                    got: format!("`cuda:{number}`: {error}"),
                })
            }
        }
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_cuda_trains_on_the_cpu_and_says_what_another_device_needs() {
        for device in [orion_policy::Device::Auto, orion_policy::Device::Cpu] {
            assert!(DeviceArguments { device }.open().unwrap().is_cpu());
        }
        let device = orion_policy::Device::Cuda(1);
        let message = DeviceArguments { device }.open().unwrap_err().to_string();
        assert!(message.contains("--features cuda") && message.contains("cuda:1"), "{message}");
    }
}
