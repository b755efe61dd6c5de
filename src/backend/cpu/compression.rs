//! Entries that stand for neighbouring tokens: the definition.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor};
use crate::{
    backend::{
        Compression, KeyMask, Rows,
        compression::{entries_of, with_entries},
    },
    error::Result,
};

impl Compression for Cpu {
    fn compress(
        &self,
        values: &Tensor,
        gate: &Tensor,
        bias: &Vec<f32>,
        sequences: &[Rows],
        rate: usize,
        overlaps: bool,
    ) -> Result<Tensor> {
        let columns = values.columns;
        let width = if overlaps { columns / 2 } else { columns };
        let entries = entries_of(sequences, rate);
        let starts: Vec<(usize, bool)> = sequences
            .iter()
            .zip(&entries)
            .flat_map(|(rows, entries)| {
                (0..entries.len()).map(move |entry| (rows.start + entry * rate, entry == 0))
            })
            .collect();
        let mut out = self.tensor(starts.len(), width);
        let rows = out.values.par_chunks_mut(width).zip(&starts);
        rows.for_each(|(out, (start, first))| {
            // Rows and first columns of what an entry is made of.
            let own = (0..rate).map(|place| (start + place, place, columns - width));
            let before = (0..rate).filter(|_| overlaps && !first);
            let before = before.map(|place| (start + place - rate, place, 0));
            let tokens: Vec<_> = before.chain(own).collect();
            for (column, out) in out.iter_mut().enumerate() {
                let logit = |&(row, place, from): &(usize, usize, usize)| {
                    gate.row(row)[from + column] + bias[place * columns + from + column]
                };
                let max = tokens.iter().map(logit).fold(f32::NEG_INFINITY, f32::max);
                let (mut sum, mut mean) = (0.0, 0.0);
                for token in &tokens {
                    let weight = (logit(token) - max).exp();
                    sum += weight;
                    mean += weight * values.row(token.0)[token.2 + column];
                }
                *out = mean / sum;
            }
        });
        Ok(out)
    }

    fn gather_both(&self, first: &Tensor, second: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let mut out = self.tensor(rows.len(), first.columns);
        for (row, out) in rows.iter().zip(out.values.chunks_exact_mut(first.columns)) {
            out.copy_from_slice(match row.checked_sub(first.rows) {
                None => first.row(*row),
                Some(row) => second.row(row),
            });
        }
        Ok(out)
    }

    fn see_entries(
        &self,
        sequences: &[Rows],
        rate: usize,
        window: Option<usize>,
        choice: Option<&KeyMask>,
    ) -> Result<KeyMask> {
        let both = with_entries(sequences, rate);
        let words = KeyMask::words_for(&both);
        let mut bits = vec![0; both.last().map_or(0, |rows| rows.end) * words];
        for (tokens, both) in sequences.iter().zip(&both) {
            let entries = tokens.len() / rate;
            let rows = bits[both.start * words..both.end * words].chunks_exact_mut(words);
            for (token, bits) in rows.skip(entries).enumerate() {
                let seen = (0..(token + 1) / rate).filter(|entry| {
                    choice.is_none_or(|choice| choice.sees(tokens.start + token, *entry))
                });
                let near = window.map_or(0, |window| (token + 1).saturating_sub(window));
                for key in seen.chain((near..=token).map(|key| entries + key)) {
                    bits[key / 32] |= 1 << (key % 32);
                }
            }
        }
        Ok(KeyMask { words, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Tensors;

    /// Entries of sequences of seven tokens and two, of which the second makes none.
    #[test]
    fn entries_are_means_of_their_own_tokens() {
        let cpu = Cpu::new();
        let values: Vec<f32> = (0..18).map(|value| value as f32).collect();
        let tensor = |values: Vec<f32>| cpu.upload(9, 2, values).expect("fits");
        let sequences = [0..7, 7..9];
        let bias = vec![0.0; 6];
        let entries = |gate: Vec<f32>, overlaps| {
            let (values, gate) = (tensor(values.clone()), tensor(gate));
            let made = cpu.compress(&values, &gate, &bias, &sequences, 3, overlaps);
            made.expect("computed").values().to_vec()
        };
        assert_eq!(entries(vec![0.0; 18], false), [2.0, 3.0, 8.0, 9.0]);
        // The first has no tokens before it; the second has columns 0 of tokens 0-2 and 1 of 3-5.
        assert_eq!(entries(vec![0.0; 18], true), [3.0, (2.0 + 9.0) / 2.0]);
        let mut gate = vec![0.0; 18];
        // One token outweighs all others.
        gate[2 * 4] = 100.0;
        assert_eq!(entries(gate, false)[2], 8.0);
    }

    #[test]
    fn queries_see_finished_entries_and_their_window() {
        let cpu = Cpu::new();
        let mask = cpu.see_entries(&[0..5, 5..6], 2, Some(2), None);
        let mask = mask.expect("computed");
        let rows: Vec<String> = (0..8)
            .map(|row| {
                (0..7)
                    .map(|key| if mask.sees(row, key) { '1' } else { '.' })
                    .collect()
            })
            .collect();
        let wanted = [
            // Two entries, five tokens.
            ".......", ".......", "..1....", "1.11...", "1..11..", "11..11.", "11...11",
            // A sequence without entries.
            "1......",
        ];
        assert_eq!(rows, wanted);
        // Of the entries only those that were chosen.
        let choice = KeyMask {
            words: 1,
            bits: vec![0, 0, 0, 2, 1, 0],
        };
        let mask = cpu.see_entries(&[0..5, 5..6], 2, Some(2), Some(&choice));
        let mask = mask.expect("computed");
        let seen = [(3, 0), (5, 0), (5, 1), (6, 0), (6, 1)].map(|(row, key)| mask.sees(row, key));
        assert_eq!(seen, [false, false, true, true, false]);
    }
}
