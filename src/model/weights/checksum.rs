//! Checksums of weight files, taken beside a walk from the pages that the walk has just read.
//!
//! BLAKE3 is a tree: a file's hash follows from those of its pieces, which may be computed in any
//! order. So the pieces of a layer are hashed when the walk is done with the layer, on a thread of
//! the lowest priority that takes what the others leave idle, before the pages are given back.
//! What the walk never touched, and what the thread did not come to, is hashed at the end on all
//! cores.
#![forbid(unsafe_code)]

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use rayon::prelude::*;

use super::shard::Shard;
use crate::{error::Result, interrupt};

/// Bytes of a piece: a power of two, large enough for BLAKE3's widest instructions, small enough that
/// few pieces straddle two layers.
const PIECE: usize = 1 << 20;

/// Layers that may wait for the thread; when more do, their pages are given back unhashed, so that
/// memory stays bounded.
const WAITING: usize = 2;

/// A part of a file.
pub(super) type Part = (usize, Range<usize>);

/// The hashes of all files of a checkpoint, as far as they are known.
#[derive(Debug)]
pub(super) struct Checksums {
    tables: Arc<Tables>,
    worker: Mutex<Option<Worker>>,
    finished: OnceLock<Vec<blake3::Hash>>,
}

#[derive(Debug)]
struct Worker {
    parts: SyncSender<Vec<Part>>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Tables {
    shards: Vec<Arc<Shard>>,
    /// By shard: the pieces' hashes.
    pieces: Vec<Mutex<Vec<Option<ChainingValue>>>>,
    stopped: AtomicBool,
}

impl Checksums {
    /// Begins; without a thread if the system has none to give.
    pub(super) fn start(shards: &[Arc<Shard>]) -> Self {
        let pieces = shards.iter().map(|shard| {
            let count = shard.bytes().len().div_ceil(PIECE);
            Mutex::new(vec![None; count])
        });
        let tables = Arc::new(Tables {
            shards: shards.to_vec(),
            pieces: pieces.collect(),
            stopped: AtomicBool::new(false),
        });
        let (parts, received) = sync_channel(WAITING);
        let shared = Arc::clone(&tables);
        let thread = thread::Builder::new()
            .name("checksums".to_owned())
            .spawn(move || shared.follow(&received));
        Self {
            tables,
            worker: Mutex::new(thread.ok().map(|thread| Worker { parts, thread })),
            finished: OnceLock::new(),
        }
    }

    /// Takes parts that were read just now. They are given back after they are hashed, or at once if
    /// too many wait.
    pub(super) fn take(&self, parts: Vec<Part>) {
        let left = match &*lock(&self.worker) {
            Some(worker) => match worker.parts.try_send(parts) {
                Ok(()) => return,
                Err(error) => match error {
                    std::sync::mpsc::TrySendError::Full(parts)
                    | std::sync::mpsc::TrySendError::Disconnected(parts) => parts,
                },
            },
            None => parts,
        };
        self.tables.release(&left);
    }

    /// The hash of every file; what is missing is computed now.
    pub(super) fn finish(&self) -> Result<Vec<blake3::Hash>> {
        if let Some(found) = self.finished.get() {
            return Ok(found.clone());
        }
        self.stop();
        let tables = &self.tables;
        let found = (0..tables.shards.len())
            .map(|shard| tables.finish(shard))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.finished.get_or_init(|| found).clone())
    }

