//! Rotary position embedding.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, simd::vectorise};
use crate::{
    backend::{Rotation, Rotations, RowOperations, Rows},
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

    fn split_rotated(
        &self,
        joined: &Tensor,
        [q, k, v]: [usize; 3],
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<[Tensor; 3]> {
        let mut first = self.gather_columns(joined, 0..q)?;
        let mut second = self.gather_columns(joined, q..q + k)?;
        self.rotate(&mut first, sequences, rotation, tables)?;
        self.rotate(&mut second, sequences, rotation, tables)?;
        let third = self.gather_columns(joined, q + k..q + k + v)?;
        Ok([first, second, third])
    }
}

/// Rotates a part of each head, pairing its halves or its neighbours.
fn rotate(x: &mut [f32], columns: usize, rotation: Rotation, table: &RopeTable) {
    let pairs = table.pairs();
    let sign = if rotation.back { -1.0 } else { 1.0 };
    x.par_chunks_mut(columns)
        .enumerate()
        .for_each(|(index, row)| {
            let position = index * rotation.step;
            let cos = &table.cos()[position * pairs..(position + 1) * pairs];
            let sin = &table.sin()[position * pairs..(position + 1) * pairs];
            vectorise(
                #[inline(always)]
                || {
                    for head in row.chunks_exact_mut(rotation.head_dim) {
                        let part = &mut head[rotation.first..rotation.first + 2 * pairs];
                        if table.interleaved() {
                            rotate_neighbours(part, cos, sin, sign);
                        } else {
                            rotate_halves(part, cos, sin, sign);
                        }
                    }
                },
            );
        });
}

/// Dimension `i` with `i + pairs`, by angles of this sign.
#[inline(always)]
fn rotate_halves(part: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    let pairs = cos.len();
    let (first, second) = part.split_at_mut(pairs);
    let second = &mut second[..pairs];
    for i in 0..pairs {
        let (a, b) = (first[i], second[i]);
        let sin = sin[i] * sign;
        first[i] = a * cos[i] - b * sin;
        second[i] = b * cos[i] + a * sin;
    }
}

/// Dimension `2i` with `2i + 1`.
#[inline(always)]
fn rotate_neighbours(part: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    for ((pair, cos), sin) in part.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        let sin = sin * sign;
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
