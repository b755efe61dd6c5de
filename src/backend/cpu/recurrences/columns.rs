//! Results that are made a sequence and some columns at a time.
#![forbid(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use crate::backend::{Rows, cpu::Tensor};

/// Lets `work` make each of the `parts` of the columns for each sequence, `[rows, part]`, on all cores,
/// and puts them side by side.
pub(super) fn by_columns(
    out: &mut Tensor,
    sequences: &[Rows],
    parts: &[Range<usize>],
    work: impl Fn(&Rows, usize) -> Vec<f32> + Sync,
) {
    let columns = out.columns;
    let made: Vec<Vec<f32>> = (0..sequences.len() * parts.len())
        .into_par_iter()
        .with_max_len(1)
        .map(|task| work(&sequences[task / parts.len()], task % parts.len()))
        .collect();
    for (rows, made) in sequences.iter().zip(made.chunks(parts.len())) {
        let out = &mut out.values[rows.start * columns..rows.end * columns];
        let rows = out.par_chunks_mut(columns).enumerate();
        rows.for_each(|(row, out)| {
            for (part, made) in parts.iter().zip(made) {
                let width = part.len();
                out[part.clone()].copy_from_slice(&made[row * width..(row + 1) * width]);
            }
        });
    }
}
