//! Numbers that blocks of a matrix share: scales and zero points.
#![forbid(unsafe_code)]

use half::{bf16, f16};
use safetensors::Dtype;

use super::numbers::{E4M3, e8m0};
use crate::{error::Result, model::weights::shard::Stored};

/// Which values of a matrix `[out, in]` share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model::weights) enum Blocks {
    /// All.
    Tensor,
    /// Those of an output.
    Outputs,
    /// Those of so many outputs and inputs; the last blocks may be smaller.
    Of(usize, usize),
}

impl std::fmt::Display for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tensor => f.write_str("by tensor"),
            Self::Outputs => f.write_str("by output"),
            Self::Of(1, columns) => write!(f, "in groups of {columns}"),
            Self::Of(rows, columns) => write!(f, "in blocks of {rows} x {columns}"),
        }
    }
}

/// How a number of a grid is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridNumber {
    /// float32.
    Float32,
    /// bfloat16.
    BFloat16,
    /// float16.
    Float16,
    /// FP8 E4M3.
    E4M3,
    /// A power of two: `2^(byte - 127)`.
    E8M0,
    /// int8.
    Int8,
}

/// A number a block: `[.., ceil(out / block_rows), ceil(in / block_columns)]`. The number of row `r` and
/// column `c` of matrix `m` of a stack is element
/// `(m * rows + r / block_rows) * columns + c / block_columns`.
#[derive(Debug)]
pub struct Grid {
    /// The numbers.
    pub stored: Stored,
    /// Their type.
    pub number: GridNumber,
    /// Rows of a block.
    pub block_rows: usize,
    /// Columns of a block.
    pub block_columns: usize,
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
    /// Outputs of a matrix.
    pub outputs: usize,
    blocks: Blocks,
}

impl Grid {
    /// The `what` (as `scales`) of the tensor `name` of this shape, one a block.
    pub(in crate::model::weights) fn new(
        name: &str,
        what: &str,
        stored: Stored,
        shape: &[usize],
        blocks: Blocks,
    ) -> Result<Self> {
        let misfit = |stored: &Stored, expected: &str| {
            stored
                .error(format!(
                    "the {what} of `{name}`, {shape:?}, are {:?} of {:?}, expected {expected}",
                    stored.dtype(),
                    stored.shape()
                ))
                .remedy(super::DAMAGED)
        };
        let [stack @ .., outputs, inputs] = shape else {
            return Err(misfit(&stored, "those of a matrix"));
        };
        let (outputs, inputs) = (*outputs, *inputs);
        let number = match stored.dtype() {
            Dtype::F32 => GridNumber::Float32,
            Dtype::BF16 => GridNumber::BFloat16,
            Dtype::F16 => GridNumber::Float16,
            Dtype::F8_E4M3 => GridNumber::E4M3,
            Dtype::F8_E8M0 | Dtype::U8 => GridNumber::E8M0,
            Dtype::I8 => GridNumber::Int8,
            _ => return Err(misfit(&stored, "floats")),
        };
        let count: usize = stored.shape().iter().product();
        let of = |rows: usize, columns: usize| [stack, &[rows, columns]].concat();
        let (block_rows, block_columns, fits, expected) = match blocks {
            Blocks::Tensor => {
                let matrices: usize = stack.iter().product();
                let expected = format!("{matrices} in all");
                (outputs, inputs, count == matrices, expected)
            }
            Blocks::Outputs => {
                let (flat, upright) = ([stack, &[outputs]].concat(), of(outputs, 1));
                let fits = stored.shape() == flat || stored.shape() == upright;
                (1, inputs, fits, format!("{upright:?}"))
            }
            Blocks::Of(0, _) | Blocks::Of(_, 0) => {
                return Err(misfit(&stored, "blocks of at least one value"));
            }
            Blocks::Of(rows, columns) => {
                let expected = of(outputs.div_ceil(rows), inputs.div_ceil(columns));
                let fits = stored.shape() == expected;
                (rows, columns, fits, format!("{expected:?}"))
            }
        };
        if !fits || outputs == 0 || inputs == 0 {
            return Err(misfit(&stored, &expected));
        }
        Ok(Self {
            number,
            block_rows,
            block_columns,
            rows: outputs.div_ceil(block_rows),
            columns: inputs.div_ceil(block_columns),
            outputs,
            blocks,
            stored,
        })
    }

    /// Which values share a number, in words.
    pub(super) fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Whether its numbers are floats; else they are whole.
    pub(super) fn is_float(&self) -> bool {
        self.number != GridNumber::Int8
    }

    /// Index of the first number of a line.
    #[inline(always)]
    pub(super) fn line(&self, line: usize) -> usize {
        let (matrix, row) = (line / self.outputs, line % self.outputs);
        (matrix * self.rows + row / self.block_rows) * self.columns
    }

    /// Number `index`.
    #[inline(always)]
    pub(super) fn value(&self, index: usize) -> f32 {
        let bytes = self.stored.bytes();
        let two = |bytes: &[u8]| [bytes[2 * index], bytes[2 * index + 1]];
        match self.number {
            GridNumber::Float32 => {
                let bytes = &bytes[4 * index..4 * index + 4];
                f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
            GridNumber::BFloat16 => bf16::from_le_bytes(two(bytes)).to_f32(),
            GridNumber::Float16 => f16::from_le_bytes(two(bytes)).to_f32(),
            GridNumber::E4M3 => E4M3[usize::from(bytes[index])],
            GridNumber::E8M0 => e8m0(bytes[index]),
            GridNumber::Int8 => f32::from(bytes[index] as i8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::shard::in_memory;

    fn floats(shape: &[usize]) -> Stored {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|value| (value as f32).to_le_bytes());
        in_memory(Dtype::F32, shape, bytes.collect())
    }

    fn at(grid: &Grid, line: usize, column: usize) -> f32 {
        grid.value(grid.line(line) + column / grid.block_columns)
    }

    #[test]
    fn last_blocks_are_smaller() {
        let shape = [2, 5, 7];
        let grid = Grid::new("x", "scales", floats(&[2, 3, 2]), &shape, Blocks::Of(2, 4));
        let grid = grid.expect("fits");
        assert_eq!(
            (at(&grid, 0, 3), at(&grid, 1, 4), at(&grid, 4, 6)),
            (0.0, 1.0, 5.0)
        );
        assert_eq!((at(&grid, 5, 0), at(&grid, 9, 4)), (6.0, 11.0));
    }

    #[test]
    fn shapes_must_fit() {
        for (shape, blocks, fits) in [
            (vec![1], Blocks::Tensor, true),
            (vec![], Blocks::Tensor, true),
            (vec![2], Blocks::Tensor, false),
            (vec![5], Blocks::Outputs, true),
            (vec![5, 1], Blocks::Outputs, true),
            (vec![1, 5], Blocks::Outputs, false),
            (vec![3, 2], Blocks::Of(2, 4), true),
            (vec![3, 1], Blocks::Of(2, 4), false),
            (vec![3, 2], Blocks::Of(0, 4), false),
            (vec![1, 3, 2], Blocks::Of(2, 4), false),
        ] {
            let grid = Grid::new("x", "scales", floats(&shape), &[5, 7], blocks);
            assert_eq!(grid.is_ok(), fits, "{shape:?} {blocks:?}");
        }
        let whole = in_memory(Dtype::I64, &[1], vec![0; 8]);
        assert!(Grid::new("x", "scales", whole, &[5, 7], Blocks::Tensor).is_err());
    }
}
