//! Which keys a query sees, where an indexer chooses them: the definition.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{
    Cpu, Tensor,
    gemm::{self, Operand, Output, Shape},
};
use crate::{
    backend::{KeyChoice, KeyMask, Rows},
    error::Result,
    interrupt,
};

/// Queries of a task.
const QUERIES: usize = 64;

impl KeyChoice for Cpu {
    fn choose_keys(
        &self,
        q: &Tensor,
        k: &Tensor,
        weights: &Tensor,
        sequences: &[Rows],
        (keys, rate): (&[Rows], usize),
        most: usize,
    ) -> Result<KeyMask> {
        let words = KeyMask::words_for(keys);
        let mut bits = vec![0; q.rows * words];
        let mut tasks = Vec::new();
        let mut rest = &mut bits[..];
        for (rows, keys) in sequences.iter().zip(keys) {
            let (mine, others) = rest.split_at_mut(rows.len() * words);
            rest = others;
            for (block, bits) in mine.chunks_mut((QUERIES * words).max(1)).enumerate() {
                tasks.push((rows.start, block * QUERIES, keys.start, bits));
            }
        }
        tasks
            .into_par_iter()
            .for_each(|(start, first, keys, bits)| {
                if !interrupt::requested() {
                    let queries = first..first + bits.len() / words;
                    let scores = scores((start, queries), (keys, rate), [q, k, weights]);
                    let rows = scores.iter().zip(bits.chunks_exact_mut(words));
                    for (scores, bits) in rows {
                        choose(scores, most, bits);
                    }
                }
            });
        interrupt::check()?;
        Ok(KeyMask { words, bits })
    }

    fn gather_choices(&self, mask: &KeyMask, rows: &[usize]) -> Result<KeyMask> {
        let row = |row: &usize| &mask.bits[row * mask.words..(row + 1) * mask.words];
        Ok(KeyMask {
            words: mask.words,
            bits: rows.iter().flat_map(row).copied().collect(),
        })
    }
}

/// What each of the queries, counted from its sequence's first row, gives to the keys that it sees, of those
/// from row `first` on, each of which stands for `rate` rows.
fn scores(
    (start, queries): (usize, Rows),
    (first, rate): (usize, usize),
    [q, k, weights]: [&Tensor; 3],
) -> Vec<Vec<f32>> {
    let (width, heads) = (k.columns, weights.columns);
    let (count, keys) = (queries.len(), queries.end / rate);
    if keys == 0 {
        return vec![Vec::new(); count];
    }
    let mut products = vec![0.0; count * keys];
    let mut scores = vec![vec![0.0; keys]; count];
    let operand = |x: &'_ Tensor, row: usize, column: usize| row * x.columns + column;
    for head in 0..heads {
        gemm::multiply(
            Shape {
                m: count,
                n: keys,
                k: width,
            },
            Output {
                values: &mut products,
                row_stride: keys,
                accumulate: false,
            },
            Operand {
                values: &q.values()[operand(q, start + queries.start, head * width)..],
                row_stride: q.columns,
                column_stride: 1,
            },
            Operand {
                values: &k.values()[operand(k, first, 0)..],
                row_stride: 1,
                column_stride: k.columns,
            },
        );
        let rows = scores.iter_mut().zip(products.chunks_exact(keys));
        for (query, (scores, products)) in queries.clone().zip(rows) {
            let weight = weights.row(start + query)[head];
            for (score, product) in scores.iter_mut().zip(products) {
                *score += weight * product.max(0.0);
            }
        }
    }
    for (query, scores) in queries.zip(&mut scores) {
        scores.truncate((query + 1) / rate);
    }
    scores
}

/// Sets the bits of the `most` largest scores, the earlier of equals first. NaN is above every number, so
/// that what is chosen is the same everywhere.
fn choose(scores: &[f32], most: usize, bits: &mut [u32]) {
    let value = |key: usize| match scores[key] {
        // -0, too: the sum of nothing has no sign.
        0.0 => 0.0,
        score if score.is_nan() => f32::NAN,
        score => score,
    };
    let mut keys: Vec<usize> = (0..scores.len()).collect();
    if most < keys.len() {
        keys.select_nth_unstable_by(most, |a, b| value(*b).total_cmp(&value(*a)).then(a.cmp(b)));
        keys.truncate(most);
    }
    for key in keys {
        bits[key / 32] |= 1 << (key % 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Tensors;

    /// Scores that are known: one head of width 1, so that the score of a key is `weight * max(q k, 0)`.
    #[test]
    fn the_largest_are_chosen_and_the_earlier_of_equals() -> Result<()> {
        let cpu = Cpu::new();
        let keys = vec![1.0, -5.0, 3.0, 3.0, 0.5, 3.0, 9.0, 2.0];
        let column = |values: Vec<f32>| cpu.upload(values.len(), 1, values);
        // The last three are a sequence of their own.
        let mask = cpu.choose_keys(
            &column(vec![1.0; 8])?,
            &column(keys)?,
            &column(vec![1.0, 1.0, 1.0, 1.0, 1.0, 2.0, -1.0, 1.0])?,
            &[0..5, 5..8],
            (&[0..5, 5..8], 1),
            2,
        )?;
        let seen = |row: usize| -> Vec<usize> {
            (0..8)
                .filter(|key| *key < 32 * mask.words && mask.sees(row, *key))
                .collect()
        };
        let expected: [&[usize]; 8] = [
            &[0],
            &[0, 1],
            &[0, 2],
            // 3 = 3 > 1
            &[2, 3],
            &[2, 3],
            &[0],
            &[0, 1],
            // 3 < 9 > 2
            &[0, 1],
        ];
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(seen(row), *expected, "{row}");
        }
        let part = cpu.gather_choices(&mask, &[5, 6, 7])?;
        assert!(part.sees(2, 1) && !part.sees(2, 2));
        Ok(())
    }

    #[test]
    fn heads_add_up_what_is_positive() -> Result<()> {
        let cpu = Cpu::new();
        let (heads, width, rows) = (3, 5, 70);
        let noise = |count: usize, seed: u32| -> Vec<f32> {
            let mut state = seed;
            let number = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(number).collect()
        };
        let (q, k) = (noise(rows * heads * width, 1), noise(rows * width, 2));
        let weights = noise(rows * heads, 3);
        let mask = cpu.choose_keys(
            &cpu.upload(rows, heads * width, q.clone())?,
            &cpu.upload(rows, width, k.clone())?,
            &cpu.upload(rows, heads, weights.clone())?,
            std::slice::from_ref(&(0..rows)),
            (std::slice::from_ref(&(0..rows)), 1),
            7,
        )?;
        for query in 0..rows {
            let score = |key: usize| -> f64 {
                let of = |head: usize| {
                    let q = &q[(query * heads + head) * width..][..width];
                    let dot = q
                        .iter()
                        .zip(&k[key * width..])
                        .map(|(q, k)| f64::from(q * k));
                    f64::from(weights[query * heads + head]) * dot.sum::<f64>().max(0.0)
                };
                (0..heads).map(of).sum()
            };
            let mut order: Vec<usize> = (0..=query).collect();
            order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
            order.truncate(7);
            for key in 0..rows {
                assert_eq!(mask.sees(query, key), order.contains(&key), "{query} {key}");
            }
        }
        Ok(())
    }
}
