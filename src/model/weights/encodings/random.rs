//! Values that are made, not read: for timing the shape of a model without its weights.
#![forbid(unsafe_code)]

/// Odd, so that its multiples meet every 32-bit number (the golden ratio's fraction).
const STEP: u32 = 0x9e37_79b9;

/// Uniform in -0.5..0.5 times this, which gives the standard deviation of 0.02 that models are initialised with.
const SPREAD: f32 = 0.069_282;

/// Noise that follows from a seed, the output and the input. All matrices of a stack are the same.
#[derive(Debug)]
pub struct Random {
    /// Below 2^31, as kernels are told.
    pub seed: u32,
    /// Outputs of a matrix.
    pub outputs: usize,
    /// Factor on uniform values in -0.5..0.5.
    pub spread: f32,
}

impl Random {
    /// Noise of its own for each seed.
    pub(in crate::model::weights) fn new(seed: u32, outputs: usize) -> Self {
        Self {
            seed: seed >> 1,
            outputs: outputs.max(1),
            spread: SPREAD,
        }
    }

    /// As `kernels/packed_random.cu` computes it, too.
    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let line = (line % self.outputs) as u32;
        let start = mixed(self.seed ^ line.wrapping_mul(STEP));
        let start = start.wrapping_add((first as u32).wrapping_mul(STEP));
        for (column, value) in out.iter_mut().enumerate() {
            let x = start.wrapping_add((column as u32).wrapping_mul(STEP));
            let x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d);
            // 24 bits, all of which float32 holds; signed, since processors convert those faster.
            let uniform = (x >> 8).cast_signed() as f32 * (1.0 / 16_777_216.0) - 0.5;
            *value = uniform * self.spread;
        }
    }
}

/// Every bit of the result depends on every bit of `x` (Ellis's `lowbias32`).
fn mixed(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_moments_of_uniform_noise_and_no_repetition() {
        let noise = Random::new(77, 300);
        let mut values = vec![0.0; 300 * 500];
        for (line, out) in values.chunks_mut(500).enumerate() {
            noise.decode(line, 0, out);
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 2e-4, "{mean}");
        assert!((square.sqrt() - 0.02).abs() < 2e-4, "{square}");
        // Neither neighbours nor lines know of each other.
        for distance in [1, 2, 500, 501] {
            let pairs = values.iter().zip(&values[distance..]);
            let product = pairs.map(|(a, b)| f64::from(a * b)).sum::<f64>() / count;
            assert!(product.abs() < 0.02 * 0.02 * 0.02, "{distance}: {product}");
        }
        let mut part = vec![0.0; 7];
        noise.decode(2, 11, &mut part);
        assert_eq!(part, values[2 * 500 + 11..][..7]);
    }
}
