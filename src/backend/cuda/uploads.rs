//! The bytes of packed weights on the device, or on their way there.
//!
//! Projections that are parts of one stored matrix share its bytes while any of them still needs them.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
};

use super::{
    Cuda,
    constants::PACKED_PARTS,
    device::{Address, Device, Source},
    memory::Buffer,
};
use crate::{
    error::{Error, Result},
    model::weights::{MappedFile, Stored},
};

/// Where bytes are copied from: the file that they are mapped from, if there is one.
pub(super) fn source(file: Option<&MappedFile>, bytes: &[u8]) -> Source {
    match file {
        Some(file) => {
            let (file, start) = file.place_of(bytes);
            Source::File {
                file: Arc::clone(file),
                start,
                bytes: bytes.len(),
            }
        }
        None => Source::Bytes(bytes.to_vec()),
    }
}

/// The bytes of one stored matrix, or their copies that are under way.
#[derive(Debug)]
pub(super) struct Upload<D: Device> {
    device: Rc<D>,
    /// Where the codes lie in memory.
    place: usize,
    bytes: usize,
    state: RefCell<State<D>>,
}

#[derive(Debug)]
enum State<D: Device> {
    Coming([Option<(Buffer<D>, D::Copying)>; PACKED_PARTS]),
    There([Option<Buffer<D>>; PACKED_PARTS]),
    /// A copy failed.
    Lost,
}

/// The bytes that are on the device or on their way there, by where the codes lie in memory.
pub(super) type Uploads<D> = RefCell<HashMap<usize, Weak<Upload<D>>>>;

impl<D: Device> Drop for Upload<D> {
    fn drop(&mut self) {
        // The memory may be given back only once the copies are done.
        if let State::Coming(parts) = self.state.replace(State::Lost) {
            for (buffer, copying) in parts.into_iter().flatten() {
                let _ = self.device.await_copy(copying);
                drop(buffer);
            }
        }
    }
}

impl<D: Device> Upload<D> {
    /// Where the codes lie in memory.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Device memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waits for the bytes, and says where they are.
    pub(super) fn ready(&self) -> Result<[Address; PACKED_PARTS]> {
        let mut state = self.state.borrow_mut();
        if let State::Coming(parts) = &mut *state {
            let parts = std::mem::replace(parts, [const { None }; PACKED_PARTS]);
            *state = State::Lost;
            let (mut there, mut copied) = ([const { None }; PACKED_PARTS], Ok(()));
            for (there, part) in there.iter_mut().zip(parts) {
                if let Some((buffer, copying)) = part {
                    // All are waited for, whatever becomes of one.
                    copied = copied.and(self.device.await_copy(copying));
                    *there = Some(buffer);
                }
            }
            copied?;
            *state = State::There(there);
        }
        let State::There(buffers) = &*state else {
            return Err(Error::new(
                "a weight on the device",
                "its copy failed earlier",
            ));
        };
        let place = |buffer: &Option<Buffer<D>>| buffer.as_ref().map(Buffer::address);
        Ok(buffers
            .each_ref()
            .map(|buffer| place(buffer).unwrap_or(Address::NULL)))
    }
}

impl<D: Device> Cuda<D> {
    /// Starts copying these parts of a matrix, the codes first, unless they are there.
    pub(super) fn upload(
        &self,
        parts: [Option<(&Stored, &[u8])>; PACKED_PARTS],
    ) -> Result<Rc<Upload<D>>> {
        let place = parts[0].map_or(0, |(_, codes)| codes.as_ptr().addr());
        if let Some(known) = self.uploads.borrow().get(&place).and_then(Weak::upgrade) {
            return Ok(known);
        }
        // One that fails half-way waits for what it has started.
        let mut upload = Upload {
            device: Rc::clone(&self.device),
            place,
            bytes: 0,
            state: RefCell::new(State::Coming([const { None }; PACKED_PARTS])),
        };
        for (index, part) in parts.into_iter().enumerate() {
            if let (State::Coming(coming), Some((part, bytes))) = (upload.state.get_mut(), part) {
                coming[index] = Some(self.start_part(part, bytes)?);
                upload.bytes += bytes.len();
            }
        }
        let upload = Rc::new(upload);
        let mut uploads = self.uploads.borrow_mut();
        uploads.retain(|_, known| known.strong_count() > 0);
        uploads.insert(place, Rc::downgrade(&upload));
        Ok(upload)
    }

    fn start_part(&self, part: &Stored, bytes: &[u8]) -> Result<(Buffer<D>, D::Copying)> {
        let source = source(part.file(), bytes);
        let buffer = self.buffer(bytes.len())?;
        let copying = self.device.start_write(buffer.address(), source)?;
        Ok((buffer, copying))
    }
}
