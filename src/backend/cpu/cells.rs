//! Single values, by row and dimension.
#![forbid(unsafe_code)]

use super::{Cpu, Tensor};
use crate::{
    backend::{Cells, Change},
    error::Result,
};

impl Cells for Cpu {
    fn values_at(&self, x: &Tensor, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        let value = |&(row, dimension): &(usize, usize)| x.row(row)[dimension];
        Ok(cells.iter().map(value).collect())
    }

    fn overwrite(&self, x: &mut Tensor, cells: &[(usize, usize, Change)]) -> Result<()> {
        for &(row, dimension, change) in cells {
            let value = &mut x.values[row * x.columns..(row + 1) * x.columns][dimension];
            *value = match change {
                Change::Set(new) => new,
                Change::Scale(factor) => *value * factor,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Tensors;

    #[test]
    fn overwriting_a_duplicate_leaves_the_original() {
        let cpu = Cpu::new();
        let x = cpu
            .upload(3, 2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
            .expect("uploads");
        let mut copy = cpu.duplicate(&x).expect("duplicates");
        let cells = [
            (2, 1, Change::Set(9.0)),
            (0, 0, Change::Set(8.0)),
            (1, 1, Change::Scale(-0.5)),
        ];
        cpu.overwrite(&mut copy, &cells).expect("overwrites");
        assert_eq!(copy.values(), [8.0, 1.0, 2.0, -1.5, 4.0, 9.0]);
        assert_eq!(x.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let found = cpu.values_at(&copy, &[(2, 1), (1, 0), (2, 1)]);
        assert_eq!(found.expect("reads"), [9.0, 2.0, 9.0]);
    }
}
