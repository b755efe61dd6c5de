//! Matrix products by cuBLASLt.
//!
//! cuBLASLt counts by columns: a row-major matrix is the transpose of a column-major one, so
//! `out = left right^T` is computed as `out^T = right left^T`.

use std::{
    cell::RefCell,
    env,
    ffi::c_void,
    fmt,
    mem::{MaybeUninit, size_of_val},
    path::PathBuf,
    ptr,
};

use cudarc::{
    cublaslt::{
        result::{self, CublasError},
        sys,
    },
    driver::result as driver,
};

use super::{
    DevicePointer, Options, failure::failed, libraries, recent::Recent, stream::Stream,
    tuning::Tuned,
};
use crate::{
    backend::cuda::device::{Address, Operand, Product},
    error::{Error, Result},
    model::dtype::DType,
};

/// Scratch memory of the algorithms; what NVIDIA recommends for Hopper, the largest need.
const WORKSPACE: usize = 32 << 20;
/// `CUBLAS_OP_T`
const TRANSPOSE: i32 = 1;
/// Addresses are not known to be aligned to more.
const MOST_ALIGNED: u64 = 256;

/// Plans that are kept: a model has some ten shapes for each number of rows.
const PLANS: usize = 512;

/// Algorithms that are timed for a shape, at most: those that cuBLASLt expects most of.
const CANDIDATES: usize = 16;
/// Runs of each that are timed together.
const TIMED: usize = 5;

/// The library, its scratch memory, and an algorithm for the shapes met.
pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: DevicePointer,
    plans: RefCell<Recent<Shape, Plan>>,
    tuned: RefCell<Tuned>,
    options: Options,
}

impl Blas {
    /// Needs a current context, of a card of this name under a driver of this version of CUDA.
    pub(super) fn open(card: &str, cuda: (u32, u32), options: Options) -> Result<Self> {
        libraries::cublas_lt().map_err(|reason| Error::new("cuBLASLt", reason))?;
        let handle = result::create_handle().map_err(|error| refused("opening cuBLASLt", error))?;
        // SAFETY: plain memory, given back in `drop`.
        let workspace = unsafe { driver::malloc_sync(WORKSPACE) };
        // SAFETY: the library is loaded.
        let version = unsafe { sys::cublasLtGetVersion() };
        let machine = format!("{card}, CUDA {}.{}, cuBLASLt {version}", cuda.0, cuda.1);
        Ok(Self {
            handle,
            workspace: workspace.map_err(|error| failed("cuBLASLt's workspace", error))?,
            plans: RefCell::new(Recent::new(PLANS)),
            tuned: RefCell::new(Tuned::load(&machine, &|name| env::var_os(name))),
            options,
        })
    }

    /// Keeps what was timed in its file: where that is, and how many shapes it has.
    pub(super) fn keep_tuned(&self) -> Result<(PathBuf, usize)> {
        let tuned = self.tuned.borrow();
        Ok((tuned.save()?.to_owned(), tuned.len()))
    }

    /// Starts a product.
    pub(super) fn multiply(&self, stream: &Stream, product: &Product) -> Result<()> {
        let rounded = rounded_rows(product.m);
        let started = self
            .start(stream, product, rounded)
            .or_else(|error| match rounded {
                rows if rows == product.m => Err(error),
                // An algorithm that does not take fewer rows after all.
                _ => self.start(stream, product, product.m),
            });
        started.map_err(|error| failed_product(product, error))
    }

    /// By the plan for so many rows.
    fn start(&self, stream: &Stream, product: &Product, rows: usize) -> Result<(), CublasError> {
        let shape = Shape::of(product, rows);
        let mut plans = self.plans.borrow_mut();
        let plan = plans.get(&shape, || {
            let mut plan = Plan::new(&shape, product.bias, self.options.tf32)?;
            plan.algorithm = self.choose(&plan, &shape, stream, product)?;
            Ok(plan)
        })?;
        plan.start(self, stream, product)
    }

    /// The algorithm that was the fastest here once, or is now if that is to be found out, or that cuBLASLt expects to
    /// be.
    fn choose(
        &self,
        plan: &Plan,
        shape: &Shape,
        stream: &Stream,
        product: &Product,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let shape_name = format!("{shape}{}", if self.options.tf32 { ", tf32" } else { "" });
        if let Some(data) = self.tuned.borrow().get(&shape_name) {
            let known = sys::cublasLtMatmulAlgo_t { data };
            if plan.takes(self.handle, &known) {
                return Ok(known);
            }
        }
        if !self.options.tune {
            return Ok(plan.candidates(self.handle, shape, 1)?[0]);
        }
        let candidates = plan.candidates(self.handle, shape, CANDIDATES)?;
        let timed = candidates.iter().filter_map(|candidate| {
            let time = plan.time(self, candidate, stream, product);
            time.map(|time| (time, candidate))
        });
        let fastest = timed.min_by(|(one, _), (other, _)| one.total_cmp(other));
        let fastest = fastest.map_or(candidates[0], |(_, candidate)| *candidate);
        self.tuned.borrow_mut().add(shape_name, fastest.data);
        Ok(fastest)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.borrow_mut().clear();
        // SAFETY: opened in `open`; the driver waited for all products before it dropped this.
        unsafe {
            let _ = driver::memory_free(self.workspace);
            let _ = result::destroy_handle(self.handle);
        }
    }
}

