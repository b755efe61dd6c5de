//! Mixture of experts: routing on the host, each expert over the tokens that chose it.
//!
//! Experts are loaded when their turn comes, one at a time: a layer of them may be many times
//! larger than the rest of the layer.
#![forbid(unsafe_code)]

use super::{
    forward::Forward,
    mlp::GatedWeights,
    parts::{Projection, finite},
};
use crate::{
    backend::Backend,
    error::Result,
    interrupt,
    model::{
        Model,
        spec::{ExpertGroups, Experts, GatedMlp, Routing, Score},
    },
};

/// What of a layer's experts stays on the device.
pub(super) struct ExpertWeights<'m, B: Backend> {
    spec: &'m Experts,
    router: Projection<'m, B>,
    correction: Option<Vec<f32>>,
    shared: Option<(GatedWeights<'m, B>, Option<Projection<'m, B>>)>,
}

impl<'m, B: Backend> ExpertWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Experts) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let shared = spec.shared.as_ref().map(|shared| {
            Ok((
                GatedWeights::load(backend, model, &shared.mlp)?,
                shared.gate.as_ref().map(load).transpose()?,
            ))
        });
        let correction = spec.routing.correction.as_ref();
        Ok(Self {
            spec,
            router: load(&spec.routing.router)?,
            correction: correction
                .map(|name| finite(name, model.vector(name, spec.count)?))
                .transpose()?,
            shared: shared.transpose()?,
        })
    }
}

/// The tokens that an expert sees, with their weights.
#[derive(Debug, Default, Clone)]
struct Visits {
    rows: Vec<usize>,
    factors: Vec<f32>,
}

/// The experts' weighted sum.
pub(super) fn run<B: Backend>(
    forward: &Forward<'_, B>,
    weights: &ExpertWeights<'_, B>,
    input: &B::Tensor,
) -> Result<B::Tensor> {
    let backend = forward.backend;
    let spec = weights.spec;
    let logits = weights.router.apply(backend, input)?;
    let logits = backend.download(&logits)?;
    let mut visits = vec![Visits::default(); spec.count];
    for (row, logits) in logits.chunks_exact(spec.count).enumerate() {
        for (expert, factor) in route(&spec.routing, weights.correction.as_deref(), logits) {
            visits[expert].rows.push(row);
            visits[expert].factors.push(factor);
        }
    }
    let (rows, columns) = (logits.len() / spec.count, backend.columns(input));
    let mut out = backend.upload(rows, columns, vec![0.0; rows * columns])?;
    for (expert, visits) in visits.iter().enumerate() {
        if visits.rows.is_empty() {
            continue;
        }
        interrupt::check()?;
        let mlp = GatedMlp {
            gate: spec.expert.gate.of_expert(expert),
            up: spec.expert.up.of_expert(expert),
            down: spec.expert.down.of_expert(expert),
            ..spec.expert
        };
        let mlp = GatedWeights::load(backend, forward.model, &mlp)?;
        let x = backend.gather_rows(input, &visits.rows)?;
        let y = mlp.run(backend, &x)?;
        backend.add_rows(&mut out, &y, &visits.rows, &visits.factors)?;
    }
    if let Some((mlp, gate)) = &weights.shared {
        let y = mlp.run(backend, input)?;
        match gate {
            None => backend.add(&mut out, &y)?,
            Some(gate) => {
                let gate = backend.download(&gate.apply(backend, input)?)?;
                let factors: Vec<f32> = gate.into_iter().map(sigmoid).collect();
                let all: Vec<usize> = (0..rows).collect();
                backend.add_rows(&mut out, &y, &all, &factors)?;
            }
        }
    }
    Ok(out)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The experts of one token and their weights.
fn route(routing: &Routing, correction: Option<&[f32]>, logits: &[f32]) -> Vec<(usize, f32)> {
    let scores: Vec<f32> = match routing.score {
        Score::Sigmoid => logits.iter().copied().map(sigmoid).collect(),
        Score::Softmax => softmax(logits),
    };
    let mut choice = scores.clone();
    for (score, correction) in choice.iter_mut().zip(correction.unwrap_or_default()) {
        *score += correction;
    }
    if let Some(groups) = routing.groups {
        leave_out_groups(groups, &mut choice);
    }
    let chosen = largest(&choice, routing.top_k);
    let sum: f32 = chosen.iter().map(|expert| scores[*expert]).sum();
    let factor = if routing.renormalise {
        // Sigmoids may all vanish.
        routing.scale / (sum + 1e-20)
    } else {
        routing.scale
    };
    chosen
        .into_iter()
        .map(|expert| (expert, scores[expert] * factor))
        .collect()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// Rules out the experts of all groups but the best.
fn leave_out_groups(groups: ExpertGroups, choice: &mut [f32]) {
    let size = choice.len() / groups.count;
    let worth: Vec<f32> = choice
        .chunks_exact(size)
        .map(|group| {
            let best = largest(group, groups.best);
            best.into_iter().map(|expert| group[expert]).sum()
        })
        .collect();
    let kept = largest(&worth, groups.kept);
    for (group, scores) in choice.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&group) {
            scores.fill(f32::NEG_INFINITY);
        }
    }
}

/// Indices of the `count` largest values, the earlier of equals first.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order.truncate(count);
    order
}
