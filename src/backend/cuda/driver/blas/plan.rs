//! A product as cuBLASLt has it described, and the algorithms for it.

use std::{
    ffi::c_void,
    mem::{MaybeUninit, size_of_val},
    ptr,
};

use cudarc::cublaslt::{
    result::{self, CublasError},
    sys,
};

use super::{
    Blas, WORKSPACE,
    shape::{Layout, Shape},
};
use crate::{
    backend::cuda::{
        device::{Address, Operand, Product},
        driver::stream::Stream,
    },
    model::dtype::DType,
};

/// `CUBLAS_OP_T`
const TRANSPOSE: i32 = 1;
/// Runs of an algorithm that are timed together.
const TIMED: usize = 5;
/// Parts of a long sum are added up in float32, too; they could be in the type of the product.
const IN_FLOAT32: u32 =
    sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// A product's descriptors, and the algorithm once it is chosen.
pub(super) struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    right: sys::cublasLtMatrixLayout_t,
    left: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    pub(super) algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    pub(super) fn new(
        shape: &Shape,
        bias: Option<Address>,
        tf32: bool,
    ) -> Result<Self, CublasError> {
        let Shape { m, n, k, .. } = *shape;
        let compute = if tf32 && shape.left.dtype == DType::Float32 {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let layout = |layout: &Layout, rows: usize, columns: usize| {
            result::create_matrix_layout(
                data_type(layout.dtype),
                rows as u64,
                columns as u64,
                layout.stride as i64,
            )
        };
        let (right_rows, right_columns) = if shape.right_transposed {
            (n, k)
        } else {
            (k, n)
        };
        let mut plan = Self {
            product: result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?,
            right: ptr::null_mut(),
            left: ptr::null_mut(),
            out: ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        plan.right = layout(&shape.right, right_rows, right_columns)?;
        plan.left = layout(&shape.left, k, m)?;
        plan.out = layout(&shape.out, n, m)?;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        if !shape.right_transposed {
            plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSE)?;
        }
        if let Some(bias) = bias {
            // Before an algorithm is asked for: it depends on the pointer's alignment.
            plan.bias(bias)?;
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            plan.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            let bias_type = data_type(shape.out.dtype);
            plan.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type)?;
        }
        Ok(plan)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        // SAFETY: the descriptor lives, and the attribute has the value's type.
        unsafe {
            result::set_matmul_desc_attribute(
                self.product,
                attribute,
                ptr::from_ref(value).cast(),
                size_of_val(value),
            )
        }
    }

    /// Up to `most` algorithms, at least one, of which cuBLASLt expects the first to be the fastest.
    pub(super) fn candidates(
        &self,
        handle: sys::cublasLtHandle_t,
        shape: &Shape,
        most: usize,
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t::{
            CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as WORKSPACE_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES as ALIGNMENT_A,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES as ALIGNMENT_B,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES as ALIGNMENT_C,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES as ALIGNMENT_D,
            CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as REDUCTION_SCHEMES,
        };
        let preference = Preference(result::create_matmul_pref()?);
        preference.set(WORKSPACE_BYTES, &WORKSPACE)?;
        for (attribute, value) in [
            (REDUCTION_SCHEMES, IN_FLOAT32),
            (ALIGNMENT_A, shape.right.alignment),
            (ALIGNMENT_B, shape.left.alignment),
            (ALIGNMENT_C, shape.out.alignment),
            (ALIGNMENT_D, shape.out.alignment),
        ] {
            preference.set(attribute, &value)?;
        }
        let nothing = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let (mut found, mut count) = (vec![nothing; most], 0);
        // SAFETY: all descriptors live, and there is room for `most` results.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle,
                self.product,
                self.right,
                self.left,
                self.out,
                self.out,
                preference.0,
                most as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
            .result()?;
        }
        found.truncate(usize::try_from(count).unwrap_or(0));
        let usable = found.iter().filter(|found| found.state.result().is_ok());
        let usable: Vec<_> = usable.map(|found| found.algo).collect();
        if usable.is_empty() {
            let none = sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
            return Err(CublasError(none));
        }
        Ok(usable)
    }

    /// Whether this algorithm, which a file told, computes the product here, and does not say that it adds up in
    /// another type than float32.
    pub(super) fn takes(
        &self,
        handle: sys::cublasLtHandle_t,
        algorithm: &sys::cublasLtMatmulAlgo_t,
    ) -> bool {
        if reduction_scheme(algorithm).is_some_and(|scheme| scheme & !IN_FLOAT32 != 0) {
            return false;
        }
        let mut found = MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        // SAFETY: all descriptors live; the result is written where the call succeeds.
        unsafe {
            let checked = sys::cublasLtMatmulAlgoCheck(
                handle,
                self.product,
                self.right,
                self.left,
                self.out,
                self.out,
                ptr::from_ref(algorithm),
                found.as_mut_ptr(),
            );
            checked.result().is_ok() && found.assume_init().workspaceSize <= WORKSPACE
        }
    }

    /// Milliseconds of some runs of the product by this algorithm; none where one fails. It gives the same every
    /// time, so that what is there afterwards is right.
    pub(super) fn time(
        &self,
        blas: &Blas,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        stream: &Stream,
        product: &Product,
    ) -> Option<f32> {
        let run = || self.start_by(algorithm, blas, stream, product);
        // The first one also loads its code.
        run().ok()?;
        let timed = stream.time(|| (0..TIMED).try_for_each(|_| run()));
        let (ran, time) = timed.ok()?;
        ran.ok().map(|()| time)
    }

    fn bias(&self, Address(bias): Address) -> Result<(), CublasError> {
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
        self.set(attribute, &bias)
    }

    /// The real number of rows, which the descriptors count as columns.
    fn rows(&self, rows: usize) -> Result<(), CublasError> {
        let rows = rows as u64;
        for layout in [self.left, self.out] {
            // SAFETY: the layout lives, and the attribute is a 64-bit number.
            unsafe {
                result::set_matrix_layout_attribute(
                    layout,
                    sys::cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_COLS,
                    (&raw const rows).cast(),
                    size_of_val(&rows),
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn start(
        &self,
        blas: &Blas,
        stream: &Stream,
        product: &Product,
    ) -> Result<(), CublasError> {
        self.start_by(&self.algorithm, blas, stream, product)
    }

    fn start_by(
        &self,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        blas: &Blas,
        stream: &Stream,
        product: &Product,
    ) -> Result<(), CublasError> {
        if let Some(bias) = product.bias {
            self.bias(bias)?;
        }
        self.rows(product.m)?;
        let pointer = |operand: Operand| operand.address.0 as *mut c_void;
        let (one, zero) = (1f32, 0f32);
        // SAFETY: the descriptors live; the operands are buffers of these shapes, which the emulator
        // checks for the same host code; the workspace is this stream's alone.
        unsafe {
            result::matmul(
                blas.handle,
                self.product,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                pointer(product.right),
                self.right,
                pointer(product.left),
                self.left,
                pointer(product.out),
                self.out,
                pointer(product.out),
                self.out,
                ptr::from_ref(algorithm),
                blas.workspace as *mut c_void,
                WORKSPACE,
                stream.raw().cast(),
            )
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made in `new`, used nowhere else; what was not made is null.
        unsafe {
            for layout in [self.right, self.left, self.out] {
                if !layout.is_null() {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
            let _ = result::destroy_matmul_desc(self.product);
        }
    }
}

/// How an algorithm adds up the parts of a long sum: a bit of the library's `cublasLtReductionScheme_t`, or 0 where
/// there are no parts.
fn reduction_scheme(algorithm: &sys::cublasLtMatmulAlgo_t) -> Option<u32> {
    let (mut scheme, mut written) = (0_u32, 0);
    // SAFETY: the attribute is a 32-bit number, for which there is room.
    let asked = unsafe {
        sys::cublasLtMatmulAlgoConfigGetAttribute(
            ptr::from_ref(algorithm),
            sys::cublasLtMatmulAlgoConfigAttributes_t::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
            (&raw mut scheme).cast(),
            size_of_val(&scheme),
            &raw mut written,
        )
    };
    asked.result().ok().map(|()| scheme)
}

/// What an algorithm may use.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        // SAFETY: the preference lives, and the attribute has the value's type.
        unsafe {
            result::set_matmul_pref_attribute(
                self.0,
                attribute,
                ptr::from_ref(value).cast(),
                size_of_val(value),
            )
        }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn data_type(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::Float32 => sys::cudaDataType::CUDA_R_32F,
        DType::BFloat16 => sys::cudaDataType::CUDA_R_16BF,
        DType::Float16 => sys::cudaDataType::CUDA_R_16F,
    }
}
