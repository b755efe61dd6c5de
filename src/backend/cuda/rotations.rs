//! Rotary position embedding (`kernels/rope.cu`).
#![forbid(unsafe_code)]

use std::rc::Rc;

use super::{
    Cuda, Tensor,
    device::Device,
    memory::Buffer,
    tensors::{int, suffix},
};
use crate::{
    backend::{Rotation, Rotations, Rows},
    error::Result,
    model::rope::RopeTable,
};

/// Tables that stay on the device: as many as a model has kinds of layers, and then some.
const TABLES: usize = 8;

/// A table on the device and what it was made from.
#[derive(Debug)]
pub(super) struct DeviceTable<D: Device> {
    host: [Vec<f32>; 2],
    cos: Buffer<D>,
    sin: Buffer<D>,
}

impl<D: Device> Cuda<D> {
    /// The table on the device. It is recognised by its values: comparing a megabyte costs less
    /// than copying it, and every layer asks for the same.
    fn table(&self, table: &RopeTable) -> Result<Rc<DeviceTable<D>>> {
        let mut tables = self.tables.borrow_mut();
        let known = |known: &Rc<DeviceTable<D>>| known.host == [&table.cos[..], &table.sin[..]];
        if let Some(found) = tables.iter().find(|table| known(table)) {
            return Ok(Rc::clone(found));
        }
        let uploaded = Rc::new(DeviceTable {
            host: [table.cos.clone(), table.sin.clone()],
            cos: self.list(&table.cos)?,
            sin: self.list(&table.sin)?,
        });
        if tables.len() == TABLES {
            tables.remove(0);
        }
        tables.push(Rc::clone(&uploaded));
        Ok(uploaded)
    }
}

impl<D: Device> Rotations for Cuda<D> {
    fn rotate(
        &self,
        x: &mut Tensor<D>,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()> {
        for (rows, host) in sequences.iter().zip(tables) {
            let table = self.table(host)?;
            let heads = x.columns / rotation.head_dim;
            let start = rows.start * x.columns * x.dtype.size();
            let threads = (heads * host.pairs).next_multiple_of(32).clamp(32, 256);
            self.launch(
                &format!("rotate_{}", suffix(x.dtype)),
                [int(rows.len())?.cast_unsigned(), 1],
                threads as u32,
                &[
                    x.buffer.address().offset(start).into(),
                    table.cos.address().into(),
                    table.sin.address().into(),
                    int(rows.len())?.into(),
                    int(heads)?.into(),
                    int(rotation.head_dim)?.into(),
                    int(rotation.first)?.into(),
                    int(host.pairs)?.into(),
                    i32::from(host.interleaved).into(),
                ],
            )?;
        }
        Ok(())
    }
}
