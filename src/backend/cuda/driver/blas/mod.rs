//! Matrix products by cuBLASLt.
//!
//! cuBLASLt counts by columns: a row-major matrix is the transpose of a column-major one, so
//! `out = left right^T` is computed as `out^T = right left^T`.

mod plan;
mod shape;

use std::{cell::RefCell, env, path::PathBuf};

use cudarc::{
    cublaslt::{
        result::{self, CublasError},
        sys,
    },
    driver::result as driver,
};

use self::{
    plan::Plan,
    shape::{Shape, rounded_rows},
};
use super::{
    DevicePointer, Options, cards, failure::failed, libraries, recent::Recent, stream::Stream,
    tuning::Tuned,
};
use crate::{
    backend::cuda::device::Product,
    error::{Error, Result},
};

/// Scratch memory of the algorithms; what NVIDIA recommends for Hopper, the largest need.
const WORKSPACE: usize = 32 << 20;

/// Plans that are kept: a model has some ten shapes for each number of rows.
const PLANS: usize = 512;

/// Algorithms that are timed for a shape, at most: those that cuBLASLt expects most of.
const CANDIDATES: usize = 16;

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
        libraries::cublas_lt(cuda).map_err(|reason| Error::new("cuBLASLt", reason))?;
        let handle = result::create_handle().map_err(|error| refused("opening cuBLASLt", error))?;
        // SAFETY: plain memory, given back in `drop`.
        let workspace = unsafe { driver::malloc_sync(WORKSPACE) };
        // SAFETY: the library is loaded.
        let version = unsafe { sys::cublasLtGetVersion() };
        let release = cards::release().unwrap_or_else(|| "unknown".to_owned());
        let machine = format!(
            "{card}, driver {release}, CUDA {}.{}, cuBLASLt {version}",
            cuda.0, cuda.1
        );
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
        let (file, shapes) = tuned.save()?;
        Ok((file.to_owned(), shapes))
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
        if !self.options.tune {
            if let Some(data) = self.tuned.borrow().get(&shape_name) {
                let known = sys::cublasLtMatmulAlgo_t { data };
                if plan.takes(self.handle, &known) {
                    return Ok(known);
                }
            }
            return Ok(plan.candidates(self.handle, shape, 1)?[0]);
        }
        // One that was timed here is still the fastest; what a file says may be of another day.
        if let Some(data) = self.tuned.borrow().timed(&shape_name) {
            return Ok(sys::cublasLtMatmulAlgo_t { data });
        }
        let candidates = plan.candidates(self.handle, shape, CANDIDATES)?;
        let timed = candidates.iter().filter_map(|candidate| {
            let time = plan.time(self, candidate, stream, product);
            time.map(|time| (time, candidate))
        });
        let fastest = timed.min_by(|(one, _), (other, _)| one.total_cmp(other));
        // Where none ran, the product itself tells why.
        let Some((_, fastest)) = fastest else {
            return Ok(candidates[0]);
        };
        self.tuned.borrow_mut().add(shape_name, fastest.data);
        Ok(*fastest)
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
