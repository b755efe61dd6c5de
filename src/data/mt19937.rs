//! MT19937 and the shuffle built on it, value for value as NumPy's `RandomState`.
//!
//! Published runs drew their documents with `numpy.random.seed(42)` and
//! `numpy.random.choice(n, 500, replace=False)`. NumPy has frozen that legacy stream, so
//! reproducing it gives the same documents as those runs, and it cannot change under us the way a
//! generator of a library can.

use crate::error::Result;
use crate::interrupt;

const N: usize = 624;
const M: usize = 397;

/// The 32-bit Mersenne Twister.
pub(crate) struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl Mt19937 {
    /// As `numpy.random.RandomState(seed)`; a seed beyond 32 bits, which NumPy refuses as a
    /// number, is taken as NumPy takes the list `[seed % 2**32, seed >> 32]`.
    pub(crate) fn new(seed: u64) -> Self {
        match u32::try_from(seed) {
            Ok(word) => Self::from_word(word),
            Err(_) => Self::from_words(&[seed as u32, (seed >> 32) as u32]),
        }
    }

    fn from_word(seed: u32) -> Self {
        let mut state = [0; N];
        let mut value = seed;
        for (slot, index) in state.iter_mut().zip(1u32..) {
            *slot = value;
            value = (value ^ (value >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(index);
        }
        Self { state, next: N }
    }

    /// The `init_by_array` of the generator's authors.
    fn from_words(key: &[u32]) -> Self {
        let mut state = Self::from_word(19_650_218).state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let before = state[i - 1];
            state[i] = (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 1..N {
            let before = state[i - 1];
            state[i] = (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_566_083_941))
                .wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (joined >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// The next 32 bits.
    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.next >= N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `0..=max`: NumPy's `random_interval`, rejection under a mask.
    pub(crate) fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let value = if max <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
            } & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// `numpy.random.permutation(count)`: Fisher-Yates from the top.
    pub(crate) fn permutation(&mut self, count: u32) -> Result<Vec<u32>> {
        let mut order: Vec<u32> = (0..count).collect();
        for i in (1..order.len()).rev() {
            if i % (1 << 20) == 0 {
                interrupt::check()?;
            }
            let j = self.interval(i as u64) as usize;
            order.swap(i, j);
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every expected value below was printed by NumPy 2.4.
    #[test]
    fn words_match_numpy() {
        let mut random = Mt19937::new(42);
        let words: Vec<u32> = (0..4).map(|_| random.next_u32()).collect();
        assert_eq!(words, WORDS_42);
        let mut random = Mt19937::new(u64::MAX - 5);
        let words: Vec<u32> = (0..4).map(|_| random.next_u32()).collect();
        assert_eq!(words, WORDS_LARGE);
    }

    #[test]
    fn permutations_match_numpy() {
        let order = Mt19937::new(42)
            .permutation(930_514)
            .expect("not interrupted");
        assert_eq!(&order[..6], FIRST_OF_930514);
        assert_eq!(Mt19937::new(0).permutation(10).expect("ok"), TEN_0);
        assert_eq!(Mt19937::new(1).permutation(1).expect("ok"), [0]);
        assert!(Mt19937::new(1).permutation(0).expect("ok").is_empty());
    }

    const WORDS_42: [u32; 4] = [1608637542, 3421126067, 4083286876, 787846414];
    const WORDS_LARGE: [u32; 4] = [640967365, 3462311176, 2125515232, 529042861];
    const FIRST_OF_930514: [u32; 6] = [260432, 833657, 508091, 556222, 374754, 748441];
    const TEN_0: [u32; 10] = [2, 8, 4, 9, 1, 6, 7, 3, 0, 5];
}
