//! A transformer block beside the residual stream.
#![forbid(unsafe_code)]

use super::{Linear, Norm};

/// Attention and MLP of a layer as a block that adds nothing to the residual stream `x` itself: with the
/// embedding `e` beside it they make something of the stream that the layer's mixer reads with it (Zamba2,
/// Glorioso et al. 2024, arXiv 2411.15242):
///
/// ```text
/// t = out(mlp(mlp_norm(attention(norm([x, e])))))        x + mixer(mixer_norm(x + t))
/// ```
///
/// where both norms are those before the parts. Several layers may have the same tensors for it.
#[derive(Debug, Clone)]
pub struct SideBlock {
    /// Norm of the residual stream and, behind it, the embedding, `[2 * hidden_size]`: what attention reads.
    pub norm: Norm,
    /// From what the MLP makes to the residual stream's dimensions.
    pub out: Linear,
}
