//! The card's context, and the stream that everything happens on.

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};

use super::DevicePointer;
use crate::backend::cuda::device::Limits;

/// A card's primary context, current on the thread that retained it.
pub(super) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

/// The context as another thread may have it.
pub(super) struct Current(sys::CUcontext);

// SAFETY: a context may be current on any number of threads; the one that retained it outlives those
// that it gave a handle.
unsafe impl Send for Current {}

impl Current {
    /// Makes it this thread's.
    pub(super) fn set(&self) -> Result<(), DriverError> {
        // SAFETY: the context lives.
        unsafe { result::ctx::set_current(self.0) }
    }
}

impl Context {
    /// Makes card `index` this thread's, with a memory pool that keeps what is given back.
    pub(super) fn retain(index: usize) -> Result<Self, DriverError> {
        let device = result::device::get(i32::try_from(index).unwrap_or(i32::MAX))?;
        // SAFETY: the device is of the driver, the context is the one just retained, and the pool
        // attribute takes a 64-bit number.
        unsafe {
            let raw = result::primary_ctx::retain(device)?;
            let context = Self { device, raw };
            result::ctx::set_current(raw)?;
            let pool = result::device::get_default_mem_pool(device)?;
            let mut keep = u64::MAX;
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, attribute, (&raw mut keep).cast())?;
            Ok(context)
        }
    }

    /// For another thread.
    pub(super) fn handle(&self) -> Current {
        Current(self.raw)
    }

    /// Gives the pool's unused memory back to the card.
    pub(super) fn trim_pool(&self) -> Result<(), DriverError> {
        // SAFETY: the device is of the driver, and so is its pool.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.device)?;
            result::mem_pool::trim_to(pool, 0)
        }
    }

    /// What the card has, with the memory that is free now.
    pub(super) fn limits(&self) -> Result<Limits, DriverError> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as SHARED,
            CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as MULTIPROCESSORS,
        };
        // SAFETY: the device is of the driver.
        let attribute = |which| unsafe { result::device::get_attribute(self.device, which) };
        Ok(Limits {
            multiprocessors: attribute(MULTIPROCESSORS)?.unsigned_abs(),
            capability: (
                attribute(MAJOR)?.unsigned_abs(),
                attribute(MINOR)?.unsigned_abs(),
            ),
            shared_bytes: attribute(SHARED)?.unsigned_abs(),
            memory_bytes: result::mem_get_info()?.0,
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, and nothing of it is used any more.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A point in a stream.
#[derive(Debug)]
pub(super) struct Event(sys::CUevent);

// SAFETY: the driver's functions may be called with an event from any thread.
unsafe impl Send for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made once; the driver keeps what it needs of an event that streams still wait for.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// An ordered queue of work.
pub(super) struct Stream {
    raw: sys::CUstream,
}

impl Stream {
    pub(super) fn create() -> Result<Self, DriverError> {
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        Ok(Self { raw })
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// The end of what was started so far.
    pub(super) fn event(&self) -> Result<Event, DriverError> {
        let event = Event(result::event::create(
            sys::CUevent_flags::CU_EVENT_DISABLE_TIMING,
        )?);
        // SAFETY: event and stream live.
        unsafe { result::event::record(event.0, self.raw)? };
        Ok(event)
    }

    /// Starts some work and waits for it: what starting gave, and the milliseconds that the device took.
    pub(super) fn time<T>(&self, start: impl FnOnce() -> T) -> Result<(T, f32), DriverError> {
        let timed = || {
            let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
            result::event::create(flags).map(Event)
        };
        let (first, last) = (timed()?, timed()?);
        // SAFETY: events and stream live.
        unsafe {
            result::event::record(first.0, self.raw)?;
            let started = start();
            result::event::record(last.0, self.raw)?;
            result::event::synchronize(last.0)?;
            Ok((started, result::event::elapsed(first.0, last.0)?))
        }
    }

    /// What is started from now on begins after the event.
    pub(super) fn wait_for(&self, event: &Event) -> Result<(), DriverError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { result::stream::wait_event(self.raw, event.0, flags) }
    }

    /// Waits for everything.
    pub(super) fn synchronise(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.raw) }
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<DevicePointer, DriverError> {
        // SAFETY: the stream lives; what memory holds is its user's business.
        unsafe { result::malloc_async(self.raw, bytes) }
    }

    pub(super) fn release(&self, address: DevicePointer) -> Result<(), DriverError> {
        // SAFETY: of this stream's pool, given back by its one owner.
        unsafe { result::free_async(address, self.raw) }
    }

    /// Copies bytes that may be reused when this returns: the driver stages what is not pinned.
    pub(super) fn write(&self, to: DevicePointer, bytes: &[u8]) -> Result<(), DriverError> {
        // SAFETY: the host code asks for ranges inside buffers only; the emulator checks the same code.
        unsafe { result::memcpy_htod_async(to, bytes, self.raw) }
    }

    /// Waits and copies.
    pub(super) fn read(&self, from: DevicePointer, bytes: &mut [u8]) -> Result<(), DriverError> {
        if !bytes.is_empty() {
            // SAFETY: as in `write`; `bytes` is not touched before the wait below.
            unsafe { result::memcpy_dtoh_async(bytes, from, self.raw)? };
        }
        self.synchronise()
    }

    pub(super) fn copy(
        &self,
        from: DevicePointer,
        to: DevicePointer,
        bytes: usize,
    ) -> Result<(), DriverError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `write`.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.raw) }
    }

    pub(super) fn clear(&self, address: DevicePointer, bytes: usize) -> Result<(), DriverError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `write`.
        unsafe { result::memset_d8_async(address, 0, bytes, self.raw) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more.
        let _ = unsafe { result::stream::destroy(self.raw) };
    }
}
