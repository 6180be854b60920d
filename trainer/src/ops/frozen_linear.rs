//! A product with a weight that is not trained: gradients flow to the input, none is made for the weight.
//!
//! candle's own product makes both, whether anyone wants them or not, and keeps what nobody takes: with a frozen model
//! of 1.2 billion weights below a few adapters, gigabytes.

use super::floats;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};

/// Operand `x [rows, in]`; the result is `product [rows, out]`, which was computed from the detached operand.
#[derive(Debug, Clone)]
pub struct FrozenLinear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `x` times the transposed weight, and the bias where there is one.
    pub product: Tensor,
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, _storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, layout) = self.product.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(candle_core::Error::Msg("frozen-linear: expected a tensor on the cpu".into()));
        };
        let values = floats(self.name(), storage, layout)?.to_vec();
        Ok((CpuStorage::F32(values), self.product.shape().clone()))
    }

    fn cuda_fwd(&self, _storage: &CudaStorage, _layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let product = self.product.contiguous()?;
        let (storage, layout) = product.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(candle_core::Error::Msg("frozen-linear: expected a tensor on the device".into()));
        };
        Ok((storage.try_clone(layout)?, product.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, grad_result: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad_result.contiguous()?.matmul(&self.weight)?))
    }
}
