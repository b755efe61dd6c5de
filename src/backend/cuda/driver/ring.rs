//! A few pieces of memory that take turns: while a queue copies from one, the next is filled.
//!
//! A piece is written again only when everything that was copied from it is done. Small writes share a
//! piece. What queue it is does not matter here, so that the tests need no card.

use std::{io, ops::Range};

/// What copies from the pieces, in the order of the calls, while the host goes on.
pub(super) trait Queue {
    /// Memory that it can copy from.
    type Piece;
    /// Why it cannot.
    type Error;

    /// Reserves a piece.
    fn reserve(&self, bytes: usize) -> Result<Self::Piece, Self::Error>;
    /// A part of a piece, to be written.
    fn memory<'p>(&self, piece: &'p mut Self::Piece, part: Range<usize>) -> &'p mut [u8];
    /// Starts copying a part to an address.
    fn copy(&self, piece: &Self::Piece, part: Range<usize>, to: u64) -> Result<(), Self::Error>;
    /// Remembers with the piece what was started so far.
    fn mark(&self, piece: &mut Self::Piece) -> Result<(), Self::Error>;
    /// Waits for what [`Queue::mark`] remembered.
    fn wait(&self, piece: &Self::Piece) -> Result<(), Self::Error>;
}

/// Why a write failed.
#[derive(Debug)]
pub(super) enum Failure<E> {
    /// The queue's reason.
    Queue(E),
    /// The bytes could not be read.
    Read(io::Error),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Queue(error)
    }
}

/// Copies start at multiples of this in a piece.
const ALIGNMENT: usize = 64;

/// The pieces; none are reserved until they are needed.
pub(super) struct Ring<Q: Queue> {
    pieces: Vec<Q::Piece>,
    /// Size of each.
    bytes: usize,
    /// How many there may be.
    most: usize,
    current: usize,
    /// Bytes of the current piece that are in use.
    filled: usize,
}

impl<Q: Queue> Ring<Q> {
    pub(super) fn new(most: usize, bytes: usize) -> Self {
        Self {
            pieces: Vec::new(),
            bytes,
            most,
            current: 0,
            filled: bytes,
        }
    }

    /// Copies `bytes` bytes to an address; `fill` is given an offset and writes the bytes from there on.
    pub(super) fn write(
        &mut self,
        queue: &Q,
        to: u64,
        bytes: usize,
        fill: &mut dyn FnMut(usize, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), Failure<Q::Error>> {
        let mut done = 0;
        while done < bytes {
            if self.filled >= self.bytes {
                self.turn(queue)?;
            }
            let part = self.filled..self.bytes.min(self.filled + bytes - done);
            let length = part.len();
            let piece = &mut self.pieces[self.current];
            fill(done, queue.memory(piece, part.clone())).map_err(Failure::Read)?;
            queue.copy(piece, part, to + done as u64)?;
            done += length;
            self.filled = (self.filled + length).next_multiple_of(ALIGNMENT);
        }
        Ok(())
    }

    /// Goes on with the next piece.
    fn turn(&mut self, queue: &Q) -> Result<(), Q::Error> {
        if let Some(piece) = self.pieces.get_mut(self.current) {
            queue.mark(piece)?;
        }
        if self.pieces.len() < self.most {
            self.pieces.push(queue.reserve(self.bytes)?);
            self.current = self.pieces.len() - 1;
        } else {
            self.current = (self.current + 1) % self.most;
            queue.wait(&self.pieces[self.current])?;
        }
        self.filled = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::VecDeque,
        convert::Infallible,
        rc::Rc,
    };

    use super::*;

    /// Copies as late as it may: when somebody waits. A piece that is written too early is seen then.
    #[derive(Default)]
    struct Late {
        target: RefCell<Vec<u8>>,
        started: Cell<usize>,
        waiting: RefCell<VecDeque<Copy>>,
        waits: Cell<usize>,
    }

    struct Copy {
        memory: Rc<RefCell<Vec<u8>>>,
        part: Range<usize>,
        to: usize,
    }

    struct Piece {
        memory: Rc<RefCell<Vec<u8>>>,
        /// What is written next, which reaches the memory with the copy.
        fresh: Vec<u8>,
        mark: usize,
    }

    impl Late {
        fn finish(&self, until: usize) {
            let mut waiting = self.waiting.borrow_mut();
            while self.started.get() - waiting.len() < until {
                let Copy { memory, part, to } = waiting.pop_front().expect("started");
                let target = &mut self.target.borrow_mut()[to..to + part.len()];
                target.copy_from_slice(&memory.borrow()[part]);
            }
        }
    }

    impl Queue for Late {
        type Piece = Piece;
        type Error = Infallible;

        fn reserve(&self, bytes: usize) -> Result<Piece, Infallible> {
            Ok(Piece {
                memory: Rc::new(RefCell::new(vec![0; bytes])),
                fresh: vec![0; bytes],
                mark: 0,
            })
        }

        fn memory<'p>(&self, piece: &'p mut Piece, part: Range<usize>) -> &'p mut [u8] {
            &mut piece.fresh[part]
        }

