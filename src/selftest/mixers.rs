//! What stands in a layer beside attention or in its place: short convolutions, and recurrences whose
//! states go from token to token.

use super::inputs::noise;
use crate::{
    backend::{Backend, DeltaRequest, Filter, Rows, SelectiveScanRequest, StateSpaceRequest},
    error::Result,
    model::{dtype::DType, spec::Activation},
};

/// A call over sequences of these lengths.
#[derive(Debug, Clone)]
pub(super) struct Mixer {
    lengths: Vec<usize>,
    kind: Kind,
}

/// Shape and options.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Convolution {
        channels: usize,
        width: usize,
        bias: bool,
        activation: Option<Activation>,
    },
    DeltaRule {
        key_heads: usize,
        heads: usize,
        key_dim: usize,
        value_dim: usize,
        per_channel: bool,
    },
    StateSpace {
        heads: usize,
        head_dim: usize,
        groups: usize,
        state: usize,
    },
    SelectiveScan {
        inner: usize,
        state: usize,
    },
}

/// Every kernel, with sizes that fill no vector and no warp.
pub(super) fn small() -> impl Iterator<Item = Mixer> {
    let convolution = |channels, width, activation| Kind::Convolution {
        channels,
        width,
        bias: width == 3,
        activation,
    };
    let delta_rule = |key_dim, per_channel| Kind::DeltaRule {
        key_heads: 1,
        heads: 3,
        key_dim,
        value_dim: if key_dim == 20 { 12 } else { 37 },
        per_channel,
    };
    let mut kinds = vec![
        convolution(37, 4, Some(Activation::Silu)),
        convolution(40, 4, Some(Activation::Silu)),
        convolution(16, 3, None),
        Kind::SelectiveScan {
            inner: 69,
            state: 16,
        },
        Kind::SelectiveScan {
            inner: 18,
            state: 21,
        },
    ];
    for width in [20, 60, 96, 128, 200] {
        kinds.extend([false, true].map(|per_channel| delta_rule(width, per_channel)));
        kinds.push(Kind::StateSpace {
            heads: 4,
            head_dim: if width == 20 { 12 } else { 37 },
            groups: 2,
            state: width,
        });
    }
    kinds.into_iter().map(|kind| Mixer {
        lengths: vec![1, 19, 5],
        kind,
    })
}

/// Several blocks, as models have them.
pub(super) fn large() -> impl Iterator<Item = Mixer> {
    [
        Kind::Convolution {
            channels: 4096,
            width: 4,
            bias: true,
            activation: Some(Activation::Silu),
        },
        Kind::DeltaRule {
            key_heads: 4,
            heads: 8,
            key_dim: 128,
            value_dim: 128,
            per_channel: false,
        },
        Kind::StateSpace {
            heads: 16,
            head_dim: 64,
            groups: 2,
            state: 128,
        },
        Kind::SelectiveScan {
            inner: 1024,
            state: 16,
        },
    ]
    .into_iter()
    .map(|kind| Mixer {
        lengths: vec![700, 300],
        kind,
    })
}

impl Mixer {
    pub(super) fn name(&self) -> String {
        let what = match self.kind {
            Kind::Convolution {
                channels, width, ..
            } => format!("convolution of {width} taps, {channels} channels"),
            Kind::DeltaRule {
                key_dim,
                value_dim,
                per_channel,
                ..
            } => {
                let decays = if per_channel {
                    ", channels' decays"
                } else {
                    ""
                };
                format!("gated delta rule, states of {key_dim} x {value_dim}{decays}")
            }
            Kind::StateSpace {
                head_dim, state, ..
            } => format!("state space, states of {head_dim} x {state}"),
            Kind::SelectiveScan { inner, state } => {
                format!("selective scan, {inner} states of {state}")
            }
        };
        let tokens: usize = self.lengths.iter().sum();
        format!("{what}, {tokens} tokens")
    }

    /// Values below this need not be closer than those of its size.
    pub(super) fn scale(&self) -> f64 {
        match self.kind {
            // Sums over the state of terms around 1.
            Kind::StateSpace { state, .. } | Kind::SelectiveScan { state, .. } => {
                (state as f64).sqrt()
            }
            // A query's length.
            Kind::DeltaRule { key_dim, .. } => 1.0 / (key_dim as f64).sqrt(),
            Kind::Convolution { .. } => 1.0,
        }
    }

    pub(super) fn compute<B: Backend>(&self, b: &B, dtype: DType) -> Result<Vec<f32>> {
        let rows: usize = self.lengths.iter().sum();
        let mut end = 0;
        let sequences: Vec<Rows> = self
            .lengths
            .iter()
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect();
        let tensor = |columns, seed| b.upload(rows, columns, noise(rows * columns, seed, dtype));
        let vector = |count, seed| b.vector(noise(count, seed, DType::Float32));
        let out = match self.kind {
            Kind::Convolution {
                channels,
                width,
                bias,
                activation,
            } => {
                let filter = Filter {
                    width,
                    weight: vector(channels * width, 2)?,
                    bias: bias.then(|| vector(channels, 3)).transpose()?,
                    activation,
                };
                b.convolve(&tensor(channels, 1)?, &sequences, &filter)?
            }
            Kind::DeltaRule {
                key_heads,
                heads,
                key_dim,
                value_dim,
                per_channel,
            } => {
                let decays = if per_channel { heads * key_dim } else { heads };
                let request = DeltaRequest {
                    key_heads,
                    heads,
                    key_dim,
                    value_dim,
                    a_log: &vector(heads, 6)?,
                    dt_bias: &vector(decays, 7)?,
                    per_channel,
                    beta_scale: 2.0,
                };
                let (q, k) = (
                    tensor(key_heads * key_dim, 1)?,
                    tensor(key_heads * key_dim, 2)?,
                );
                let v = tensor(heads * value_dim, 3)?;
                let (decay, beta) = (tensor(decays, 4)?, tensor(heads, 5)?);
                b.delta_rule(&q, &k, &v, &decay, &beta, &sequences, &request)?
            }
            Kind::StateSpace {
                heads,
                head_dim,
                groups,
                state,
            } => {
                let request = StateSpaceRequest {
                    heads,
                    head_dim,
                    groups,
                    state,
                    a_log: &vector(heads, 5)?,
                    dt_bias: &vector(heads, 6)?,
                    d: &vector(heads, 7)?,
                    dt_limits: (0.3, 1.0),
                };
                let x = tensor(heads * head_dim, 1)?;
                let (keys, queries) = (tensor(groups * state, 2)?, tensor(groups * state, 3)?);
                b.state_space(
                    &x,
                    &keys,
                    &queries,
                    &tensor(heads, 4)?,
                    &sequences,
                    &request,
                )?
            }
            Kind::SelectiveScan { inner, state } => {
                let request = SelectiveScanRequest {
                    state,
                    a_log: &vector(inner * state, 5)?,
                    dt_bias: &vector(inner, 6)?,
                    d: &vector(inner, 7)?,
                };
                let (x, dt) = (tensor(inner, 1)?, tensor(inner, 2)?);
                let (input, output) = (tensor(state, 3)?, tensor(state, 4)?);
                b.selective_scan(&x, &dt, &input, &output, &sequences, &request)?
            }
        };
        b.download(&out)
    }
}
