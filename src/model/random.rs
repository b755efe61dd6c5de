//! A decoder of a given shape whose weights are noise, made as they are needed: nothing is on disk, and no
//! more of it in memory than one layer. What it computes means nothing; how long it takes is what is asked.
#![forbid(unsafe_code)]

use super::{
    Model,
    config::Config,
    families,
    spec::{DecoderSpec, Linear, Norm},
    weights::RandomWeights,
};
use crate::error::Result;

/// What `config` (the text of a config.json) describes.
pub fn open(config: &[u8]) -> Result<Model> {
    let spec = described(config)?;
    let mut weights = RandomWeights::default();
    let (embedding, head) = (&spec.embedding, &spec.head);
    weights.matrix(
        embedding.tokens.clone(),
        vec![spec.vocab_size, embedding.width],
    );
    if let (Some(learned), Some(positions)) = (&embedding.positions, spec.max_positions) {
        let rows = positions + learned.offset;
        weights.matrix(learned.table.clone(), vec![rows, spec.hidden_size]);
    }
    let ends = embedding.projection.iter().chain(&head.projection);
    for linear in ends.chain([&head.linear]) {
        add(&mut weights, linear);
    }
    for norm in embedding.norm.iter().chain(&spec.final_norm) {
        add_norm(&mut weights, norm);
    }
    for layer in &spec.layers {
        for linear in layer.linears() {
            add(&mut weights, linear);
        }
        for norm in layer.norms() {
            add_norm(&mut weights, norm);
        }
        for vector in layer.vectors() {
            weights.vector(vector.tensor.clone(), vector.shape.clone(), 0.0);
        }
        let Some(experts) = layer.experts() else {
            continue;
        };
        for expert in 0..experts.count {
            for linear in experts.expert.linears() {
                add(&mut weights, &linear.of_expert(expert));
            }
        }
    }
    Model::assemble(&Config::parse(config)?, weights.store()?, None)
}

/// The description of a checkpoint of which nothing is there but the embedding's name, by which its family
/// knows what the others are called.
fn described(config: &[u8]) -> Result<DecoderSpec> {
    let config = Config::parse(config)?;
    let family = families::find(&config)?;
    let prefix = family.prefixes.first().copied().unwrap_or_default();
    let mut weights = RandomWeights::default();
    weights.vector(format!("{prefix}{}", family.embedding), vec![1], 0.0);
    let weights = weights.store()?;
    family.spec(&config, &family.names(&weights)?)
}

fn add(weights: &mut RandomWeights, linear: &Linear) {
    let count = linear.stacked.map(|(_, count)| count);
    let shape = |own: &[usize]| count.iter().chain(own).copied().collect();
    let outputs = linear.stored_outputs;
    weights.matrix(linear.weight.clone(), shape(&[outputs, linear.in_features]));
    if let Some(bias) = &linear.bias {
        weights.vector(bias.clone(), shape(&[outputs]), 0.0);
    }
}

/// One that changes nothing beyond normalising.
fn add_norm(weights: &mut RandomWeights, norm: &Norm) {
    let factor = 1.0 - norm.weight_offset;
    for (learned, value) in [(&norm.weight, factor), (&norm.bias, 0.0)] {
        if let Some(learned) = learned {
            for tensor in &learned.tensors {
                weights.vector(tensor.clone(), learned.shape.clone(), value);
            }
        }
    }
}
