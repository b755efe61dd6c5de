//! A matrix with a product of two thin ones added to it (LoRA, Hu et al. 2021): `W + scale * B A`.
//!
//! It is never made whole: a line is the base's line, and the ranks' lines in proportion.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Encoding;
use crate::model::{
    dtype::DType,
    weights::{shard::Stored, view::Elements},
};

/// Ranks and values that are widened at once.
const RANKS: usize = 32;
const PIECE: usize = 256;

/// `W + scale * B A`, W being stored in any way.
#[derive(Debug)]
pub struct Adapted {
    base: Base,
    /// By position in a line.
    along: Factor,
    /// By line.
    across: Factor,
    rank: usize,
    scale: f32,
    by_input: bool,
}

/// What the product is added to.
#[derive(Debug, Clone)]
pub(in crate::model::weights) enum Base {
    /// A matrix of floats in a file, and the length of its rows.
    Plain(Stored, DType, usize),
    /// A matrix that has to be decoded.
    Packed(Arc<Encoding>),
}

/// One of the two thin matrices: `[rank, n]` or `[n, rank]`.
#[derive(Debug, Clone)]
pub(in crate::model) struct Factor {
    pub(in crate::model) stored: Stored,
    pub(in crate::model) dtype: DType,
    pub(in crate::model) rank_first: bool,
    pub(in crate::model) length: usize,
}

/// The product of two thin matrices.
#[derive(Debug, Clone)]
pub(in crate::model) struct LowRank {
    /// A, by input.
    pub(in crate::model) inputs: Factor,
    /// B, by output.
    pub(in crate::model) outputs: Factor,
    pub(in crate::model) rank: usize,
    pub(in crate::model) scale: f32,
}

impl Base {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Plain(_, dtype, _) => dtype.to_string(),
            Self::Packed(encoding) => encoding.name(),
        }
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        match self {
            Self::Plain(stored, ..) => vec![stored],
            Self::Packed(encoding) => encoding.parts(),
        }
    }

    pub(super) fn padding(&self) -> usize {
        match self {
            Self::Plain(..) => 1,
            Self::Packed(encoding) => encoding.padding(),
        }
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        match self {
            Self::Plain(stored, dtype, length) => {
                let start = line * length + first;
                let all = elements(stored, *dtype);
                all.slice(start, start + out.len()).write_f32(out);
            }
            Self::Packed(encoding) => encoding.decode(line, first, out),
        }
    }
}

fn elements(stored: &Stored, dtype: DType) -> Elements<'_> {
    Elements {
        dtype,
        bytes: stored.bytes(),
    }
}

impl Factor {
    /// The values of one place for `out.len()` ranks from `rank` on, of `ranks` in all.
    fn ranks(&self, place: usize, rank: usize, ranks: usize, out: &mut [f32]) {
        let all = elements(&self.stored, self.dtype);
        if !self.rank_first {
            let start = place * ranks + rank;
            return all.slice(start, start + out.len()).write_f32(out);
        }
        for (index, value) in (rank..).zip(out) {
            let at = index * self.length + place;
            all.slice(at, at + 1).write_f32(std::slice::from_mut(value));
        }
    }
}

impl Adapted {
    /// `by_input`: the base's lines are its inputs'. The factors must have the base's axes.
    pub(in crate::model::weights) fn new(base: Base, by_input: bool, added: LowRank) -> Self {
        let (along, across) = match by_input {
            true => (added.outputs, added.inputs),
            false => (added.inputs, added.outputs),
        };
        Self {
            base,
            along,
            across,
            rank: added.rank,
            scale: added.scale,
            by_input,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} + LoRA", self.base.name())
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        // The first is what the tensor is known by, and a tied base is another tensor's, too.
        let mut parts = vec![&self.along.stored, &self.across.stored];
        parts.extend(self.base.parts());
        parts
    }

    pub(super) fn by_input(&self) -> bool {
        self.by_input
    }