        fn copy(&self, piece: &Piece, part: Range<usize>, to: u64) -> Result<(), Infallible> {
            piece.memory.borrow_mut()[part.clone()].copy_from_slice(&piece.fresh[part.clone()]);
            self.waiting.borrow_mut().push_back(Copy {
                memory: Rc::clone(&piece.memory),
                part,
                to: to as usize,
            });
            self.started.set(self.started.get() + 1);
            Ok(())
        }

        fn mark(&self, piece: &mut Piece) -> Result<(), Infallible> {
            piece.mark = self.started.get();
            Ok(())
        }

        fn wait(&self, piece: &Piece) -> Result<(), Infallible> {
            self.waits.set(self.waits.get() + 1);
            self.finish(piece.mark);
            Ok(())
        }
    }

    /// Writes of these sizes, one after the other.
    fn written(sizes: &[usize]) -> (Vec<u8>, Vec<u8>, Late) {
        let total: usize = sizes.iter().sum();
        let bytes: Vec<u8> = (0..total).map(|i| (i * i / 7 + i) as u8).collect();
        let queue = Late::default();
        queue.target.replace(vec![0; total]);
        let mut ring = Ring::new(3, 256);
        let mut start = 0;
        for size in sizes {
            let source = &bytes[start..start + size];
            let mut fill = |offset: usize, out: &mut [u8]| {
                out.copy_from_slice(&source[offset..offset + out.len()]);
                Ok(())
            };
            ring.write(&queue, start as u64, *size, &mut fill)
                .expect("written");
            start += size;
        }
        assert!(ring.pieces.len() <= 3);
        queue.finish(queue.started.get());
        let target = queue.target.take();
        (target, bytes, queue)
    }

    #[test]
    fn a_write_many_times_as_large_as_the_ring() {
        for size in [0, 1, 255, 256, 257, 768, 769, 20_000] {
            let (got, wanted, queue) = written(&[size]);
            assert_eq!(got, wanted, "{size}");
            // Each piece after the third waits for the one that it takes the place of.
            assert_eq!(queue.waits.get(), size.div_ceil(256).saturating_sub(3));
        }
    }

    #[test]
    fn small_writes_share_pieces_and_large_ones_follow() {
        let sizes: Vec<usize> = (0..400)
            .map(|i| [1, 63, 64, 100, 700][i % 5] + i % 3)
            .collect();
        let (got, wanted, queue) = written(&sizes);
        assert_eq!(got, wanted);
        assert!(queue.waits.get() > 0);
        let (got, wanted, queue) = written(&[10; 12]);
        assert_eq!(got, wanted);
        assert_eq!(
            queue.waits.get(),
            0,
            "12 writes at multiples of 64 fill 3 pieces of 256"
        );
    }

    #[test]
    fn a_source_that_fails_is_no_success() {
        let queue = Late::default();
        queue.target.replace(vec![0; 10]);
        let mut fill = |_: usize, _: &mut [u8]| Err(io::Error::other("gone"));
        let failed = Ring::new(2, 64).write(&queue, 0, 10, &mut fill);
        assert!(matches!(failed, Err(Failure::Read(_))));
        assert_eq!(queue.started.get(), 0);
    }
}
