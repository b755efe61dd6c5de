//! What becomes of the activations, of the attention that their tokens receive and of the likelihoods when the
//! weights through which they enter are zero (arXiv 2411.07191).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Life, neurons::down_projection};
use crate::{
    backend::{AttentionCapture, AttentionMaps},
    engine::{Observer, Plan, Session, Source, Step, without_attention},
    error::Result,
    model::Model,
};

/// Before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ablation {
    /// The weights that were set to zero.
    pub weights: Vec<Weight>,
    /// With them.
    pub before: Measured,
    /// Without them.
    pub after: Measured,
}

/// A weight of a down projection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weight {
    /// The layer.
    pub layer: usize,
    /// The part of its MLP.
    #[serde(flatten)]
    pub source: Source,
    /// The tensor.
    pub tensor: String,
    /// Row of the projection: the dimension.
    pub row: usize,
    /// Column: the neuron.
    pub column: usize,
    /// What it was, with the projection's factors.
    pub value: f32,
}

/// What was measured of the sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Mean over the sequences of the mean next-token NLL, in nats; null where all have one token.
    pub nll: Option<f64>,
    /// Its exponential; null beyond the range of double precision.
    pub perplexity: Option<f64>,
    /// For each token of `tokens`: the attention that it receives, mean over the queries that see it, heads
    /// and layers with attention; null without attention.
    pub sink_mass: Vec<Option<f64>>,
    /// For each of `activations`: the value of the largest magnitude in any layer's output.
    pub peaks: Vec<f32>,
}

impl Life {
    /// The weights through which the values enter, each once.
    pub fn super_weights(&self) -> Vec<Weight> {
        let mut known = BTreeSet::new();
        let lives = self.activations.iter();
        let weights = lives.filter_map(|life| {
            let neuron = life.super_weight.as_ref()?;
            Some(Weight {
                layer: life.rise.layer,
                source: neuron.source,
                tensor: neuron.tensor.clone(),
                row: neuron.dimension,
                column: neuron.neuron,
                value: neuron.weight,
            })
        });
        weights
            .filter(|weight| known.insert((weight.layer, weight.source, weight.row, weight.column)))
            .collect()
    }
}

/// Sets the weights to zero.
pub fn zero(model: &mut Model, weights: &[Weight]) -> Result<()> {
    for weight in weights {
        let layer = &model.spec.layers[weight.layer];
        if let Some(down) = down_projection(layer, weight.source) {
            model.zero_weights(&down, &[(weight.row, weight.column)])?;
        }
    }
    Ok(())
}

/// Measures the sequences of a life, at its values and tokens.
pub fn measure(session: &Session, sequences: &[Vec<u32>], life: &Life) -> Result<Measured> {
    let mut cells = vec![BTreeSet::new(); sequences.len()];
    for one in &life.activations {
        cells[one.sequence].insert((one.position, one.dimension));
    }
    let cells: Vec<Vec<_>> = cells.into_iter().map(Vec::from_iter).collect();
    let spec = &session.model().spec;
    let attends = without_attention(spec).len() < spec.layers.len();
    let plan = Plan {
        nll: sequences.iter().any(|ids| ids.len() > 1),
        attention: AttentionCapture {
            sink: attends,
            ..AttentionCapture::default()
        },
        trace: Some(cells.clone()),
        ..Plan::default()
    };
    let mut seen = Seen {
        cells: &cells,
        lengths: sequences.iter().map(Vec::len).collect(),
        tokens: life
            .tokens
            .iter()
            .map(|token| (token.sequence, token.position))
            .collect(),
        outputs: BTreeMap::new(),
        masses: BTreeMap::new(),
    };
    let outcome = session.run(sequences, &plan, &mut seen)?;
    let means = outcome
        .token_nll
        .iter()
        .filter(|nll| !nll.is_empty())
        .map(|nll| {
            let sum: f64 = nll.iter().copied().map(f64::from).sum();
            sum / nll.len() as f64
        });
    let nll = mean(&means.collect::<Vec<f64>>());
    let peaks = life.activations.iter().map(|one| {
        let place = (one.sequence, one.position, one.dimension);
        let outputs = seen.outputs.iter().filter(|(key, _)| key.1 == place);
        let outputs = outputs.map(|(_, value)| *value);
        outputs.fold(0.0f32, |most, value| {
            if value.abs() > most.abs() {
                value
            } else {
                most
            }
        })
    });
    Ok(Measured {
        nll,
        perplexity: nll.map(f64::exp).filter(|value| value.is_finite()),
        peaks: peaks.collect(),
        sink_mass: (0..life.tokens.len())
            .map(|token| {
                let own = seen.masses.iter().filter(|(key, _)| key.1 == token);
                mean(&own.map(|(_, mass)| *mass).collect::<Vec<f64>>())
            })
            .collect(),
    })
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A value's place: sequence, position, dimension.
type Place = (usize, usize, usize);

/// Takes down what is measured.
struct Seen<'a> {
    cells: &'a [Vec<(usize, usize)>],
    lengths: Vec<usize>,
    /// (sequence, position) of the tokens.
    tokens: Vec<(usize, usize)>,
    /// By layer and place: the layer's output.
    outputs: BTreeMap<(usize, Place), f32>,
    /// By layer and token: the mean over heads of the attention that it receives.
    masses: BTreeMap<(usize, usize), f64>,
}

impl Observer for Seen<'_> {
    fn step(&mut self, (layer, sequence): (usize, usize), step: Step, values: &[f32]) {
        if step == Step::Output {
            for ((position, dimension), value) in self.cells[sequence].iter().zip(values) {
                let place = (sequence, *position, *dimension);
                self.outputs.insert((layer, place), *value);
            }
        }
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let Some(masses) = maps.sink_mass else {
            return Ok(());
        };
        let heads = maps.max_logit.as_ref().map_or(1, Vec::len);
        let tokens = self.lengths[sequence];
        for (index, (_, position)) in self
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, t)| t.0 == sequence)
        {
            // The extra key of attention KV bias is the first.
            let keys = masses.len() / heads.max(1);
            let own = masses
                .chunks_exact(keys.max(1))
                .filter_map(|head| head.get(keys.checked_sub(tokens)? + position).copied());
            let own: Vec<f64> = own.map(f64::from).collect();
            if let Some(mass) = mean(&own) {
                self.masses.insert((layer, index), mass);
            }
        }
        Ok(())
    }
}
