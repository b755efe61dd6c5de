//! Packed weights: every encoding of the committed checkpoints is decoded as on the CPU.

use std::collections::BTreeSet;

use massact::{
    backend::{Backend, Target, cpu::Cpu},
    model::{Model, dtype::DType, weights::PackedMatrix},
};

use crate::{
    bench::{backends, rounded},
    support::reference,
};

/// The values of a matrix: its product with unit vectors.
fn values<B: Backend>(backend: &B, matrix: PackedMatrix<'_>) -> Vec<f32> {
    let width = matrix.in_features;
    let mut units = vec![0.0; width * width];
    units.iter_mut().step_by(width + 1).for_each(|x| *x = 1.0);
    let units = backend.upload(width, width, units).expect("fits");
    let weight = backend.matrix(matrix.into()).expect("fits");
    let product = backend.linear(&units, &weight, None, Target::Part);
    backend.download(&product.expect("runs")).expect("there")
}

/// In every type and order of threads, and once with every access of memory checked.
#[test]
fn every_encoding_is_decoded_as_on_the_cpu() {
    let mut seen = BTreeSet::new();
    for checkpoint in reference::all().iter().chain(&reference::gguf()) {
        let weights = Model::open(&checkpoint.folder).expect("opens").weights;
        let mut names: Vec<&str> = weights
            .names()
            .filter(|name| weights.is_packed(name))
            .collect();
        names.sort_unstable();
        for name in names {
            if !seen.insert(weights.stored_as(name)) {
                continue;
            }
            let matrix = weights.last_packed(name).expect("packed");
            let wanted = values(&Cpu::new(), matrix);
            for dtype in DType::ALL {
                let wanted: Vec<f32> = wanted.iter().map(|x| rounded(*x, dtype)).collect();
                for (backend, cuda) in backends(dtype) {
                    let got = values(&cuda, matrix);
                    let at = format!("{}, {name}, {dtype}, {backend}", checkpoint.name);
                    assert!(got == wanted, "{at}");
                }
            }
        }
    }
    // Every method and every type of a GGUF file is among them.
    assert!(seen.len() > 30, "{seen:?}");
}
