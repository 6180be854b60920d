//! `silu(gate) * up`, the gated unit of the feed-forward block (arXiv 2002.05202).

use super::{elements, exp, floats, tensor_like};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Operands `gate` and `up` of one shape; the result has it too.
#[derive(Debug, Clone, Copy)]
pub(super) struct SwiGlu;

/// Elements handed to one task.
const CHUNK: usize = 16 * 1024;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate_storage: &CpuStorage,
        gate_layout: &Layout,
        up_storage: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gate = floats(self.name(), gate_storage, gate_layout)?;
        let up = floats(self.name(), up_storage, up_layout)?;
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(
            |((out, gate), up)| {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate * up / (1.0 + exp(-gate));
                }
            },
        );
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate_tensor: &Tensor,
        up_tensor: &Tensor,
        _result: &Tensor,
        grad_result: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad_result = grad_result.contiguous()?;
        let (gate, up, g) = (elements(gate_tensor), elements(up_tensor), elements(&grad_result));
        let (gate, up, g) = (gate.slice(self.name())?, up.slice(self.name())?, g.slice(self.name())?);
        let (mut gate_grad, mut up_grad) = (vec![0f32; gate.len()], vec![0f32; gate.len()]);
        gate_grad
            .par_chunks_mut(CHUNK)
            .zip(up_grad.par_chunks_mut(CHUNK))
            .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(g.par_chunks(CHUNK)))
            .for_each(|((gate_grad, up_grad), ((gate, up), g))| {
                for i in 0..gate.len() {
                    let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
                    gate_grad[i] = g[i] * up[i] * sigmoid * (1.0 + gate[i] * (1.0 - sigmoid));
                    up_grad[i] = g[i] * gate[i] * sigmoid;
                }
            });
        Ok((Some(tensor_like(gate_grad, gate_tensor)?), Some(tensor_like(up_grad, up_tensor)?)))
    }
}
