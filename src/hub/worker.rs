//! Requests run on a thread of their own, so that the user can stop them at any time and a
//! connection that falls silent is noticed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::error::Result;
use crate::interrupt;
use crate::progress::{Bar, Progress};

const TICK: Duration = Duration::from_millis(100);

/// The client's own limits get this much time to speak first: their failures can be repeated.
const GRACE: Duration = Duration::from_millis(500);

/// What a worker reports.
enum Event<T> {
    /// A file of so many bytes begins.
    Begin(u64),
    /// So many bytes have come.
    Bytes(u64),
    Done(Result<T, Failure>),
}

/// The worker's end of the line.
pub(super) struct Line<T>(Sender<Event<T>>);

impl<T> Line<T> {
    /// Says that the worker is alive.
    pub(super) fn beat(&self) {
        self.bytes(0);
    }

    /// A file of so many bytes begins, or begins again.
    pub(super) fn begin(&self, size: u64) {
        let _ = self.0.send(Event::Begin(size));
    }

    /// So many bytes have come. False when nobody listens any more.
    pub(super) fn bytes(&self, count: u64) -> bool {
        self.0.send(Event::Bytes(count)).is_ok()
    }
}

/// Runs `work` and waits for it. The outer error is the user's wish to stop; the thread is then
/// left to the end of the process, and what it has stored so far is a part that is resumed later.
pub(super) fn run<T: Send + 'static>(
    what: &str,
    progress: Progress,
    patience: Duration,
    work: impl FnOnce(&Line<T>) -> Result<T, Failure> + Send + 'static,
) -> Result<Result<T, Failure>> {
    let (sender, receiver) = channel();
    let line = Line(sender);
    let thread = std::thread::Builder::new()
        .name("hub".into())
        .spawn(move || {
            let outcome = work(&line);
            let _ = line.0.send(Event::Done(outcome));
        });
    match thread {
        Ok(_) => wait(&receiver, what, progress, patience),
        Err(error) => Ok(Err(Failure::Local(format!("no thread: {error}")))),
    }
}

fn wait<T>(
    receiver: &Receiver<Event<T>>,
    what: &str,
    progress: Progress,
    patience: Duration,
) -> Result<Result<T, Failure>> {
    let mut bar: Option<Bar> = None;
    let mut heard = Instant::now();
    let outcome = loop {
        if let Err(stop) = interrupt::check() {
            break Err(stop);
        }
        match receiver.recv_timeout(TICK) {
            Ok(Event::Begin(size)) => {
                heard = Instant::now();
                let bar = bar.get_or_insert_with(|| progress.bytes(what, size));
                bar.set_length(size);
                bar.set_position(0);
            }
            Ok(Event::Bytes(count)) => {
                heard = Instant::now();
                if let Some(bar) = &bar {
                    bar.inc(count);
                }
            }
            Ok(Event::Done(outcome)) => break Ok(outcome),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > patience + GRACE => {
                break Ok(Err(Failure::Silent));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The thread ended without a word: the client gave up on an answer it did not expect.
            Err(RecvTimeoutError::Disconnected) => {
                break Ok(Err(Failure::BadAnswer("the client cannot read it".into())));
            }
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    outcome
}

/// Sleeps, but not through the user's wish to stop.
pub(super) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}
