//! Token mixers other than attention.
#![forbid(unsafe_code)]

mod convolution;
mod gated_delta;
mod selective_scan;
mod short_convolution;
mod state_space;

use self::{
    gated_delta::GatedDeltaWeights, selective_scan::SelectiveScanWeights,
    short_convolution::ShortConvolutionWeights, state_space::StateSpaceWeights,
};
use super::pass::Pass;
use crate::{
    backend::Backend,
    error::Result,
    model::{Model, spec::Mixer},
};

/// A layer's mixer on the device.
pub(super) enum MixerWeights<'m, B: Backend> {
    GatedDelta(Box<GatedDeltaWeights<'m, B>>),
    ShortConvolution(ShortConvolutionWeights<'m, B>),
    StateSpace(Box<StateSpaceWeights<'m, B>>),
    SelectiveScan(Box<SelectiveScanWeights<'m, B>>),
}

impl<'m, B: Backend> MixerWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Mixer) -> Result<Self> {
        Ok(match spec {
            Mixer::GatedDelta(spec) => {
                Self::GatedDelta(Box::new(GatedDeltaWeights::load(backend, model, spec)?))
            }
            Mixer::ShortConvolution(spec) => {
                Self::ShortConvolution(ShortConvolutionWeights::load(backend, model, spec)?)
            }
            Mixer::StateSpace(spec) => {
                Self::StateSpace(Box::new(StateSpaceWeights::load(backend, model, spec)?))
            }
            Mixer::SelectiveScan(spec) => {
                Self::SelectiveScan(Box::new(SelectiveScanWeights::load(backend, model, spec)?))
            }
        })
    }

    /// What it adds to the residual stream.
    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        match self {
            Self::GatedDelta(mixer) => mixer.run(pass, input),
            Self::ShortConvolution(mixer) => mixer.run(pass, input),
            Self::StateSpace(mixer) => mixer.run(pass, input),
            Self::SelectiveScan(mixer) => mixer.run(pass, input),
        }
    }
}
