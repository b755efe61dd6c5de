//! `verify_massive_activations_location_and_magnitude_and_tokens.txt`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::RULE;
use super::python::{python_dict, python_float, python_list, python_set, python_str_repr};

/// Name of the file.
pub const TOKENS_FILE: &str = "verify_massive_activations_location_and_magnitude_and_tokens.txt";

/// A sequence with massive activations. Sequences without are not listed and not counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Datum {
    /// Its layers with massive activations, ascending.
    pub layers: Vec<DatumLayer>,
}

/// One layer of one sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatumLayer {
    /// Layer number from 0.
    pub layer: usize,
    /// Its tokens with massive activations, ascending by position.
    pub tokens: Vec<MassiveToken>,
}

/// A token with massive activations in one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MassiveToken {
    /// Position in the sequence from 0.
    pub position: usize,
    /// Its text, decoded.
    pub token: String,
    /// (dimension, |value|), ascending by dimension.
    pub magnitudes: Vec<(usize, f64)>,
}

/// The file's last part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokensSummary {
    /// First layer with massive activations over all sequences.
    pub first_layer: Option<usize>,
    /// Dimensions with massive activations, ascending.
    pub dimensions: Vec<usize>,
    /// Magnitudes in the first layer.
    pub magnitudes: Vec<PositionMagnitudes>,
    /// Unique tokens by position.
    pub unique_tokens: Vec<(usize, Vec<String>)>,
}

/// Magnitudes at one position in the first layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PositionMagnitudes {
    /// Position in the sequence from 0.
    pub position: usize,
    /// By dimension.
    pub dimensions: Vec<DimensionMagnitude>,
}

/// Mean and spread over the sequences that are massive there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DimensionMagnitude {
    /// Dimension of the hidden state.
    pub dimension: usize,
    /// Mean |value|.
    pub mean: f64,
    /// Standard deviation, without Bessel's correction.
    pub std: f64,
}

/// The whole file.
pub fn tokens_text(data: &[Datum], summary: &TokensSummary) -> String {
    let mut text = String::new();
    let stars = "*".repeat(RULE);
    for (number, datum) in data.iter().enumerate() {
        let layers = python_list(datum.layers.iter().map(|layer| layer.layer));
        let _ = write!(
            text,
            "Datum {number}\nLayers with Massive Activations: {layers}\n"
        );
        for layer in &datum.layers {
            write_layer(&mut text, layer);
            let _ = writeln!(text, "{stars}");
        }
        let _ = write!(text, "{stars}\n\n");
    }
    write_summary(&mut text, summary);
    text
}

fn write_layer(text: &mut String, layer: &DatumLayer) {
    let tokens = &layer.tokens;
    let positions = python_list(tokens.iter().map(|token| token.position));
    let associated = python_dict(
        tokens
            .iter()
            .map(|token| (token.position, python_str_repr(&token.token))),
    );
    let dimensions: BTreeSet<usize> = tokens
        .iter()
        .flat_map(|token| token.magnitudes.iter().map(|&(dimension, _)| dimension))
        .collect();
    let magnitudes = python_dict(tokens.iter().map(|token| {
        let by_dimension = token
            .magnitudes
            .iter()
            .map(|&(dimension, value)| (dimension, python_float(value)));
        (token.position, python_dict(by_dimension))
    }));
    let _ = write!(
        text,
        "Layer {number}\n\
         Token Positions with Massive Activations: {positions}\n\
         Associated Tokens with Massive Activations: {associated}\n\
         Embedding Position with Massive Activations:\n\
         ----- Position: {dimensions}\n\
         ----- Magnitude: {magnitudes}\n",
        number = layer.layer,
        dimensions = python_list(dimensions),
    );
}

