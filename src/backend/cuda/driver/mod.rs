//! A [`Device`] that is an NVIDIA card, through the CUDA driver and cuBLASLt.
//!
//! Neither is linked: both are looked for when a card is opened, so that one binary runs with and
//! without them. Everything of one [`Driver`] happens on one stream, in the order of the calls; only
//! weights come on a stream of their own.

// Every call of the driver is unsafe; all of them are in this folder.
#![allow(unsafe_code)]

mod blas;
mod cards;
mod failure;
mod images;
mod libraries;
mod loader;
mod modules;
mod pinned;
mod recent;
mod ring;
mod stream;
mod tensor_map;
mod tuning;

pub use cards::{Card, NO_DRIVER, Requirements};
pub use images::built;
pub use loader::Copying;

use std::{
    cell::{OnceCell, RefCell},
    fmt,
    path::PathBuf,
};

use cudarc::driver::{result, sys};

use self::{
    blas::Blas,
    failure::{failed, failed_on, out_of_memory},
    loader::Loader,
    modules::Modules,
    ring::{Failure, Ring},
    stream::{Context, Stream},
};
use super::device::{Address, Argument, Boxes, Device, Launch, Limits, Product, Source, TensorMap};
use crate::{
    error::{Error, Result},
    panics,
};

/// An opened card. A thread may have several, and turns to the one that it calls.
// Fields are dropped in this order: what belongs to the context before the context.
pub struct Driver {
    own: Own,
    card: Card,
    options: Options,
    limits: Limits,
    /// The kernel started last; what fails later is reported with it.
    latest: RefCell<String>,
    context: Context,
}

/// What belongs to the card's context, and is used while that is the thread's ([`Driver::own`]).
// Dropped in this order.
struct Own {
    blas: Blas,
    loader: OnceCell<Loader>,
    staging: RefCell<Ring<Stream>>,
    modules: Modules,
    stream: Stream,
}

/// Pieces of pinned memory for what is copied in the order of the calls: lists, vectors, inputs.
const PIECES: usize = 4;
const PIECE: usize = 4 << 20;

/// Choices about the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Float32 products in TF32, with 10 bits of mantissa.
    pub tf32: bool,
    /// Times cuBLASLt's algorithms for every shape that is met.
    pub tune: bool,
}

impl Driver {
    /// Opens a card that [`Requirements`] lets through.
    pub fn open(card: Card, options: Options) -> Result<Self> {
        // A driver that lacks a function makes cudarc panic.
        panics::caught(|| Self::of_card(card, options)).unwrap_or_else(|| {
            Err(Error::new(
                "CUDA",
                "the driver or cuBLASLt lacks a function that massact needs",
            )
            .remedy("update the NVIDIA driver, or use --device cpu"))
        })
    }

    fn of_card(card: Card, options: Options) -> Result<Self> {
        let subject = format!("cuda:{}", card.index);
        let context = Context::retain(card.index).map_err(|error| failed(&subject, error))?;
        let stream = Stream::create().map_err(|error| failed(&subject, error))?;
        let limits = context.limits().map_err(|error| failed(&subject, error))?;
        let cuda = cards::version().map_err(|error| failed(&subject, error))?;
        Ok(Self {
            own: Own {
                blas: Blas::open(&card.name, cuda, options)?,
                loader: OnceCell::new(),
                staging: RefCell::new(Ring::new(PIECES, PIECE)),
                modules: Modules::load(limits.shared_bytes)?,
                stream,
            },
            card,
            options,
            limits,
            latest: RefCell::default(),
            context,
        })
    }

    /// The card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Choices made when it was opened.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Keeps which algorithms were the fastest: where, and for how many shapes.
    pub fn keep_tuned(&self) -> Result<(PathBuf, usize)> {
        self.own()?.blas.keep_tuned()
    }

    /// What belongs to the card, to which the thread turns.
    fn own(&self) -> Result<&Own> {
        let turned = self.context.enter();
        turned.map_err(|error| self.failed("turning to the device", error))?;
        Ok(&self.own)
    }

    fn not_copied(&self, failure: Failure<result::DriverError>) -> Error {
        match failure {
            Failure::Queue(error) => self.failed("copying to the device", error),
            Failure::Read(error) => Error::new("reading weights", error)
                .remedy("check the disk, or download the checkpoint again"),
        }
    }

    /// An error that the device reports, perhaps of work started earlier.
    fn failed(&self, what: &str, error: result::DriverError) -> Error {
        let name = format!("cuda:{} ({})", self.card.index, self.card.name);
        failed_on(&name, what, &self.latest.borrow(), error)
    }
}