    fn stop(&self) {
        self.tables.stopped.store(true, Ordering::Relaxed);
        if let Some(Worker { parts, thread }) = lock(&self.worker).take() {
            drop(parts);
            // It has nothing to say; a panic in it was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Checksums {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tables {
    /// The thread: hashes what the walk is done with.
    fn follow(&self, received: &Receiver<Vec<Part>>) {
        step_back();
        for parts in received {
            for (shard, range) in merged(&parts) {
                for piece in whole_pieces(&range) {
                    if self.stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    if lock(&self.pieces[shard])[piece].is_none() {
                        let hash = self.hash(shard, piece);
                        lock(&self.pieces[shard])[piece] = Some(hash);
                    }
                }
            }
            self.release(&parts);
        }
    }

    fn release(&self, parts: &[Part]) {
        for (shard, range) in parts {
            self.shards[*shard].release(range.clone());
        }
    }

    fn range(&self, shard: usize, piece: usize) -> Range<usize> {
        let start = piece * PIECE;
        start..(start + PIECE).min(self.shards[shard].bytes().len())
    }

    fn hash(&self, shard: usize, piece: usize) -> ChainingValue {
        let range = self.range(shard, piece);
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(range.start as u64);
        hasher.update(&self.shards[shard].bytes()[range]);
        hasher.finalize_non_root()
    }

    /// The file's hash, with the missing pieces computed on all cores.
    fn finish(&self, shard: usize) -> Result<blake3::Hash> {
        let bytes = self.shards[shard].bytes();
        if bytes.len() <= PIECE {
            return Ok(blake3::hash(bytes));
        }
        let known = lock(&self.pieces[shard]).clone();
        let pieces = known
            .into_par_iter()
            .enumerate()
            .map(|(piece, known)| {
                if let Some(known) = known {
                    return Ok(known);
                }
                interrupt::check()?;
                let hash = self.hash(shard, piece);
                self.shards[shard].release(self.range(shard, piece));
                Ok(hash)
            })
            .collect::<Result<Vec<ChainingValue>>>()?;
        let left = left_subtree_len(bytes.len() as u64) as usize;
        Ok(merge_subtrees_root(
            &subtree(&pieces, 0, left),
            &subtree(&pieces, left, bytes.len() - left),
            Mode::Hash,
        ))
    }
}

/// The chaining value of the `length` bytes from `start` on.
fn subtree(pieces: &[ChainingValue], start: usize, length: usize) -> ChainingValue {
    if length <= PIECE {
        return pieces[start / PIECE];
    }
    let left = left_subtree_len(length as u64) as usize;
    merge_subtrees_non_root(
        &subtree(pieces, start, left),
        &subtree(pieces, start + left, length - left),
        Mode::Hash,
    )
}

/// The parts in order, with those that touch as one: a layer's tensors lie side by side.
fn merged(parts: &[Part]) -> Vec<Part> {
    let mut sorted: Vec<Part> = parts.to_vec();
    sorted.sort_by_key(|(shard, range)| (*shard, range.start));
    let mut merged: Vec<Part> = Vec::new();
    for (shard, range) in sorted {
        match merged.last_mut() {
            Some((last, before)) if *last == shard && before.end >= range.start => {
                before.end = before.end.max(range.end);
            }
            _ => merged.push((shard, range)),
        }
    }
    merged
}

/// The pieces that lie wholly in the range.
fn whole_pieces(range: &Range<usize>) -> Range<usize> {
    let first = range.start.div_ceil(PIECE);
    first..(range.end / PIECE).max(first)
}

/// Leaves the processor to every other thread that wants it.
fn step_back() {
    // On Linux a priority is a thread's own. Elsewhere it is the process's, which must keep it.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::storage::Storage, *};

    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    }

    fn shard(length: usize) -> Arc<Shard> {
        let storage = Storage::Memory(bytes(length).into());
        Arc::new(Shard::new(0, "file".to_owned(), None, storage))
    }

    #[test]
    fn any_length_and_order_gives_blake3s_own_hash() {
        for length in [
            0,
            1,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            2 * PIECE,
            5 * PIECE + 12_345,
            7 * PIECE,
            8 * PIECE + 1,
        ] {
            let shards = [shard(length), shard(100)];
            let checksums = Checksums::start(&shards);
            // The end first, in parts that touch, and one that is too small for a piece.
            let middle = length / 2;
            checksums.take(vec![(0, middle..length), (1, 0..100)]);
            checksums.take(vec![(0, middle / 2..middle), (0, 0..middle / 2)]);
            let found = checksums.finish().expect("not interrupted");
            assert_eq!(found[0], blake3::hash(&bytes(length)), "{length}");
            assert_eq!(found[1], blake3::hash(&bytes(100)));
        }
    }

    #[test]
    fn pieces_within() {
        assert_eq!(whole_pieces(&(0..PIECE)), 0..1);
        assert_eq!(whole_pieces(&(1..2 * PIECE)), 1..2);
        assert!(whole_pieces(&(1..PIECE)).is_empty());
        assert!(whole_pieces(&(PIECE + 5..PIECE + 10)).is_empty());
        let touching = [(0, 5..9), (1, 0..2), (0, 0..5), (0, 12..13)];
        assert_eq!(merged(&touching), [(0, 0..9), (0, 12..13), (1, 0..2)]);
    }
}
