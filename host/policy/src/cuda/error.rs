//! Why a device does not do what it should.

/// Why a device could not be used, or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no driver.
    #[error("looking for CUDA: expected NVIDIA's driver library (`libcuda`), got none")]
    NoDriver,
    /// The driver does not start.
    #[error("starting the CUDA driver failed: {0}")]
    Start(String),
    /// There is no device of that number.
    #[error("opening a CUDA device: expected one of {count}, numbered from 0, got number {wanted}")]
    NoDevice {
        /// Its number.
        wanted: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is too old for the kernels.
    #[error(
        "opening CUDA device {device} ({name}): expected compute capability 8.0 or higher, got {major}.{minor}"
    )]
    TooOld {
        /// Its number.
        device: usize,
        /// What it calls itself.
        name: String,
        /// Its compute capability.
        major: i32,
        /// The same, after the point.
        minor: i32,
    },
    /// The driver refuses the kernels; most likely it is too old for them.
    #[error(
        "loading the kernels failed: {reason}; expected a driver of CUDA 12.1 (530) or later, got CUDA {driver}"
    )]
    Kernels {
        /// What the driver said.
        reason: String,
        /// Its CUDA version.
        driver: String,
    },
    /// The device's memory does not do.
    #[error(
        "the device's memory does not do: expected {needed_bytes} bytes for {what}, got {free_bytes} free"
    )]
    Memory {
        /// What it was for.
        what: &'static str,
        /// Bytes that were asked for.
        needed_bytes: usize,
        /// Bytes that are free.
        free_bytes: usize,
    },
    /// The model's shape is not one that the kernels compute.
    #[error("running the model on a device: {what}: expected {expected}, got {got}")]
    Shape {
        /// Which size.
        what: &'static str,
        /// What would do.
        expected: &'static str,
        /// What it is.
        got: usize,
    },
    /// An operation failed.
    #[error("{operation} failed on the device: {reason}")]
    Failed {
        /// What was attempted.
        operation: &'static str,
        /// What the driver said.
        reason: String,
    },
}
