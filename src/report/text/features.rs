//! `output_feature_tokenwise.txt`: what the reference notes beside its 3-D figure.

use super::TextDtype;
use super::python::{python_float, python_list};

/// Name of the file.
pub const FEATURES_FILE: &str = "output_feature_tokenwise.txt";

/// Output features of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerFeatures {
    /// 0-based index.
    pub layer: usize,
    /// Largest magnitude.
    pub max: f64,
    /// Token positions with massive activations, ascending.
    pub positions: Vec<usize>,
    /// Their dimensions, those of the largest magnitude first.
    pub dimensions: Vec<usize>,
}

/// The file's text.
pub fn features_text(layers: &[LayerFeatures], dtype: TextDtype) -> String {
    let mut text = String::new();
    for layer in layers {
        let max = python_float(dtype.round(layer.max));
        text.push_str(&format!("Layer-{} | Max Activation: {max}\n", layer.layer));
        if layer.positions.is_empty() {
            text.push_str("No massive activations found in this layer.\n");
            continue;
        }
        let (positions, dimensions) = (
            python_list(&layer.positions),
            python_list(&layer.dimensions),
        );
        text.push_str(&format!(
            "Token Positions with Massive Activations: {positions}\n\
             Massive Activation Positions in Embedding: {dimensions}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As published for Llama-2-7b-hf.
    #[test]
    fn wording_of_the_reference() {
        let layer = |layer, max, positions, dimensions| LayerFeatures {
            layer,
            max,
            positions,
            dimensions,
        };
        let text = features_text(
            &[
                layer(0, 2.390_625, vec![], vec![]),
                layer(1, 2240.0, vec![0, 4], vec![1415, 2533, 1512]),
            ],
            TextDtype::Float32,
        );
        assert_eq!(
            text,
            "Layer-0 | Max Activation: 2.390625\n\
             No massive activations found in this layer.\n\
             Layer-1 | Max Activation: 2240.0\n\
             Token Positions with Massive Activations: [0, 4]\n\
             Massive Activation Positions in Embedding: [1415, 2533, 1512]\n"
        );
    }
}
