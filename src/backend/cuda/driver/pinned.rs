//! Copies to the device through pinned memory: weights come from files, and the card's copy engine
//! reads pinned memory only. The driver would stage other memory itself, and wait for the stream first.

use std::{io, ops::Range};

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use rayon::prelude::*;

use super::{ring::Queue, stream::Stream};

/// What one core copies or reads at a time.
const SHARE: usize = 1 << 20;

/// Pinned memory.
pub(super) struct Piece {
    memory: *mut u8,
    bytes: usize,
    /// When the copies from it are done.
    done: sys::CUevent,
}

impl Queue for Stream {
    type Piece = Piece;
    type Error = DriverError;

    fn reserve(&self, bytes: usize) -> Result<Piece, DriverError> {
        // SAFETY: plain reservations; given back in `drop`.
        unsafe {
            let memory = result::malloc_host(bytes, 0)?.cast();
            match result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
                Ok(done) => Ok(Piece {
                    memory,
                    bytes,
                    done,
                }),
                Err(error) => {
                    let _ = result::free_host(memory.cast());
                    Err(error)
                }
            }
        }
    }

    fn memory<'p>(&self, piece: &'p mut Piece, part: Range<usize>) -> &'p mut [u8] {
        assert!(part.start <= part.end && part.end <= piece.bytes);
        // SAFETY: inside the piece, which the ring waited for; copies that are under way read other
        // parts of it.
        unsafe { std::slice::from_raw_parts_mut(piece.memory.add(part.start), part.len()) }
    }

    fn copy(&self, piece: &Piece, part: Range<usize>, to: u64) -> Result<(), DriverError> {
        // SAFETY: as in `memory`; nobody writes this part before the event.
        let bytes = unsafe { std::slice::from_raw_parts(piece.memory.add(part.start), part.len()) };
        self.write(to, bytes)
    }

    fn mark(&self, piece: &mut Piece) -> Result<(), DriverError> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(piece.done, self.raw()) }
    }

    fn wait(&self, piece: &Piece) -> Result<(), DriverError> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(piece.done) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: reserved in `reserve`; whoever drops a ring waited for all copies.
        unsafe {
            let _ = result::event::destroy(self.done);
            let _ = result::free_host(self.memory.cast());
        }
    }
}

/// Fills `out` on all cores: `part` is given an offset and writes the bytes from there on.
pub(super) fn on_all_cores(
    out: &mut [u8],
    part: impl Fn(usize, &mut [u8]) -> io::Result<()> + Sync,
) -> io::Result<()> {
    if out.len() <= SHARE {
        return part(0, out);
    }
    out.par_chunks_mut(SHARE)
        .enumerate()
        .try_for_each(|(index, out)| part(index * SHARE, out))
}
