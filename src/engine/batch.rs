//! Micro-batches: whole sequences that pass through a layer together.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::edit::Edit;
use crate::backend::Rows;

/// Whole sequences that pass through a layer together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its place among the micro-batches of the walk; variants have their original's.
    pub(super) number: usize,
    /// Index of each sequence in the run.
    pub(super) sequences: Vec<usize>,
    /// Rows of each sequence in the batch's tensors.
    pub(super) rows: Vec<Rows>,
    /// Whether the probes look at it; they do not at variants of sequences.
    pub(super) observed: bool,
    /// What is changed in it, by row; nothing in an original.
    pub(super) edits: Vec<Edit>,
    /// (layer, head) that are switched off in it.
    pub(super) heads_off: Vec<(usize, usize)>,
}

impl Batch {
    /// The tokens of its sequences.
    pub(super) fn tokens<'s>(&self, all: &'s [Vec<u32>]) -> impl Iterator<Item = &'s Vec<u32>> {
        self.sequences.iter().map(|sequence| &all[*sequence])
    }
}

/// Groups the sequences `part` of all until a micro-batch has about `target` rows.
pub(super) fn batches(all: &[Vec<u32>], part: Range<usize>, target: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut rows = target;
    for index in part {
        let length = all[index].len();
        if rows + length > target {
            batches.push(Batch {
                number: batches.len(),
                sequences: Vec::new(),
                rows: Vec::new(),
                observed: true,
                edits: Vec::new(),
                heads_off: Vec::new(),
            });
            rows = 0;
        }
        if let Some(batch) = batches.last_mut() {
            batch.sequences.push(index);
            batch.rows.push(rows..rows + length);
        }
        rows += length;
    }
    batches
}

/// Where a part that begins at `start` ends: after whole micro-batches, and before it has more than
/// `most` rows; at least one micro-batch.
pub(super) fn part_end(all: &[Vec<u32>], start: usize, target: usize, most: usize) -> usize {
    let (mut rows, mut end) = (0, start);
    for batch in batches(all, start..all.len(), target) {
        rows += batch.rows.last().map_or(0, |rows| rows.end);
        if end > start && rows > most {
            break;
        }
        end += batch.sequences.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_where_micro_batches_do() {
        let sequences: Vec<Vec<u32>> = [3, 5, 4, 20, 1, 2].map(|n| vec![0; n]).to_vec();
        // Micro-batches of 3 + 5, 4, 20, 1 + 2 rows.
        for (start, most, end) in [(0, 7, 2), (0, 11, 2), (0, 12, 3), (0, 35, 6), (3, 22, 4)] {
            assert_eq!(part_end(&sequences, start, 9, most), end, "{start} {most}");
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn micro_batches_hold_whole_sequences() {
        let sequences: Vec<Vec<u32>> = [7, 3, 5, 4, 20, 1].map(|n| vec![0; n]).to_vec();
        let batches = batches(&sequences, 1..6, 9);
        let shape: Vec<_> = batches
            .iter()
            .map(|batch| (batch.sequences[0], batch.rows.clone()))
            .collect();
        assert_eq!(
            shape,
            [
                (1, vec![0..3, 3..8]),
                (3, vec![0..4]),
                (4, vec![0..20]),
                (5, vec![0..1])
            ]
        );
    }
}
