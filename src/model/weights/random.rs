//! A store of tensors that nobody has: matrices of noise, which take no memory, and vectors of one value.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use safetensors::{Dtype, serialize, tensor::TensorView};

use super::{
    encodings::{Encoding, Random},
    files::in_memory,
    packed::PackedTensor,
    store::WeightStore,
};
use crate::error::{Error, Result};

/// What the store will hold.
#[derive(Debug, Default)]
pub struct RandomWeights {
    matrices: BTreeMap<String, Vec<usize>>,
    vectors: BTreeMap<String, (Vec<usize>, f32)>,
}

impl RandomWeights {
    /// A matrix `[out, in]` of noise, or a stack of them; of the same name the last shape counts.
    pub fn matrix(&mut self, name: String, shape: Vec<usize>) {
        self.matrices.insert(name, shape);
    }

    /// A tensor whose values are all the same.
    pub fn vector(&mut self, name: String, shape: Vec<usize>, value: f32) {
        self.vectors.insert(name, (shape, value));
    }

    /// Makes it. The noise of a matrix follows from its name.
    pub fn store(self) -> Result<WeightStore> {
        let bytes = |(name, (shape, value)): (String, (Vec<usize>, f32))| {
            let count: usize = shape.iter().product();
            (name, shape, value.to_le_bytes().repeat(count))
        };
        let vectors: Vec<_> = self.vectors.into_iter().map(bytes).collect();
        let views = vectors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let file = views
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|views| serialize(views, None))
            .map_err(|error| Error::new("random weights", error))?;
        let mut store = in_memory(vec![("random weights", file.into())])?;
        for (name, shape) in self.matrices {
            let outputs = shape[shape.len().saturating_sub(2)];
            let digest = blake3::hash(name.as_bytes());
            let [a, b, c, d, ..] = *digest.as_bytes();
            let noise = Random::new(u32::from_le_bytes([a, b, c, d]), outputs);
            store.pack(name, PackedTensor::new(shape, Encoding::Random(noise)));
        }
        Ok(store)
    }
}