impl Device for Driver {
    type Copying = Copying;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let (bytes, stream) = (bytes.max(1), &self.own()?.stream);
        let allocated = stream.allocate(bytes).or_else(|error| {
            // The pool keeps what was given back; without it there may be room in one piece.
            if out_of_memory(error) {
                stream.synchronise()?;
                self.context.trim_pool()?;
            }
            stream.allocate(bytes)
        });
        allocated.map(Address).map_err(|error| {
            if out_of_memory(error) {
                let free = result::mem_get_info().map_or(0, |(free, _)| free);
                let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
                let reason = format!("{:.2} GiB do not fit, {:.2} GiB are free", gib(bytes), gib(free));
                return Error::out_of_memory(format!("cuda:{} memory", self.card.index), reason).remedy(
                    "use a shorter --context-length or fewer --nsamples, free the card of other programs, \
                     or use --device cpu",
                );
            }
            self.failed("reserving device memory", error)
        })
    }

    fn release(&self, address: Address) {
        // Fails only where an earlier failure has been reported already.
        if let Ok(own) = self.own() {
            let _ = own.stream.release(address.0);
        }
    }

    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        let mut fill = |start: usize, out: &mut [u8]| {
            pinned::on_all_cores(out, |offset, out| {
                out.copy_from_slice(&bytes[start + offset..][..out.len()]);
                Ok(())
            })
        };
        let own = self.own()?;
        let mut staging = own.staging.borrow_mut();
        let written = staging.write(&own.stream, to.0, bytes.len(), &mut fill);
        written.map_err(|failure| self.not_copied(failure))
    }

    fn start_write(&self, to: Address, source: Source) -> Result<Copying> {
        let own = self.own()?;
        let after = own.stream.event();
        let after = after.map_err(|error| self.failed("copying to the device", error))?;
        if own.loader.get().is_none() {
            // Nobody else sets it: a driver belongs to one thread.
            let _ = own.loader.set(Loader::start(&self.context)?);
        }
        let loader = own.loader.get();
        let copying = loader.map(|loader| loader.copy(to, source, after));
        copying.ok_or_else(|| Error::new("copying to the device", "no thread does it"))
    }

    fn await_copy(&self, copying: Copying) -> Result<()> {
        let started = copying.started().ok_or_else(|| {
            Error::new("copying to the device", "the thread that does it has ended")
                .remedy("report this with the output of `massact devices --json`")
        })?;
        let event = started.map_err(|failure| self.not_copied(failure))?;
        let waits = self.own()?.stream.wait_for(&event);
        waits.map_err(|error| self.failed("copying to the device", error))
    }

    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        let read = self.own()?.stream.read(from.0, bytes);
        read.map_err(|error| self.failed("waiting for the device", error))
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let copied = self.own()?.stream.copy(from.0, to.0, bytes);
        copied.map_err(|error| self.failed("copying on the device", error))
    }

    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        let cleared = self.own()?.stream.clear(address.0, bytes);
        cleared.map_err(|error| self.failed("clearing device memory", error))
    }

    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        let own = self.own()?;
        let function = own.modules.function(launch)?;
        let mut slots: Vec<_> = arguments.iter().map(Argument::slot).collect();
        let [x, y, z] = launch.grid;
        let [bx, by, bz] = launch.block;
        let (grid, block) = ((x, y, z), (bx, by, bz));
        // SAFETY: the function is of a module that lives as long as `self`, and every slot points to
        // a value of its parameter's type: the emulator compares both for the same host code.
        let started = unsafe {
            result::launch_kernel(
                function,
                grid,
                block,
                launch.shared_bytes,
                own.stream.raw(),
                &mut slots,
            )
        };
        let named = format!("{} of {x}x{y} blocks of {bx} threads", launch.kernel);
        started.map_err(|error| self.failed(&named, error))?;
        *self.latest.borrow_mut() = named;
        Ok(())
    }

    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        self.own()?;
        tensor_map::encode(boxes).map_err(|error| self.failed("describing a tensor", error))
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        let own = self.own()?;
        own.blas.multiply(&own.stream, product)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // What was started may still use memory that is about to go, and goes while the thread is turned to it.
        if let Ok(own) = self.own() {
            let _ = own.stream.synchronise();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({:?})", self.card)
    }
}

/// An address as the driver has it.
type DevicePointer = sys::CUdeviceptr;
