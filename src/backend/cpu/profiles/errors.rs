//! The third read of a profile: the errors of eight bits.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{super::simd::vectorise, CHUNK};

/// The largest of eight bits with a sign, used symmetrically.
const LEVELS: f32 = 127.0;
/// Sums side by side, in float32 over a block and in float64 over the blocks.
const LANES: usize = 8;
const BLOCK: usize = 64;
/// A float32 near this has no fraction: adding and subtracting it rounds, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Sums of squared errors with the scale `max / 127`, and with `clip / 127` where larger magnitudes are
/// set to the clip. Errors are taken in units of the scale, in which they neither overflow nor vanish.
pub(super) fn of(values: &[f32], max: f32, clip: f64) -> [f64; 2] {
    let (whole, clipped) = (LEVELS / max, LEVELS / clip as f32);
    if !whole.is_finite() {
        // Nothing but zeros, or too small for a scale.
        return [0.0; 2];
    }
    let scales = Scales {
        whole,
        clipped: if clipped.is_finite() { clipped } else { 0.0 },
        clip,
    };
    let parts: Vec<[f64; 2]> = values
        .par_chunks(CHUNK)
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
    let mut sums = [0.0; 2];
    for part in parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum += part;
        }
    }
    [sums[0] * units[0], sums[1] * units[1]]
}

/// 127 over the largest, and over the clip; 0 where that has no scale.
struct Scales {
    whole: f32,
    clipped: f32,
    clip: f64,
}

#[inline(always)]
fn chunk_errors(values: &[f32], scales: &Scales) -> [f64; 2] {
    let mut total = [0.0; 2];
    let edge = scales.clip as f32;
    let (by_whole, by_clipped) = (scales.whole, scales.clipped);
    for block in values.chunks(BLOCK) {
        let mut whole = [0.0f32; LANES];
        let mut clipped = [0.0f32; LANES];
        let mut largest = [0.0f32; LANES];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                let value = chunk[lane];
                largest[lane] = larger(largest[lane], value.abs());
                whole[lane] += squared_error(value, by_whole);
                clipped[lane] += squared_error(within(value, edge), by_clipped);
            }
        }
        for value in chunks.remainder() {
            largest[0] = larger(largest[0], value.abs());
            whole[0] += squared_error(*value, by_whole);
            clipped[0] += squared_error(within(*value, edge), by_clipped);
        }
        total[0] += f64::from(whole.iter().sum::<f32>());
        total[1] += f64::from(clipped.iter().sum::<f32>());
        if largest.iter().any(|largest| *largest > edge) {
            total[1] += beyond(block, scales);
        }
    }
    total
}

/// What is clipped is most of the error, and few values are: in float64.
#[inline(always)]
fn beyond(block: &[f32], scales: &Scales) -> f64 {
    if scales.clipped == 0.0 {
        return 0.0;
    }
    let (edge, levels) = (scales.clip as f32, f64::from(LEVELS));
    let clipped = block.iter().filter(|value| value.abs() > edge);
    let over = clipped.map(|value| f64::from(value.abs()) * (levels / scales.clip) - levels);
    over.map(|over| over * over).sum()
}

/// Comparisons that are one instruction each, unlike those of the library, which tell NaN apart.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

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
