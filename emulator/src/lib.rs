//! A [`Device`] that runs massact's CUDA kernels on the CPU, for tests.
//!
//! The same `kernels/*.cu` that nvcc compiles are compiled by the host's C++ compiler and run with
//! every CUDA thread as a fiber; massact's own host code launches them through the same interface
//! as the driver. What depends on the order of threads, on uninitialised memory or on bounds fails
//! here, where it may go unnoticed on a card.
//!
//! One device per host thread: an [`Emulator`] stays on the thread that made it.

mod ffi;
mod matmul;
mod tensor_map;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ffi::{CStr, CString, c_void},
    marker::PhantomData,
};

use massact::{
    Error, Result,
    backend::cuda::{Address, Argument, Boxes, Device, Launch, Limits, Product, Source, TensorMap},
};

/// In which order the threads of a block, and its blocks, run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Lowest number first.
    Forward,
    /// Highest number first.
    Reverse,
    /// At random, from this seed.
    Random(u64),
}

/// The emulated card.
#[derive(Debug)]
pub struct Emulator {
    checked: bool,
    limits: Cell<Limits>,
    launches: RefCell<Vec<String>>,
    /// A kernel and the one that runs in its place.
    replaced: RefCell<Option<[String; 2]>>,
    /// Copies that nobody has waited for, by number: where to, and what.
    copies: RefCell<BTreeMap<u64, (Address, Vec<u8>)>>,
    copies_started: Cell<u64>,
    /// A mistake that could not be reported at once.
    mistake: RefCell<Option<String>>,
    /// The device belongs to the thread.
    thread: PhantomData<*const ()>,
}

impl Emulator {
    /// A card whose threads run in this order.
    pub fn new(order: Order) -> Self {
        let (mode, seed) = match order {
            Order::Forward => (0, 0),
            Order::Reverse => (1, 0),
            Order::Random(seed) => (2, seed),
        };
        // SAFETY: plain calls that take no pointers.
        #[allow(unsafe_code)]
        unsafe {
            ffi::emulator_link();
            ffi::emulator_order(mode, seed);
            ffi::emulator_memory_limit(usize::MAX);
        }
        Self {
            checked: false,
            limits: Cell::new(Limits {
                // Few, so that loops over a grid do go around.
                multiprocessors: 3,
                // Kernels of newer cards run where a test asks for them.
                capability: (8, 0),
                shared_bytes: 227 << 10,
                memory_bytes: 1 << 30,
                // Little, so that few heads are computed at a time.
                cache_bytes: 16 << 10,
            }),
            launches: RefCell::default(),
            replaced: RefCell::default(),
            copies: RefCell::default(),
            copies_started: Cell::new(0),
            mistake: RefCell::default(),
            thread: PhantomData,
        }
    }

    /// A card that follows every access of memory and reports races, reads of uninitialised shared
    /// memory and accesses out of bounds. Some 50 times slower.
    pub fn checked(order: Order) -> Self {
        Self {
            checked: true,
            ..Self::new(order)
        }
    }

    /// Changes what the card has.
    pub fn with_limits(self, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = self.limits.get();
        change(&mut limits);
        self.limits.set(limits);
        // SAFETY: takes no pointer.
        #[allow(unsafe_code)]
        unsafe {
            ffi::emulator_memory_limit(limits.memory_bytes);
        }
        self
    }

    /// Runs one kernel in the place of another, as which it is still listed.
    pub fn with_kernel(self, kernel: &str, instead: &str) -> Self {
        self.replaced
            .replace(Some([kernel, instead].map(str::to_owned)));
        self
    }

    /// Names of all kernels of the product.
    pub fn kernels() -> Vec<&'static str> {
        // SAFETY: a string that lives as long as the program.
        #[allow(unsafe_code)]
        let names = unsafe {
            ffi::emulator_link();
            CStr::from_ptr(ffi::emulator_kernels())
        };
        names
            .to_str()
            .map_or_else(|_| Vec::new(), |names| names.lines().collect())
    }

    /// Names of the kernels launched so far.
    pub fn launches(&self) -> Vec<String> {
        self.launches.borrow().clone()
    }

    /// Refuses the use of memory whose copy has not been waited for: on a card it would hold what it
    /// held before, or half of each.
    fn arrived(&self, address: Address, bytes: usize, what: &str) -> Result<()> {
        if let Some(mistake) = self.mistake.borrow_mut().take() {
            return Err(Error::new(what, mistake));
        }
        let copies = self.copies.borrow();
        let overlaps = |to: u64, length: usize| {
            to < address.0 + bytes.max(1) as u64 && address.0 < to + length as u64
        };
        match copies
            .values()
            .find(|(to, copied)| overlaps(to.0, copied.len()))
        {
            None => Ok(()),
            Some((_, copied)) => Err(Error::new(
                what,
                format!(
                    "a copy of {} bytes to its memory has not been waited for",
                    copied.len()
                ),
            )),
        }
    }

    /// Refuses a range that is not inside one buffer.
    fn check(address: Address, bytes: usize, what: &str) -> Result<()> {
        // SAFETY: the address is only compared.
        #[allow(unsafe_code)]
        let inside = unsafe { ffi::emulator_contains(address.0 as *const c_void, bytes) } != 0;
        if inside || bytes == 0 {
            return Ok(());
        }
        Err(Error::new(
            what,
            format!("{bytes} bytes are not inside one buffer"),
        ))
    }

    /// The memory behind an address.
    fn bytes(address: Address, bytes: usize, what: &str) -> Result<&'static mut [u8]> {
        Self::check(address, bytes, what)?;
        if bytes == 0 {
            return Ok(&mut []);
        }
        // SAFETY: inside one live buffer, checked above; the slice is used up before the next call
        // and this thread is the only one that has the buffer.
        #[allow(unsafe_code)]
        Ok(unsafe { std::slice::from_raw_parts_mut(address.0 as *mut u8, bytes) })
    }
}

