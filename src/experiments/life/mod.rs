//! life: where a massive activation comes from, how long it stays, and what takes it away.
//!
//! For each massive activation (|h| > the absolute threshold and > the relative one times the median, in some
//! layer's output of its sequence, as in tokens-analysis) the value h of its (position, dimension) is followed
//! through all layers. In layer l its steps add up:
//!
//! `output_l = input_l + attention_l + mixer_l + mlp_l + other_l`
//!
//! where each is what is added to the residual stream, after the part's norm and factor, and `other` are the
//! steps that few models have (the norm of a post-norm layer on the stream itself, a layer's own embedding of
//! the token, a factor on the stream). The rise is the layer with the largest |output| - |input|, the fall the
//! layer after it with the least. arXiv 2608.12149 and 2603.05498 take the norm of the token's hidden state in
//! the place of |h|: [`TokenLife`] has that.
//!
//! An MLP's output in dimension d is a sum over the neurons j of its down projection, `W[d, j] a[j]`: the
//! largest of these products names the neuron, and in the layer of the rise the weight through which the
//! activation enters, the super weight of arXiv 2411.07191.
#![forbid(unsafe_code)]

mod ablation;
mod choice;
mod ledger;
mod neurons;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::{
    ablation::{Ablation, Measured, Weight, measure, zero},
    choice::Choice,
    neurons::Neuron,
};
use self::{
    choice::Followed,
    ledger::{Book, Layers},
};
use super::{Finding, Thresholds};
use crate::{
    engine::{Discard, Plan, Session, Site, Source, Step, Timings},
    error::Result,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/life/1";

/// What to do.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What counts as massive.
    pub thresholds: Thresholds,
    /// Which values to follow.
    pub choice: Choice,
    /// The most of them; those of the largest magnitude come first.
    pub most: usize,
    /// Neurons listed in every layer.
    pub neurons: usize,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Life {
    /// Layers of the model.
    pub layers: usize,
    /// The sequences.
    pub sequences: Vec<SequenceTokens>,
    /// The values that were followed, those of the largest magnitude first.
    pub activations: Vec<ActivationLife>,
    /// Values that are massive or were asked for, and not followed because there are too many.
    pub left_out: usize,
    /// The tokens that they are on.
    pub tokens: Vec<TokenLife>,
    /// What becomes of them without the super weights, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ablation: Option<Ablation>,
}

/// One sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SequenceTokens {
    /// Its ids.
    pub token_ids: Vec<u32>,
    /// Their texts.
    pub tokens: Vec<String>,
}

/// One value of the residual stream through all layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationLife {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Text of the token.
    pub token: String,
    /// Index in the hidden state.
    pub dimension: usize,
    /// The layers in whose output it is massive.
    pub massive_layers: Vec<usize>,
    /// The value in the embedding.
    pub embedding: f32,
    /// The layer in whose output its magnitude is largest.
    pub peak_layer: usize,
    /// The value there.
    pub peak: f32,
    /// The layer of the rise.
    pub rise: Turn,
    /// The layer of the fall; none if its magnitude never falls behind the rise.
    pub fall: Option<Turn>,
    /// The weight through which it enters in the layer of the rise; none where no MLP neuron pushes it there.
    pub super_weight: Option<Neuron>,
    /// First to last.
    pub layers: Vec<LayerSteps>,
}

/// A layer in which a value rises or falls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turn {
    /// The layer.
    pub layer: usize,
    /// The value before it.
    pub from: f32,
    /// The value behind it.
    pub to: f32,
    /// The MLP's share of the step, `mlp / (to - from)`; none without an MLP, or without a step.
    pub mlp_share: Option<f64>,
    /// The expert that gives most to what the MLP adds, where it has experts and one of them does.
    pub expert: Option<usize>,
}

/// What a layer does to a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSteps {
    /// 0-based index.
    pub layer: usize,
    /// The value as the layer receives it.
    pub input: f32,
    /// What attention adds; none where the layer has none.
    pub attention: Option<f32>,
    /// What another token mixer adds.
    pub mixer: Option<f32>,
    /// What the MLP adds.
    pub mlp: Option<f32>,
    /// The other steps, by name.
    pub other: BTreeMap<&'static str, f32>,
    /// The value as it leaves the layer.
    pub output: f32,
    /// What each part of the MLP makes, where it has several: before the layer's norm and factor, largest
    /// magnitude first.
    pub experts: Vec<Part>,
    /// The neurons of the largest products with the down projection's weights.
    pub neurons: Vec<Neuron>,
}

/// What a part of an MLP makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    /// Which part.
    #[serde(flatten)]
    pub source: Source,
    /// What it makes, with its weight.
    pub added: f32,
}

/// The norm of a token's hidden state through all layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLife {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Text of the token.
    pub token: String,
    /// Euclidean norm of its embedding.
    pub embedding_norm: f64,
    /// Euclidean norm of every layer's output.
    pub norms: Vec<f64>,
    /// The layer with the largest rise of the norm.
    pub rise_layer: usize,
    /// The layer after it with the largest fall; none if it never falls.
    pub fall_layer: Option<usize>,
}

