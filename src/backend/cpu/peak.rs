//! The ceiling of all products: fused multiply-adds on registers.
#![forbid(unsafe_code)]

use std::hint::black_box;

use rayon::prelude::*;

use super::{Cpu, simd::vectorise};

/// Sums that wait for no other: enough for two units of four cycles.
const CHAINS: usize = 12;

impl Cpu {
    /// Runs `rounds` rounds of fused multiply-adds on every thread, nothing in memory, and says how many
    /// floating-point operations these were: over the time that it took, the most that products can reach.
    pub fn fused_multiply_adds(&self, rounds: usize) -> usize {
        let wide = self.kernel.is_some_and(|kernel| kernel.width() == 32);
        let threads = rayon::current_num_threads();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            if wide {
                run::<16>(rounds);
            } else {
                run::<8>(rounds);
            }
        });
        2 * CHAINS * rounds * threads * if wide { 16 } else { 8 }
    }
}

/// With `LANES` values in a vector.
fn run<const LANES: usize>(rounds: usize) {
    let (factor, term) = (black_box(0.5f32), black_box(1.0f32));
    let mut sums = [[0.0f32; LANES]; CHAINS];
    vectorise(
        #[inline(always)]
        || {
            let mut own = sums;
            for _ in 0..rounds {
                for sum in &mut own {
                    for lane in sum {
                        *lane = lane.mul_add(factor, term);
                    }
                }
            }
            sums = own;
        },
    );
    black_box(sums);
}
