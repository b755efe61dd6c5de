//! FP8 with scales beside the codes: `X_scale_inv`, which multiplies despite its name, or `X_scale`.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::parts::{Packer, block_size};
use crate::{
    error::Result,
    model::{
        config::Config,
        weights::{
            encodings::{Blocks, EightBits, Encoding},
            shard::Stored,
            store::{Packing, WeightStore},
        },
    },
};

pub(super) fn recognise(weights: &mut WeightStore, section: &Config) -> Result<Option<Packing>> {
    let mut packer = Packer::new(weights);
    pack(&mut packer, block_size(section, "weight_block_size")?)?;
    Ok(packer.packing("FP8", true))
}

/// Packs all tensors that are stored in FP8.
pub(super) fn pack(packer: &mut Packer<'_>, blocks: Option<Blocks>) -> Result<()> {
    for name in packer.of_types(&[Dtype::F8_E4M3, Dtype::F8_E5M2]) {
        let (scale_inv, scale) = (format!("{name}_scale_inv"), format!("{name}_scale"));
        let codes = packer.part(&name, &name)?;
        let (scales, blocks) = match packer.take(&scale_inv) {
            Some(scales) => (scales, blocks.unwrap_or(Blocks::Tensor)),
            None => {
                let wanted = match blocks {
                    Some(_) if packer.stored(&scale).is_none() => &scale_inv,
                    _ => &scale,
                };
                let scales = packer.part(wanted, &name)?;
                let blocks = by_count(&codes, &scales, blocks);
                (scales, blocks)
            }
        };
        let shape = codes.shape().to_vec();
        let encoding = EightBits::new(&name, codes, scales, None, blocks)?;
        packer.pack(name, shape, Encoding::EightBits(encoding));
    }
    Ok(())
}

/// What shares a scale where the config does not say: there is one in all, or one an output.
fn by_count(codes: &Stored, scales: &Stored, blocks: Option<Blocks>) -> Blocks {
    let matrices: usize = codes.shape().iter().rev().skip(2).product();
    match scales.shape().iter().product::<usize>() {
        count if count == matrices => Blocks::Tensor,
        _ => blocks.unwrap_or(Blocks::Outputs),
    }
}
