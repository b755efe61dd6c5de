//! AWQ: tensors `X.qweight`, `X.qzeros` and `X.scales`, in the layout called gemm.
#![forbid(unsafe_code)]

use super::parts::{Packer, group_size_of, refuse};
use crate::{
    error::Result,
    model::{
        config::Config,
        weights::{
            encodings::{Awq, Encoding},
            store::{Packing, WeightStore},
        },
    },
};

pub(super) fn recognise(weights: &mut WeightStore, section: &Config) -> Result<Option<Packing>> {
    let bits = section.size_or(section.either(&["bits", "w_bit"]), 4)?;
    if bits != 4 {
        return Err(refuse("bits", bits, "massact reads AWQ of 4 bits"));
    }
    let key = section.either(&["version", "format"]);
    let version = section.text_or(key, "gemm")?;
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(refuse(
            key,
            format_args!("`{version}`"),
            "massact reads the layout `gemm`",
        ));
    }
    if section.text_or("backend", "autoawq")? == "llm-awq" {
        return Err(refuse(
            "backend",
            "`llm-awq`",
            "massact reads the layout of AutoAWQ",
        ));
    }
    let group = section.either(&["group_size", "q_group_size"]);
    let group = group_size_of(section, group, 128)?;
    let zero_point = section.flag_or("zero_point", true)?;
    let mut packer = Packer::new(weights);
    packer.refuse_any(
        ".act.scales",
        "divides the output of an activation, which massact does not compute",
    )?;
    for module in packer.ending(".qweight") {
        let words = format!("{module}.qweight");
        let zeros = format!("{module}.qzeros");
        let zeros = if zero_point {
            Some(packer.part(&zeros, &words)?)
        } else {
            packer.take(&zeros)
        };
        let scales = packer.part(&format!("{module}.scales"), &words)?;
        let words = packer.part(&words, &words)?;
        let name = format!("{module}.weight");
        let (encoding, shape) = Awq::new(&name, words, zeros, scales, group)?;
        packer.pack(name, shape, Encoding::Awq(encoding));
    }
    Ok(packer.packing("AWQ", false))
}
