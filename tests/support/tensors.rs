//! Float32 tensors of a safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Every tensor of the file by name.
pub(crate) fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parsed = SafeTensors::deserialize(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parsed
        .iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32, "{name}");
            let tensor = Tensor {
                shape: view.shape().to_vec(),
                values: bytemuck::pod_collect_to_vec(view.data()),
            };
            (name.to_owned(), tensor)
        })
        .collect()
}

/// Root of the mean square of the numbers that are there.
pub(crate) fn rms(values: &[f32]) -> f64 {
    let (sum, count) = values
        .iter()
        .filter(|value| !value.is_nan())
        .fold((0.0, 0usize), |(sum, count), value| {
            (sum + f64::from(*value).powi(2), count + 1)
        });
    (sum / count.max(1) as f64).sqrt()
}
