//! Token mixers other than attention, as data: what they cost grows with the tokens, not with their square.
#![forbid(unsafe_code)]

mod convolution;
mod gated_delta;
mod short_convolution;

pub use convolution::Convolution;
pub use gated_delta::{GatedDelta, Narrowed};
pub use short_convolution::ShortConvolution;

use super::{Linear, Norm, Vector};

/// A token mixer that is no attention: of a layer without, or beside it on the same input.
#[derive(Debug, Clone)]
pub enum Mixer {
    /// A gated delta net (Qwen3-Next, Kimi Linear).
    GatedDelta(Box<GatedDelta>),
    /// A gated short convolution (LFM2).
    ShortConvolution(Box<ShortConvolution>),
}

impl Mixer {
    /// Every projection.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::GatedDelta(mixer) => mixer.linears(),
            Self::ShortConvolution(mixer) => mixer.linears(),
        }
    }

    /// Every norm.
    pub(super) fn norms(&self) -> Vec<&Norm> {
        match self {
            Self::GatedDelta(mixer) => vec![&mixer.norm],
            Self::ShortConvolution(_) => Vec::new(),
        }
    }

    /// Every norm, to be changed.
    pub(super) fn norms_mut(&mut self) -> Vec<&mut Norm> {
        match self {
            Self::GatedDelta(mixer) => vec![&mut mixer.norm],
            Self::ShortConvolution(_) => Vec::new(),
        }
    }

    /// Every other learned vector.
    pub(super) fn vectors(&self) -> Vec<&Vector> {
        match self {
            Self::GatedDelta(mixer) => mixer.vectors(),
            Self::ShortConvolution(mixer) => mixer.convolution.vectors(),
        }
    }

    /// Values that a token has inside it.
    pub fn inner_width(&self) -> usize {
        self.linears()
            .iter()
            .map(|linear| linear.out_features)
            .sum()
    }
}
