//! Massive values on the device, until somebody reads them (`kernels/statistics_collect.cu`).
//!
//! How many a tensor has is known to the device alone, and asking it would make the host wait after every tensor. So
//! many tensors' values follow each other in one list, for which the host counts the most that may be in it. When
//! that is as many as it has room for, the host asks how many there really are, which is a few.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use super::{
    Cuda,
    device::{Address, Device},
    memory::Buffer,
};
use crate::{
    backend::StatisticsRequest,
    error::{Error, Result},
};

/// Values of a token that a list has room for. Massive ones are in a few columns: where there are more, a walk is
/// repeated with room for all.
const OF_TOKEN: usize = 16;
/// Below this relative threshold any number may pass, and there is room for all from the beginning.
const SMALL_REL_THRESHOLD: f32 = 100.0;
/// Tensors that a list has room for, if those are not more than so many values.
const TENSORS: usize = 16;
const MOST: usize = 4 << 20;

/// `Massive` in the kernel: whose it is, its index and its bits.
type MassiveEntry = [u32; 3];

/// The lists of a backend.
#[derive(Debug)]
pub(super) struct Massive<D: Device> {
    /// The one that is appended to.
    current: RefCell<Option<Rc<List<D>>>>,
    /// Whether there must be room for all values, whatever the thresholds.
    all: Cell<bool>,
}

impl<D: Device> Default for Massive<D> {
    fn default() -> Self {
        Self {
            current: RefCell::default(),
            all: Cell::default(),
        }
    }
}

/// Values of many tensors.
#[derive(Debug)]
struct List<D: Device> {
    /// `[room]` of [`MassiveEntry`]
    entries: RefCell<Buffer<D>>,
    room: usize,
    /// Whether it has room for all values, so that it cannot be too short.
    of_all: bool,
    /// A 32-bit number: entries that are there.
    taken: Buffer<D>,
    /// The most that may be there.
    most: Cell<usize>,
    /// Sequences that have been given a number.
    owners: Cell<u32>,
    brought: RefCell<Brought>,
}

/// What of a list is on the host.
#[derive(Debug, Default)]
struct Brought {
    /// Its first entries.
    entries: usize,
    /// The first sequences, of which these are all.
    owners: u32,
    /// Index and bits.
    by_owner: HashMap<u32, Vec<[u32; 2]>>,
}

/// Where a tensor's massive values are.
#[derive(Debug)]
pub(super) struct Listed<D: Device> {
    list: Rc<List<D>>,
    /// Of the first sequence; the others follow.
    owner: u32,
}

impl<D: Device> Listed<D> {
    /// What the kernel is told: entries, their count, the first owner, and the room.
    pub(super) fn target(&self) -> (Address, Address, u32, u32) {
        let List {
            entries,
            taken,
            room,
            ..
        } = &*self.list;
        let entries = entries.borrow().address();
        (entries, taken.address(), self.owner, *room as u32)
    }
}

impl<D: Device> List<D> {
    fn has_room(&self, owners: u32, most: usize) -> bool {
        self.owners.get().checked_add(owners).is_some() && self.most.get() + most <= self.room
    }

    /// Asks the device how many there are.
    fn ask(&self, cuda: &Cuda<D>) -> Result<usize> {
        let taken: Vec<u32> = cuda.fetch(&self.taken, 1)?;
        let taken = taken[0] as usize;
        if taken > self.room {
            return Err(cuda.massive.full(self));
        }
        self.most.set(taken);
        Ok(taken)
    }

    /// Nobody waits for what is in it.
    fn clear(&self, cuda: &Cuda<D>) -> Result<()> {
        cuda.device.clear(self.taken.address(), size_of::<u32>())?;
        self.most.set(0);
        self.owners.set(0);
        self.brought.take();
        Ok(())
    }

    /// Gives back the room behind the entries that are there.
    fn shrink(&self, cuda: &Cuda<D>, taken: usize) -> Result<()> {
        let bytes = taken * size_of::<MassiveEntry>();
        let mut entries = self.entries.borrow_mut();
        let smaller = cuda.buffer(bytes)?;
        cuda.device
            .copy(entries.address(), smaller.address(), bytes)?;
        *entries = smaller;
        Ok(())
    }

