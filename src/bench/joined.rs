//! Passes over memory that the engine joins, each in turns with those that it stands for.
#![forbid(unsafe_code)]

use std::hint::black_box;

use super::{Bench, Measurement, STATISTICS, Shape, noise, operations::product};
use crate::{
    backend::{Backend, Rotation},
    error::Result,
    model::{rope::RopeTable, spec::Activation},
};

/// All of them, at the widths of the shape, with heads of `head_dim`.
pub(super) fn joined<B: Backend>(
    bench: &Bench<'_, B>,
    shape: &Shape,
    head_dim: usize,
) -> Result<Vec<Measurement>> {
    let &Shape { hidden, inner, .. } = shape;
    let mut found = Vec::new();
    found.extend(sums(bench, hidden)?);
    found.extend(gates(bench, inner)?);
    found.extend(rotations(bench, (hidden / head_dim).max(1), head_dim)?);
    // Their parts are among the products of the shape.
    for width in [3 * hidden, 2 * inner] {
        found.push(product(bench, hidden, width)?);
    }
    Ok(found)
}

/// A layer's output added to the stream, whose statistics are then read, and both in one.
fn sums<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<[Measurement; 2]> {
    let backend = bench.backend;
    let zeros = || {
        let rows = bench.rows();
        backend.upload(rows, width, vec![0.0; rows * width])
    };
    // Zeros, so that the sums stay what they are.
    let (mut x, mut y, output) = (bench.stream(width)?, bench.stream(width)?, zeros()?);
    let rows = bench.sequences();
    let dtype = backend.precision().residual();
    let bytes = bench.stream_bytes(width);
    bench.rowwise_in_turns(
        (width, dtype),
        [
            ("add_then_statistics", 4 * bytes),
            ("add_statistics", 3 * bytes),
        ],
        [
            &mut || {
                backend.add(&mut x, black_box(&output))?;
                let found = backend.statistics(&x, &rows, &STATISTICS)?;
                drop(black_box(found));
                Ok(())
            },
            &mut || {
                let output = black_box(&output);
                let found = backend.add_statistics(&mut y, output, &rows, &STATISTICS)?;
                drop(black_box(found));
                Ok(())
            },
        ],
    )
}

/// `silu(gate) * up` of two tensors, and of one that has both side by side.
fn gates<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<[Measurement; 2]> {
    let backend = bench.backend;
    let [mut gate, up] = bench.gate_and_up(width)?;
    let halves = bench.part(2 * width, noise(2 * bench.rows() * width))?;
    let dtype = backend.precision().arithmetic();
    let bytes = 3 * bench.part_bytes(width);
    bench.rowwise_in_turns(
        (width, dtype),
        [("gated_pair", bytes), ("gated_halves", bytes)],
        [
            &mut || backend.gate(&mut gate, black_box(&up), Activation::Silu),
            &mut || {
                let out = backend.gate_halves(black_box(&halves), Activation::Silu)?;
                drop(black_box(out));
                Ok(())
            },
        ],
    )
}

/// Queries and keys rotated where they are, and all three taken from one tensor with two of them rotated.
fn rotations<B: Backend>(
    bench: &Bench<'_, B>,
    heads: usize,
    head_dim: usize,
) -> Result<[Measurement; 2]> {
    let backend = bench.backend;
    let columns = heads * head_dim;
    let values = bench.rows() * columns;
    let mut q = bench.part(columns, noise(values))?;
    let mut k = bench.part(columns, noise(values))?;
    let all = bench.part(3 * columns, noise(3 * values))?;
    let rows = bench.sequences();
    let pairs = head_dim / 2;
    // Angles do not matter; those of no rotation keep the numbers what they are.
    let places = bench.tokens * pairs;
    let table = RopeTable::new(false, pairs, vec![1.0; places], vec![0.0; places]);
    let tables = vec![&table; bench.sequences];
    let rotation = Rotation::new(head_dim, 0);
    let dtype = backend.precision().arithmetic();
    let bytes = bench.part_bytes(columns);
    bench.rowwise_in_turns(
        (columns, dtype),
        [
            ("rotate_queries_and_keys", 4 * bytes),
            ("split_rotated", 6 * bytes),
        ],
        [
            &mut || {
                backend.rotate(black_box(&mut q), &rows, rotation, &tables)?;
                backend.rotate(black_box(&mut k), &rows, rotation, &tables)
            },
            &mut || {
                let widths = [columns; 3];
                let out =
                    backend.split_rotated(black_box(&all), widths, &rows, rotation, &tables)?;
                drop(black_box(out));
                Ok(())
            },
        ],
    )
}
