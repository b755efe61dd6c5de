//! Where residual streams wait between two layers: on the device as far as there is room, then on the host, and
//! what the host has no room for in a file.
//!
//! A stream comes back with the bits it had: float32 holds what the device's types hold.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
};

use super::{
    batch::Batch,
    cards::Cards,
    plan::Spilled,
    stream::{Carried, Stream},
};
use crate::{
    backend::Backend,
    error::{Error, Result},
};

/// Bytes that streams may take while they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// On each device, in its type.
    pub(super) device: u64,
    /// On the host, in float32.
    pub(super) host: u64,
}

impl Room {
    /// All streams stay on the device.
    pub(super) const ALL: Self = Self {
        device: u64::MAX,
        host: 0,
    };
}

/// A micro-batch that is not computed now.
pub(super) struct Waiting<B: Backend> {
    batch: Batch,
    carried: Carried<B>,
    hidden: Hidden<B>,
}

enum Hidden<B: Backend> {
    Device(B::Tensor),
    Host(Vec<f32>),
    /// From this byte of the file on.
    File(u64),
}

/// The places, and how full they are.
pub(super) struct WaitingRoom<'r, B: Backend> {
    cards: Cards<'r, B>,
    /// Of the residual stream.
    width: usize,
    room: Room,
    /// Bytes that wait on each device.
    on_devices: Vec<u64>,
    /// Bytes that wait on the host.
    on_host: u64,
    file: Option<SpillFile>,
    spilled: Spilled,
}

impl<'r, B: Backend> WaitingRoom<'r, B> {
    pub(super) fn new(cards: Cards<'r, B>, width: usize, room: Room) -> Self {
        Self {
            cards,
            width,
            room,
            on_devices: vec![0; cards.count()],
            on_host: 0,
            file: None,
            spilled: Spilled::default(),
        }
    }

    /// Takes a stream in.
    pub(super) fn leave(&mut self, stream: Stream<B>) -> Result<Waiting<B>> {
        let Stream {
            batch,
            hidden,
            carried,
        } = stream;
        let backend = self.cards.of(&batch);
        let bytes = self.bytes(&batch, backend.precision().residual().size());
        let on_device = &mut self.on_devices[self.cards.place(&batch)];
        let hidden = if on_device.saturating_add(bytes) <= self.room.device {
            *on_device += bytes;
            Hidden::Device(hidden)
        } else {
            let values = backend.download(&hidden)?;
            drop(hidden);
            let bytes = self.bytes(&batch, size_of::<f32>());
            if self.on_host.saturating_add(bytes) <= self.room.host {
                self.on_host += bytes;
                self.spilled.to_host += bytes;
                Hidden::Host(values)
            } else {
                self.spilled.to_file += bytes;
                let file = match self.file.take() {
                    Some(file) => file,
                    None => SpillFile::create()?,
                };
                Hidden::File(self.file.insert(file).write(&values)?)
            }
        };
        Ok(Waiting {
            batch,
            carried,
            hidden,
        })
    }

    /// Lets a stream go, to be computed.
    pub(super) fn fetch(&mut self, waiting: Waiting<B>) -> Result<Stream<B>> {
        self.let_go(&waiting);
        let Waiting {
            batch,
            carried,
            hidden,
        } = waiting;
        let (rows, backend) = (rows(&batch), self.cards.of(&batch));
        let hidden = match hidden {
            Hidden::Device(hidden) => hidden,
            Hidden::Host(values) => backend.upload(rows, self.width, values)?,
            Hidden::File(start) => {
                let file = self.file.as_mut();
                let read = file.map(|file| file.read(start, rows * self.width));
                backend.upload(rows, self.width, read.transpose()?.unwrap_or_default())?
            }
        };
        Ok(Stream {
            batch,
            hidden,
            carried,
        })
    }

    /// Forgets a stream.
    pub(super) fn discard(&mut self, waiting: Waiting<B>) {
        self.let_go(&waiting);
        if let (Hidden::File(start), Some(file)) = (&waiting.hidden, &mut self.file) {
            file.free(*start, rows(&waiting.batch) * self.width);
        }
    }

    /// What did not stay on the device.
    pub(super) fn spilled(&self) -> Spilled {
        self.spilled
    }

