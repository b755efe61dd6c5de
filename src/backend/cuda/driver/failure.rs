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
    with_remedy(failed(&what, error), lost(error), latest)
}

/// What to do about a card that is lost, or about a kernel that failed.
fn with_remedy(failed: Error, lost: bool, latest: &str) -> Error {
    if lost {
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

    /// The text of a code is the driver's, which need not be there.
    #[test]
    fn a_card_that_is_lost_has_another_remedy_than_a_kernel_that_failed() {
        let gone = lost(DriverError(CUresult::CUDA_ERROR_ECC_UNCORRECTABLE));
        let wrong = lost(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
        assert!(gone && !wrong);
        let said = |lost: bool, latest: &str| {
            let failed = Error::new("cuda:1 (NVIDIA H100): waiting", "an error");
            with_remedy(failed, lost, latest).to_string()
        };
        let gone = said(true, "softmax");
        assert!(
            gone.contains("--device cpu") && !gone.contains("BLOCKING"),
            "{gone}"
        );
        assert!(said(false, "softmax").contains("BLOCKING"));
        assert!(!said(false, "").contains("BLOCKING"));
    }
}
