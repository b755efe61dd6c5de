//! The ceiling of all products: fused multiply-adds on registers.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::Cpu;

impl Cpu {
    /// Runs `rounds` rounds of fused multiply-adds on every thread, nothing in memory, and says how many
    /// floating-point operations these were: over the time that it took, the most that products in float32
    /// can reach. None where there are no tiles for the processor.
    pub fn fused_multiply_adds(&self, rounds: usize) -> Option<usize> {
        let kernel = self.kernel?;
        let threads = 0..rayon::current_num_threads();
        let counts = threads.into_par_iter().with_max_len(1);
        Some(counts.map(|_| kernel.fused_multiply_adds(rounds)).sum())
    }
}
