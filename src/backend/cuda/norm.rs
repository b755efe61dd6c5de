//! RMSNorm, LayerNorm and DyT (`kernels/norm.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::Device,
    memory::Buffer,
    tensor::{int, suffix},
};
use crate::{
    backend::NormWeights,
    error::Result,
    model::{dtype::DType, spec::NormKind},
};

/// Groups up to this width are normalised by a warp.
const WARP_WIDTH: usize = 512;
const WARPS: u32 = 4;
/// Values that a thread of a block keeps in registers: the `CHUNK` of the kernel.
const KEPT: usize = 8;

impl<D: Device> Cuda<D> {
    pub(super) fn normalise(
        &self,
        x: &Tensor<D>,
        norm: &NormWeights<Buffer<D>>,
        dtype: DType,
    ) -> Result<Tensor<D>> {
        // The kernels narrow, they do not widen: no layer is wired so.
        let wider = match dtype {
            DType::Float32 => self.in_type(x, dtype)?,
            _ => None,
        };
        self.launch_norm(wider.as_ref().unwrap_or(x), None, norm, dtype)
    }

    /// The norm of `x`, to which `other` is added first, in this type: that of `x` or a narrower one.
    pub(super) fn launch_norm(
        &self,
        x: &Tensor<D>,
        other: Option<&Tensor<D>>,
        norm: &NormWeights<Buffer<D>>,
        dtype: DType,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(x.rows, x.columns, dtype)?;
        let groups = x.len() / norm.width;
        let learned = norm.weight.as_ref().or(norm.bias.as_ref());
        // A vector covers one group or several.
        let parts = learned.map_or(1, |vector| vector.bytes() / size_of::<f32>() / norm.width);
        let alphas = norm.alpha.as_ref();
        let alpha_parts = alphas.map_or(1, |vector| vector.bytes() / size_of::<f32>());
        let kind = match norm.kind {
            NormKind::Rms => 0,
            NormKind::Layer => 1,
            NormKind::Tanh => 2,
        };
        let (team, blocks, threads) = if norm.width <= WARP_WIDTH {
            ("warp", groups.div_ceil(WARPS as usize), 32 * WARPS)
        } else {
            let threads = norm
                .width
                .div_ceil(KEPT)
                .next_multiple_of(32)
                .clamp(128, 1024);
            ("block", groups, threads as u32)
        };
        self.launch(
            &format!("norm_{team}_{}_{}", suffix(x.dtype), suffix(dtype)),
            [int(blocks)?.cast_unsigned(), 1],
            threads,
            &[
                x.buffer.address().into(),
                other.map(|other| other.buffer.address()).into(),
                out.buffer.address().into(),
                norm.weight.as_ref().map(Buffer::address).into(),
                norm.bias.as_ref().map(Buffer::address).into(),
                alphas.map(Buffer::address).into(),
                (groups as u64).into(),
                int(norm.width)?.into(),
                int(parts)?.into(),
                int(alpha_parts)?.into(),
                kind.into(),
                norm.epsilon.into(),
            ],
        )?;
        Ok(out)
    }
}
