//! bitsandbytes: four bits with a `quant_state` of JSON beside the codes, or int8 with `SCB`.
#![forbid(unsafe_code)]

use safetensors::Dtype;
use serde::Deserialize;

use super::parts::Packer;
use crate::{
    error::{Error, Result},
    model::{
        json,
        weights::{
            encodings::{Absmax, Blocks, Blockwise, DAMAGED, EightBits, Encoding, Layout},
            shard::Stored,
            store::{Packing, WeightStore},
        },
    },
};

/// The largest code of an int8.
const LARGEST: f32 = 127.0;

pub(super) fn recognise(weights: &mut WeightStore) -> Result<Option<Packing>> {
    let mut packer = Packer::new(weights);
    for (ending, kind) in [
        (".quant_state.bitsandbytes__nf4", "NF4"),
        (".quant_state.bitsandbytes__fp4", "FP4"),
    ] {
        for name in packer.ending(ending) {
            let state = packer.part(&format!("{name}{ending}"), &name)?;
            four_bits(&mut packer, name, &state, kind)?;
        }
    }
    let modules = packer.ending(".SCB");
    let quantises_activations = !modules.is_empty();
    for module in modules {
        eight_bits(&mut packer, &module)?;
    }
    Ok(packer.packing("bitsandbytes", quantises_activations))
}

/// What of the `quant_state` counts.
#[derive(Deserialize)]
struct State {
    shape: Vec<usize>,
    blocksize: usize,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f64>,
}

fn four_bits(
    packer: &mut Packer<'_>,
    name: String,
    state: &Stored,
    kind: &'static str,
) -> Result<()> {
    let broken = |reason: &dyn std::fmt::Display| -> Error {
        state
            .error(format!("the quant_state of `{name}`: {reason}"))
            .remedy(DAMAGED)
    };
    let parsed = json::parse(state.bytes()).and_then(serde_json::from_value::<State>);
    let parsed = parsed.map_err(|error| broken(&error))?;
    let State {
        shape, blocksize, ..
    } = &parsed;
    let &[outputs, inputs] = shape.as_slice() else {
        return Err(broken(&format!("its shape is {shape:?}, not a matrix's")));
    };
    let sizes = [Some(*blocksize), parsed.nested_blocksize];
    if sizes.contains(&Some(0)) {
        return Err(broken(&"its blocks have no values"));
    }
    let absmax = packer.part(&format!("{name}.absmax"), &name)?;
    let nested = packer.take(&format!("{name}.nested_absmax"));
    let absmax = match (nested, parsed.nested_blocksize, parsed.nested_offset) {
        (None, None, None) => Absmax::Plain(absmax),
        (Some(nested), Some(block), Some(offset)) => Absmax::Nested {
            table: packer.part(&format!("{name}.nested_quant_map"), &name)?,
            codes: absmax,
            absmax: nested,
            block,
            offset: offset as f32,
        },
        _ => {
            return Err(broken(
                &"double quantisation needs nested_absmax, nested_blocksize and nested_offset",
            ));
        }
    };
    let table = packer.part(&format!("{name}.quant_map"), &name)?;
    let codes = packer.part(&name, &name)?;
    let layout = Layout {
        shape: [outputs, inputs],
        block: *blocksize,
        kind,
    };
    let encoding = Blockwise::new(&name, codes, table, absmax, layout)?;
    packer.pack(name, parsed.shape, Encoding::Blockwise(encoding));
    Ok(())
}

fn eight_bits(packer: &mut Packer<'_>, module: &str) -> Result<()> {
    let name = format!("{module}.weight");
    let scales = packer.part(&format!("{module}.SCB"), &name)?;
    // Layouts of old kernels: 0 is by row.
    let layout = packer.take(&format!("{module}.weight_format"));
    if let Some(layout) = layout.filter(|layout| layout.bytes().iter().any(|byte| *byte != 0)) {
        return Err(layout
            .error(format!("`{module}.weight_format` is not 0, by row"))
            .remedy(DAMAGED));
    }
    let codes = packer.part(&name, &format!("{module}.SCB"))?;
    if codes.dtype() != Dtype::I8 {
        return Err(codes
            .error(format!(
                "tensor `{name}` is {:?} beside `{module}.SCB`, expected int8",
                codes.dtype()
            ))
            .remedy(DAMAGED));
    }
    let shape = codes.shape().to_vec();
    let encoding = EightBits::new(&name, codes, scales, None, Blocks::Outputs)?;
    let encoding = Encoding::EightBits(encoding.divided_by(LARGEST));
    packer.pack(name, shape, encoding);
    Ok(())
}
