//! A device as the rest sees it: memory at addresses, and kernels that run one after another.

use std::sync::Arc;

use super::error::DeviceError;

/// What a kernel is given: addresses, counts, and floats by their bits (`Arguments` in `device.h`).
pub(crate) type Arguments = [u64; 16];

/// Memory and launches of one device. Operations happen in the order in which they are asked for; only
/// [`Launcher::download`] waits for them.
pub(crate) trait Launcher: Send + Sync {
    /// The device, for people.
    fn describe(&self) -> String;
    /// Bytes that are free, as far as it is known.
    fn free_bytes(&self) -> Result<usize, DeviceError>;
    /// Memory of that many bytes, at a multiple of 256; not cleared.
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError>;
    /// Gives memory back that [`Launcher::allocate`] gave.
    fn release(&self, address: u64);
    /// Copies to the device; the bytes may be reused at once.
    fn upload(&self, bytes: &[u8], to: u64) -> Result<(), DeviceError>;
    /// Waits for all before, then copies from the device.
    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;
    /// Copies within the device.
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError>;
    /// Fills with zeros.
    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError>;
    /// Starts a kernel.
    fn launch(
        &self,
        kernel: &str,
        blocks: [u32; 3],
        threads: u32,
        arguments: &Arguments,
    ) -> Result<(), DeviceError>;
    /// From here on launches are recorded, not run.
    fn begin_capture(&self) -> Result<(), DeviceError>;
    /// Ends the recording; what was recorded can be replayed under the number.
    fn end_capture(&self) -> Result<usize, DeviceError>;
    /// Runs a recording.
    fn replay(&self, graph: usize) -> Result<(), DeviceError>;
    /// Forgets all recordings.
    fn forget_graphs(&self);
}

/// Memory on a device, given back when it is dropped.
pub(crate) struct Buffer {
    launcher: Arc<dyn Launcher>,
    address: u64,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(
        launcher: &Arc<dyn Launcher>,
        what: &'static str,
        bytes: usize,
    ) -> Result<Self, DeviceError> {
        let bytes = bytes.max(16);
        let address = launcher.allocate(bytes).map_err(|error| match launcher.free_bytes() {
            Ok(free_bytes) if free_bytes < bytes => {
                DeviceError::Memory { what, needed_bytes: bytes, free_bytes }
            }
            _ => error,
        })?;
        Ok(Self { launcher: launcher.clone(), address, bytes })
    }

    pub(crate) fn holding(
        launcher: &Arc<dyn Launcher>,
        what: &'static str,
        bytes: &[u8],
    ) -> Result<Self, DeviceError> {
        let buffer = Self::new(launcher, what, bytes.len())?;
        launcher.upload(bytes, buffer.address)?;
        Ok(buffer)
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.launcher.release(self.address);
    }
}

/// Floats as the device reads them.
pub(crate) fn bytes_of_floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Counts and ids as the device reads them.
pub(crate) fn bytes_of_words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
