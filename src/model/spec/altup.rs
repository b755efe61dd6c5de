//! Alternating updates (AltUp, Baykal et al. 2023), as data: several residual streams a token.
#![forbid(unsafe_code)]

use super::{Linear, Norm, Vector};

/// Residual streams beside the one that the layers' parts read and the embedding begins. Each begins as
/// a projection of the embedding, and the head reads the mean of the first and of what projections make
/// of the others; what is projected is scaled to the magnitude of the first stream.
#[derive(Debug, Clone)]
pub struct OtherStreams {
    /// From the embedding to each of them.
    pub begin: Vec<Linear>,
    /// From each of them to the mean.
    pub end: Vec<Linear>,
}

/// The least mean square that a projection is divided by when it is scaled.
pub const LEAST_MEAN_SQUARE: f32 = 1e-5;

/// How a layer updates the streams `h`, of which its parts read the first. It predicts all of them,
/// `p_i = h_i + sum_j P(m)_ij h_j`; its parts make `y` of `p_0`; it corrects all of them by what they
/// changed, `p_i + (C(n)_i + 1) (y - p_0)`. `m` of `h_0` and `n` of `y` are `tanh(router(norm(x)) scale)`.
#[derive(Debug, Clone)]
pub struct AltUp {
    /// Norm of what the router reads.
    pub router_norm: Norm,
    /// To one value a stream.
    pub router: Linear,
    /// Factor inside the tanh.
    pub router_scale: f32,
    /// `P`: for each stream a value for every stream.
    pub predict: Linear,
    /// `C`: a value for each stream.
    pub correct: Linear,
    /// `[hidden_size]`: factors on the first stream for what the layer makes of its own embedding of the
    /// token, which is added to the other streams.
    pub output_scale: Option<Vector>,
}

impl AltUp {
    /// Its projections.
    pub(super) fn linears(&self) -> [&Linear; 3] {
        [&self.router, &self.predict, &self.correct]
    }
}

/// A low-rank part of a layer beside its attention (LAuReL, Menghani et al. 2024): with it the residual
/// stream becomes `scale * (x + attention + n + norm(right(left(n))))`, where `n` is what attention reads.
#[derive(Debug, Clone)]
pub struct Laurel {
    /// To the rank.
    pub left: Linear,
    /// From the rank.
    pub right: Linear,
    /// On the product.
    pub norm: Norm,
    /// Factor on the sum.
    pub scale: f32,
}
