//! The table of embeddings for each layer, of which a layer reads its own columns.
#![forbid(unsafe_code)]

use super::{
    Model,
    spec::PerLayerEmbedding,
    weights::{AssembledMatrix, MatrixView, WeightMatrix},
};
use crate::error::Result;

impl Model {
    /// The columns of `layer`, as a table of which the tokens have the rows that are returned beside it.
    pub fn per_layer_table(
        &self,
        embedding: &PerLayerEmbedding,
        layer: usize,
        tokens: &[usize],
    ) -> Result<(WeightMatrix<'_>, Vec<usize>)> {
        let (width, columns) = (embedding.width, embedding.projection.out_features);
        let row = |token: &usize| if *token < embedding.rows { *token } else { 0 };
        let rows: Vec<usize> = tokens.iter().map(row).collect();
        let whole = self.table(&embedding.table, embedding.rows, columns)?;
        let first = layer * width;
        if let WeightMatrix::Stored(whole) = whole {
            let elements = whole.elements.slice(
                first * whole.in_stride,
                (embedding.rows - 1) * whole.out_stride + (first + width - 1) * whole.in_stride + 1,
            );
            let own = MatrixView {
                elements,
                in_features: width,
                ..whole
            };
            return Ok((own.into(), rows));
        }
        // Packed rows are decoded whole: only those that occur.
        let mut listed = rows.clone();
        listed.sort_unstable();
        listed.dedup();
        let mut decoded = vec![0.0; columns];
        let mut values = Vec::with_capacity(listed.len() * width);
        for row in &listed {
            whole.write_output(*row, &mut decoded);
            values.extend_from_slice(&decoded[first..first + width]);
        }
        let places = rows
            .iter()
            .map(|row| listed.partition_point(|listed| listed < row));
        let places = places.collect();
        let own = AssembledMatrix::from_f32(&values, listed.len(), width);
        Ok((own.into(), places))
    }

    /// Looks its tensors up, so that a missing or misshapen one is reported before any work is done.
    pub(super) fn check_per_layer(&self, embedding: &PerLayerEmbedding) -> Result<()> {
        let columns = embedding.projection.out_features;
        self.table(&embedding.table, embedding.rows, columns)?;
        self.check_linear(&embedding.projection)?;
        self.norm(&embedding.norm)?;
        Ok(())
    }
}