fn write_summary(text: &mut String, summary: &TokensSummary) {
    let first_layer = match summary.first_layer {
        Some(layer) => layer.to_string(),
        None => "inf".into(),
    };
    let _ = write!(
        text,
        "{rule}\n\
         Summary\n\
         First Layer with Massive Activations: {first_layer}\n\
         Embedding Position with Massive Activations in First Layer: {dimensions}\n\
         Massive Activation Magnitude in First Layer:\n",
        rule = "=".repeat(RULE),
        dimensions = python_list(&summary.dimensions),
    );
    for position in &summary.magnitudes {
        let _ = writeln!(text, "-- Token Position {}", position.position);
        for magnitude in &position.dimensions {
            let _ = writeln!(
                text,
                "---- Position {} | Avg: {}, Std: {}",
                magnitude.dimension,
                python_float(magnitude.mean),
                python_float(magnitude.std)
            );
        }
    }
    let unique = python_dict(summary.unique_tokens.iter().map(|(position, tokens)| {
        let tokens = tokens.iter().map(|token| python_str_repr(token));
        (position, python_set(tokens))
    }));
    let _ = writeln!(
        text,
        "Unique Tokens (with the Relative Position) with Massive Activations in All Layers: {unique}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(position: usize, token: &str, magnitudes: &[(usize, f64)]) -> MassiveToken {
        MassiveToken {
            position,
            token: token.into(),
            magnitudes: magnitudes.to_vec(),
        }
    }

    #[test]
    fn as_the_reference_writes_it() {
        let layer = |layer| DatumLayer {
            layer,
            tokens: vec![
                token(0, "<s>", &[(1415, 520.0), (2533, 872.0)]),
                token(30, ".", &[(1415, 1520.0), (1512, 163.0), (2533, 2576.0)]),
            ],
        };
        let data = [Datum {
            layers: vec![layer(1), layer(2)],
        }];
        let summary = TokensSummary {
            first_layer: Some(1),
            dimensions: vec![1415, 1512, 2533],
            magnitudes: vec![PositionMagnitudes {
                position: 13,
                dimensions: vec![DimensionMagnitude {
                    dimension: 1415,
                    mean: 1422.4,
                    std: 42.452797316549116,
                }],
            }],
            unique_tokens: vec![(0, vec!["<s>".into()]), (30, vec![".".into()])],
        };
        let expected = "\
Datum 0
Layers with Massive Activations: [1, 2]
Layer 1
Token Positions with Massive Activations: [0, 30]
Associated Tokens with Massive Activations: {0: '<s>', 30: '.'}
Embedding Position with Massive Activations:
----- Position: [1415, 1512, 2533]
----- Magnitude: {0: {1415: 520.0, 2533: 872.0}, 30: {1415: 1520.0, 1512: 163.0, 2533: 2576.0}}
**************************************************
Layer 2
Token Positions with Massive Activations: [0, 30]
Associated Tokens with Massive Activations: {0: '<s>', 30: '.'}
Embedding Position with Massive Activations:
----- Position: [1415, 1512, 2533]
----- Magnitude: {0: {1415: 520.0, 2533: 872.0}, 30: {1415: 1520.0, 1512: 163.0, 2533: 2576.0}}
**************************************************
**************************************************

==================================================
Summary
First Layer with Massive Activations: 1
Embedding Position with Massive Activations in First Layer: [1415, 1512, 2533]
Massive Activation Magnitude in First Layer:
-- Token Position 13
---- Position 1415 | Avg: 1422.4, Std: 42.452797316549116
Unique Tokens (with the Relative Position) with Massive Activations in All Layers: {0: {'<s>'}, 30: {'.'}}
";
        assert_eq!(tokens_text(&data, &summary), expected);
    }

    #[test]
    fn nothing_found() {
        let expected = "\
==================================================
Summary
First Layer with Massive Activations: inf
Embedding Position with Massive Activations in First Layer: []
Massive Activation Magnitude in First Layer:
Unique Tokens (with the Relative Position) with Massive Activations in All Layers: {}
";
        assert_eq!(tokens_text(&[], &TokensSummary::default()), expected);
    }
}
