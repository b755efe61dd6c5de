//! What a run needs in memory, known before it starts.
#![forbid(unsafe_code)]

use crate::{
    backend::Backend,
    model::spec::{DecoderSpec, Layer, Linear, Mlp},
};

/// Memory of a run over sequences of one length, in bytes; the mapped weights come from the page
/// cache and are not part of it. An upper estimate: sums over tensors that do not all live at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// One layer's weights, in the arithmetic's type, and the activations of one micro-batch.
    pub fixed: u64,
    /// Residual streams of one micro-batch and its variants.
    pub streams_of_batch: u64,
    /// Sequences in a micro-batch.
    pub batch: usize,
}

impl Footprint {
    /// For sequences of `tokens` tokens, each with up to `variants` branches.
    pub fn of<B: Backend>(backend: &B, spec: &DecoderSpec, tokens: usize, variants: usize) -> Self {
        let precision = backend.precision();
        let (arithmetic, residual) = (
            precision.arithmetic().size() as u64,
            precision.residual().size() as u64,
        );
        let width = token_width(spec);
        let batch = (backend.micro_batch_rows(width) / tokens.max(1)).max(1);
        let rows = (batch as u64).saturating_mul(tokens as u64);
        let weights = spec.layers.iter().map(weights_of).max().unwrap_or(0);
        let for_stream = OUTPUTS * spec.hidden_size;
        let token = (width - for_stream) as u64 * arithmetic + for_stream as u64 * residual;
        let streams = (spec.hidden_size * (1 + variants)) as u64 * residual;
        Self {
            fixed: rows
                .saturating_mul(token)
                .saturating_add(weights.saturating_mul(arithmetic)),
            streams_of_batch: rows.saturating_mul(streams),
            batch,
        }
    }

    /// For `sequences` sequences.
    pub fn total(&self, sequences: usize) -> u64 {
        let batches = sequences.div_ceil(self.batch) as u64;
        self.streams_of_batch
            .saturating_mul(batches)
            .saturating_add(self.fixed)
    }

    /// How many of the sequences to run at once, as many as the budget allows: whole micro-batches, so
    /// that every product has the shape, and every result the bits, that it has without a budget;
    /// parts of about equal size. None if not even one micro-batch fits.
    pub fn part(&self, sequences: usize, budget: u64) -> Option<usize> {
        let batches = sequences.div_ceil(self.batch).max(1);
        let most = budget.checked_sub(self.fixed)? / self.streams_of_batch.max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(batches);
        let parts = (most > 0).then(|| batches.div_ceil(most))?;
        Some(batches.div_ceil(parts) * self.batch)
    }
}

/// What a layer's two parts add to the residual stream, or what its experts add up.
const OUTPUTS: usize = 2;

/// Values that a token has in a layer, beside its residual stream: the most that a layer takes.
pub(super) fn token_width(spec: &DecoderSpec) -> usize {
    let layers = spec.layers.iter();
    let inner = layers.map(inner_width).max().unwrap_or(0);
    // What each part reads, and its output.
    (2 + OUTPUTS) * spec.hidden_size + inner
}

fn weights_of(layer: &Layer) -> u64 {
    let size = |linear: &Linear| linear.in_features as u64 * linear.out_features as u64;
    let all: u64 = layer.linears().into_iter().map(size).sum();
    // Experts are loaded one at a time.
    let expert: u64 = match &layer.mlp {
        Mlp::Experts(experts) => experts.expert.linears().into_iter().map(size).sum(),
        _ => 0,
    };
    all + expert
}

/// Values that a token has inside the parts of a layer.
fn inner_width(layer: &Layer) -> usize {
    let attention = &layer.attention;
    let queries = attention.heads * (attention.head_dim + attention.value_dim);
    let keys = attention.kv_heads * (attention.head_dim + attention.value_dim);
    let mlp = match &layer.mlp {
        Mlp::Gated(mlp) => 2 * mlp.gate.out_features,
        Mlp::Plain { up, .. } => up.out_features,
        Mlp::Experts(experts) => {
            let shared = experts.shared.as_ref();
            let shared = shared.map_or(0, |shared| shared.mlp.gate.out_features);
            2 * (experts.expert.gate.out_features + shared)
        }
    };
    queries + keys + mlp
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTPRINT: Footprint = Footprint {
        fixed: 1000,
        streams_of_batch: 100,
        batch: 4,
    };

    #[test]
    fn parts_are_whole_micro_batches_of_about_equal_size() {
        // 10 micro-batches.
        for (budget, expected) in [
            (u64::MAX, Some(40)),
            (2000, Some(40)),
            (1999, Some(20)),
            (1450, Some(16)),
            (1100, Some(4)),
            (1099, None),
            (999, None),
        ] {
            assert_eq!(FOOTPRINT.part(38, budget), expected, "{budget}");
            if let Some(part) = expected {
                assert!(FOOTPRINT.total(part.min(38)) <= budget);
            }
        }
    }

    #[test]
    fn a_part_of_nothing() {
        assert_eq!(FOOTPRINT.part(0, 2000), Some(4));
    }
}
