//! Operations on single values, in place.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::{error::Result, model::spec::Activation};

/// The scalars of xIELU ([`crate::model::spec::Xielu`]) as they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xielu {
    /// Of `x^2` where `x > 0`.
    pub square: f32,
    /// Of `exp(min(x, limit)) - 1 - x` elsewhere.
    pub exponential: f32,
    /// Of `x` everywhere.
    pub linear: f32,
    /// Where the exponent ends.
    pub limit: f32,
}

/// Activations, gates, sums and their like.
pub trait Elementwise: Tensors {
    /// Applies the activation in place.
    fn activate(&self, x: &mut Self::Tensor, activation: Activation) -> Result<()>;
    /// Applies xIELU in place.
    fn xielu(&self, x: &mut Self::Tensor, scalars: Xielu) -> Result<()>;
    /// `gate = activation(gate) * up`, elementwise: [`Elementwise::activate`] and [`Elementwise::multiply`]
    /// in one pass, with the same bits.
    fn gate(
        &self,
        gate: &mut Self::Tensor,
        up: &Self::Tensor,
        activation: Activation,
    ) -> Result<()> {
        self.activate(gate, activation)?;
        self.multiply(gate, up)
    }
    /// The same of gates and of what they multiply side by side, `[rows, 2 n] -> [rows, n]`, with the same
    /// bits.
    fn gate_halves(&self, both: &Self::Tensor, activation: Activation) -> Result<Self::Tensor>;
    /// `x *= other`, elementwise; both are for the same target, as in [`Elementwise::add`].
    fn multiply(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// `x *= factors`, each of whose columns counts for `columns(x) / columns(factors)` neighbouring ones
    /// of `x`: a factor a head.
    fn multiply_heads(&self, x: &mut Self::Tensor, factors: &Self::Tensor) -> Result<()>;
    /// `x += other`, elementwise.
    fn add(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// `x = x * factor + offset`.
    fn affine(&self, x: &mut Self::Tensor, factor: f32, offset: f32) -> Result<()>;
    /// Clamps every value to `low..=high`.
    fn clamp(&self, x: &mut Self::Tensor, low: f32, high: f32) -> Result<()>;
}
