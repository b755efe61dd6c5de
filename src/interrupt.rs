//! Ctrl-C: a flag that long work polls.
//!
//! The handler only sets a flag, so that the thread that owns a temporary file removes it on the
//! way out. A second Ctrl-C ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    error::{Error, Result},
    mapped,
};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler for SIGINT and SIGTERM, and ignores SIGXFSZ. Called once, by `main`.
pub fn install() {
    // A limit on the size of files is then an error of the write that exceeds it, as a full disk is.
    // SAFETY: no code runs for a signal that is ignored.
    #[cfg(unix)]
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    // Fails only when a handler exists already; then that one stays in charge.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(3);
        }
    });
}

/// Asks this process to stop, as Ctrl-C does.
pub(crate) fn request() {
    REQUESTED.store(true, Ordering::SeqCst);
}

/// An `Interrupted` error once the user has asked to stop, and another one once there is no reason to go on:
/// a file that is read has changed. Poll it at least twice a second.
pub fn check() -> Result<()> {
    mapped::check()?;
    if REQUESTED.load(Ordering::Relaxed) {
        return Err(Error::interrupted());
    }
    Ok(())
}

/// Whether [`check`] would be an error; for inner loops of worker threads that cannot return early.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed) || mapped::lost()
}
