//! What can go wrong between us and the hub, sorted by what can be done about it.

use std::io::ErrorKind;

/// Why a request or a download failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// An HTTP status that says no.
    Status(u16),
    /// No connection, or it broke before the answer.
    Unreachable(String),
    /// The connection broke inside a file.
    CutShort(String),
    /// The connection stayed open and silent.
    Silent,
    /// What came is not what the hub announced.
    Damaged(String),
    /// The answer makes no sense.
    BadAnswer(String),
    /// The cache folder cannot be used.
    Local(String),
    /// Another process is downloading the same file.
    Locked,
}

impl Failure {
    /// Whether the same request may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Status(code) => matches!(code, 408 | 429 | 500..=599),
            Self::Unreachable(_) | Self::CutShort(_) | Self::Damaged(_) => true,
            Self::Silent | Self::BadAnswer(_) | Self::Local(_) | Self::Locked => false,
        }
    }

    /// Whether the hub could not be asked at all, so that the cache is the best answer there is.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Status(code) => matches!(code, 408 | 429 | 500..=599),
            Self::Unreachable(_) | Self::CutShort(_) | Self::Silent => true,
            _ => false,
        }
    }
}

pub(super) fn request(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::StatusCode(code) => Failure::Status(*code),
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_) => Failure::Unreachable(error.to_string()),
        _ => Failure::BadAnswer(error.to_string()),
    }
}

/// Reading a body: only the kinds that a disk alone produces are its fault.
pub(super) fn copying(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists => Failure::Local(error.to_string()),
        _ => Failure::CutShort(error.to_string()),
    }
}
