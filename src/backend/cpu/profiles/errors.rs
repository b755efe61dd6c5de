//! The third read of a profile: the errors of eight bits.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{super::simd::vectorise, CHUNK};

/// The largest of eight bits with a sign, used symmetrically.
const LEVELS: f32 = 127.0;
/// Sums side by side, in float32 over a block and in float64 over the blocks.
const LANES: usize = 16;
const BLOCK: usize = 16 * LANES;
/// A float32 near this has no fraction: adding and subtracting it rounds, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Sums of squared errors with the scale `max / 127`, and with `clip / 127` where larger magnitudes are
/// set to the clip. Errors are taken in units of the scale, in which they neither overflow nor vanish.
/// `tail` has the bits of all magnitudes above the clip, and perhaps of others.
pub(super) fn of(values: &[f32], max: f32, (clip, tail): (f64, &[u32]), least: usize) -> [f64; 2] {
    let (whole, clipped) = (LEVELS / max, LEVELS / clip as f32);
    if !whole.is_finite() {
        // Nothing but zeros, or too small for a scale.
        return [0.0; 2];
    }
    let scales = Scales {
        whole,
        clipped: if clipped.is_finite() { clipped } else { 0.0 },
        edge: clip as f32,
    };
    let parts: Vec<[f64; 2]> = values
        .par_chunks(CHUNK)
        .with_min_len(least)
        .map(|chunk| {
            let mut sums = [0.0; 2];
            vectorise(
                #[inline(always)]
                || sums = chunk_errors(chunk, &scales),
            );
            sums
        })
        .collect();
    let units = [f64::from(max), clip].map(|most| (most / f64::from(LEVELS)).powi(2));
    let mut sums = [0.0, 0.0];
    for part in parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum += part;
        }
    }
    if scales.clipped > 0.0 {
        sums[1] += beyond(tail, clip);
    }
    [sums[0] * units[0], sums[1] * units[1]]
}

/// 127 over the largest, and over the clip; 0 where that has no scale.
struct Scales {
    whole: f32,
    clipped: f32,
    /// The clip.
    edge: f32,
}

#[inline(always)]
fn chunk_errors(values: &[f32], scales: &Scales) -> [f64; 2] {
    let mut total = [0.0; 2];
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    for block in blocks {
        add_errors(&mut total, block, scales);
    }
    if !rest.is_empty() {
        // Zeros have no error.
        let mut block = [0.0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        add_errors(&mut total, &block, scales);
    }
    total
}

#[inline(always)]
fn add_errors(total: &mut [f64; 2], block: &[f32; BLOCK], scales: &Scales) {
    let mut errors = [0.0; BLOCK];
    for (error, value) in errors.iter_mut().zip(block) {
        *error = squared_error(*value, scales.whole);
    }
    total[0] += sum(&errors);
    for (error, value) in errors.iter_mut().zip(block) {
        *error = squared_error(within(*value, scales.edge), scales.clipped);
    }
    total[1] += sum(&errors);
}

/// A loop of its own: one that makes the errors as well is not vectorised.
#[inline(always)]
fn sum(errors: &[f32; BLOCK]) -> f64 {
    let mut sums = [0.0f32; LANES];
    for errors in errors.as_chunks::<LANES>().0 {
        for (sum, error) in sums.iter_mut().zip(errors) {
            *sum += error;
        }
    }
    f64::from(sums.iter().sum::<f32>())
}

/// What is clipped is most of the error, and few values are: in float64.
fn beyond(tail: &[u32], clip: f64) -> f64 {
    let edge = clip as f32;
    let magnitudes = tail.iter().map(|bits| f32::from_bits(*bits));
    let clipped = magnitudes.filter(|magnitude| *magnitude > edge);
    let levels = f64::from(LEVELS);
    let over = clipped.map(|magnitude| f64::from(magnitude) * (levels / clip) - levels);
    over.map(|over| over * over).sum()
}

/// With comparisons that are one instruction each, unlike those of the library, which tell NaN apart.
#[inline(always)]
fn within(value: f32, edge: f32) -> f32 {
    let value = if value < edge { value } else { edge };
    if value > -edge { value } else { -edge }
}

/// Of a value that is within the scale's 127 steps.
#[inline(always)]
fn squared_error(value: f32, scale: f32) -> f32 {
    let scaled = value * scale;
    let error = scaled - ((scaled + ROUNDER) - ROUNDER);
    error * error
}
