//! Token mixers other than attention, as data: what they cost grows with the tokens, not with their square.
#![forbid(unsafe_code)]

mod convolution;
mod gated_delta;
mod selective_scan;
mod short_convolution;
mod state_space;

pub use convolution::Convolution;
pub use gated_delta::{GatedDelta, Narrowed};
pub use selective_scan::{ScanHead, SelectiveScan};
pub use short_convolution::ShortConvolution;
pub use state_space::StateSpace;

use super::{Linear, Norm, Vector};

/// A token mixer that is no attention: of a layer without, or beside it on the same input.
#[derive(Debug, Clone)]
pub enum Mixer {
    /// A gated delta net (Qwen3-Next, Kimi Linear).
    GatedDelta(Box<GatedDelta>),
    /// A gated short convolution (LFM2).
    ShortConvolution(Box<ShortConvolution>),
    /// A state space layer (Mamba-2).
    StateSpace(Box<StateSpace>),
    /// A selective scan (Mamba).
    SelectiveScan(Box<SelectiveScan>),
}

impl Mixer {
    /// Every projection.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::GatedDelta(mixer) => mixer.linears(),
            Self::ShortConvolution(mixer) => mixer.linears(),
            Self::StateSpace(mixer) => mixer.linears(),
            Self::SelectiveScan(mixer) => mixer.linears(),
        }
    }

    /// Every norm.
    pub(super) fn norms(&self) -> Vec<&Norm> {
        match self {
            Self::GatedDelta(mixer) => vec![&mixer.norm],
            Self::ShortConvolution(_) => Vec::new(),
            Self::StateSpace(mixer) => mixer.norm.iter().collect(),
            Self::SelectiveScan(mixer) => mixer.norms(),
        }
    }

    /// Every norm, to be changed.
    pub(super) fn norms_mut(&mut self) -> Vec<&mut Norm> {
        match self {
            Self::GatedDelta(mixer) => vec![&mut mixer.norm],
            Self::ShortConvolution(_) => Vec::new(),
            Self::StateSpace(mixer) => mixer.norm.iter_mut().collect(),
            Self::SelectiveScan(mixer) => mixer.norms_mut(),
        }
    }

    /// Every other learned vector.
    pub(super) fn vectors(&self) -> Vec<&Vector> {
        match self {
            Self::GatedDelta(mixer) => mixer.vectors(),
            Self::ShortConvolution(mixer) => mixer.convolution.vectors(),
            Self::StateSpace(mixer) => mixer.vectors(),
            Self::SelectiveScan(mixer) => mixer.vectors(),
        }
    }

    /// Whether its numbers fit together.
    pub fn fits(&self) -> bool {
        match self {
            Self::GatedDelta(mixer) => mixer.fits(),
            Self::StateSpace(mixer) => mixer.fits(),
            Self::SelectiveScan(mixer) => mixer.fits(),
            Self::ShortConvolution(_) => true,
        }
    }

    /// Values that a token has inside it.
    pub fn inner_width(&self) -> usize {
        let linears = self.linears();
        let projected: usize = linears.iter().map(|linear| linear.out_features).sum();
        let after = match self {
            Self::GatedDelta(_) | Self::ShortConvolution(_) => 0,
            // The output, and the parts of it that are put together.
            Self::StateSpace(mixer) => 2 * mixer.gate.out_features,
            Self::SelectiveScan(mixer) => 2 * mixer.gate.out_features,
        };
        projected + after
    }
}
