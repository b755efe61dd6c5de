//! Embeddings of a token for each layer (PLE, Gemma 3n 2025), as data.
#![forbid(unsafe_code)]

use super::{Activation, Linear, Norm};

/// What the layers have of a token besides the residual stream: for layer `l`, of the `width` columns
/// and rows that are its own, `sum_scale * (norm(projection_scale * W_l e) + scale * table[token, l])`,
/// where `e` is the token's embedding as the first layer receives it.
#[derive(Debug, Clone)]
pub struct PerLayerEmbedding {
    /// Table `[rows, layers * width]`.
    pub table: String,
    /// Its rows; tokens beyond take the first.
    pub rows: usize,
    /// Values that a token has for a layer.
    pub width: usize,
    /// Factor on the table's rows.
    pub scale: f32,
    /// From the embedding to the `layers * width` values of all layers.
    pub projection: Linear,
    /// Factor on the projection.
    pub projection_scale: f32,
    /// Norm of a layer's share of the projection.
    pub norm: Norm,
    /// Factor on the sum.
    pub sum_scale: f32,
}

impl PerLayerEmbedding {
    /// The part of the projection that is a layer's.
    pub fn projection_of(&self, layer: usize) -> Linear {
        let mut part = self.projection.clone();
        part.out_features = self.width;
        part.part_of(layer * self.width, self.projection.stored_outputs)
    }
}

/// What a layer makes of its own embedding of the token:
/// `h + norm(projection(activation(gate(h)) * embedding))`.
#[derive(Debug, Clone)]
pub struct PerLayerInput {
    /// From the residual stream to the embedding's width.
    pub gate: Linear,
    /// On the gate.
    pub activation: Activation,
    /// From the embedding's width to the residual stream.
    pub projection: Linear,
    /// On what is added.
    pub norm: Norm,
}

impl PerLayerInput {
    /// Its projections.
    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.gate, &self.projection]
    }
}