impl Device for Emulator {
    type Copying = u64;

    fn limits(&self) -> Limits {
        self.limits.get()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        // SAFETY: takes no pointer.
        #[allow(unsafe_code)]
        let address = unsafe { ffi::emulator_allocate(bytes) };
        if address.is_null() {
            return Err(Error::out_of_memory(
                "device memory",
                format!("{bytes} bytes do not fit"),
            ));
        }
        Ok(Address(address as u64))
    }

    fn release(&self, address: Address) {
        let mut copies = self.copies.borrow_mut();
        let before = copies.len();
        // The others' buffers begin elsewhere: a copy fills a buffer from its start.
        copies.retain(|_, (to, _)| *to != address);
        if copies.len() < before {
            let mistake = "memory was given back while a copy to it was under way".to_owned();
            self.mistake.replace(Some(mistake));
        }
        // SAFETY: aborts with a message if the address was not allocated.
        #[allow(unsafe_code)]
        unsafe {
            ffi::emulator_release(address.0 as *mut c_void);
        }
    }

    fn start_write(&self, to: Address, source: Source) -> Result<u64> {
        let length = source.bytes();
        self.arrived(to, length, "copy to the device")?;
        // Until it is waited for, nobody knows what is there.
        Self::bytes(to, length, "copy to the device")?.fill(0xff);
        let mut bytes = vec![0; length];
        let read = source.read(0, &mut bytes);
        read.map_err(|error| Error::new("copy to the device", error))?;
        let number = self.copies_started.get();
        self.copies_started.set(number + 1);
        self.copies.borrow_mut().insert(number, (to, bytes));
        Ok(number)
    }

    fn await_copy(&self, number: u64) -> Result<()> {
        match self.copies.borrow_mut().remove(&number) {
            None => Err(Error::new(
                "copy to the device",
                "waited for, and not under way",
            )),
            Some((to, bytes)) => {
                Self::bytes(to, bytes.len(), "copy to the device")?.copy_from_slice(&bytes);
                Ok(())
            }
        }
    }

    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.arrived(to, bytes.len(), "copy to the device")?;
        Self::bytes(to, bytes.len(), "copy to the device")?.copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.arrived(from, bytes.len(), "copy from the device")?;
        bytes.copy_from_slice(Self::bytes(from, bytes.len(), "copy from the device")?);
        Ok(())
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.arrived(from, bytes, "copy on the device")?;
        let values = Self::bytes(from, bytes, "copy on the device")?.to_vec();
        self.write(to, &values)
    }

    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        self.arrived(address, bytes, "clearing")?;
        Self::bytes(address, bytes, "clearing")?.fill(0);
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        self.launches.borrow_mut().push(launch.kernel.to_owned());
        for pointer in arguments.iter().filter_map(Argument::pointer) {
            self.arrived(pointer, 1, launch.kernel)?;
        }
        let text = |text: String| CString::new(text).map_err(|error| Error::new("launch", error));
        let replaced = self.replaced.borrow();
        let kernel = match &*replaced {
            Some([kernel, instead]) if kernel == launch.kernel => instead,
            _ => launch.kernel,
        };
        let name = text(kernel.to_owned())?;
        let signature = text(arguments.iter().map(Argument::signature).collect())?;
        let mut slots: Vec<*mut c_void> = arguments.iter().map(Argument::slot).collect();
        // SAFETY: the strings end in zero, grid and block have three numbers, and every slot
        // points to a value of the type that its letter says, which is compared with the kernel's.
        #[allow(unsafe_code)]
        let (code, error) = unsafe {
            let code = ffi::emulator_launch(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                launch.shared_bytes as usize,
                slots.as_mut_ptr(),
                signature.as_ptr(),
                i32::from(self.checked),
            );
            (code, CStr::from_ptr(ffi::emulator_error()))
        };
        if code == 0 {
            return Ok(());
        }
        Err(Error::new("kernel", error.to_string_lossy()))
    }

    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        tensor_map::encode(boxes)
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        for operand in [product.left, product.right, product.out] {
            self.arrived(operand.address, 1, "matrix product")?;
        }
        if let Some(bias) = product.bias {
            self.arrived(bias, 1, "matrix product")?;
        }
        matmul::multiply(product)
    }
}
