//! The CPU backend: float32 arithmetic on all cores.
//!
//! Products with weights are in `panels.rs`, on the tiles of `kernels/`, where the processor has AVX2;
//! others come from the `gemm` crate. Everything between them is here and vectorised by the compiler for
//! the processor at hand (`pulp` picks the instruction set at run time).

mod attention;
mod cells;
mod compression;
mod convolutions;
mod elementwise;
mod experts;
mod gemm;
mod kernels;
mod key_choice;
mod magnitudes;
mod math;
mod norms;
mod panels;
mod peak;
mod pool;
mod products;
mod profiles;
mod recurrences;
mod rotations;
mod row_scaling;
mod rows;
pub(crate) mod simd;
mod stored;
mod streams;
mod tensors;
mod vocabulary;

use self::{kernels::Kernel, pool::Pool};

pub use products::Matrix;
pub use tensors::Tensor;

/// The processor.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    /// None where the processor has no instructions that there are tiles for.
    kernel: Option<Kernel>,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// A backend on all cores.
    pub fn new() -> Self {
        Self {
            pool: Pool::default(),
            kernel: Kernel::best(),
        }
    }

    /// The same without the tiles for AVX-512, to see what they are worth.
    pub fn without_avx512() -> Self {
        Self {
            kernel: Kernel::without_avx512(),
            ..Self::new()
        }
    }
}
