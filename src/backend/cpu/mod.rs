//! The CPU backend: float32 arithmetic on all cores.
//!
//! Matrix products come from the `gemm` crate; everything between them is here and vectorised by
//! the compiler for the processor at hand (`pulp` picks the instruction set at run time).

mod attention;
mod cells;
mod compression;
mod convolutions;
mod elementwise;
mod experts;
mod gemm;
mod key_choice;
mod magnitudes;
mod math;
mod norms;
mod pool;
mod products;
mod recurrences;
mod rotations;
mod row_scaling;
mod rows;
pub(crate) mod simd;
mod stored;
mod streams;
mod tensors;
mod vocabulary;

use self::pool::Pool;

pub use products::Matrix;
pub use tensors::Tensor;

/// The processor.
#[derive(Debug, Default)]
pub struct Cpu {
    pool: Pool,
}

impl Cpu {
    /// A backend on all cores.
    pub fn new() -> Self {
        Self::default()
    }
}
