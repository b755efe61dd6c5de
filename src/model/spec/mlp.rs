//! Feed-forward parts as data.
#![forbid(unsafe_code)]

use super::{Linear, Norm, Norms, Vector};

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
    /// `down(xielu(up(x)))`, with learned scalars.
    Xielu {
        /// Up projection.
        up: Linear,
        /// Down projection.
        down: Linear,
        /// Of the nonlinearity.
        scalars: Xielu,
    },
    /// A mixture of experts.
    Experts(Box<Experts>),
    /// A mixture of experts beside a gated MLP.
    SideBySide(Box<SideBySide>),
}

impl Mlp {
    /// Every projection except those of experts.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Gated(mlp) => mlp.linears(),
            Self::Plain { up, down, .. } | Self::Xielu { up, down, .. } => vec![up, down],
            Self::Experts(experts) => experts.linears(),
            Self::SideBySide(both) => {
                let mut linears = both.dense.linears();
                linears.extend(both.experts.linears());
                linears
            }
        }
    }

    /// Every norm inside it.
    pub(super) fn norms(&self) -> Vec<&Norm> {
        let Self::SideBySide(both) = self else {
            return Vec::new();
        };
        let mut norms = vec![&both.router_norm];
        norms.extend(both.dense_norms.all());
        norms.extend(both.expert_norms.all());
        norms
    }

    /// Every norm inside it, to be changed.
    pub(super) fn norms_mut(&mut self) -> Vec<&mut Norm> {
        let Self::SideBySide(both) = self else {
            return Vec::new();
        };
        let mut norms = vec![&mut both.router_norm];
        norms.extend(both.dense_norms.all_mut());
        norms.extend(both.expert_norms.all_mut());
        norms
    }

    /// What it has learned beside projections, norms and the routing's correction.
    pub(super) fn vectors(&self) -> Vec<&Vector> {
        match self {
            Self::SideBySide(both) => vec![&both.expert_scale],
            _ => Vec::new(),
        }
    }
}

/// A gated MLP and a mixture of experts side by side, whose outputs are added. Each has norms of its
/// own, and so has the router: all three read the same input.
#[derive(Debug, Clone)]
pub struct SideBySide {
    /// The MLP that every token visits.
    pub dense: GatedMlp,
    /// Norms around it.
    pub dense_norms: Norms,
    /// The experts.
    pub experts: Experts,
    /// Norms around them.
    pub expert_norms: Norms,
    /// Norm of what the router reads.
    pub router_norm: Norm,
    /// Factor on the router's logits.
    pub router_scale: f32,
    /// `[count]`: factors on the experts' outputs.
    pub expert_scale: Vector,
}

/// `down(activation(gate(x)) * (up(x) + up_offset))`, gate and up clamped where there is a limit; without a
/// gate `down(activation(up(x)))`, as experts and what is beside them may be, too.
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// Gate projection.
    pub gate: Option<Linear>,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Nonlinearity on the gate, or on up where there is none.
    pub activation: Activation,
    /// Of each token's gates only what exceeds their mean by so many standard deviations passes, less that
    /// cutoff, before the nonlinearity.
    pub cutoff: Option<f32>,
    /// Before the nonlinearity the gate is clamped from above, up from both sides.
    pub limit: Option<f32>,
    /// Added to up.
    pub up_offset: f32,
}

impl GatedMlp {
    /// `down(activation(gate(x)) * up(x))`.
    pub fn new(gate: Linear, up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            gate: Some(gate),
            ..Self::plain(up, down, activation)
        }
    }

    /// `down(activation(up(x)))`.
    pub fn plain(up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            gate: None,
            up,
            down,
            activation,
            cutoff: None,
            limit: None,
            up_offset: 0.0,
        }
    }

    /// Its projections.
    pub fn linears(&self) -> Vec<&Linear> {
        self.gate.iter().chain([&self.up, &self.down]).collect()
    }
}

/// The learned scalars of xIELU (Huang & Schlag 2024):
/// `alpha_p x^2 + beta x` where `x > 0`, else `alpha_n (exp(min(x, eps)) - 1 - x) + beta x`, where the
/// stored alphas are before a softplus and `beta` is added to `alpha_n`'s.
#[derive(Debug, Clone)]
pub struct Xielu {
    /// One value.
    pub alpha_p: Vector,
    /// One value.
    pub alpha_n: Vector,
    /// One value.
    pub beta: Vector,
    /// One value.
    pub eps: Vector,
}

impl Xielu {
    /// Of a module that holds them.
    pub fn new(module: &str) -> Self {
        let scalar = |name: &str| Vector::new(format!("{module}.{name}"), 1);
        Self {
            alpha_p: scalar("alpha_p"),
            alpha_n: scalar("alpha_n"),
            beta: scalar("beta"),
            eps: scalar("eps"),
        }
    }

    /// All of them.
    pub fn vectors(&self) -> [&Vector; 4] {
        [&self.alpha_p, &self.alpha_n, &self.beta, &self.eps]
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
    /// To the width that the experts read and write, and back; none where that is the residual stream's.
    pub latent: Option<[Linear; 2]>,
    /// Whether a visit's weight is a factor on what the expert reads, rather than on what it makes of it.
    pub weighted_inputs: bool,
    /// An MLP that every token visits.
    pub shared: Option<Shared>,
}

impl Experts {
    /// Experts that a token visits.
    pub fn visits(&self) -> usize {
        self.routing.top_k.min(self.count)
    }

    /// Every projection except those of the experts.
    fn linears(&self) -> Vec<&Linear> {
        let mut linears = vec![&self.routing.router];
        if let Some(shared) = &self.shared {
            linears.extend(shared.mlp.linears());
            linears.extend(&shared.gate);
        }
        linears.extend(self.latent.iter().flatten());
        linears
    }
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
    /// Which experts a token visits, whatever their scores; those are its weights alone.
    pub table: Option<TokenTable>,
    /// Only the best groups of experts take part.
    pub groups: Option<ExpertGroups>,
    /// Experts per token.
    pub top_k: usize,
    /// Whether the weights of the chosen are divided by their sum.
    pub renormalise: bool,
    /// Added to that sum.
    pub epsilon: f32,
    /// Factor on the weights.
    pub scale: f32,
}

/// The experts of every token id (hash layers, Roller et al. 2021): integers `[vocab_size, top_k]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTable {
    /// The tensor.
    pub tensor: String,
    /// Its rows.
    pub tokens: usize,
}

/// Scores of the experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each logit.
    Sigmoid,
    /// Square root of each logit's softplus.
    SqrtSoftplus,
    /// The logits, which are chosen one after the other: the weight of each is its softmax over the
    /// experts that are left and whose distance from it is at most this share of the larger of the
    /// two magnitudes (SparseMixer-v2, Liu et al. 2024, as at inference). No correction, no groups.
    Sparse(f32),
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
    /// `ln(1 + exp(x))`.
    Softplus,
    /// GELU with the error function.
    GeluErf,
    /// GELU, tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
}
