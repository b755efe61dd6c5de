//! A low-rank part of a layer beside its attention (LAuReL).
#![forbid(unsafe_code)]

use super::parts::{Projection, load_norm};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{Model, spec::Laurel},
};

/// On the device.
pub(super) struct LaurelWeights<'m, B: Backend> {
    left: Projection<'m, B>,
    right: Projection<'m, B>,
    norm: NormWeights<B::Vector>,
    scale: f32,
}

impl<'m, B: Backend> LaurelWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &Laurel) -> Result<Self> {
        Ok(Self {
            left: Projection::load(backend, model, &spec.left)?,
            right: Projection::load(backend, model, &spec.right)?,
            norm: load_norm(backend, model, &spec.norm)?,
            scale: spec.scale,
        })
    }

    /// Attention's input, of the stream's type, and what it makes of it.
    pub(super) fn run(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let narrow = self.left.apply(backend, input)?;
        let wide = self.right.to_stream(backend, &narrow)?;
        let mut made = backend.norm(&wide, &self.norm, Target::Stream)?;
        backend.add(&mut made, input)?;
        Ok(made)
    }

    /// Adds that to the residual stream, which has attention's output.
    pub(super) fn join(&self, backend: &B, hidden: &mut B::Tensor, made: &B::Tensor) -> Result<()> {
        backend.add(hidden, made)?;
        backend.affine(hidden, self.scale, 0.0)
    }
}
