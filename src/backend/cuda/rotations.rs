//! Rotary position embedding (`kernels/rope.cu`).
//!
//! All rows of a micro-batch that share a table rotate in one launch. Tables and the rows' positions stay on
//! the device: every layer asks for the same.
#![forbid(unsafe_code)]

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::{
    Cuda, Tensor,
    device::{Address, Argument, Device},
    memory::Buffer,
    tensors::{int, suffix, threads},
};
use crate::{
    backend::{Rotation, Rotations, Rows},
    error::Result,
    model::rope::RopeTable,
};

/// Things of each kind that stay: tables for as many kinds of layers as a model has, positions for as many
/// micro-batches as take turns, and then some.
const MOST: usize = 16;
/// Position of a row that is in no sequence.
const NOWHERE: u32 = u32::MAX;

/// What rotations need, as far as it is on the device.
#[derive(Debug)]
pub(super) struct Kept<D: Device> {
    /// By the table's identity: cosines, then sines.
    tables: Latest<u64, [Buffer<D>; 2]>,
    /// By the sequences' rows and the step between positions.
    positions: Latest<(Vec<Rows>, usize), Buffer<D>>,
}

impl<D: Device> Default for Kept<D> {
    fn default() -> Self {
        Self {
            tables: Latest::default(),
            positions: Latest::default(),
        }
    }
}

/// The latest [`MOST`] things that were made.
#[derive(Debug)]
struct Latest<K, V>(RefCell<VecDeque<(K, Rc<V>)>>);

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K, V> Latest<K, V> {
    fn get(&self, is: impl Fn(&K) -> bool, make: impl FnOnce() -> Result<(K, V)>) -> Result<Rc<V>> {
        let mut made = self.0.borrow_mut();
        if let Some((_, found)) = made.iter().find(|(key, _)| is(key)) {
            return Ok(Rc::clone(found));
        }
        let (key, value) = make()?;
        let value = Rc::new(value);
        made.truncate(MOST - 1);
        made.push_front((key, Rc::clone(&value)));
        Ok(value)
    }
}

impl<D: Device> Cuda<D> {
    fn table(&self, table: &RopeTable) -> Result<Rc<[Buffer<D>; 2]>> {
        let identity = table.identity();
        let make = || {
            let both = [self.list(table.cos())?, self.list(table.sin())?];
            Ok((identity, both))
        };
        self.rotations.tables.get(|known| *known == identity, make)
    }

    /// The position of every row up to the last one of these sequences.
    fn positions(&self, sequences: &[Rows], step: usize) -> Result<Rc<Buffer<D>>> {
        let make = || {
            let mut positions = vec![NOWHERE; sequences.last().map_or(0, |rows| rows.end)];
            for rows in sequences {
                for (index, position) in positions[rows.clone()].iter_mut().enumerate() {
                    *position = int(index * step)?.cast_unsigned();
                }
            }
            Ok(((sequences.to_vec(), step), self.list(&positions)?))
        };
        let is = |(rows, between): &(Vec<Rows>, usize)| rows == sequences && *between == step;
        self.rotations.positions.get(is, make)
    }
}

/// Neighbouring sequences that share a table.
struct Run<D: Device> {
    rows: Rows,
    positions: Rc<Buffer<D>>,
    table: Rc<[Buffer<D>; 2]>,
    pairs: usize,
    interleaved: bool,
}

impl<D: Device> Run<D> {
    /// Positions, cosines and sines of its first row.
    fn tables(&self) -> [Argument<'static>; 3] {
        let [cos, sin] = &*self.table;
        let first = self.rows.start * size_of::<u32>();
        [
            self.positions.address().offset(first).into(),
            cos.address().into(),
            sin.address().into(),
        ]
    }

    /// Its first row of a tensor.
    fn place(&self, x: &Tensor<D>) -> Address {
        let row = x.columns * x.dtype.size();
        x.buffer.address().offset(self.rows.start * row)
    }

    /// What of a head rotates, how pairs lie, and the sign of the sines.
    fn rotation(&self, rotation: Rotation) -> Result<[Argument<'static>; 5]> {
        let sign: f32 = if rotation.back { -1.0 } else { 1.0 };
        Ok([
            int(rotation.head_dim)?.into(),
            int(rotation.first)?.into(),
            int(self.pairs)?.into(),
            i32::from(self.interleaved).into(),
            sign.into(),
        ])
    }
}

impl<D: Device> Cuda<D> {
    fn runs(
        &self,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<Vec<Run<D>>> {
        let positions = self.positions(sequences, rotation.step)?;
        let mut first = 0;
        tables
            .chunk_by(|one, next| one.identity() == next.identity())
            .map(|run| {
                let rows = &sequences[first..first + run.len()];
                first += run.len();
                Ok(Run {
                    rows: rows[0].start..rows[rows.len() - 1].end,
                    positions: Rc::clone(&positions),
                    table: self.table(run[0])?,
                    pairs: run[0].pairs(),
                    interleaved: run[0].interleaved(),
                })
            })
            .collect()
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
        let heads = x.columns / rotation.head_dim;
        for run in self.runs(sequences, rotation, tables)? {
            let mut arguments = vec![run.place(x).into()];
            arguments.extend(run.tables());
            arguments.push(int(run.rows.len())?.into());
            arguments.push(int(heads)?.into());
            arguments.extend(run.rotation(rotation)?);
            self.launch(
                &format!("rotate_{}", suffix(x.dtype)),
                [int(run.rows.len())?.cast_unsigned(), 1],
                threads(heads * run.pairs),
                &arguments,
            )?;
        }
        Ok(())
    }

    fn split_rotated(
        &self,
        joined: &Tensor<D>,
        widths: [usize; 3],
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<[Tensor<D>; 3]> {
        debug_assert_eq!(widths.iter().sum::<usize>(), joined.columns);
        let part = |columns| self.tensor(joined.rows, columns, joined.dtype);
        let parts = [part(widths[0])?, part(widths[1])?, part(widths[2])?];
        for run in self.runs(sequences, rotation, tables)? {
            let mut arguments = vec![run.place(joined).into()];
            arguments.extend(parts.each_ref().map(|part| Argument::from(run.place(part))));
            arguments.extend(run.tables());
            arguments.push(int(run.rows.len())?.into());
            for width in widths {
                arguments.push(int(width)?.into());
            }
            arguments.extend(run.rotation(rotation)?);
            self.launch(
                &format!("split_rotated_{}", suffix(joined.dtype)),
                [int(run.rows.len())?.cast_unsigned(), 1],
                threads(joined.columns.div_ceil(16 / joined.dtype.size())),
                &arguments,
            )?;
        }
        Ok(parts)
    }
}
