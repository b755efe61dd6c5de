//! Reading where the next bytes may never come: from a pipe, or from whoever types. The system's call cannot be
//! taken back, so it runs on a thread of its own, which is left behind when the user asks to stop.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use super::watched::CHUNK;
use crate::interrupt;

const TICK: Duration = Duration::from_millis(50);

/// What comes of a pipe.
pub(super) struct Patient {
    parts: Receiver<io::Result<Vec<u8>>>,
    /// What has come and not been read, and how much of it has.
    part: Vec<u8>,
    at: usize,
}

impl Patient {
    /// Standard input.
    pub(super) fn stdin() -> io::Result<Self> {
        Self::of(|| Ok(io::stdin()))
    }

    /// A pipe with a name, which may have to be waited for as well.
    pub(super) fn pipe(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        Self::of(move || File::open(path))
    }

    fn of<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<Self> {
        // A part ahead of the reader.
        let (sender, parts) = sync_channel(1);
        thread::Builder::new()
            .name("pipe".to_owned())
            .spawn(move || {
                let mut reader = match open() {
                    Ok(reader) => reader,
                    Err(error) => {
                        // Nobody listens after an interrupt.
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                loop {
                    let mut part = vec![0; CHUNK];
                    let read = match reader.read(&mut part) {
                        Ok(0) => return,
                        Ok(count) => {
                            part.truncate(count);
                            Ok(part)
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => Err(error),
                    };
                    let failed = read.is_err();
                    if sender.send(read).is_err() || failed {
                        return;
                    }
                }
            })?;
        Ok(Self {
            parts,
            part: Vec::new(),
            at: 0,
        })
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.part.len() {
            interrupt::check().map_err(io::Error::other)?;
            match self.parts.recv_timeout(TICK) {
                Ok(part) => (self.part, self.at) = (part?, 0),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let left = &self.part[self.at..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}