/// What an algorithm is chosen for. A mixture's experts have another number of rows every time, so
/// that it is rounded up; the algorithm takes fewer rows as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
    right_transposed: bool,
    left: Layout,
    right: Layout,
    out: Layout,
    /// The bias's alignment.
    bias: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Layout {
    dtype: DType,
    stride: usize,
    alignment: u32,
}

impl Layout {
    fn of(operand: Operand) -> Self {
        Self {
            dtype: operand.dtype,
            stride: operand.stride,
            alignment: alignment(operand.address),
        }
    }
}

/// What the address is a multiple of.
fn alignment(Address(address): Address) -> u32 {
    1 << address.trailing_zeros().min(MOST_ALIGNED.trailing_zeros())
}

/// Not below, and by less than a quarter above.
fn rounded_rows(rows: usize) -> usize {
    rows.next_multiple_of((rows.next_power_of_two() / 8).max(16))
}

impl Shape {
    fn of(product: &Product, rows: usize) -> Self {
        Self {
            m: rows,
            n: product.n,
            k: product.k,
            right_transposed: product.right_transposed,
            left: Layout::of(product.left),
            right: Layout::of(product.right),
            out: Layout::of(product.out),
            bias: product.bias.map(alignment),
        }
    }
}

impl fmt::Display for Shape {
    /// All that an algorithm depends on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { m, n, k, .. } = self;
        let order = if self.right_transposed { "kn" } else { "nk" };
        write!(f, "{m} x {n} x {k} {order}")?;
        for layout in [&self.left, &self.right, &self.out] {
            let Layout {
                dtype,
                stride,
                alignment,
            } = layout;
            write!(f, ", {dtype} {stride} @{alignment}")?;
        }
        match self.bias {
            Some(alignment) => write!(f, ", bias @{alignment}"),
            None => Ok(()),
        }
    }
}

fn failed_product(product: &Product, error: CublasError) -> Error {
    let &Product { m, n, k, .. } = product;
    let what = format!(
        "matrix product [{m}, {k}] x [{k}, {n}] of {}, result {}",
        product.left.dtype, product.out.dtype
    );
    refused(&what, error)
}

fn refused(what: &str, CublasError(status): CublasError) -> Error {
    Error::new(what, format!("cuBLASLt answers {status:?}"))
        .remedy("check with `massact selftest`, or use --device cpu")
}

/// A product's descriptors, and the algorithm once it is chosen.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    right: sys::cublasLtMatrixLayout_t,
    left: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(shape: &Shape, bias: Option<Address>, tf32: bool) -> Result<Self, CublasError> {
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
    fn candidates(
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
        // Parts of a long sum in float32, too: without this they may be in the type of the product.
        let schemes = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        for (attribute, value) in [
            (REDUCTION_SCHEMES, schemes),
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

    /// Whether this algorithm computes the product here.
    fn takes(&self, handle: sys::cublasLtHandle_t, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
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
    fn time(
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

    fn start(&self, blas: &Blas, stream: &Stream, product: &Product) -> Result<(), CublasError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_plans_serve_any_number_of_rows() {
        let mut plans = std::collections::BTreeSet::new();
        for rows in 1..=16_384 {
            let rounded = rounded_rows(rows);
            assert!(
                rounded >= rows && (rounded < rows + 16 || rounded * 4 < rows * 5),
                "{rows}"
            );
            plans.insert(rounded);
        }
        assert!(plans.len() <= 64, "{}", plans.len());
        // What micro-batches have.
        for rows in [256, 2048, 4096, 9728, 16_384] {
            assert_eq!(
                rounded_rows(rows),
                rows.next_multiple_of(rows.next_power_of_two() / 8)
            );
        }
        assert_eq!(alignment(Address(768)), 256);
        assert_eq!(alignment(Address(772)), 4);
    }

    /// Shapes that differ in anything have other names.
    #[test]
    fn names_of_shapes() {
        let operand = |address, dtype| Operand {
            address: Address(address),
            dtype,
            stride: 4096,
        };
        let product = Product {
            m: 8000,
            n: 4096,
            k: 4096,
            left: operand(256, DType::BFloat16),
            right: operand(256, DType::BFloat16),
            right_transposed: false,
            out: operand(256, DType::Float32),
            bias: None,
        };
        let name = |change: &dyn Fn(&mut Product)| {
            let mut other = product;
            change(&mut other);
            Shape::of(&other, rounded_rows(other.m)).to_string()
        };
        assert_eq!(
            name(&|_| ()),
            "8192 x 4096 x 4096 nk, bfloat16 4096 @256, bfloat16 4096 @256, float32 4096 @256"
        );
        let changes: [&dyn Fn(&mut Product); 10] = [
            &|_| (),
            &|product| product.m = 16,
            &|product| product.n = 16,
            &|product| product.k = 16,
            &|product| product.right_transposed = true,
            &|product| product.left.dtype = DType::Float16,
            &|product| product.right.stride = 8192,
            &|product| product.out.address = Address(16),
            &|product| product.bias = Some(Address(256)),
            &|product| product.bias = Some(Address(16)),
        ];
        let names: std::collections::BTreeSet<_> = changes.map(name).into();
        assert_eq!(names.len(), changes.len());
    }
}
