//! What stands in a layer beside attention or in its place: short convolutions.

use super::inputs::noise;
use crate::{
    backend::{Backend, Filter, Rows},
    error::Result,
    model::{dtype::DType, spec::Activation},
};

/// Shape and options of a call.
#[derive(Debug, Clone)]
pub(super) enum Mixer {
    Convolution {
        lengths: Vec<usize>,
        channels: usize,
        width: usize,
        bias: bool,
        activation: Option<Activation>,
    },
}

/// Sizes that fill no vector and no warp.
pub(super) fn small() -> impl Iterator<Item = Mixer> {
    let convolution = |channels, width, activation| Mixer::Convolution {
        lengths: vec![9, 1, 5],
        channels,
        width,
        bias: width == 3,
        activation,
    };
    [
        convolution(37, 4, Some(Activation::Silu)),
        convolution(12, 3, None),
    ]
    .into_iter()
}

/// Several blocks.
pub(super) fn large() -> impl Iterator<Item = Mixer> {
    [Mixer::Convolution {
        lengths: vec![700, 300],
        channels: 4096,
        width: 4,
        bias: true,
        activation: Some(Activation::Silu),
    }]
    .into_iter()
}

/// Sequences of these lengths, one after the other.
fn sequences(lengths: &[usize]) -> Vec<Rows> {
    let mut end = 0;
    let rows = lengths.iter().map(|length| {
        end += length;
        end - length..end
    });
    rows.collect()
}

impl Mixer {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Convolution {
                lengths,
                channels,
                width,
                ..
            } => {
                let tokens = lengths[0];
                format!("convolution of {width} taps, {tokens} tokens, {channels} channels")
            }
        }
    }

    pub(super) fn compute<B: Backend>(&self, b: &B, dtype: DType) -> Result<Vec<f32>> {
        match self {
            Self::Convolution {
                lengths,
                channels,
                width,
                bias,
                activation,
            } => {
                let rows: usize = lengths.iter().sum();
                let vector = |count, seed| b.vector(noise(count, seed, DType::Float32));
                let filter = Filter {
                    width: *width,
                    weight: vector(channels * width, 2)?,
                    bias: bias.then(|| vector(*channels, 3)).transpose()?,
                    activation: *activation,
                };
                let x = b.upload(rows, *channels, noise(rows * channels, 1, dtype))?;
                b.download(&b.convolve(&x, &sequences(lengths), &filter)?)
            }
        }
    }
}
