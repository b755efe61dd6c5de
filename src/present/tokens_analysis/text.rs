//! The result in the terms of the reference's text file.

use std::collections::BTreeMap;

use crate::{
    experiments::tokens_analysis::{LayerDetections, Magnitude, SequenceTokens, TokensAnalysis},
    present::Compat,
    report::text::{
        Datum, DatumLayer, DimensionMagnitude, MassiveToken, PositionMagnitudes, TokensSummary,
    },
};

/// The file's parts. As in the reference, sequences without massive activations are left out; with
/// its summary, positions come in the order in which they first appeared.
pub(super) fn of(result: &TokensAnalysis, compat: Compat) -> (Vec<Datum>, TokensSummary) {
    let data = result
        .sequences
        .iter()
        .filter(|sequence| sequence.first_layer.is_some())
        .map(datum)
        .collect();
    let (dimensions, magnitudes) = match compat {
        Compat::None => (&result.summary.dimensions, &result.summary.magnitudes),
        Compat::Reference => (&result.dimensions_reference, &result.magnitudes_reference),
    };
    let positions: Vec<usize> = match compat {
        Compat::None => result.unique_tokens.keys().copied().collect(),
        Compat::Reference => in_order_of_appearance(&result.sequences),
    };
    let summary = TokensSummary {
        first_layer: result.summary.first_layer,
        dimensions: dimensions.clone(),
        magnitudes: by_position(magnitudes),
        unique_tokens: positions
            .into_iter()
            .map(|position| {
                let tokens = result.unique_tokens.get(&position);
                let tokens = tokens.into_iter().flatten().cloned().collect();
                (position, tokens)
            })
            .collect(),
    };
    (data, summary)
}

fn datum(sequence: &SequenceTokens) -> Datum {
    let layer = |found: &LayerDetections| DatumLayer {
        layer: found.layer,
        tokens: massive_tokens(sequence, found),
    };
    Datum {
        layers: sequence.detections.layers.iter().map(layer).collect(),
    }
}

fn massive_tokens(sequence: &SequenceTokens, found: &LayerDetections) -> Vec<MassiveToken> {
    let mut by_position: BTreeMap<usize, Vec<(usize, f64)>> = BTreeMap::new();
    for entry in &found.massive {
        let magnitudes = by_position.entry(entry.position).or_default();
        magnitudes.push((entry.dimension, f64::from(entry.value.abs())));
    }
    by_position
        .into_iter()
        .map(|(position, magnitudes)| MassiveToken {
            position,
            token: sequence.tokens.get(&position).cloned().unwrap_or_default(),
            magnitudes,
        })
        .collect()
}

/// Neighbours of one position joined; a summary lists a position's dimensions together.
fn by_position(magnitudes: &[Magnitude]) -> Vec<PositionMagnitudes> {
    magnitudes
        .chunk_by(|a, b| a.position == b.position)
        .map(|same| PositionMagnitudes {
            position: same[0].position,
            dimensions: same
                .iter()
                .map(|found| DimensionMagnitude {
                    dimension: found.dimension,
                    mean: found.mean,
                    std: found.std,
                })
                .collect(),
        })
        .collect()
}

fn in_order_of_appearance(sequences: &[SequenceTokens]) -> Vec<usize> {
    let mut positions = Vec::new();
    let layers = sequences.iter().flat_map(|s| &s.detections.layers);
    for position in layers.flat_map(LayerDetections::positions) {
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    positions
}
