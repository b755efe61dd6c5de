//! Large buffers in large pages.

/// An empty vector with room for `capacity` values, in pages of 2 MiB where the system has them.
///
/// A matrix product walks its operands row by row, thousands of bytes apart: with pages of 4 KiB
/// nearly every step needs another address translation.
pub(super) fn reserve(capacity: usize) -> Vec<f32> {
    let values = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    advise(&values);
    values
}

#[cfg(target_os = "linux")]
fn advise(values: &Vec<f32>) {
    const PAGE: usize = 4096;
    const LARGE_PAGE: usize = 2 << 20;
    let start = values.as_ptr().addr().next_multiple_of(PAGE);
    let end = values.as_ptr().addr() + values.capacity() * size_of::<f32>();
    let length = (end.saturating_sub(start)) / PAGE * PAGE;
    if length < 2 * LARGE_PAGE {
        return;
    }
    // SAFETY: the range lies inside the vector's own allocation, and the advice changes neither
    // contents nor access. A kernel that does not know it refuses, which costs nothing.
    #[allow(unsafe_code)]
    let _ = unsafe {
        rustix::mm::madvise(
            values.as_ptr().with_addr(start).cast_mut().cast(),
            length,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_room_asked_for() {
        for capacity in [0, 1, 1000, 3 << 20] {
            let mut values = reserve(capacity);
            assert!(values.is_empty() && values.capacity() >= capacity);
            values.resize(capacity, 1.5);
            assert!(values.iter().all(|value| *value == 1.5));
        }
    }
}
