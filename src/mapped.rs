//! Mapped files that fail under the program.
//!
//! Weights are read where they are mapped. When another program makes such a file shorter, or its disk
//! fails, a page that is touched is not there, and the system sends SIGBUS, which ends a program. Reading
//! into memory instead would cost a copy of all weights and as much memory. So the signal is handled: pages
//! of zeros take the place of what is gone, the computation goes on, and whoever asks [`check`] next, which
//! is whoever asks whether to stop, learns that it is worthless. What a run costs more is one look at a flag
//! for every such question.

use std::path::Path;

use crate::error::{Error, Kind, Result};

#[cfg(unix)]
pub(crate) use self::signal::{Watch, lost, watch};

#[cfg(not(unix))]
pub(crate) use self::unwatched::{Watch, lost, watch};

/// An error if what was read of a mapped file was not what is in the file.
pub(crate) fn check() -> Result<()> {
    if !lost() {
        return Ok(());
    }
    match lost_file() {
        Some(path) => Err(changed(&path)),
        // Whoever had mapped it is done with it, and has been told.
        None => Ok(()),
    }
}

/// The error that a run ends with: if a mapped file failed at any time, that is the reason of whatever came
/// after it.
pub(crate) fn explained(error: Error) -> Error {
    match last_lost() {
        Some(path) if error.kind() != Kind::Interrupted => changed(&path),
        _ => error,
    }
}

/// That a file is not what it was when it was opened.
pub(crate) fn changed(path: &Path) -> Error {
    Error::new(
        path.display(),
        "the file became shorter while it was read, or its disk failed",
    )
    .remedy("run again when the file is whole and no other program writes to it")
}

/// That a file was written to after it had been opened.
pub(crate) fn written(path: &Path) -> Error {
    Error::new(path.display(), "the file was written to while it was read")
        .remedy("run again when no other program writes to it")
}

#[cfg(unix)]
use self::signal::{last_lost, lost_file};

#[cfg(not(unix))]
use self::unwatched::{last_lost, lost_file};

#[cfg(unix)]
mod signal {
    // Handling a signal is unsafe, and so is replacing pages; both are here.
    #![allow(unsafe_code)]

    use std::{
        ffi::{c_int, c_void},
        path::{Path, PathBuf},
        ptr,
        sync::{
            Mutex, Once, OnceLock, PoisonError,
            atomic::{
                AtomicBool, AtomicPtr, AtomicUsize,
                Ordering::{AcqRel, Acquire, Relaxed, Release},
            },
        },
    };

    /// A mapped file, in a list that only grows: the handler may walk it at any time. Files that are
    /// unmapped leave their place to others.
    struct Place {
        /// Address of the first byte; 0 if it is free.
        start: AtomicUsize,
        /// Address behind the last byte. Written last and cleared first, so that a range is never too wide.
        end: AtomicUsize,
        lost: AtomicBool,
        path: Mutex<PathBuf>,
        next: AtomicPtr<Place>,
    }

