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
mod inner_products;
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
use super::Precision;
use crate::model::dtype::DType;

pub use products::Matrix;
pub use tensors::Tensor;

/// The processor.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    /// For products in float32; none where the processor has no instructions that there are tiles for.
    kernel: Option<Kernel>,
    /// For products with weights.
    of_weights: Option<Kernel>,
    precision: Precision,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// A backend on all cores.
    pub fn new() -> Self {
        Self::in_float32(Kernel::best())
    }

    /// The same without the tiles for AVX-512, to see what they are worth.
    pub fn without_avx512() -> Self {
        Self::in_float32(Kernel::without_avx512())
    }

    /// With weights and activations of products with weights in bfloat16, sums and everything else in
    /// float32; none where the processor has no instructions for it.
    pub fn in_bfloat16() -> Option<Self> {
        let of_weights = Some(Kernel::of_bfloat16()?);
        let precision = Precision::new(DType::BFloat16, DType::Float32).ok()?;
        Some(Self {
            of_weights,
            precision,
            ..Self::new()
        })
    }

    /// A backend in types that the processor computes in; float32 where it does not.
    pub fn computing_in(precision: Precision) -> Self {
        let bfloat16 = precision.arithmetic() == DType::BFloat16;
        let cpu = bfloat16.then(Self::in_bfloat16).flatten();
        cpu.unwrap_or_default()
    }

    fn in_float32(kernel: Option<Kernel>) -> Self {
        Self {
            pool: Pool::default(),
            kernel,
            of_weights: kernel,
            precision: DType::Float32.into(),
        }
    }
}
