//! Which experts the tokens of a mixture visit: the definition.
#![forbid(unsafe_code)]

use super::{
    Cpu, Tensor, math,
    rows::{add_rows, scale_rows},
};
use crate::{
    backend::{self, RowOperations},
    error::Result,
    model::spec::{ExpertGroups, Routing, Score},
};

/// The rows that visit one expert, ascending, with their weights.
#[derive(Debug, Default, Clone)]
pub struct Visitors {
    rows: Vec<usize>,
    factors: Vec<f32>,
}

impl backend::Experts for Cpu {
    fn route(
        &self,
        logits: &Tensor,
        routing: &Routing,
        correction: Option<&Vec<f32>>,
        chosen: Option<&[u32]>,
    ) -> Result<Vec<Visitors>> {
        let correction = correction.map(Vec::as_slice);
        let experts = logits.columns;
        let rows = logits.values().chunks_exact(experts).enumerate();
        let mut visitors = vec![Visitors::default(); experts];
        for (row, logits) in rows {
            let places = row * routing.top_k..(row + 1) * routing.top_k;
            let chosen = chosen.map(|chosen| &chosen[places]);
            for (expert, factor) in route(routing, correction, chosen, logits) {
                visitors[expert].rows.push(row);
                visitors[expert].factors.push(factor);
            }
        }
        Ok(visitors)
    }

    fn visits(&self, visitors: &Vec<Visitors>) -> Vec<usize> {
        visitors.iter().map(|own| own.rows.len()).collect()
    }

    fn visiting_rows(&self, visitors: &Vec<Visitors>) -> Result<Vec<Vec<usize>>> {
        Ok(visitors.iter().map(|own| own.rows.clone()).collect())
    }

    fn gather_visitors(
        &self,
        x: &Tensor,
        visitors: &Vec<Visitors>,
        expert: usize,
    ) -> Result<Tensor> {
        self.gather_rows(x, &visitors[expert].rows)
    }

    fn weigh_visitors(
        &self,
        x: &mut Tensor,
        visitors: &Vec<Visitors>,
        expert: usize,
    ) -> Result<()> {
        scale_rows(x, &visitors[expert].factors);
        Ok(())
    }

    fn add_visitors(
        &self,
        out: &mut Tensor,
        x: &Tensor,
        visitors: &Vec<Visitors>,
        expert: usize,
        weighted: bool,
    ) -> Result<()> {
        let own = &visitors[expert];
        let rows = own.rows.iter().copied();
        if weighted {
            add_rows(out, x, rows, &own.factors);
        } else {
            add_rows(out, x, rows, &vec![1.0; own.rows.len()]);
        }
        Ok(())
    }
}

/// The experts of one token and their weights.
fn route(
    routing: &Routing,
    correction: Option<&[f32]>,
    given: Option<&[u32]>,
    logits: &[f32],
) -> Vec<(usize, f32)> {
    let scores: Vec<f32> = match routing.score {
        Score::Sparse(share) => return sparse(routing, share, logits),
        Score::Sigmoid => logits.iter().copied().map(math::sigmoid).collect(),
        Score::SqrtSoftplus => logits
            .iter()
            .map(|logit| math::softplus(*logit).sqrt())
            .collect(),
        Score::Softmax => softmax(logits),
    };
    let mut choice = scores.clone();
    for (score, correction) in choice.iter_mut().zip(correction.unwrap_or_default()) {
        *score += correction;
    }
    if let Some(groups) = routing.groups {
        leave_out_groups(groups, &mut choice);
    }
    let chosen = match given {
        Some(given) => given.iter().map(|expert| *expert as usize).collect(),
        None => largest(&choice, routing.top_k),
    };
    let sum: f32 = chosen.iter().map(|expert| scores[*expert]).sum();
    let factor = if routing.renormalise {
        // Sigmoids may all vanish.
        routing.scale / (sum + routing.epsilon)
    } else {
        routing.scale
    };
    chosen
        .into_iter()
        .map(|expert| (expert, scores[expert] * factor))
        .collect()
}

/// One expert after the other, with its softmax over those that are left and near it.
fn sparse(routing: &Routing, share: f32, logits: &[f32]) -> Vec<(usize, f32)> {
    let chosen = largest(logits, routing.top_k);
    let weight = |place: usize| {
        let best = logits[chosen[place]];
        let near = |logit: f32| {
            let far = (best - logit) / logit.abs().max(best) > share;
            // Zero beside zero has no distance.
            !far
        };
        let left = logits.iter().enumerate();
        let left =
            left.filter(|(expert, logit)| !chosen[..place].contains(expert) && near(**logit));
        let sum: f32 = left.map(|(_, logit)| (logit - best).exp()).sum();
        routing.scale / sum
    };
    (0..chosen.len())
        .map(|place| (chosen[place], weight(place)))
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

/// Indices of the `count` largest values, the earlier of equals first. NaN, whatever its sign, is
/// above every number, so that what is chosen is the same everywhere.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let value = |index: &usize| {
        let value = values[*index];
        if value.is_nan() { f32::NAN } else { value }
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order.truncate(count);
    order
}
