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
    let clip = clip as f32;
    let (whole, clipped) = (LEVELS / max, LEVELS / clip);
    if !whole.is_finite() {
        // Nothing but zeros, or too small for a scale.
        return [0.0; 2];
    }
    let clipped = if clipped.is_finite() { clipped } else { 0.0 };
    let parts: Vec<[f64; 2]> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut sums = [0.0; 2];
            vectorise(
                #[inline(always)]
                || sums = chunk_errors(chunk, whole, clipped),
            );
            sums
        })
        .collect();
    let scales = [max, clip].map(|most| f64::from(most) / f64::from(LEVELS));
    let mut sums = [0.0; 2];
    for part in parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum += part;
        }
    }
    [
        sums[0] * scales[0] * scales[0],
        sums[1] * scales[1] * scales[1],
    ]
}

#[inline(always)]
fn chunk_errors(values: &[f32], whole: f32, clipped: f32) -> [f64; 2] {
    let mut total = [0.0; 2];
    for block in values.chunks(BLOCK) {
        let mut sums = [[0.0f32; LANES]; 2];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                sums[0][lane] += squared_error(chunk[lane], whole);
                sums[1][lane] += squared_error(chunk[lane], clipped);
            }
        }
        for value in chunks.remainder() {
            sums[0][0] += squared_error(*value, whole);
            sums[1][0] += squared_error(*value, clipped);
        }
        for (total, lanes) in total.iter_mut().zip(sums) {
            *total += f64::from(lanes.iter().sum::<f32>());
        }
    }
    total
}

#[inline(always)]
fn squared_error(value: f32, scale: f32) -> f32 {
    let scaled = value * scale;
    let kept = scaled.max(-LEVELS).min(LEVELS);
    let error = scaled - ((kept + ROUNDER) - ROUNDER);
    error * error
}
