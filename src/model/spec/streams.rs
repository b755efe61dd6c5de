//! Hyper-connections (Zhu et al. 2024), as data: several residual streams that every part of a layer reads a
//! sum of, adds to and mixes, by weights that depend on the streams themselves.
#![forbid(unsafe_code)]

use super::{Linear, Norm, Vector};

/// The most residual streams that are computed.
pub const MOST_STREAMS: usize = 8;

/// The residual streams of a model, all of which begin as the embedding.
#[derive(Debug, Clone)]
pub struct Streams {
    /// How many.
    pub count: usize,
    /// What the final norm reads of them.
    pub collapse: StreamWeights,
}

/// How the two parts of a layer meet the streams.
#[derive(Debug, Clone)]
pub struct HyperConnections {
    /// What mixes tokens.
    pub mixer: StreamWeights,
    /// The MLP.
    pub mlp: StreamWeights,
}

/// Weights of a token's streams `x`, from their products `p = weights(norm(x))`. With N streams, a part
/// reads `sum_n pre_n x_n`; where it gives `y`, stream n becomes `post_n y + sum_m mix_mn x_m`, where
///
/// - `pre = sigmoid(scale_0 p + base) + epsilon` of the first N products,
/// - `post = 2 sigmoid(scale_1 p + base)` of the next N,
/// - `mix`, of the last N x N, row by row: a softmax of `scale_2 p + base`, whose columns and rows are
///   divided by their sums in turn (Sinkhorn & Knopp 1967; manifold-constrained hyper-connections,
///   Xie et al. 2026).
#[derive(Debug, Clone)]
pub struct StreamWeights {
    /// Of all streams of a token together.
    pub norm: Norm,
    /// To the products: N where the streams are only read, else `(2 + N) N`.
    pub weights: Linear,
    /// As many as products.
    pub base: Vector,
    /// For each kind of weights one.
    pub scale: Vector,
    /// Times that columns are divided by their sums.
    pub iterations: usize,
    /// Added to what must not vanish.
    pub epsilon: f32,
}

impl HyperConnections {
    /// Both.
    pub(super) fn all(&self) -> [&StreamWeights; 2] {
        [&self.mixer, &self.mlp]
    }

    /// Both, to be changed.
    pub(super) fn all_mut(&mut self) -> [&mut StreamWeights; 2] {
        [&mut self.mixer, &mut self.mlp]
    }
}

impl StreamWeights {
    /// What it has learned beside its products.
    pub fn vectors(&self) -> [&Vector; 2] {
        [&self.base, &self.scale]
    }
}
