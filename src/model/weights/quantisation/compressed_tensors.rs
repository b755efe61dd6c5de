//! compressed-tensors: `X.weight_packed`, or `X.weight` of eight bits, with scales beside it.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    parts::{Packer, no_order, refuse},
    schemes::{Scheme, Schemes},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        weights::{
            encodings::{
                Blocks, DAMAGED, EightBits, Encoding, Global, IntRows, IntRowsParts, Mxfp4, Nvfp4,
            },
            shard::Stored,
            store::{Packing, WeightStore},
        },
    },
};

/// Types of weights that are stored under their own name.
const EIGHT_BITS: [Dtype; 3] = [Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::I8];

pub(super) fn recognise(weights: &mut WeightStore, section: &Config) -> Result<Option<Packing>> {
    let schemes = Schemes::read(section)?;
    let mut packer = Packer::new(weights);
    for module in packer.ending(".weight_packed") {
        packed(&mut packer, &module, &schemes)?;
    }
    for name in packer.of_types(&EIGHT_BITS) {
        // Stacked experts are tensors of their own, `X` with `X_scale`.
        let scaled = packer.stored(&format!("{name}_scale")).is_some();
        if name.ends_with(".weight") || scaled {
            eight_bits(&mut packer, name, &schemes)?;
        }
    }
    Ok(packer.packing("compressed-tensors", schemes.quantises_activations))
}

/// Integers, or four-bit floats.
fn packed(packer: &mut Packer<'_>, module: &str, schemes: &Schemes) -> Result<()> {
    let name = format!("{module}.weight");
    let words_name = format!("{name}_packed");
    let words = packer.part(&words_name, &words_name)?;
    let scales = packer.part(&format!("{name}_scale"), &words_name)?;
    if words.dtype() == Dtype::U8 {
        let (encoding, shape) = match packer.take(&format!("{name}_global_scale")) {
            Some(global) => {
                let made = Nvfp4::new(&name, words, scales, global, Global::Divides)?;
                (Encoding::Nvfp4(made.0), made.1)
            }
            None => {
                let made = Mxfp4::new(&name, in_blocks(words), scales)?;
                (Encoding::Mxfp4(made.0), made.1)
            }
        };
        packer.pack(name, shape, encoding);
        return Ok(());
    }
    let shape = packer.part(&format!("{name}_shape"), &words_name)?;
    let shape = matrix(&name, &shape)?;
    let zeros = packer.take(&format!("{name}_zero_point"));
    let order = format!("{name}_g_idx");
    let stored = packer.take(&order);
    let unordered = stored.is_none();
    let groups = stored.filter(set);
    let encoding = first_that_fits(module, schemes, |scheme| {
        if scheme.ordered && unordered {
            return Err(no_order(&name, &order, "actorder"));
        }
        let parts = IntRowsParts {
            words: words.clone(),
            scales: scales.clone(),
            zeros: zero_points(&name, &words, zeros.as_ref(), scheme)?,
            groups: groups.clone(),
        };
        IntRows::new(&name, parts, shape, scheme.bits, scheme.blocks)
    })?;
    packer.pack(name, shape.to_vec(), Encoding::IntRows(encoding));
    Ok(())
}

/// A byte a weight.
fn eight_bits(packer: &mut Packer<'_>, name: String, schemes: &Schemes) -> Result<()> {
    let module = name.strip_suffix(".weight").unwrap_or(&name);
    let codes = packer.part(&name, &name)?;
    let scales = packer.part(&format!("{name}_scale"), &name)?;
    let zeros = packer.take(&format!("{name}_zero_point"));
    let order = format!("{name}_g_idx");
    let groups = packer.take(&order);
    let unordered = groups.is_none();
    if groups.is_some_and(|groups| set(&groups)) {
        return Err(Error::new(
            "weights",
            format!("tensor `{order}` groups the inputs of `{name}` in an order of their own, which massact does not read beside a byte a weight"),
        )
        .remedy("take the checkpoint in 16 bits, or another quantised form of it"));
    }
    let inputs = codes.shape().last().copied().unwrap_or_default();
    let encoding = first_that_fits(module, schemes, |scheme| {
        if scheme.ordered && unordered {
            return Err(no_order(&name, &order, "actorder"));
        }
        if let Blocks::Of(1, size) = scheme.blocks
            && !inputs.is_multiple_of(size)
        {
            return Err(codes
                .error(format!(
                    "groups of {size} do not divide the {inputs} inputs of `{name}`"
                ))
                .remedy(DAMAGED));
        }
        let zeros = zero_points(&name, &codes, zeros.as_ref(), scheme)?;
        EightBits::new(&name, codes.clone(), scales.clone(), zeros, scheme.blocks)
    })?;
    let shape = codes.shape().to_vec();
    packer.pack(name, shape, Encoding::EightBits(encoding));
    Ok(())
}

/// Whether groups of inputs were ever set: they are all -1 before.
fn set(groups: &Stored) -> bool {
    groups.bytes().iter().any(|byte| *byte != 255)
}

/// Reads by the first of a module's schemes that its tensors fit, or says why the best does not.
fn first_that_fits<T>(
    module: &str,
    schemes: &Schemes,
    read: impl Fn(&Scheme) -> Result<T>,
) -> Result<T> {
    let mut first = None;
    for scheme in schemes.of(module) {
        match read(scheme) {
            Ok(made) => return Ok(made),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        let why = format!("it does not say how `{module}` is packed");
        refuse("config_groups", "without weights", &why)
    }))
}

/// The zero points that count: there must be some where codes are not symmetric. Some versions store
/// zeros, of the type of the codes, where they are.
fn zero_points(
    name: &str,
    codes: &Stored,
    zeros: Option<&Stored>,
    scheme: &Scheme,
) -> Result<Option<Stored>> {
    match zeros {
        None if !scheme.symmetric => Err(codes
            .error(format!("tensor `{name}_zero_point` is missing"))
            .remedy(DAMAGED)),
        Some(zeros)
            if scheme.symmetric
                && zeros.bytes().iter().all(|byte| *byte == 0)
                && zeros.dtype() != Dtype::I32 =>
        {
            Ok(None)
        }
        other => Ok(other.cloned()),
    }
}

/// The shape of a matrix, which is stored as a tensor of two whole numbers.
fn matrix(name: &str, stored: &Stored) -> Result<[usize; 2]> {
    let bytes = stored.bytes();
    let sizes: Vec<i64> = match stored.dtype() {
        Dtype::I64 => {
            let words = bytes.as_chunks::<8>().0.iter();
            words.map(|word| i64::from_le_bytes(*word)).collect()
        }
        Dtype::I32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|word| i32::from_le_bytes(*word).into()).collect()
        }
        _ => Vec::new(),
    };
    let sizes: Vec<usize> = sizes
        .iter()
        .filter_map(|size| usize::try_from(*size).ok())
        .collect();
    sizes.try_into().map_err(|_| -> Error {
        stored
            .error(format!("tensor `{name}_shape` is not two sizes"))
            .remedy(DAMAGED)
    })
}

/// Bytes `[out, in / 2]` as `[out, in / 32, 16]`.
fn in_blocks(codes: Stored) -> Stored {
    match *codes.shape() {
        [outputs, bytes] if bytes.is_multiple_of(16) => {
            codes.reshaped(vec![outputs, bytes / 16, 16])
        }
        _ => codes,
    }
}
