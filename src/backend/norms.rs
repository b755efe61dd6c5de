//! Norms of rows and of parts of rows.
#![forbid(unsafe_code)]

use super::{Elementwise, Target};
use crate::{error::Result, model::spec::NormKind};

/// Learned vectors of a norm, on the device.
#[derive(Debug)]
pub struct NormWeights<V> {
    /// Which formula.
    pub kind: NormKind,
    /// Values that are normalised together; divides the row.
    pub width: usize,
    /// Factor: `width` values for all groups of a row alike, or one per column.
    pub weight: Option<V>,
    /// Offset, as long as the factor may be.
    pub bias: Option<V>,
    /// Factor inside [`NormKind::Tanh`]: one value for all groups of a row, or one per group.
    /// Absent for the other kinds.
    pub alpha: Option<V>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// RMSNorm, LayerNorm and DyT.
pub trait Norms: Elementwise {
    /// Normalises each row, in groups of `norm.width` values.
    fn norm(
        &self,
        x: &Self::Tensor,
        norm: &NormWeights<Self::Vector>,
        target: Target,
    ) -> Result<Self::Tensor>;
    /// `x += other`, and the norm of the sum, for a part of a layer: [`Elementwise::add`] and
    /// [`Norms::norm`] in one pass, with the same bits.
    fn add_norm(
        &self,
        x: &mut Self::Tensor,
        other: &Self::Tensor,
        norm: &NormWeights<Self::Vector>,
    ) -> Result<Self::Tensor> {
        self.add(x, other)?;
        self.norm(x, norm, Target::Part)
    }
}
