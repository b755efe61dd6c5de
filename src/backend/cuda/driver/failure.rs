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

/// Whether the card does nothing any more, whoever asks it: it is gone, or its memory is broken. Neither the
/// kernel nor its arguments are at fault then.
pub(super) fn lost(error: DriverError) -> bool {
    use CUresult as Code;
    matches!(
        error.0,
        Code::CUDA_ERROR_DEINITIALIZED
            | Code::CUDA_ERROR_DEVICE_UNAVAILABLE
            | Code::CUDA_ERROR_NO_DEVICE
            | Code::CUDA_ERROR_INVALID_DEVICE
            | Code::CUDA_ERROR_ECC_UNCORRECTABLE
            | Code::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | Code::CUDA_ERROR_UNKNOWN
    )
}

/// An error of the card `name` while `what` was done, perhaps of the kernel `latest`, which was started
/// earlier.
pub(super) fn failed_on(name: &str, what: &str, latest: &str, error: DriverError) -> Error {
    let what = match latest {
        "" => format!("{name}: {what}"),
        _ => format!("{name}: {what} (the latest kernel was {latest})"),
    };
    let failed = failed(&what, error);
    if lost(error) {
        return failed.remedy(
            "the card does not answer: look at nvidia-smi and the system's log (Xid), then run again, on another \
             card or with --device cpu",
        );
    }
    if latest.is_empty() {
        return failed;
    }
    failed.remedy(
        "run it again with CUDA_LAUNCH_BLOCKING=1 in the environment: the message then names the kernel at fault",
    )
}

pub(super) fn out_of_memory(error: DriverError) -> bool {
    error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a driver there is no text for a code, only its number.
    #[test]
    fn a_card_that_is_lost_is_named() {
        let said = |code: CUresult, latest: &str| {
            let error = failed_on("cuda:1 (NVIDIA H100)", "waiting", latest, DriverError(code));
            assert_eq!(error.exit_code(), 1);
            error.to_string()
        };
        let lost = said(CUresult::CUDA_ERROR_ECC_UNCORRECTABLE, "softmax");
        assert!(
            lost.starts_with("cuda:1 (NVIDIA H100): waiting (the latest kernel was softmax): "),
            "{lost}"
        );
        assert!(
            lost.contains("--device cpu") && !lost.contains("BLOCKING"),
            "{lost}"
        );
        let kernel = said(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "softmax");
        assert!(kernel.contains("BLOCKING"), "{kernel}");
        let first = said(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "");
        assert!(!first.contains("BLOCKING"), "{first}");
    }
}