/// Runs the experiment.
pub fn run(session: &Session, sequences: &[Vec<u32>], setup: &Setup) -> Result<Finding<Life>> {
    let mut timings = Timings::default();
    setup.choice.check(session, sequences)?;
    let mut followed = match setup.choice.exact(session, sequences) {
        Some(followed) => followed,
        None => {
            session.expect_walks(2);
            let plan = Plan::magnitudes(Site::LayerOutput, setup.thresholds.request(0));
            let outcome = session.run(sequences, &plan, &mut Discard)?;
            timings += outcome.timings;
            let found = &outcome.statistics[&Site::LayerOutput];
            setup.choice.among(session, sequences, found)
        }
    };
    let left_out = followed.len().saturating_sub(setup.most);
    followed.truncate(setup.most);
    let mut result = Life {
        layers: session.model().spec.layers.len(),
        sequences: sequences
            .iter()
            .map(|ids| SequenceTokens {
                token_ids: ids.clone(),
                tokens: ids.iter().map(|id| session.token(*id)).collect(),
            })
            .collect(),
        activations: Vec::new(),
        left_out,
        tokens: Vec::new(),
        ablation: None,
    };
    if followed.is_empty() {
        return Ok(Finding { result, timings });
    }
    let mut book = Book::new(session.model(), sequences.len(), &followed, setup.neurons);
    let plan = Plan {
        trace: Some(book.cells().to_vec()),
        ..Plan::magnitudes(Site::LayerOutput, setup.thresholds.request(0))
    };
    let outcome = session.run(sequences, &plan, &mut book)?;
    timings += outcome.timings;
    let statistics = &outcome.statistics[&Site::LayerOutput];
    for value in &followed {
        let massive = statistics.iter().enumerate().filter(|(_, found)| {
            let massive = &found[value.sequence].massive;
            let place = (value.position, value.dimension);
            massive
                .iter()
                .any(|entry| (entry.position, entry.dimension) == place)
        });
        let massive = massive.map(|(layer, _)| layer).collect();
        result
            .activations
            .extend(book.take(value).and_then(|layers| {
                let token = result.sequences[value.sequence].tokens[value.position].clone();
                ActivationLife::of(value, token, massive, layers)
            }));
    }
    let largest = |life: &ActivationLife| life.peak.abs();
    result
        .activations
        .sort_by(|a, b| largest(b).total_cmp(&largest(a)));
    result.tokens =
        book.norms(|(sequence, position)| result.sequences[sequence].tokens[position].clone());
    Ok(Finding { result, timings })
}

impl ActivationLife {
    /// From its layers, of which a model has at least one.
    fn of(
        value: &Followed,
        token: String,
        massive_layers: Vec<usize>,
        layers: Layers,
    ) -> Option<Self> {
        let outputs = || layers.iter().map(|layer| layer.output.abs());
        let peak_layer = first_largest(outputs())?;
        let changes = layers
            .iter()
            .map(|layer| layer.output.abs() - layer.input.abs());
        let changes: Vec<f64> = changes.map(f64::from).collect();
        let (rise, fall) = turns(&changes)?;
        let super_weight = layers[rise].enters();
        Some(Self {
            sequence: value.sequence,
            position: value.position,
            token,
            dimension: value.dimension,
            massive_layers,
            embedding: layers[0].input,
            peak_layer,
            peak: layers[peak_layer].output,
            rise: layers[rise].turn(),
            fall: fall.map(|fall| layers[fall].turn()),
            super_weight,
            layers,
        })
    }
}

impl LayerSteps {
    fn turn(&self) -> Turn {
        let step = f64::from(self.output) - f64::from(self.input);
        let share = self.mlp.map(|mlp| f64::from(mlp) / step);
        let most = self.experts.first().map(|part| part.source);
        Turn {
            layer: self.layer,
            from: self.input,
            to: self.output,
            mlp_share: share.filter(|share| share.is_finite()),
            expert: match most {
                Some(Source::Expert(expert)) => Some(expert),
                _ => None,
            },
        }
    }

    /// The neuron of the largest product that has the sign of what the MLP makes.
    fn enters(&self) -> Option<Neuron> {
        let mlp = self.mlp?;
        let same = |neuron: &&Neuron| (neuron.product > 0.0) == (mlp > 0.0);
        self.neurons.iter().find(same).cloned()
    }

    /// What a step of the layer does; none if it has no such step.
    pub fn step(&self, step: Step) -> Option<f32> {
        match step {
            Step::Attention => self.attention,
            Step::Mixer => self.mixer,
            Step::Mlp => self.mlp,
            other => self.other.get(other.name()).copied(),
        }
    }
}

/// The layer of the largest rise, and that of the largest fall after it. Of equals the first.
fn turns(changes: &[f64]) -> Option<(usize, Option<usize>)> {
    let rise = first_largest(changes.iter().map(|change| *change as f32))?;
    let after = changes[rise + 1..].iter().map(|change| -*change as f32);
    let fall = first_largest(after).map(|index| rise + 1 + index);
    Some((rise, fall.filter(|fall| changes[*fall] < 0.0)))
}

fn first_largest(values: impl Iterator<Item = f32>) -> Option<usize> {
    let mut largest: Option<(usize, f32)> = None;
    for (index, value) in values.enumerate() {
        if largest.is_none_or(|(_, most)| value > most) {
            largest = Some((index, value));
        }
    }
    largest.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turns_are_the_first_of_the_largest() {
        assert_eq!(turns(&[]), None);
        assert_eq!(turns(&[1.0]), Some((0, None)));
        assert_eq!(
            turns(&[1.0, 5.0, -2.0, 5.0, -3.0, -3.0]),
            Some((1, Some(4)))
        );
        // A fall before the rise is none, nor is one that does not fall.
        assert_eq!(turns(&[-9.0, 5.0, 1.0, 0.0]), Some((1, None)));
    }
}
