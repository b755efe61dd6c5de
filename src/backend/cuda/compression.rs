//! Entries that stand for neighbouring tokens (`kernels/compression.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, KeyMask, Tensor,
    device::{Address, Device},
    rows::indices,
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{
    backend::{self, Compression, Rows, entries_of, with_entries},
    error::Result,
    model::dtype::DType,
};

impl<D: Device> Compression for Cuda<D> {
    fn compress(
        &self,
        values: &Tensor<D>,
        gate: &Tensor<D>,
        bias: &Vector<D>,
        sequences: &[Rows],
        rate: usize,
        overlaps: bool,
    ) -> Result<Tensor<D>> {
        let columns = values.columns;
        let width = if overlaps { columns / 2 } else { columns };
        let entries = entries_of(sequences, rate);
        let count = entries.last().map_or(0, |rows| rows.end);
        let out = self.tensor(count, width, values.dtype)?;
        for (rows, entries) in sequences.iter().zip(&entries) {
            if entries.is_empty() {
                continue;
            }
            self.launch(
                &format!("compress_{}", suffix(values.dtype)),
                [int(entries.len())?.cast_unsigned(), 1],
                threads(width),
                &[
                    from(values, rows.start).into(),
                    from(gate, rows.start).into(),
                    bias.address().into(),
                    from(&out, entries.start).into(),
                    int(entries.len())?.into(),
                    int(columns)?.into(),
                    int(rate)?.into(),
                    i32::from(overlaps).into(),
                ],
            )?;
        }
        Ok(out)
    }

    fn gather_both(
        &self,
        first: &Tensor<D>,
        second: &Tensor<D>,
        rows: &[usize],
    ) -> Result<Tensor<D>> {
        debug_assert_eq!(first.dtype, second.dtype);
        let list = self.list(&indices(rows)?)?;
        let out = self.tensor(rows.len(), first.columns, first.dtype)?;
        self.launch(
            &format!("gather_both_{}", suffix(first.dtype)),
            [int(rows.len())?.cast_unsigned(), 1],
            threads(first.columns),
            &[
                first.buffer.address().into(),
                second.buffer.address().into(),
                out.buffer.address().into(),
                list.address().into(),
                int(first.rows)?.into(),
                int(rows.len())?.into(),
                int(first.columns)?.into(),
            ],
        )?;
        Ok(out)
    }

    fn see_entries(
        &self,
        sequences: &[Rows],
        rate: usize,
        window: Option<usize>,
        choice: Option<&KeyMask<D>>,
    ) -> Result<KeyMask<D>> {
        let both = with_entries(sequences, rate);
        let words = backend::KeyMask::words_for(&both);
        let rows = both.last().map_or(0, |rows| rows.end);
        let bits = self.tensor(rows, words, DType::Float32)?;
        let window = window.and_then(|window| i32::try_from(window).ok());
        for (tokens, both) in sequences.iter().zip(&both) {
            let chosen = choice.map(|choice| from(&choice.bits, tokens.start));
            self.launch(
                "see_entries",
                [int(both.len())?.cast_unsigned(), 1],
                threads(words),
                &[
                    chosen.into(),
                    from(&bits, both.start).into(),
                    int(tokens.len())?.into(),
                    int(rate)?.into(),
                    window.unwrap_or(i32::MAX).into(),
                    int(choice.map_or(0, |choice| choice.bits.columns))?.into(),
                    int(words)?.into(),
                ],
            )?;
        }
        Ok(KeyMask { bits })
    }
}

/// Where the row begins.
fn from<D: Device>(x: &Tensor<D>, row: usize) -> Address {
    x.buffer.address().offset(row * x.columns * x.dtype.size())
}
