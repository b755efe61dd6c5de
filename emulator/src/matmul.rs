//! The matrix product that cuBLASLt computes on a card, as plain loops.

use half::{bf16, f16};
use massact::{
    Result,
    backend::cuda::{Operand, Product},
    model::dtype::DType,
};

use crate::Emulator;

/// `out = left right^T + bias`, summed in float32 as the tensor cores do.
pub(crate) fn multiply(product: &Product) -> Result<()> {
    let &Product { m, n, k, .. } = product;
    let left = read(product.left, m, k)?;
    // [n, k], whichever way it is stored.
    let right = if product.right_transposed {
        let stored = read(product.right, k, n)?;
        (0..n * k).map(|i| stored[i % k * n + i / k]).collect()
    } else {
        read(product.right, n, k)?
    };
    let bias = match product.bias {
        Some(bias) => {
            let dtype = product.out.dtype;
            floats(Emulator::bytes(bias, n * dtype.size(), "bias")?, dtype)
        }
        None => vec![0.0; n],
    };
    let size = product.out.dtype.size();
    for row in 0..m {
        let start = product.out.address.offset(row * product.out.stride * size);
        let out = Emulator::bytes(start, n * size, "product")?;
        let x = &left[row * k..(row + 1) * k];
        for (column, out) in out.chunks_exact_mut(size).enumerate() {
            let weights = &right[column * k..(column + 1) * k];
            let sum: f32 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
            store(out, product.out.dtype, sum + bias[column]);
        }
    }
    Ok(())
}

/// Rows of an operand, packed.
fn read(operand: Operand, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let size = operand.dtype.size();
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        let start = operand.address.offset(row * operand.stride * size);
        values.extend(floats(
            Emulator::bytes(start, columns * size, "operand")?,
            operand.dtype,
        ));
    }
    Ok(values)
}

fn floats(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let elements = massact::model::weights::Elements { dtype, bytes };
    elements.to_f32().into_owned()
}

fn store(out: &mut [u8], dtype: DType, value: f32) {
    match dtype {
        DType::Float32 => out.copy_from_slice(&value.to_le_bytes()),
        DType::BFloat16 => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
        DType::Float16 => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
    }
}
