//! What happens when the system has no memory left.
//!
//! Almost anything may need memory, and Rust ends the program where there is none: with a signal, and what
//! was half written stays. So the allocator of the program sees to it that such an end is one like others:
//! a line that says what to do, and nothing left behind. It cannot be an error that is handed up, since most of what
//! allocates has no way to say so.
//!
//! A system that lends more than it has (Linux, unless it is told not to) does not say no: it kills, and what
//! a killed run leaves is removed by the next one.

// An allocator is unsafe by its nature; this one hands everything to the system's.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU64,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    thread,
    time::Duration,
};

/// The system's allocator, which ends the program in order when there is nothing left.
#[derive(Debug)]
pub struct Orderly;

/// Memory for the last words: kept until it is needed.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
const RESERVED: Layout = match Layout::from_size_align(1 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

/// What goes when the program ends, newest last.
static TEMPORARY: Mutex<Vec<(u64, Rest)>> = Mutex::new(Vec::new());

/// Whether a thread is ending the program.
static ENDING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether it is this one.
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// Lets this process have no more than so many bytes of addresses and seconds of the processor, where the system knows
/// such limits.
pub(crate) fn limit(bytes: u64, seconds: u64) {
    #[cfg(unix)]
    for (what, most) in [(libc::RLIMIT_AS, bytes), (libc::RLIMIT_CPU, seconds)] {
        let most = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // Refused where the limit is lower already.
        // SAFETY: the system reads a struct that outlives the call.
        let _ = unsafe { libc::setrlimit(what, &raw const most) };
    }
    #[cfg(not(unix))]
    let _ = (bytes, seconds);
}

/// Sets memory aside. Called once, by `main`.
pub fn install() {
    // SAFETY: the layout is not empty.
    let reserve = unsafe { System.alloc(RESERVED) };
    RESERVE.store(reserve, Release);
}

// SAFETY: every block is the system allocator's.
unsafe impl GlobalAlloc for Orderly {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        given(unsafe { System.realloc(block, layout, size) }, size)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

#[inline]
fn given(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        refused(bytes);
    }
    block
}

/// There was no memory for so many bytes. Comes back only within itself.
#[cold]
fn refused(bytes: usize) {
    if ENDS.get() {
        return;
    }
    if ENDING.swap(true, AcqRel) {
        // Another thread is about to end the program.
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    ENDS.set(true);
    let reserve = RESERVE.swap(ptr::null_mut(), AcqRel);
    if reserve.is_null() {
        // Not the program but something that uses its parts, such as a test.
        return;
    }
    // SAFETY: allocated with this layout by `install`, and taken by nobody else.
    unsafe { System.dealloc(reserve, RESERVED) };
    remove_temporary();
    let mebibytes = bytes.div_ceil(1 << 20);
    // The line of a progress bar has no end yet.
    let begin = if io::stderr().is_terminal() { "\n" } else { "" };
    let line = format!(
        "{begin}massact: memory: the system has none left ({mebibytes} MiB more were needed); use a smaller --memory-budget, a shorter \
         --context-length or fewer sequences, close other programs, or raise the limit that the shell or the \
         job sets\n"
    );
    end(&line)
}

/// Says the line and ends the program, both at once: another thread may hold the lock of stderr for ever,
/// and what would run at an ordinary end may wait for threads that wait here.
#[cfg(unix)]
fn end(line: &str) -> ! {
    // SAFETY: the line is that long.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::_exit(1)
    }
}

#[cfg(not(unix))]
fn end(line: &str) -> ! {
    eprint!("{line}");
    std::process::exit(1)
}

/// A file or folder that has to go if the program ends for want of memory; forgotten on drop.
#[derive(Debug)]
pub(crate) struct Temporary(u64);

/// What is to be done about it.
#[derive(Debug)]
enum Rest {
    File(PathBuf),
    /// With all that is in it.
    Folder(PathBuf),
    /// Unless there is something in it.
    Empty(PathBuf),
}

impl Temporary {
    /// A file.
    pub(crate) fn file(path: PathBuf) -> Self {
        Self::of(Rest::File(path))
    }

    /// A folder, with all that is in it.
    pub(crate) fn folder(path: PathBuf) -> Self {
        Self::of(Rest::Folder(path))
    }

    /// A folder, if it is empty then.
    pub(crate) fn empty(path: PathBuf) -> Self {
        Self::of(Rest::Empty(path))
    }

    fn of(rest: Rest) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let mut all = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((number, rest));
        Self(number)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut all = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(number, _)| *number != self.0);
    }
}

/// Newest first. Others may still write there; whatever cannot be removed, the next run removes.
fn remove_temporary() {
    for _ in 0..100 {
        let Ok(mut all) = TEMPORARY.try_lock() else {
            // Held for a moment only, unless by this thread.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        for (_, rest) in all.drain(..).rev() {
            let removed = |remove: &dyn Fn() -> io::Result<()>| {
                (0..5).any(|_| remove().is_ok());
            };
            match rest {
                Rest::File(path) => removed(&|| fs::remove_file(&path)),
                Rest::Folder(path) => removed(&|| fs::remove_dir_all(&path)),
                Rest::Empty(path) => removed(&|| fs::remove_dir(&path)),
            }
        }
        return;
    }
}
