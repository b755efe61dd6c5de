//! Rotary position embedding.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, simd::vectorise};
use crate::{
    backend::{Rotation, Rotations, Rows},
    error::Result,
    model::rope::RopeTable,
};

impl Rotations for Cpu {
    fn rotate(
        &self,
        x: &mut Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()> {
        let columns = x.columns;
        for (rows, table) in sequences.iter().zip(tables) {
            let values = &mut x.values[rows.start * columns..rows.end * columns];
            rotate(values, columns, rotation, table);
        }
        Ok(())
    }
}

/// Rotates a part of each head, pairing its halves or its neighbours.
fn rotate(x: &mut [f32], columns: usize, rotation: Rotation, table: &RopeTable) {
    let pairs = table.pairs;
    x.par_chunks_mut(columns)
        .enumerate()
        .for_each(|(position, row)| {
            let cos = &table.cos[position * pairs..(position + 1) * pairs];
            let sin = &table.sin[position * pairs..(position + 1) * pairs];
            vectorise(
                #[inline(always)]
                || {
                    for head in row.chunks_exact_mut(rotation.head_dim) {
                        let part = &mut head[rotation.first..rotation.first + 2 * pairs];
                        if table.interleaved {
                            rotate_neighbours(part, cos, sin);
                        } else {
                            rotate_halves(part, cos, sin);
                        }
                    }
                },
            );
        });
}

/// Dimension `i` with `i + pairs`.
#[inline(always)]
fn rotate_halves(part: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = cos.len();
    let (first, second) = part.split_at_mut(pairs);
    let second = &mut second[..pairs];
    for i in 0..pairs {
        let (a, b) = (first[i], second[i]);
        first[i] = a * cos[i] - b * sin[i];
        second[i] = b * cos[i] + a * sin[i];
    }
}

/// Dimension `2i` with `2i + 1`.
#[inline(always)]
fn rotate_neighbours(part: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in part.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
