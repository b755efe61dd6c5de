//! Takes down what the engine tells of the values that are followed.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LayerSteps, Part, TokenLife,
    choice::Followed,
    neurons::{self, Neuron},
    turns,
};
use crate::{
    engine::{Observer, Source, Step},
    error::Result,
    model::Model,
};

/// A value's layers, first to last.
pub(super) type Layers = Vec<LayerSteps>;

/// The steps of all followed values, and what makes them.
pub(super) struct Book<'m> {
    model: &'m Model,
    /// By sequence: its values, as the plan names them.
    cells: Vec<Vec<(usize, usize)>>,
    /// By sequence and value of it.
    lives: Vec<Vec<Layers>>,
    /// (sequence, position): the norm of the embedding and of every layer's output.
    norms: BTreeMap<(usize, usize), Vec<f64>>,
    /// Neurons that are kept of a value in a layer.
    most: usize,
}

impl<'m> Book<'m> {
    pub(super) fn new(
        model: &'m Model,
        sequences: usize,
        followed: &[Followed],
        most: usize,
    ) -> Self {
        let mut cells = vec![BTreeSet::new(); sequences];
        for value in followed {
            cells[value.sequence].insert((value.position, value.dimension));
        }
        let cells: Vec<Vec<_>> = cells.into_iter().map(Vec::from_iter).collect();
        let lives = cells.iter().map(|cells| vec![Vec::new(); cells.len()]);
        Self {
            model,
            lives: lives.collect(),
            cells,
            norms: BTreeMap::new(),
            most,
        }
    }

    /// The values by sequence, as a plan names them.
    pub(super) fn cells(&self) -> &[Vec<(usize, usize)>] {
        &self.cells
    }

    /// The layers of a value.
    pub(super) fn take(&mut self, value: &Followed) -> Option<Layers> {
        let place = (value.position, value.dimension);
        let index = self.cells[value.sequence]
            .iter()
            .position(|cell| *cell == place)?;
        Some(std::mem::take(&mut self.lives[value.sequence][index]))
    }

    /// The norms of the tokens.
    pub(super) fn norms(&self, token: impl Fn((usize, usize)) -> String) -> Vec<TokenLife> {
        let lives = self.norms.iter().filter_map(|(&place, norms)| {
            let changes: Vec<f64> = norms.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (rise_layer, fall_layer) = turns(&changes)?;
            let (embedding, norms) = norms.split_first()?;
            Some(TokenLife {
                sequence: place.0,
                position: place.1,
                token: token(place),
                embedding_norm: *embedding,
                norms: norms.to_vec(),
                rise_layer,
                fall_layer,
            })
        });
        lives.collect()
    }
}

impl Observer for Book<'_> {
    fn step(&mut self, (layer, sequence): (usize, usize), step: Step, values: &[f32]) {
        for (life, value) in self.lives[sequence].iter_mut().zip(values) {
            if step == Step::Input {
                // A walk that begins again says everything once more.
                life.truncate(layer);
                life.push(LayerSteps::begin(layer, *value));
                continue;
            }
            let Some(steps) = life.last_mut() else {
                continue;
            };
            let kept = match step {
                Step::Attention => steps.attention.get_or_insert_default(),
                Step::Mixer => steps.mixer.get_or_insert_default(),
                Step::Mlp => steps.mlp.get_or_insert_default(),
                Step::Output => &mut steps.output,
                other => steps.other.entry(other.name()).or_default(),
            };
            *kept += value;
        }
    }

    fn row(
        &mut self,
        (layer, sequence, position): (usize, usize, usize),
        step: Step,
        values: &[f32],
    ) {
        let norms = self.norms.entry((sequence, position)).or_default();
        let before = if step == Step::Input { 0 } else { layer + 1 };
        norms.truncate(before);
        let squares = values.iter().map(|value| f64::from(*value).powi(2));
        norms.push(squares.sum::<f64>().sqrt());
    }

    fn source(
        &mut self,
        (layer, sequence, position): (usize, usize, usize),
        source: Source,
        inner: &[f32],
        output: &[f32],
    ) -> Result<()> {
        let spec = &self.model.spec.layers[layer];
        let down = neurons::down_projection(spec, source);
        for (index, &(at, dimension)) in self.cells[sequence].iter().enumerate() {
            let Some(steps) = self.lives[sequence][index].last_mut() else {
                continue;
            };
            if at != position {
                continue;
            }
            if spec.experts().is_some() {
                let added = output[dimension];
                let parts = &mut steps.experts;
                parts.push(Part { source, added });
                parts.sort_by(|a, b| b.added.abs().total_cmp(&a.added.abs()));
            }
            // An expert in a narrower stream of its own has no weight that writes to this one.
            let down = down
                .as_ref()
                .filter(|down| down.out_features == output.len());
            if let Some(down) = down {
                let found = Neuron::largest(
                    self.model,
                    (source, down),
                    (inner, output),
                    dimension,
                    self.most,
                )?;
                steps.neurons.extend(found);
                let size = |neuron: &Neuron| neuron.product.abs();
                steps.neurons.sort_by(|a, b| size(b).total_cmp(&size(a)));
                steps.neurons.truncate(self.most);
            }
        }
        Ok(())
    }
}

impl LayerSteps {
    fn begin(layer: usize, input: f32) -> Self {
        Self {
            layer,
            input,
            attention: None,
            mixer: None,
            mlp: None,
            other: BTreeMap::new(),
            output: 0.0,
            experts: Vec::new(),
            neurons: Vec::new(),
        }
    }
}
