//! Spikes of the first token between the attention layers of a hybrid model (arXiv 2608.12149).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::states::States;
use crate::model::spec::DecoderSpec;

/// With `v_l` the largest magnitude of the first token after layer l, mean over sequences, and the layers
/// with full attention f_1 < f_2 < ...:
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hybrid {
    /// Share of the layers f > 1 with full attention for which `v_(f - 1)` is the largest of the layers
    /// between the one before and f; null if there is none.
    pub sink_spike_alignment: Option<f64>,
    /// Mean over neighbours f < g of the mean over the layers l from f to g - 2 of `min(1, v_l /
    /// min(v_(f - 1), v_(g - 1)))`; null if there are none.
    pub inter_spike_retention: Option<f64>,
}

/// None for a model all of whose layers have attention.
pub(super) fn of(spec: &DecoderSpec, states: &BTreeMap<(usize, usize), States>) -> Option<Hybrid> {
    if spec.layers.iter().all(|layer| layer.attention.is_some()) {
        return None;
    }
    let full: Vec<usize> = spec
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| {
            let attention = layer.attention.as_ref();
            attention.is_some_and(|attention| attention.window.is_none())
        })
        .map(|(index, _)| index)
        .collect();
    let spikes: Vec<f64> = (0..spec.layers.len())
        .map(|layer| {
            let spikes: Vec<f64> = super::of_layer(states, layer)
                .map(|state| state.spike)
                .collect();
            spikes.iter().sum::<f64>() / spikes.len().max(1) as f64
        })
        .collect();
    Some(summary(&full, &spikes))
}

fn summary(full: &[usize], spikes: &[f64]) -> Hybrid {
    let mut aligned = Vec::new();
    let mut before = None;
    for layer in full {
        let begin = before.map_or(0, |before: usize| before + 1);
        if *layer > 1 && begin < *layer {
            let block = &spikes[begin..*layer];
            let largest = block.iter().copied().fold(0.0, f64::max);
            aligned.push(f64::from(u8::from(spikes[layer - 1] >= largest)));
        }
        before = Some(*layer);
    }
    let gaps = full.windows(2).filter_map(|pair| {
        let (left, right) = (pair[0].checked_sub(1)?, pair[1] - 1);
        let lower = spikes[left].min(spikes[right]);
        let between = &spikes[left + 1..right];
        let kept = between.iter().map(|spike| (spike / lower).min(1.0));
        (!between.is_empty()).then(|| kept.sum::<f64>() / between.len() as f64)
    });
    Hybrid {
        sink_spike_alignment: mean(&aligned),
        inter_spike_retention: mean(&gaps.collect::<Vec<f64>>()),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_gaps() {
        // Attention in layers 2 and 5: the first block rises to its end, the second does not.
        let spikes = [1.0, 8.0, 2.0, 6.0, 4.0, 3.0];
        let found = summary(&[2, 5], &spikes);
        assert_eq!(found.sink_spike_alignment, Some(0.5));
        // Between layers 1 (8) and 4 (4): 2 / 4, and 6 / 4 counts as 1.
        assert_eq!(found.inter_spike_retention, Some(0.75));
        assert_eq!(summary(&[], &spikes).sink_spike_alignment, None);
        assert_eq!(summary(&[0, 1], &spikes).inter_spike_retention, None);
    }
}
