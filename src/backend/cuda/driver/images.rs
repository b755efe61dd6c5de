//! The compiled kernels inside this binary.

/// What `build.rs` found and compiled.
mod listing {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// The compiler that made the kernels, or why this build has none.
pub fn built() -> Result<&'static str, &'static str> {
    listing::BUILT
}

/// The CUDA release of that compiler; zeros where there is none.
pub(super) fn release() -> (u32, u32) {
    listing::RELEASE
}

/// Binaries for all cards, one for each file in `kernels/`.
pub(super) fn all() -> &'static [&'static [u8]] {
    listing::IMAGES
}