    static PLACES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());

    /// How many files failed and are still mapped.
    static LOST: AtomicUsize = AtomicUsize::new(0);

    /// What was done about the signal before.
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

    /// A page's bytes.
    static PAGE: AtomicUsize = AtomicUsize::new(4096);

    /// A mapped file that may fail from here on; to be dropped before the map.
    #[derive(Debug)]
    pub(crate) struct Watch(&'static Place);

    impl std::fmt::Debug for Place {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Place({:#x})", self.start.load(Relaxed))
        }
    }

    /// Watches the file `path`, which is mapped at `bytes`.
    pub(crate) fn watch(path: &Path, bytes: &[u8]) -> Watch {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let place = places()
            .find(|place| place.start.compare_exchange(0, 1, AcqRel, Relaxed).is_ok())
            .unwrap_or_else(add);
        path.clone_into(&mut place.path.lock().unwrap_or_else(PoisonError::into_inner));
        place.lost.store(false, Release);
        let range = bytes.as_ptr_range();
        place.start.store(range.start.addr(), Release);
        place.end.store(range.end.addr(), Release);
        Watch(place)
    }

    /// A file that failed and may have been unmapped since.
    static LAST: Mutex<Option<PathBuf>> = Mutex::new(None);

    impl Drop for Watch {
        fn drop(&mut self) {
            self.0.end.store(0, Release);
            if self.0.lost.swap(false, AcqRel) {
                let path = self.0.path.lock().unwrap_or_else(PoisonError::into_inner);
                *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
                // Whoever goes on with other files, such as the next task of a sweep, is not concerned.
                LOST.fetch_sub(1, AcqRel);
            }
            self.0.start.store(0, Release);
        }
    }

    /// Whether any file failed that is still mapped.
    pub(crate) fn lost() -> bool {
        LOST.load(Relaxed) > 0
    }

    /// A file that failed and is still mapped.
    pub(super) fn lost_file() -> Option<PathBuf> {
        let mut mapped = places().filter(|place| place.end.load(Acquire) > 0);
        let place = mapped.find(|place| place.lost.load(Acquire))?;
        let path = place.path.lock().unwrap_or_else(PoisonError::into_inner);
        Some(path.clone())
    }

    /// The one that failed last, mapped or not.
    pub(super) fn last_lost() -> Option<PathBuf> {
        let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lost_file().or_else(last)
    }

    fn places() -> impl Iterator<Item = &'static Place> {
        // SAFETY: whatever is in the list was leaked and is never removed.
        let at = |place: &AtomicPtr<Place>| unsafe { place.load(Acquire).as_ref() };
        std::iter::successors(at(&PLACES), move |place| at(&place.next))
    }

    /// A new place, which is taken.
    fn add() -> &'static Place {
        let place: &'static Place = Box::leak(Box::new(Place {
            start: AtomicUsize::new(1),
            end: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            path: Mutex::default(),
            next: AtomicPtr::default(),
        }));
        let own = ptr::from_ref(place).cast_mut();
        let mut first = PLACES.load(Acquire);
        loop {
            place.next.store(first, Release);
            match PLACES.compare_exchange(first, own, AcqRel, Acquire) {
                Ok(_) => return place,
                Err(other) => first = other,
            }
        }
    }

    fn install() {
        // SAFETY: the structs are plain data, and the handler below does only what a handler may.
        unsafe {
            if let Ok(page) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) {
                PAGE.store(page, Relaxed);
            }
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) != 0 {
                return;
            }
            BEFORE.get_or_init(|| before);
            let mut own: libc::sigaction = std::mem::zeroed();
            own.sa_sigaction = handle as *const () as libc::sighandler_t;
            own.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut own.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const own, ptr::null_mut());
        }
    }

    /// Puts zeros where a watched file has nothing any more. Runs on the thread that touched the page, in
    /// the middle of whatever it did: only atomics and system calls.
    extern "C" fn handle(_: c_int, about: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the system hands over what happened.
        let address = unsafe { (*about).si_addr() }.addr();
        for place in places() {
            let end = place.end.load(Acquire);
            let start = place.start.load(Acquire);
            if !(start..end).contains(&address) {
                continue;
            }
            let page = address & !(PAGE.load(Relaxed) - 1);
            // What lies behind is gone as well when the file is shorter.
            // SAFETY: inside of a live map, which nobody may write to and which stays readable.
            let zeros = unsafe {
                libc::mmap(
                    ptr::without_provenance_mut(page),
                    end - page,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            if zeros != libc::MAP_FAILED {
                if !place.lost.swap(true, AcqRel) {
                    LOST.fetch_add(1, AcqRel);
                }
                return;
            }
        }
        // Not ours: the access is repeated under the handler that was there before.
        if let Some(before) = BEFORE.get() {
            // SAFETY: what the system gave.
            unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
        }
    }
}

#[cfg(not(unix))]
mod unwatched {
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(crate) struct Watch;

    /// Such systems do not let a mapped file be made shorter.
    pub(crate) fn watch(_: &Path, _: &[u8]) -> Watch {
        Watch
    }

    pub(crate) fn lost() -> bool {
        false
    }

    pub(super) fn lost_file() -> Option<PathBuf> {
        None
    }

    pub(super) fn last_lost() -> Option<PathBuf> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;

    use super::*;

    /// In a process of its own: the other tests of this program ask as well whether a file was lost.
    #[test]
    fn a_file_that_shrinks_reads_as_zeros_and_is_named() {
        const ALONE: &str = "MASSACT_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let own = std::env::current_exe().expect("a path");
            let name = "mapped::tests::a_file_that_shrinks_reads_as_zeros_and_is_named";
            let done = std::process::Command::new(own)
                .args(["--exact", name, "--nocapture"])
                .env(ALONE, "1")
                .output()
                .expect("runs");
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success(), "{said}");
            assert!(said.contains("1 passed"), "{said}");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![7; 1 << 16]).expect("written");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("opened");
        // SAFETY: that it changes is what is tested.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.expect("mapped");
        let watch = watch(&path, &map);
        assert_eq!(map[40_000], 7);
        assert!(check().is_ok());
        file.set_len(5000).expect("shorter");
        assert_eq!((map[4000], map[40_000], map[(1 << 16) - 1]), (7, 0, 0));
        let error = check().expect_err("changed").to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(lost());
        drop(watch);
        assert!(check().is_ok());
        assert!(!lost());
    }
}
