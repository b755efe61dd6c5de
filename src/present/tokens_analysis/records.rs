//! The tables in full.

use serde_json::json;

use super::tables::{reported, tokens_at};
use crate::{
    experiments::tokens_analysis::{MassiveDimension, TokensAnalysis},
    present::Compat,
    report::records::Records,
};

/// One record a position and dimension.
pub(super) fn magnitudes(result: &TokensAnalysis, compat: Compat) -> Records {
    let mut records = Records::new(["position", "dimension", "mean", "std", "count", "tokens"]);
    for found in reported(result, compat) {
        records.push(json!([
            found.position,
            found.dimension,
            found.mean,
            found.std,
            found.count,
            tokens_at(result, found.position, found.dimension),
        ]));
    }
    records
}

/// One record a massive dimension of a layer.
pub(super) fn dimensions(found: &[MassiveDimension]) -> Records {
    let mut records = Records::new([
        "layer",
        "dimension",
        "mean",
        "max",
        "sign",
        "count",
        "sequence_share",
        "persists",
        "positions",
        "tokens",
    ]);
    for found in found {
        records.push(json!([
            found.layer,
            found.dimension,
            found.mean,
            found.max,
            found.sign,
            found.count,
            found.sequence_share,
            found.persists,
            found.positions,
            found.tokens,
        ]));
    }
    records
}