    fn let_go(&mut self, waiting: &Waiting<B>) {
        let batch = &waiting.batch;
        let residual = self.cards.of(batch).precision().residual().size();
        match &waiting.hidden {
            Hidden::Device(_) => {
                self.on_devices[self.cards.place(batch)] -= self.bytes(batch, residual);
            }
            Hidden::Host(_) => self.on_host -= self.bytes(batch, size_of::<f32>()),
            Hidden::File(_) => {}
        }
    }

    fn bytes(&self, batch: &Batch, size: usize) -> u64 {
        (rows(batch) * self.width * size) as u64
    }
}

fn rows(batch: &Batch) -> usize {
    batch.rows.last().map_or(0, |rows| rows.end)
}

/// A file without a name, which goes with the process; places in it are used again.
struct SpillFile {
    file: File,
    end: u64,
    /// Start and number of values of places that are free.
    free: Vec<(u64, usize)>,
}

impl SpillFile {
    fn create() -> Result<Self> {
        Ok(Self {
            file: tempfile::tempfile().map_err(|error| failure(&error))?,
            end: 0,
            free: Vec::new(),
        })
    }

    /// Where the values are now.
    fn write(&mut self, values: &[f32]) -> Result<u64> {
        let same = self
            .free
            .iter()
            .position(|(_, count)| *count == values.len());
        let start = match same {
            Some(index) => self.free.swap_remove(index).0,
            None => {
                let start = self.end;
                self.end += size_of_val(values) as u64;
                start
            }
        };
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.write_all(bytemuck::cast_slice(values)))
            .map_err(|error| failure(&error))?;
        Ok(start)
    }

    /// The values from there, whose place is free from now on.
    fn read(&mut self, start: u64, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0f32; count];
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|error| failure(&error))?;
        self.free(start, count);
        Ok(values)
    }

    fn free(&mut self, start: u64, count: usize) {
        self.free.push((start, count));
    }
}

fn failure(error: &std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::new(
        format!("residual streams in a file of {}", folder.display()),
        error,
    )
    .remedy("set TMPDIR to a folder with room, or use fewer or shorter sequences")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Tensors, cpu::Cpu};

    fn stream(cpu: &Cpu, first: usize, rows: usize) -> Stream<Cpu> {
        let values = (0..3 * rows).map(|value| (first + value) as f32).collect();
        Stream {
            batch: Batch {
                number: first / 10,
                sequences: vec![first],
                rows: std::iter::once(0..rows).collect(),
                observed: true,
                edits: Vec::new(),
                heads_off: Vec::new(),
            },
            hidden: cpu.upload(rows, 3, values).expect("in memory"),
            carried: Carried::new(Vec::new()),
        }
    }

    /// Two rows fit on each device, four on the host; all streams come back as they were, in any order and as
    /// often as they go, and the file grows no further than it must.
    #[test]
    fn streams_come_back_from_wherever_they_wait() {
        for (devices, to_file) in [(1, 4), (2, 2)] {
            come_back(devices, to_file);
        }
    }

    /// Five streams of two rows, of which `to_file` rows go to the file.
    fn come_back(devices: usize, to_file: u64) {
        let cpus: Vec<Cpu> = (0..devices).map(|_| Cpu::new()).collect();
        let cpu = &cpus[0];
        let row = 3 * size_of::<f32>() as u64;
        let room = Room {
            device: 2 * row,
            host: 4 * row,
        };
        let mut places = WaitingRoom::new(Cards::for_batches(&cpus, 5), 3, room);
        let mut waiting = Vec::new();
        for first in [10, 20, 30, 40, 50] {
            waiting.push(places.leave(stream(cpu, first, 2)).expect("waits"));
        }
        let expected = Spilled {
            to_host: 4 * row,
            to_file: to_file * row,
        };
        assert_eq!(places.spilled(), expected);
        for _ in 0..3 {
            waiting.rotate_left(2);
            let mut again = Vec::new();
            for one in waiting {
                let stream = places.fetch(one).expect("comes back");
                let first = stream.batch.sequences[0] as f32;
                let values = stream.hidden.values();
                let expected: Vec<f32> = (0..6).map(|value| first + value as f32).collect();
                assert_eq!(values, expected);
                again.push(places.leave(stream).expect("waits"));
            }
            waiting = again;
        }
        assert_eq!(
            places.file.as_ref().map(|file| file.end),
            Some(to_file * row)
        );
        waiting.into_iter().for_each(|one| places.discard(one));
        assert_eq!(places.on_devices, vec![0; devices]);
        assert_eq!(places.on_host, 0);
    }
}
