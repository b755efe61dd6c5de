//! RMSNorm, LayerNorm and DyT (`kernels/norm.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    constants::{
        NORM_BLOCK_THREADS, NORM_CHUNK, NORM_LAYER, NORM_RMS, NORM_TANH, NORM_WARP_WIDTH,
        NORM_WARPS,
    },
    device::Device,
    tensors::{int, suffix},
    vectors::Vector,
};
use crate::{
    backend::{NormWeights, Norms, Target},
    error::Result,
    model::{dtype::DType, spec::NormKind},
};

impl<D: Device> Norms for Cuda<D> {
    fn norm(
        &self,
        x: &Tensor<D>,
        norm: &NormWeights<Vector<D>>,
        target: Target,
    ) -> Result<Tensor<D>> {
        let dtype = self.precision.of(target);
        // The kernels narrow, they do not widen: no layer is wired so.
        let wider = match dtype {
            DType::Float32 => self.in_type(x, dtype)?,
            _ => None,
        };
        self.launch_norm(wider.as_ref().unwrap_or(x), None, norm, dtype)
    }

    fn add_norm(
        &self,
        x: &mut Tensor<D>,
        other: &Tensor<D>,
        norm: &NormWeights<Vector<D>>,
    ) -> Result<Tensor<D>> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.launch_norm(x, Some(other), norm, self.precision.arithmetic())
    }
}

impl<D: Device> Cuda<D> {
    /// The norm of `x`, to which `other` is added first, in this type: that of `x` or a narrower one.
    fn launch_norm(
        &self,
        x: &Tensor<D>,
        other: Option<&Tensor<D>>,
        norm: &NormWeights<Vector<D>>,
        dtype: DType,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(x.rows, x.columns, dtype)?;
        let groups = x.len() / norm.width;
        let learned = norm.weight.as_ref().or(norm.bias.as_ref());
        // A vector covers one group or several.
        let parts = learned.map_or(1, |vector| vector.len() / norm.width);
        let alphas = norm.alpha.as_ref();
        let alpha_parts = alphas.map_or(1, |vector| vector.len());
        let kind = match norm.kind {
            NormKind::Rms => NORM_RMS,
            NormKind::Layer => NORM_LAYER,
            NormKind::Tanh => NORM_TANH,
        };
        let (team, blocks, threads) = if norm.width <= NORM_WARP_WIDTH {
            ("warp", groups.div_ceil(NORM_WARPS), 32 * NORM_WARPS)
        } else {
            let threads = norm
                .width
                .div_ceil(NORM_CHUNK)
                .next_multiple_of(32)
                .clamp(128, NORM_BLOCK_THREADS);
            ("block", groups, threads)
        };
        self.launch(
            &format!("norm_{team}_{}_{}", suffix(x.dtype), suffix(dtype)),
            [int(blocks)?.cast_unsigned(), 1],
            threads as u32,
            &[
                x.buffer.address().into(),
                other.map(|other| other.buffer.address()).into(),
                out.buffer.address().into(),
                norm.weight.as_ref().map(Vector::address).into(),
                norm.bias.as_ref().map(Vector::address).into(),
                alphas.map(Vector::address).into(),
                (groups as u64).into(),
                int(norm.width)?.into(),
                int(parts)?.into(),
                int(alpha_parts)?.into(),
                int(kind)?.into(),
                norm.epsilon.into(),
            ],
        )?;
        Ok(out)
    }
}
