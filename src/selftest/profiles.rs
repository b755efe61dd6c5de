//! The distribution of a tensor's values.
#![forbid(unsafe_code)]

use super::inputs::noise;
use crate::{
    backend::{Backend, Profile, ProfileRequest},
    error::Result,
    model::dtype::DType,
};

/// All numbers of the profiles of two sequences.
pub(super) fn numbers<B: Backend>(
    b: &B,
    (rows, columns): (usize, usize),
    dtype: DType,
) -> Result<Vec<f32>> {
    let mut values = noise(rows * columns, 1, dtype);
    let last = values.len() - 1;
    values[last / 2] = -2400.0;
    for row in values.chunks_mut(columns) {
        row[columns / 3] = 96.0;
    }
    let x = b.upload(rows, columns, values)?;
    let sequences = [0..rows / 3, rows / 3..rows];
    let found = b.read_profiles(b.profile(&x, &sequences, &ProfileRequest { top_k: 7 })?)?;
    Ok(found.iter().flat_map(listed).collect())
}

fn listed(found: &Profile) -> Vec<f32> {
    let moments = &found.moments;
    let (ratio, position) = found.token_ratio.unwrap_or((0.0, 0));
    let mut numbers = vec![
        found.max,
        found.median,
        found.non_finite as f32,
        position as f32,
    ];
    let sums = [
        moments.rms(),
        moments.std(),
        moments.excess_kurtosis().unwrap_or(0.0),
        ratio,
        found.int8_error,
        found.int8_clipped_error.unwrap_or(0.0),
    ];
    numbers.extend(sums.into_iter().chain(found.quantiles).map(|x| x as f32));
    numbers.extend(found.histogram.iter().map(|count| *count as f32));
    for (dimension, tokens) in &found.large {
        numbers.extend([*dimension as f32, *tokens as f32]);
    }
    for entry in &found.top {
        numbers.extend([entry.position as f32, entry.dimension as f32, entry.value]);
    }
    numbers
}
