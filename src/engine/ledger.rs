//! The values of the residual stream that are followed through a layer.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::batch::Batch;

/// The values that are followed in one micro-batch, in the layer that runs.
#[derive(Default)]
pub(super) struct Ledger {
    /// The card that has the micro-batch.
    pub(super) card: usize,
    pub(super) layer: usize,
    /// Sequences, and which of the cells are theirs.
    pub(super) sequences: Vec<(usize, Range<usize>)>,
    /// (row of the micro-batch, dimension).
    pub(super) cells: Vec<(usize, usize)>,
    /// The rows with cells: sequence, position in it, row of the micro-batch.
    pub(super) rows: Vec<(usize, usize, usize)>,
    /// The stream there.
    pub(super) known: Vec<f32>,
    /// What attention and the mixer beside it give to a sum that is added as one.
    pub(super) beside: Option<[Vec<f32>; 2]>,
}

impl Ledger {
    /// Of the cells that the plan names by sequence.
    pub(super) fn of(
        cells: &[Vec<(usize, usize)>],
        layer: usize,
        (card, batch): (usize, &Batch),
    ) -> Self {
        let mut ledger = Self {
            card,
            layer,
            ..Self::default()
        };
        for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
            let first = ledger.cells.len();
            let own = cells.get(*sequence).map_or(&[][..], Vec::as_slice);
            let placed = own.iter().map(|cell| (rows.start + cell.0, cell.1));
            ledger.cells.extend(placed);
            ledger
                .sequences
                .push((*sequence, first..ledger.cells.len()));
            let mut positions: Vec<usize> = own.iter().map(|cell| cell.0).collect();
            positions.sort_unstable();
            positions.dedup();
            let positions = positions.into_iter();
            let placed = positions.map(|position| (*sequence, position, rows.start + position));
            ledger.rows.extend(placed);
        }
        ledger
    }
}
