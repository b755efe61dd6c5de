//! Noise that depends on nothing but the seed, the window and the place: not on the order of work,
//! the parts that a memory budget makes, the other evaluation sets or the device.
#![forbid(unsafe_code)]

use std::f64::consts::PI;

use ring::digest::{Context, SHA256};

use super::place::drawn;

/// The noise of one window.
#[derive(Clone)]
pub(super) struct Noise {
    /// SHA-256 of the seed and the token ids, so far.
    hashed: Context,
    /// Tokens of the window.
    tokens: usize,
}

impl Noise {
    /// Of a window with these token ids.
    pub(super) fn of(seed: u64, token_ids: &[u32]) -> Self {
        let mut hashed = Context::new(&SHA256);
        hashed.update(&seed.to_le_bytes());
        for id in token_ids {
            hashed.update(&id.to_le_bytes());
        }
        Self {
            hashed,
            tokens: token_ids.len(),
        }
    }

    /// Another position of the window, drawn evenly for this place; none in a window of one token.
    pub(super) fn another(&self, layer: usize, position: usize, dimension: usize) -> Option<usize> {
        let others = self.tokens.checked_sub(1).filter(|others| *others > 0)?;
        let [word, _] = self.words([layer, position, dimension]);
        let drawn = (word % others as u64) as usize;
        Some(drawn + usize::from(drawn >= position))
    }

    /// As many positions as these, none of them, drawn at random; fewer where there are not so many.
    pub(super) fn elsewhere(&self, positions: &[usize], seed: u64) -> Vec<usize> {
        let [word, _] = self.words([usize::MAX, positions.len(), seed as usize]);
        drawn(self.tokens, positions, positions.len(), word)
    }

    /// A sample from the standard normal distribution (Box & Muller 1958), always the same at one
    /// place: noise of different strengths differs by nothing else.
    pub(super) fn sample(&self, layer: usize, position: usize, dimension: usize) -> f64 {
        // 53 bits of a word each, the most that a double in 0..1 holds.
        let [first, second] = self
            .words([layer, position, dimension])
            .map(|w| (w >> 11) as f64);
        // In 0 (exclusive) to 1, whose logarithm is finite; in 0 to 1 (exclusive).
        let radius = (first + 1.0) / (1u64 << 53) as f64;
        let angle = second / (1u64 << 53) as f64;
        (-2.0 * radius.ln()).sqrt() * (2.0 * PI * angle).cos()
    }

    /// Bits that are always the same for these numbers.
    fn words(&self, numbers: [usize; 3]) -> [u64; 2] {
        let mut hashed = self.hashed.clone();
        for number in numbers {
            hashed.update(&(number as u64).to_le_bytes());
        }
        let digest = hashed.finish();
        let mut words = digest.as_ref().chunks_exact(8).map(|bytes| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
        });
        let mut next = || words.next().unwrap_or_default();
        [next(), next()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_other_positions() {
        let noise = Noise::of(7, &[1, 2, 3, 4, 5]);
        let mut seen = [0; 5];
        for dimension in 0..200 {
            let another = noise.another(1, 2, dimension).expect("there are others");
            seen[another] += 1;
        }
        assert!(
            seen[2] == 0 && [0, 1, 3, 4].iter().all(|position| seen[*position] > 20),
            "{seen:?}"
        );
        assert_eq!(Noise::of(7, &[1]).another(1, 0, 3), None);
        let elsewhere = noise.elsewhere(&[0, 3], 1);
        assert!(elsewhere.len() == 2 && !elsewhere.contains(&0) && !elsewhere.contains(&3));
    }

    #[test]
    fn standard_normal_and_reproducible() {
        let noise = Noise::of(7, &[1, 2, 3]);
        let count = 40_000;
        let samples: Vec<f64> = (0..count).map(|i| noise.sample(i % 7, i / 7, i)).collect();
        let mean = |f: fn(f64) -> f64| samples.iter().map(|x| f(*x)).sum::<f64>() / count as f64;
        // Five standard errors each.
        assert!(mean(|x| x).abs() < 0.025, "{}", mean(|x| x));
        assert!((mean(|x| x * x) - 1.0).abs() < 0.036);
        assert!((mean(|x| x.powi(4)) - 3.0).abs() < 0.25);
        assert!((mean(|x| f64::from(x.abs() < 1.0)) - 0.6827).abs() < 0.012);
        assert_eq!(samples[5], Noise::of(7, &[1, 2, 3]).sample(5, 0, 5));
        for other in [Noise::of(8, &[1, 2, 3]), Noise::of(7, &[1, 2, 4])] {
            assert_ne!(samples[5], other.sample(5, 0, 5));
        }
    }
}
