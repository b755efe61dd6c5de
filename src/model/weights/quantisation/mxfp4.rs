//! MXFP4 as gpt-oss has it: tensors `X_blocks` and `X_scales`.
#![forbid(unsafe_code)]

use crate::{
    error::Result,
    model::weights::{
        encodings::{Encoding, Mxfp4},
        packed::PackedTensor,
        store::{Packing, WeightStore},
    },
};

pub(super) fn recognise(weights: &mut WeightStore) -> Result<Packing> {
    let names = weights
        .names()
        .filter_map(|name| name.strip_suffix("_blocks"));
    let names: Vec<String> = names.map(str::to_owned).collect();
    for name in names {
        let parts = (
            weights.take(&format!("{name}_blocks")),
            weights.take(&format!("{name}_scales")),
        );
        match parts {
            (Some(codes), Some(scales)) => {
                let (encoding, shape) = Mxfp4::new(&name, codes, scales)?;
                weights.pack(name, PackedTensor::new(shape, Encoding::Mxfp4(encoding)));
            }
            (Some(codes), None) => {
                return Err(codes
                    .error(format!("tensor `{name}_scales` is missing"))
                    .remedy("download the checkpoint again, all of its files"));
            }
            (None, _) => {}
        }
    }
    Ok(Packing {
        format: "MXFP4".to_owned(),
        quantises_activations: false,
    })
}