    /// Brings what is not on the host yet.
    fn bring(&self, cuda: &Cuda<D>) -> Result<()> {
        let taken = self.ask(cuda)?;
        let mut brought = self.brought.borrow_mut();
        let mut entries = vec![MassiveEntry::default(); taken - brought.entries];
        if !entries.is_empty() {
            let behind = brought.entries * size_of::<MassiveEntry>();
            let from = self.entries.borrow().address().offset(behind);
            cuda.device
                .read(from, bytemuck::cast_slice_mut(&mut entries))?;
        }
        for [owner, index, bits] in entries {
            brought
                .by_owner
                .entry(owner)
                .or_default()
                .push([index, bits]);
        }
        brought.entries = taken;
        brought.owners = self.owners.get();
        Ok(())
    }
}

impl<D: Device> Massive<D> {
    /// More were found than the list had room for: the next ones have room for all.
    fn full(&self, list: &List<D>) -> Error {
        self.all.set(true);
        let more = "more values are above the thresholds than a few of each token";
        if list.of_all {
            return Error::new("statistics", more)
                .remedy("raise --abs-threshold or --rel-threshold, or use --device cpu");
        }
        Error::again("statistics", more)
    }

    /// Gives back the list that is appended to, if nobody waits for what is in it. Whether there was one.
    pub(super) fn give_up(&self) -> bool {
        // Where the list itself is being made, there is none.
        let Ok(mut current) = self.current.try_borrow_mut() else {
            return false;
        };
        let unused = current.take_if(|list| Rc::strong_count(list) == 1);
        unused.is_some()
    }

    /// How many of `rows` tokens' values there must be room for; none where no value can pass.
    fn room(&self, rows: usize, columns: usize, request: &StatisticsRequest) -> usize {
        if request.abs_threshold == f32::INFINITY {
            0
        } else if self.all.get() || request.rel_threshold < SMALL_REL_THRESHOLD {
            rows.saturating_mul(columns)
        } else {
            rows.saturating_mul(columns.min(OF_TOKEN))
        }
    }

    /// Bytes that a tensor's room takes.
    pub(super) fn bytes(&self, rows: usize, columns: usize, request: &StatisticsRequest) -> usize {
        let room = self.room(rows, columns, request);
        room.saturating_mul(size_of::<MassiveEntry>())
    }
}

impl<D: Device> Cuda<D> {
    /// Room for the massive values of so many sequences of a tensor; none where no value can pass.
    pub(super) fn room_for_massive(
        &self,
        sequences: u32,
        (rows, columns): (usize, usize),
        request: &StatisticsRequest,
    ) -> Result<Option<Listed<D>>> {
        let most = self.massive.room(rows, columns, request);
        if most == 0 {
            return Ok(None);
        }
        let mut current = self.massive.current.borrow_mut();
        if let Some(list) = &*current {
            if Rc::strong_count(list) == 1 {
                list.clear(self)?;
            }
            if !list.has_room(sequences, most) {
                let taken = list.ask(self)?;
                // One that is half full would be asked again soon.
                if taken > list.room / 2 || !list.has_room(sequences, most) {
                    list.shrink(self, taken)?;
                    *current = None;
                }
            }
        }
        let list = match &*current {
            Some(list) => Rc::clone(list),
            None => Rc::clone(current.insert(Rc::new(self.list_of(most)?))),
        };
        let owner = list.owners.get();
        list.owners.set(owner + sequences);
        list.most.set(list.most.get() + most);
        Ok(Some(Listed { list, owner }))
    }

    /// An empty list with room for a tensor of so many massive values, and for others.
    fn list_of(&self, most: usize) -> Result<List<D>> {
        let room = most.saturating_mul(TENSORS).min(MOST).max(most);
        if u32::try_from(room).is_err() {
            return Err(Error::out_of_memory(
                "statistics",
                format!("a list of {room} values is beyond 2^32"),
            )
            .remedy("use a shorter --context-length"));
        }
        let list = List {
            of_all: self.massive.all.get(),
            entries: RefCell::new(self.buffer(room * size_of::<MassiveEntry>())?),
            room,
            taken: self.buffer(size_of::<u32>())?,
            most: Cell::new(0),
            owners: Cell::new(0),
            brought: RefCell::default(),
        };
        list.clear(self)?;
        Ok(list)
    }

    /// Index and bits of a sequence's massive values, in no order. What was found before comes to the host, too.
    pub(super) fn bring_massive(
        &self,
        listed: &Listed<D>,
        sequence: usize,
    ) -> Result<Vec<[u32; 2]>> {
        let Listed { list, owner } = listed;
        let owner = owner + sequence as u32;
        if owner >= list.brought.borrow().owners {
            list.bring(self)?;
        }
        let found = list.brought.borrow_mut().by_owner.remove(&owner);
        Ok(found.unwrap_or_default())
    }
}
