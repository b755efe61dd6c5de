//! Reuse of activation buffers.
//!
//! A layer allocates the same handful of sizes again and again, each tens of megabytes: fresh
//! pages from the kernel would cost a fault for every 4 KiB, several percent of the layer's time.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are not in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

/// A buffer on loan from a pool; goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    /// At least `length` of them: what was cut off would have to be filled again for a longer use.
    values: Vec<f32>,
    length: usize,
    pool: Pool,
}

impl Pool {
    /// A buffer of `length` values, whose contents are arbitrary.
    pub(super) fn take(&self, length: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, so that a long buffer is not spent on a short use.
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, values)| values.len() >= length)
            .min_by_key(|(_, values)| values.len())
            .map(|(index, _)| index);
        let found = best.map(|index| free.swap_remove(index));
        drop(free);
        let values = found.unwrap_or_else(|| vec![0.0; length]);
        Buffer {
            values,
            length,
            pool: self.clone(),
        }
    }

    /// Lends a buffer that already has its values.
    pub(super) fn adopt(&self, values: Vec<f32>) -> Buffer {
        Buffer {
            length: values.len(),
            values,
            pool: self.clone(),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.pool
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(values);
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.length]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_the_smallest_that_fits() {
        let pool = Pool::default();
        let (large, small) = (pool.take(100), pool.take(10));
        let address = small.as_ptr();
        drop((large, small));
        assert_eq!(pool.take(8).as_ptr(), address);
        assert_eq!(pool.0.lock().expect("not poisoned").len(), 2);
    }
}
