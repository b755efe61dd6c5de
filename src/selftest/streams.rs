//! Several residual streams a token, and entries that stand for tokens.

use super::{attention::with_mask, inputs::noise};
use crate::{
    backend::{Backend, StreamRequest, entries_of, with_entries},
    error::Result,
    model::dtype::DType,
};

/// Streams that begin as copies, their weights, and what becomes of them, twice: with weights for all, and for
/// the sum that is read.
pub(super) fn streams<B: Backend>(b: &B, count: usize, dtype: DType) -> Result<Vec<f32>> {
    let (rows, columns) = (67, 37);
    let tensor = |columns: usize, seed| b.upload(rows, columns, noise(rows * columns, seed, dtype));
    let mut found = b.download(&b.spread(&tensor(columns, 1)?, count)?)?;
    let (x, y) = (tensor(count * columns, 2)?, tensor(columns, 3)?);
    let all = (2 + count) * count;
    let mut mixing = tensor(all, 4)?;
    b.affine(&mut mixing, 3.0, 0.0)?;
    b.stream_weights(
        &mut mixing,
        &StreamRequest {
            count,
            base: &b.vector(noise(all, 5, DType::Float32))?,
            scale: &b.vector(vec![0.5, -1.5, 2.0])?,
            iterations: 3,
            epsilon: 0.01,
        },
    )?;
    let mixed = b.mix_streams(&x, &y, &mixing)?;
    let mut read = tensor(count, 6)?;
    b.stream_weights(
        &mut read,
        &StreamRequest {
            count,
            base: &b.vector(noise(count, 7, DType::Float32))?,
            scale: &b.vector(vec![-2.0])?,
            iterations: 1,
            epsilon: 0.5,
        },
    )?;
    found.extend(b.download(&mixing)?);
    found.extend(b.download(&mixed)?);
    found.extend(b.download(&b.collapse(&x, count, Some(&mixing))?)?);
    found.extend(b.download(&b.collapse(&x, count, Some(&read))?)?);
    found.extend(b.download(&b.collapse(&x, count, None)?)?);
    Ok(found)
}

/// Entries of sequences of which one is too short for any; tokens and entries together; which of them queries
/// see, as the outputs of attention to them.
pub(super) fn compressed<B: Backend>(b: &B, overlaps: bool, dtype: DType) -> Result<Vec<f32>> {
    let sequences = [0..41, 41..43, 43..76];
    let (rows, width, rate) = (76, 19, 3);
    let columns = if overlaps { 2 * width } else { width };
    let tensor = |columns: usize, seed| b.upload(rows, columns, noise(rows * columns, seed, dtype));
    let bias = b.vector(noise(rate * columns, 1, DType::Float32))?;
    let (values, gate) = (tensor(columns, 2)?, tensor(columns, 3)?);
    let entries = b.compress(&values, &gate, &bias, &sequences, rate, overlaps)?;
    let mut found = b.download(&entries)?;
    let both = b.gather_both(&entries, &tensor(width, 4)?, &[30, 0, 5, 23, 24, 25, 9])?;
    found.extend(b.download(&both)?);
    // Coarse numbers, whose scores are exact and often equal.
    let coarse = |rows: usize, columns: usize, seed| {
        let values = noise(rows * columns, seed, dtype).into_iter();
        b.upload(
            rows,
            columns,
            values.map(|x| (2.0 * x).round() / 2.0).collect(),
        )
    };
    let keys = entries_of(&sequences, rate);
    let count = keys.last().map_or(0, |rows| rows.end);
    let (q, k) = (coarse(rows, 2 * 5, 5)?, coarse(count, 5, 6)?);
    let weights = coarse(rows, 2, 7)?;
    let choice = b.choose_keys(&q, &k, &weights, &sequences, (&keys, rate), 4)?;
    for (window, choice) in [(Some(5), Some(&choice)), (None, None)] {
        let mask = b.see_entries(&sequences, rate, window, choice)?;
        found.extend(with_mask(b, &mask, &with_entries(&sequences, rate), dtype)?);
    }
    Ok(found)
}
