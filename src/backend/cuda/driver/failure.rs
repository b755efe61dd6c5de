//! From the driver's error codes to errors.

use cudarc::driver::{result::DriverError, sys::CUresult};

use crate::error::Error;

/// What was tried, and what the driver says.
pub(super) fn failed(what: &str, error: DriverError) -> Error {
    Error::new(what, reason(error))
}

/// What the driver says.
pub(super) fn reason(error: DriverError) -> String {
    let name = error
        .error_name()
        .map(|name| name.to_string_lossy().into_owned());
    let text = error
        .error_string()
        .map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{text} ({name})"),
        _ => format!("driver error {}", error.0 as u32),
    }
}

pub(super) fn out_of_memory(error: DriverError) -> bool {
    error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
}
