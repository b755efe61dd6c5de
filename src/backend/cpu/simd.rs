//! Running a loop with the instruction set of the processor at hand.
#![forbid(unsafe_code)]

use pulp::{Arch, Simd, WithSimd};

struct Loop<F>(F);

impl<F: FnMut()> WithSimd for Loop<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _simd: S) {
        (self.0)();
    }
}

/// Runs `work` from a function compiled for the best instruction set that the processor has, found
/// out at run time. Everything inlined into `work` is vectorised accordingly, so the closure and
/// what it calls must be `#[inline(always)]`.
///
/// `FnMut` on purpose: a closure called as `FnOnce` goes through a shim that is not always inlined,
/// and then runs with the baseline instruction set, 10 times slower.
pub(crate) fn vectorise(work: impl FnMut()) {
    Arch::new().dispatch(Loop(work));
}
