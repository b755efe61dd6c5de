//! Damaged files by the thousand, always the same ones, and what opening them may cost.
//!
//! A test binary that counts memory declares `#[global_allocator] static COUNTED: Counted = Counted;`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Bytes that this thread holds, the most that it held, and the most that it may ask for at once.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// The most bytes that any thread asked for at once.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// How many times as many damaged files as in an ordinary test run there are to be; the first are the same.
pub(crate) fn times() -> usize {
    let asked = std::env::var("MASSACT_HOSTILE").ok();
    asked.map_or(1, |times| {
        times.parse().expect("MASSACT_HOSTILE is a number")
    })
}

/// The system's allocator, counting what each thread holds.
pub(crate) struct Counted;

fn count(more: usize, less: usize) {
    // A thread that ends has nothing to count with.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = (now + more).saturating_sub(less);
        held.set((now, most.max(now)));
    });
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The most bytes that any thread asked for at once.
pub(crate) fn largest() -> usize {
    LARGEST.load(Ordering::Relaxed)
}

/// The most bytes that this thread held beyond what it holds now, while it did `work`.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = HELD.with(Cell::get);
    HELD.with(|held| held.set((before, before)));
    let done = work();
    let (_, most) = HELD.with(Cell::get);
    (done, most.saturating_sub(before))
}

/// Small random numbers that are the same in every run (splitmix64).
#[derive(Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The bytes with one thing wrong: a bit, a byte, a number of two to eight bytes set to an extreme, a part cut
/// out, doubled, moved or zeroed, or the end missing. Half of the damage is near the start, where headers
/// are.
pub(crate) fn damaged(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.is_empty() {
        return vec![numbers.next() as u8];
    }
    let reach = match numbers.below(2) {
        0 => out.len(),
        _ => out.len().min(512),
    };
    let at = numbers.below(reach);
    let length = 1 + numbers.below((out.len() - at).min(64));
    match numbers.below(8) {
        0 => out[at] ^= 1 << numbers.below(8),
        1 => out[at] = numbers.next() as u8,
        2 => {
            let extremes = [
                0,
                1,
                u64::MAX,
                u64::MAX >> 1,
                1 << 31,
                u64::from(u32::MAX),
                1 << 40,
            ];
            let value = extremes[numbers.below(extremes.len())].to_le_bytes();
            let size = (2 << numbers.below(3)).min(out.len() - at);
            out[at..at + size].copy_from_slice(&value[..size]);
        }
        3 => drop(out.drain(at..at + length)),
        4 => {
            let part = out[at..at + length].to_vec();
            out.splice(at..at, part);
        }
        5 => {
            let to = numbers.below(out.len() - length + 1);
            out.copy_within(at..at + length, to);
        }
        6 => out[at..at + length].fill(0),
        _ => out.truncate(at),
    }
    out
}
