//! The kernels on the card, by name.

use std::{cell::RefCell, collections::HashMap, ffi::CString};

use cudarc::driver::{result, sys};

use super::{failure::failed, images};
use crate::{
    backend::cuda::device::Launch,
    error::{Error, Result},
};

/// Shared memory that a block may have without asking.
const FREE_SHARED: u32 = 48 << 10;

/// All kernels.
pub(super) struct Modules {
    modules: Vec<Module>,
    functions: RefCell<HashMap<String, sys::CUfunction>>,
    /// What a block may ask for, static and dynamic.
    shared_bytes: u32,
}

impl Modules {
    /// Loads what this binary carries. The driver brings each kernel to the card at its first use.
    pub(super) fn load(shared_bytes: u32) -> Result<Self> {
        Ok(Self {
            modules: images::all()
                .iter()
                .map(|image| Module::load(image))
                .collect::<Result<_>>()?,
            functions: RefCell::default(),
            shared_bytes,
        })
    }

    /// The kernel of a launch, allowed all the shared memory that a block may have.
    pub(super) fn function(&self, launch: &Launch<'_>) -> Result<sys::CUfunction> {
        if let Some(function) = self.functions.borrow().get(launch.kernel) {
            return Ok(*function);
        }
        let function = self.find(launch.kernel)?;
        // Whatever this launch asks for: a later one may ask for more.
        self.allow_shared(launch.kernel, function)?;
        self.functions
            .borrow_mut()
            .insert(launch.kernel.to_owned(), function);
        Ok(function)
    }

    fn find(&self, kernel: &str) -> Result<sys::CUfunction> {
        let name = CString::new(kernel).map_err(|error| Error::new(kernel, error))?;
        for module in &self.modules {
            // SAFETY: the module lives.
            match unsafe { result::module::get_function(module.0, name.clone()) } {
                Ok(function) => return Ok(function),
                Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => {}
                Err(error) => return Err(failed(&format!("kernel {kernel}"), error)),
            }
        }
        Err(
            Error::new(format!("kernel {kernel}"), "not part of this binary")
                .remedy("build massact again, or use --device cpu"),
        )
    }

    /// Lets a kernel have as much dynamic shared memory as fits beside its static one.
    fn allow_shared(&self, kernel: &str, function: sys::CUfunction) -> Result<()> {
        use sys::CUfunction_attribute_enum::{
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as DYNAMIC,
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as STATIC,
        };
        // SAFETY: the function is of a module that lives.
        let allowed = unsafe {
            result::function::get_function_attribute(function, STATIC).and_then(|own| {
                let most = self.shared_bytes.saturating_sub(own.unsigned_abs());
                if most <= FREE_SHARED {
                    return Ok(());
                }
                result::function::set_function_attribute(function, DYNAMIC, most.cast_signed())
            })
        };
        allowed.map_err(|error| failed(&format!("kernel {kernel}"), error))
    }
}

/// One file's kernels.
struct Module(sys::CUmodule);

impl Module {
    fn load(image: &[u8]) -> Result<Self> {
        // The driver reads words; bytes that were included may lie anywhere.
        let mut aligned = vec![0u64; image.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut aligned)[..image.len()].copy_from_slice(image);
        // SAFETY: a whole image that nvcc wrote; the driver copies it.
        let module = unsafe { result::module::load_data(aligned.as_ptr().cast()) };
        module.map(Self).map_err(|error| {
            failed("CUDA kernels", error)
                .remedy("update the NVIDIA driver, or build massact with the nvcc of an older CUDA")
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, and nothing of it runs any more.
        let _ = unsafe { result::module::unload(self.0) };
    }
}