    pub(super) fn padding(&self) -> usize {
        self.base.padding()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        self.base.decode(line, first, out);
        // Padding has no values to add.
        let end = self.along.length.min(first + out.len());
        let out = &mut out[..end.saturating_sub(first)];
        let mut factors = [0.0f32; RANKS];
        for rank in (0..self.rank).step_by(RANKS) {
            let ranks = RANKS.min(self.rank - rank);
            let factors = &mut factors[..ranks];
            self.across.ranks(line, rank, self.rank, factors);
            for factor in &mut *factors {
                *factor *= self.scale;
            }
            if self.along.rank_first {
                self.add_lines(rank, factors, first, out);
            } else {
                self.add_products(rank, factors, first, out);
            }
        }
    }

    /// `out += sum over ranks of factor * line of the rank`, where those lie whole.
    fn add_lines(&self, rank: usize, factors: &[f32], first: usize, out: &mut [f32]) {
        let all = elements(&self.along.stored, self.along.dtype);
        let mut values = [0.0f32; PIECE];
        for (piece, out) in out.chunks_mut(PIECE).enumerate() {
            for (index, factor) in (rank..).zip(factors) {
                let start = index * self.along.length + first + piece * PIECE;
                let values = &mut values[..out.len()];
                all.slice(start, start + out.len()).write_f32(values);
                for (sum, value) in out.iter_mut().zip(values) {
                    *sum += factor * *value;
                }
            }
        }
    }

    /// The same, where each place has its ranks side by side.
    fn add_products(&self, rank: usize, factors: &[f32], first: usize, out: &mut [f32]) {
        let mut values = [0.0f32; RANKS];
        for (place, sum) in (first..).zip(out) {
            let values = &mut values[..factors.len()];
            self.along.ranks(place, rank, self.rank, values);
            let products = factors.iter().zip(values);
            *sum += products.map(|(factor, value)| factor * *value).sum::<f32>();
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;
    use crate::model::weights::shard::in_memory;

    fn stored(shape: [usize; 2], of: impl Fn(usize, usize) -> f32) -> Stored {
        let [rows, columns] = shape;
        let values = (0..rows * columns).map(|index| of(index / columns, index % columns));
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        in_memory(Dtype::F32, &shape, bytes)
    }

    /// Every layout of base and factors, more ranks and values than are widened at once, and ranges that
    /// begin anywhere.
    #[test]
    fn adds_the_product() {
        let (outputs, inputs, rank) = (5, 2 * PIECE + 7, RANKS + 3);
        let w = |o: usize, i: usize| (o * 7 + i) as f32;
        let a = |k: usize, i: usize| ((k * 3 + i) % 11) as f32 - 5.0;
        let b = |o: usize, k: usize| ((o + k * 5) % 7) as f32 - 3.0;
        let sum = |o: usize, i: usize| -> f32 {
            w(o, i) + 0.5 * (0..rank).map(|k| b(o, k) * a(k, i)).sum::<f32>()
        };
        let factor = |rank_first: bool, length: usize, of: &dyn Fn(usize, usize) -> f32| Factor {
            stored: match rank_first {
                true => stored([rank, length], |k, n| of(n, k)),
                false => stored([length, rank], of),
            },
            dtype: DType::Float32,
            rank_first,
            length,
        };
        for by_input in [false, true] {
            for rank_first in [false, true] {
                let added = LowRank {
                    inputs: factor(rank_first, inputs, &|i, k| a(k, i)),
                    outputs: factor(!rank_first, outputs, &b),
                    rank,
                    scale: 0.5,
                };
                let (base, length) = match by_input {
                    false => (stored([outputs, inputs], w), inputs),
                    true => (stored([inputs, outputs], |i, o| w(o, i)), outputs),
                };
                let base = Base::Plain(base, DType::Float32, length);
                let adapted = Adapted::new(base, by_input, added);
                for (line, first, count) in [(0, 0, 5), (3, 1, 4), (4, 2, length - 2)] {
                    let mut out = vec![0.0; count];
                    adapted.decode(line, first, &mut out);
                    for (place, value) in (first..).zip(out) {
                        let (o, i) = if by_input {
                            (place, line)
                        } else {
                            (line, place)
                        };
                        assert_eq!(value, sum(o, i), "{by_input} {rank_first} {o} {i}");
                    }
                }
            }
        }
    }
}
