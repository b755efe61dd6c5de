//! Brings weights to the device while it computes: a thread with a stream of its own reads them from
//! their files straight into pinned memory.
//!
//! Two waits keep the order. The copy begins after what was called before it, because its memory may
//! have been in use until then; and what uses the weights begins after the copy.

use std::{sync::mpsc, thread};

use cudarc::driver::result::DriverError;

use super::{
    pinned,
    ring::{Failure, Ring},
    stream::{Context, Current, Event, Stream},
};
use crate::{
    backend::cuda::device::{Address, Source},
    error::{Error, Result},
};

/// Pieces of pinned memory: while the card reads one, the others are filled.
const PIECES: usize = 4;
const PIECE: usize = 16 << 20;

/// The thread.
pub(super) struct Loader {
    /// None when it is to end.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A copy that was asked for.
struct Job {
    to: Address,
    source: Source,
    /// When its memory is free.
    after: Event,
    done: mpsc::Sender<Done>,
}

/// When the copy is done, once all of it is started.
type Done = std::result::Result<Event, Failure<DriverError>>;

/// A copy under way.
#[derive(Debug)]
pub struct Copying {
    done: mpsc::Receiver<Done>,
}

impl Loader {
    pub(super) fn start(context: &Context) -> Result<Self> {
        let (jobs, asked) = mpsc::channel();
        let current = context.handle();
        let thread = thread::Builder::new()
            .name("weights".to_owned())
            .spawn(move || serve(&current, &asked))
            .map_err(|error| Error::new("the thread that loads weights", error))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Asks for a copy.
    pub(super) fn copy(&self, to: Address, source: Source, after: Event) -> Copying {
        let (sender, done) = mpsc::channel();
        let job = Job {
            to,
            source,
            after,
            done: sender,
        };
        if let Some(jobs) = &self.jobs {
            // Where the thread has ended, so will the wait for this.
            let _ = jobs.send(job);
        }
        Copying { done }
    }
}

impl Copying {
    /// Waits until the copy is started, which the event that is returned ends; None where the thread
    /// has ended.
    pub(super) fn started(&self) -> Option<Done> {
        self.done.recv().ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(current: &Current, jobs: &mpsc::Receiver<Job>) {
    let stream = current.set().and_then(|()| Stream::create());
    let mut ring = Ring::new(PIECES, PIECE);
    for job in jobs {
        let done = match &stream {
            Ok(stream) => copy(stream, &mut ring, &job),
            Err(error) => Err(Failure::Queue(*error)),
        };
        if done.is_err()
            && let Ok(stream) = &stream
        {
            // Its memory is about to be given back.
            let _ = stream.synchronise();
        }
        let _ = job.done.send(done);
    }
    if let Ok(stream) = stream {
        // The pinned memory goes.
        let _ = stream.synchronise();
        drop(ring);
    }
}

fn copy(stream: &Stream, ring: &mut Ring<Stream>, job: &Job) -> Done {
    stream.wait_for(&job.after)?;
    let source = &job.source;
    let mut fill = |start: usize, out: &mut [u8]| {
        pinned::on_all_cores(out, |offset, out| source.read(start + offset, out))
    };
    ring.write(stream, job.to.0, source.bytes(), &mut fill)?;
    Ok(stream.event()?)
}
