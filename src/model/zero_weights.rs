//! Single weights that are set to zero before a model runs.
#![forbid(unsafe_code)]

use super::{
    Model,
    spec::{Linear, WeightLayout},
    weights::Values,
};
use crate::error::Result;

impl Model {
    /// Sets single weights of a projection, by (output, input), to zero in memory; the files stay as they are.
    pub fn zero_weights(&mut self, linear: &Linear, weights: &[(usize, usize)]) -> Result<()> {
        // Its shape is checked.
        self.stored_matrix(linear)?;
        let (outputs, inputs) = (linear.stored_outputs, linear.in_features);
        let by_input = match self.weights.values(&linear.weight)? {
            Values::Plain(..) => linear.layout == WeightLayout::InOut,
            Values::Packed(tensor) => tensor.encoding().by_input(),
        };
        let first = linear.stacked.map_or(0, |(index, _)| index);
        let places = weights
            .iter()
            .filter(|(output, input)| *output < linear.out_features && *input < linear.in_features);
        let places: Vec<(usize, usize)> = places
            .map(|&(output, input)| {
                let output = linear.stored_output(output);
                match by_input {
                    true => (first * inputs + input, output),
                    false => (first * outputs + output, input),
                }
            })
            .collect();
        self.weights.zero(&linear.weight, by_input, &places)
    }
}
