//! The gated short convolution of LFM2.
#![forbid(unsafe_code)]

use super::Convolution;
use crate::model::spec::Linear;

/// `out(c * convolution(b * x))`, where `b`, `c` and `x` are projections of the input (transformers
/// `modeling_lfm2.py`, `Lfm2ShortConv`).
#[derive(Debug, Clone)]
pub struct ShortConvolution {
    /// The gate before the convolution.
    pub b: Linear,
    /// The gate behind it.
    pub c: Linear,
    /// What is convolved.
    pub x: Linear,
    /// Over the tokens.
    pub convolution: Convolution,
    /// To the residual stream.
    pub out: Linear,
}

impl ShortConvolution {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        vec![&self.b, &self.c, &self.x, &self.out]
    }
}
