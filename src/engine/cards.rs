//! The cards that a walk computes on, which its micro-batches take in turn.
//!
//! The division into micro-batches does not depend on how many there are, and what is found is put in the
//! order of the micro-batches: so several cards give the bits that one gives. One thread of the host drives
//! them all; a card computes while the next gets its work.
#![forbid(unsafe_code)]

use super::batch::Batch;

/// What computes: one backend a card, or the only one there is.
pub(super) struct Cards<'r, B> {
    backends: &'r [B],
}

// Not derived: the backends need not be copied.
impl<B> Clone for Cards<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Cards<'_, B> {}

impl<'r, B> Cards<'r, B> {
    /// As many of them as micro-batches need. There is one at least, and all compute in the same types.
    pub(super) fn for_batches(backends: &'r [B], batches: usize) -> Self {
        let most = batches.clamp(1, backends.len());
        Self {
            backends: &backends[..most],
        }
    }

    /// All of them, in their order.
    pub(super) fn all(self) -> &'r [B] {
        self.backends
    }

    /// How many.
    pub(super) fn count(self) -> usize {
        self.backends.len()
    }

    /// The first.
    pub(super) fn first(self) -> &'r B {
        &self.backends[0]
    }

    /// Which of them has a micro-batch, and the branches that leave it.
    pub(super) fn place(self, batch: &Batch) -> usize {
        batch.number % self.count()
    }

    /// The one that has it.
    pub(super) fn of(self, batch: &Batch) -> &'r B {
        &self.backends[self.place(batch)]
    }
}
