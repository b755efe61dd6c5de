//! Feed-forward parts as data.
#![forbid(unsafe_code)]

use super::{Linear, Vector};

/// Feed-forward part of a layer.
#[derive(Debug, Clone)]
pub enum Mlp {
    /// With a gate.
    Gated(GatedMlp),
    /// `down(activation(up(x)))`.
    Plain {
        /// Up projection.
        up: Linear,
        /// Down projection.
        down: Linear,
        /// Nonlinearity.
        activation: Activation,
    },
    /// A mixture of experts.
    Experts(Box<Experts>),
}

impl Mlp {
    /// Every projection except those of experts.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Gated(mlp) => mlp.linears().to_vec(),
            Self::Plain { up, down, .. } => vec![up, down],
            Self::Experts(experts) => {
                let mut linears = vec![&experts.routing.router];
                if let Some(shared) = &experts.shared {
                    linears.extend(shared.mlp.linears());
                    linears.extend(&shared.gate);
                }
                linears
            }
        }
    }
}

/// `down(activation(gate(x)) * (up(x) + up_offset))`, gate and up clamped where there is a limit.
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Nonlinearity on the gate.
    pub activation: Activation,
    /// Before the nonlinearity the gate is clamped from above, up from both sides.
    pub limit: Option<f32>,
    /// Added to up.
    pub up_offset: f32,
}

impl GatedMlp {
    /// `down(activation(gate(x)) * up(x))`.
    pub fn new(gate: Linear, up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            gate,
            up,
            down,
            activation,
            limit: None,
            up_offset: 0.0,
        }
    }

    /// Its projections.
    pub fn linears(&self) -> [&Linear; 3] {
        [&self.gate, &self.up, &self.down]
    }
}

/// A mixture of experts: each token visits the experts that a router picks.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// One expert; [`Linear::of_expert`] makes it a particular one.
    pub expert: GatedMlp,
    /// Which experts a token visits, and with which weights.
    pub routing: Routing,
    /// Whether a visit's weight is a factor on what the expert reads, rather than on what it makes of it.
    pub weighted_inputs: bool,
    /// An MLP that every token visits.
    pub shared: Option<Shared>,
}

/// How tokens choose experts.
#[derive(Debug, Clone)]
pub struct Routing {
    /// From the input to one logit per expert.
    pub router: Linear,
    /// From logits to scores.
    pub score: Score,
    /// `[count]`: added to the scores for the choice, not for the weights.
    pub correction: Option<Vector>,
    /// Only the best groups of experts take part.
    pub groups: Option<ExpertGroups>,
    /// Experts per token.
    pub top_k: usize,
    /// Whether the weights of the chosen are divided by their sum.
    pub renormalise: bool,
    /// Factor on the weights.
    pub scale: f32,
}

/// Scores of the experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each logit.
    Sigmoid,
}

/// Experts in equal groups, of which the best take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Number of groups.
    pub count: usize,
    /// Groups that take part.
    pub kept: usize,
    /// A group is worth the sum of this many of its best scores.
    pub best: usize,
}

/// An MLP beside the experts.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The MLP.
    pub mlp: GatedMlp,
    /// Its output is weighted by the sigmoid of this projection to one value.
    pub gate: Option<Linear>,
}

/// Elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x * sigmoid(x)` (SiLU, swish).
    Silu,
    /// `x * sigmoid(a x)`.
    ScaledSilu(f32),
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// GELU with the error function.
    GeluErf,
    /// GELU, tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
}
