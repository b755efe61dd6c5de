//! Small packed weights of every encoding, made of noise and read as a checkpoint's are.

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::inputs::bytes;
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        weights::{self, WeightStore},
    },
};

/// A checkpoint of one packed weight, or a stack of them.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) name: &'static str,
    /// `quantization_config`
    config: Value,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The name of the weight.
pub(super) const WEIGHT: &str = "x.weight";

fn tensor(name: &'static str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor {
        name,
        dtype,
        shape: shape.to_vec(),
        bytes,
    }
}

/// One of every encoding, in shapes that divide badly.
pub(super) fn all() -> Vec<Packed> {
    vec![mxfp4()]
}

fn mxfp4() -> Packed {
    let scales = bytes(3 * 33 * 5, 2).into_iter();
    Packed {
        name: "MXFP4",
        config: json!({ "quant_method": "mxfp4" }),
        tensors: vec![
            tensor(
                "x.weight_blocks",
                Dtype::U8,
                &[3, 33, 5, 16],
                bytes(3 * 33 * 5 * 16, 1),
            ),
            tensor(
                "x.weight_scales",
                Dtype::U8,
                &[3, 33, 5],
                scales.map(|byte| 120 + byte % 16).collect(),
            ),
        ],
    }
}

impl Packed {
    /// Reads it.
    pub(super) fn open(&self) -> Result<WeightStore> {
        let views = self.tensors.iter().map(|tensor| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            view.map(|view| (tensor.name, view))
        });
        let file = views
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|error| Error::new(self.name, error))?;
        let mut store = weights::in_memory(vec![(self.name, file.into())])?;
        let config = json!({ "quantization_config": self.config }).to_string();
        weights::recognise(&mut store, &Config::parse(config.as_bytes())?)?;
        Ok(store)
    }
}
