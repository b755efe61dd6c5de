//! Matrices that are stored twice: as plain numbers, and packed or with a scale that plain numbers have
//! no use for. Which of the two counts, nothing says.
#![forbid(unsafe_code)]

use super::parts::DISAGREE;
use crate::{
    error::{Error, Result},
    model::weights::store::WeightStore,
};

/// What is beside `X` where a matrix `X` is packed.
const PACKED: [&str; 5] = [
    ".qweight",
    ".weight_packed",
    ".weight_scale",
    ".weight_scale_inv",
    ".SCB",
];

pub(super) fn refuse_twice(weights: &WeightStore) -> Result<()> {
    let twice = weights.names().filter_map(|name| {
        let module = PACKED.iter().find_map(|ending| name.strip_suffix(ending))?;
        let plain = format!("{module}.weight");
        let stored = weights.stored(&plain)?;
        let whole = name.ends_with(".qweight") || name.ends_with(".weight_packed");
        (whole || stored.elements().is_some()).then_some((name, plain))
    });
    match twice.min() {
        None => Ok(()),
        Some((packed, plain)) => Err(Error::new(
            "weights",
            format!("`{plain}` is stored as plain numbers, and `{packed}` says that it is packed"),
        )
        .remedy(DISAGREE)),
    }
}
