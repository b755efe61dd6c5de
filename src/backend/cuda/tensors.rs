//! Tensors, weights and launches.
#![forbid(unsafe_code)]

use super::{
    Cuda, KeyMask, Matrix, Pending, PendingProfile, Visitors,
    device::{Address, Argument, Device, Launch, Operand},
    memory::{self, Buffer},
    vectors::Vector,
};
use crate::{
    backend::{Precision, Tensors},
    error::{Error, Result},
    model::{dtype::DType, weights::Elements},
};

/// Activations, row-major without gaps.
#[derive(Debug)]
pub struct Tensor<D: Device> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) dtype: DType,
    pub(super) buffer: Buffer<D>,
}

impl<D: Device> Tensor<D> {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.rows * self.columns
    }

    pub(super) fn operand(&self) -> Operand {
        Operand {
            address: self.buffer.address(),
            dtype: self.dtype,
            stride: self.columns,
        }
    }
}

/// Ending of the names of an element type's kernels.
pub(super) fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::Float32 => "f32",
        DType::BFloat16 => "bf16",
        DType::Float16 => "f16",
    }
}

/// A size as kernels count it.
pub(super) fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| {
        Error::new("CUDA", format!("a size of {value} is beyond 2^31"))
            .remedy("use a shorter --context-length")
    })
}

/// Threads for a row of this many values.
pub(super) fn threads(columns: usize) -> u32 {
    columns.next_multiple_of(32).clamp(32, 256) as u32
}

impl<D: Device> Tensors for Cuda<D> {
    type Tensor = Tensor<D>;
    type Matrix<'w> = Matrix<D>;
    type Vector = Vector<D>;
    type Visitors = Visitors<D>;
    type KeyMask = KeyMask<D>;
    type Pending = Pending<D>;
    type PendingProfile = PendingProfile<D>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn micro_batch_rows(&self, width: usize) -> usize {
        memory::micro_batch_rows(self.device.limits().memory_bytes, width)
    }

    fn synchronise(&self) -> Result<()> {
        // Reading waits for what was started before.
        self.device.read(Address::NULL, &mut [])
    }

    fn keep_weights(&self, bytes: usize) {
        self.resident.keep(bytes);
    }

    fn loads_ahead(&self) -> bool {
        true
    }

    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Tensor<D>> {
        let stored = self.list(&values)?;
        let dtype = self.precision.residual();
        Ok(Tensor {
            rows,
            columns,
            dtype,
            buffer: self.cast(stored, rows * columns, DType::Float32, dtype)?,
        })
    }

    fn download(&self, x: &Tensor<D>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; x.len() * x.dtype.size()];
        self.device.read(x.buffer.address(), &mut bytes)?;
        let elements = Elements {
            dtype: x.dtype,
            bytes: &bytes,
        };
        Ok(elements.to_f32().into_owned())
    }

    fn columns(&self, x: &Tensor<D>) -> usize {
        x.columns
    }

    fn in_rows_of(&self, x: Tensor<D>, columns: usize) -> Tensor<D> {
        let rows = x.len() / columns.max(1);
        Tensor { rows, columns, ..x }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vector<D>> {
        self.vector_of(&values)
    }

    fn learned(&self, name: String, values: Vec<f32>) -> Result<Vector<D>> {
        self.learned_vector(name, &values)
    }

    fn zeros(&self, x: &Tensor<D>) -> Result<Tensor<D>> {
        let zeros = self.tensor(x.rows, x.columns, self.precision.residual())?;
        self.device
            .clear(zeros.buffer.address(), zeros.buffer.bytes())?;
        Ok(zeros)
    }

    fn duplicate(&self, x: &Tensor<D>) -> Result<Tensor<D>> {
        let copy = self.tensor(x.rows, x.columns, x.dtype)?;
        let bytes = x.len() * x.dtype.size();
        self.device
            .copy(x.buffer.address(), copy.buffer.address(), bytes)?;
        Ok(copy)
    }
}

impl<D: Device> Cuda<D> {
    /// Reserves memory, with arbitrary contents. Weights that stayed make room for it, and a list that nobody reads.
    pub(super) fn buffer(&self, bytes: usize) -> Result<Buffer<D>> {
        loop {
            match Buffer::new(&self.device, bytes) {
                Err(error)
                    if error.is_out_of_memory()
                        && (self.massive.give_up() || self.resident.evict(bytes)) => {}
                reserved => return reserved,
            }
        }
    }

    /// Reserves memory for these bytes and copies them there.
    pub(super) fn stored(&self, bytes: &[u8]) -> Result<Buffer<D>> {
        let buffer = self.buffer(bytes.len())?;
        self.device.write(buffer.address(), bytes)?;
        Ok(buffer)
    }

    /// Memory for `rows x columns` values.
    pub(super) fn tensor(&self, rows: usize, columns: usize, dtype: DType) -> Result<Tensor<D>> {
        Ok(Tensor {
            rows,
            columns,
            dtype,
            buffer: self.buffer(rows * columns * dtype.size())?,
        })
    }

    /// Starts `grid` blocks of `threads`.
    pub(super) fn launch(
        &self,
        kernel: &str,
        grid: [u32; 2],
        threads: u32,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        self.launch_with(kernel, grid, threads, 0, arguments)
    }

    /// With dynamic shared memory.
    pub(super) fn launch_with(
        &self,
        kernel: &str,
        grid: [u32; 2],
        threads: u32,
        shared_bytes: u32,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let launch = Launch {
            kernel,
            grid: [grid[0], grid[1], 1],
            block: [threads, 1, 1],
            shared_bytes,
        };
        self.device.launch(&launch, arguments)
    }

    /// Blocks of 256 threads for a loop over the grid with one round's work for each thread, or
    /// several where that is more than the card runs side by side.
    pub(super) fn blocks(&self, rounds: usize) -> u32 {
        let most = self.device.limits().multiprocessors * 8;
        u32::try_from(rounds.div_ceil(256)).map_or(most, |blocks| blocks.clamp(1, most))
    }

    /// Puts a list on the device.
    pub(super) fn list<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Buffer<D>> {
        self.stored(bytemuck::cast_slice(values))
    }

    /// Brings `count` values to the host.
    pub(super) fn fetch<T: bytemuck::Pod>(
        &self,
        buffer: &Buffer<D>,
        count: usize,
    ) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        self.device
            .read(buffer.address(), bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// `count` values of another type.
    pub(super) fn cast(
        &self,
        values: Buffer<D>,
        count: usize,
        from: DType,
        to: DType,
    ) -> Result<Buffer<D>> {
        if from == to {
            return Ok(values);
        }
        self.converted(&values, count, from, to)
    }

    /// A copy of a tensor in this type, unless it has this type itself.
    pub(super) fn in_type(&self, x: &Tensor<D>, dtype: DType) -> Result<Option<Tensor<D>>> {
        let other = (x.dtype != dtype).then(|| {
            Ok(Tensor {
                rows: x.rows,
                columns: x.columns,
                dtype,
                buffer: self.converted(&x.buffer, x.len(), x.dtype, dtype)?,
            })
        });
        other.transpose()
    }

    /// A copy in another type.
    pub(super) fn converted(
        &self,
        values: &Buffer<D>,
        count: usize,
        from: DType,
        to: DType,
    ) -> Result<Buffer<D>> {
        let out = self.buffer(count * to.size())?;
        self.launch(
            &format!("cast_{}_{}", suffix(from), suffix(to)),
            [self.blocks(count.div_ceil(8)), 1],
            256,
            &[
                values.address().into(),
                out.address().into(),
                (count as u64).into(),
            ],
        )?;
        Ok(out)
    }
}
