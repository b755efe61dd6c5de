//! Panics of libraries that should have been errors.
#![forbid(unsafe_code)]

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps expected panics off stderr. Called once, by `main`.
pub fn install() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            report(info);
        }
    }));
}

/// What `work` returns; none if it panics. Nothing it has changed may be used after that.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    EXPECTED.set(before);
    result
}

/// As [`caught`], of work that should not panic: what it says of it stays on stderr.
pub(crate) fn reported<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_none() {
        assert_eq!(caught(|| 3), Some(3));
        assert_eq!(caught(|| Vec::<u8>::new()[0]), None);
    }
}
