//! Copies to the device through pinned memory: weights come from mapped files, which the card's
//! copy engine cannot read.
//!
//! A few pinned pieces take turns. While the engine reads one, all cores fill the next from the page
//! cache; the host waits only for a piece whose copy is not done yet.

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use rayon::prelude::*;

use super::{DevicePointer, stream::Stream};

const PIECE: usize = 16 << 20;
const PIECES: usize = 4;
/// Below this the driver's own staging is as good.
const SMALL: usize = 64 << 10;
/// What one core copies at a time.
const SHARE: usize = 1 << 20;

/// The pinned pieces; none until they are needed.
#[derive(Default)]
pub(super) struct Staging {
    pieces: Vec<Piece>,
    next: usize,
}

struct Piece {
    memory: *mut u8,
    /// When the copy from it is done.
    done: sys::CUevent,
}

impl Staging {
    /// Copies; `bytes` may be reused when this returns.
    pub(super) fn write(
        &mut self,
        stream: &Stream,
        to: DevicePointer,
        bytes: &[u8],
    ) -> Result<(), DriverError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() <= SMALL {
            return stream.write(to, bytes);
        }
        while self.pieces.len() < PIECES {
            self.pieces.push(Piece::new()?);
        }
        for (index, part) in bytes.chunks(PIECE).enumerate() {
            let piece = &mut self.pieces[self.next];
            self.next = (self.next + 1) % PIECES;
            let to = to + (index * PIECE) as DevicePointer;
            stream.write(to, piece.fill(part)?)?;
            // SAFETY: event and stream live.
            unsafe { result::event::record(piece.done, stream.raw())? };
        }
        Ok(())
    }
}

impl Piece {
    fn new() -> Result<Self, DriverError> {
        // SAFETY: plain reservations; given back in `drop`.
        unsafe {
            let memory = result::malloc_host(PIECE, 0)?.cast();
            match result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
                Ok(done) => Ok(Self { memory, done }),
                Err(error) => {
                    let _ = result::free_host(memory.cast());
                    Err(error)
                }
            }
        }
    }

    /// Waits until the piece is free, and puts these bytes there.
    fn fill(&mut self, bytes: &[u8]) -> Result<&[u8], DriverError> {
        // SAFETY: the event lives; the piece has `PIECE` bytes, which nothing else uses once its last
        // copy is done.
        let memory = unsafe {
            result::event::synchronize(self.done)?;
            std::slice::from_raw_parts_mut(self.memory, bytes.len())
        };
        memory
            .par_chunks_mut(SHARE)
            .zip(bytes.par_chunks(SHARE))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(memory)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: reserved in `new`; the driver waited for all copies before it dropped this.
        unsafe {
            let _ = result::event::destroy(self.done);
            let _ = result::free_host(self.memory.cast());
        }
    }
}
