//! The neurons of an MLP that write to one dimension of the residual stream.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::{
    engine::Source,
    error::Result,
    model::{
        Model,
        spec::{Layer, Linear, Mlp},
    },
};

/// A neuron and the weight through which it writes to a dimension: row `dimension`, column `neuron` of a down
/// projection `[hidden_size, intermediate_size]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neuron {
    /// The part of the MLP that it is of.
    #[serde(flatten)]
    pub source: Source,
    /// The tensor of the down projection.
    pub tensor: String,
    /// Column of the down projection.
    pub neuron: usize,
    /// Row of the down projection: the dimension.
    pub dimension: usize,
    /// The weight there, with the projection's factors.
    pub weight: f32,
    /// What the neuron gives to the down projection at this token.
    pub activation: f32,
    /// `weight * activation`: before an expert's weight, and the layer's norm and factor.
    pub product: f32,
    /// The product over the sum of all products.
    pub share: Option<f64>,
    /// The activation's rank by magnitude among all neurons at this token; 1 is the largest.
    pub input_rank: usize,
    /// The rank of what comes of the projection in this dimension among all dimensions.
    pub output_rank: usize,
}

/// The down projection of a part of a layer's MLP; none if it has no such part.
pub(super) fn down_projection(layer: &Layer, source: Source) -> Option<Linear> {
    let experts = layer.experts();
    match (source, layer.mlp.as_ref()?) {
        (Source::Expert(expert), _) => experts.map(|experts| experts.expert.down.of_expert(expert)),
        (Source::Shared, _) => {
            let shared = experts.and_then(|experts| experts.shared.as_ref());
            shared.map(|shared| shared.mlp.down.clone())
        }
        (Source::Dense, Mlp::Gated(mlp)) => Some(mlp.down.clone()),
        (Source::Dense, Mlp::Plain { down, .. } | Mlp::Xielu { down, .. }) => Some(down.clone()),
        (Source::Dense, Mlp::SideBySide(both)) => Some(both.dense.down.clone()),
        (Source::Dense, Mlp::Experts(_)) => None,
    }
}

impl Neuron {
    /// The `most` of the largest products in a dimension, given what the projection reads and makes.
    pub(super) fn largest(
        model: &Model,
        (source, down): (Source, &Linear),
        (inner, output): (&[f32], &[f32]),
        dimension: usize,
        most: usize,
    ) -> Result<Vec<Self>> {
        let mut weights = vec![0.0; down.in_features];
        model.matrix(down)?.write_output(dimension, &mut weights);
        let factor = down.input_scale * down.output_scale;
        for weight in &mut weights {
            *weight *= factor;
        }
        let products: Vec<f32> = weights.iter().zip(inner).map(|(w, a)| w * a).collect();
        let sum: f64 = products.iter().copied().map(f64::from).sum();
        let mut order: Vec<usize> = (0..products.len()).collect();
        let most = most.min(order.len());
        let by_size = |a: &usize, b: &usize| {
            let sizes = products[*b].abs().total_cmp(&products[*a].abs());
            sizes.then(a.cmp(b))
        };
        if most < order.len() {
            order.select_nth_unstable_by(most, by_size);
            order.truncate(most);
        }
        order.sort_by(by_size);
        let found = order.into_iter().map(|neuron| Self {
            source,
            tensor: down.weight.clone(),
            neuron,
            dimension,
            weight: weights[neuron],
            activation: inner[neuron],
            product: products[neuron],
            share: Some(f64::from(products[neuron]) / sum).filter(|share| share.is_finite()),
            input_rank: rank(inner, neuron),
            output_rank: rank(output, dimension),
        });
        Ok(found.collect())
    }
}

/// The rank of a value by its magnitude; 1 is the largest.
fn rank(values: &[f32], index: usize) -> usize {
    let own = values[index].abs();
    1 + values.iter().filter(|value| value.abs() > own).count()
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn ranks_by_magnitude() {
        assert_eq!(rank(&[1.0, -7.0, 3.0], 1), 1);
        assert_eq!(rank(&[1.0, -7.0, 3.0], 0), 3);
        assert_eq!(rank(&[2.0, -2.0], 1), 1);
    }
}
