//! Which NVIDIA GPUs this machine has, asked of the driver itself.

use std::panic;

use cudarc::driver::{CudaContext, sys};

/// One card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's index.
    pub index: usize,
    /// Product name.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Device memory.
    pub memory_bytes: usize,
}

/// The cards, or why none can be seen.
pub fn list() -> Result<Vec<Gpu>, String> {
    // SAFETY: only tries to load the library; cudarc marks the whole generated module unsafe.
    #[allow(unsafe_code)]
    let present = unsafe { sys::is_culib_present() };
    if !present {
        return Err("no NVIDIA driver (libcuda) is installed".to_owned());
    }
    // cudarc panics when the driver is there but lacks a function; that is an answer too.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = panic::catch_unwind(cards);
    panic::set_hook(hook);
    match found {
        Ok(Ok(cards)) => Ok(cards),
        Ok(Err(error)) => Err(format!("the driver reports {error:?}")),
        Err(_) => Err("the driver is too old for CUDA 13".to_owned()),
    }
}

fn cards() -> Result<Vec<Gpu>, cudarc::driver::DriverError> {
    let count = usize::try_from(CudaContext::device_count()?).unwrap_or(0);
    (0..count)
        .map(|index| {
            let context = CudaContext::new(index)?;
            Ok(Gpu {
                index,
                name: context.name()?,
                capability: context.compute_capability()?,
                memory_bytes: context.total_mem()?,
            })
        })
        .collect()
}
