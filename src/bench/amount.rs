//! What a walk has to do at least: floating-point operations of its products and of attention, and bytes.
#![forbid(unsafe_code)]

use crate::{
    backend::Precision,
    engine::Site,
    model::spec::{self, Attention, DecoderSpec, Layer, Linear, Mlp},
};

/// Operations and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Amount {
    /// Multiplications and additions.
    pub(super) flops: f64,
    /// Read and written.
    pub(super) bytes: f64,
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}

/// Sequences of one length, in the micro-batches that they walk in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) sequences: usize,
    pub(super) tokens: usize,
    /// Micro-batches: each reads a layer's weights.
    pub(super) batches: usize,
    pub(super) precision: Precision,
}

impl Load {
    fn rows(&self) -> f64 {
        (self.sequences * self.tokens) as f64
    }

    fn arithmetic(&self) -> f64 {
        self.precision.arithmetic().size() as f64
    }

    fn residual(&self) -> f64 {
        self.precision.residual().size() as f64
    }

    /// Of a layer: every operand of a product is read once a micro-batch and every result written once; what
    /// a part adds to the stream is added and the sum normalised in one pass. What a mixer without attention
    /// computes beside its projections is not counted.
    pub(super) fn layer(&self, spec: &DecoderSpec, layer: &Layer) -> Amount {
        let rows = self.rows();
        let products = layer
            .linears()
            .into_iter()
            .map(|linear| self.product(linear, rows, 1));
        let experts = layer.experts().into_iter().flat_map(|experts| {
            let visits = rows * experts.routing.top_k as f64;
            let linears = experts.expert.linears().into_iter();
            linears.map(move |linear| self.product(linear, visits, experts.count))
        });
        let attention = layer.attention.iter().map(|attention| Amount {
            flops: 2.0
                * ((attention.head_dim + attention.value_dim) * attention.heads) as f64
                * self.visible(attention),
            bytes: rows * self.arithmetic() * (attention_width(attention)) as f64,
        });
        let parts = usize::from(layer.attention.is_some() || layer.mixer.is_some())
            + usize::from(layer.mlp.is_some());
        let stream = rows * spec.hidden_size as f64;
        let joined = Amount {
            flops: 0.0,
            bytes: parts as f64 * stream * (3.0 * self.residual() + self.arithmetic()),
        };
        products
            .chain(experts)
            .chain(attention)
            .chain([joined])
            .sum()
    }

    fn product(&self, linear: &Linear, rows: f64, weights: usize) -> Amount {
        let (inputs, outputs) = (linear.in_features as f64, linear.out_features as f64);
        let weights = (weights * self.batches) as f64 * inputs * outputs;
        Amount {
            flops: 2.0 * rows * inputs * outputs,
            bytes: self.arithmetic() * (weights + rows * (inputs + outputs)),
        }
    }

    /// Pairs of a query and a key that it sees, of one head of all sequences.
    fn visible(&self, attention: &Attention) -> f64 {
        let of = |query| spec::visible(query, attention.window, attention.chunk).len() as f64;
        self.sequences as f64 * (0..self.tokens).map(of).sum::<f64>()
    }

    /// Reading a site once, in every layer that has it.
    pub(super) fn site(&self, spec: &DecoderSpec, site: Site) -> Amount {
        let layers = spec.layers.iter().filter(|layer| site.is_in(layer));
        let width = |layer| width(spec, layer, site) as f64;
        let size = if in_stream(site) {
            self.residual()
        } else {
            self.arithmetic()
        };
        let widths: f64 = if site.per_layer() {
            layers.map(width).sum()
        } else {
            spec.hidden_size as f64
        };
        Amount {
            flops: 0.0,
            bytes: self.rows() * size * widths,
        }
    }

    /// The logits of attention once more, from its queries and keys, and `map` bytes for a pair of tokens.
    pub(super) fn captured(&self, spec: &DecoderSpec, map: f64) -> Amount {
        let attention = spec.layers.iter().flat_map(|layer| &layer.attention);
        let pairs = (self.sequences * self.tokens * self.tokens) as f64;
        attention
            .map(|attention| {
                let read = (attention.heads + attention.kv_heads) * attention.head_dim;
                Amount {
                    flops: 2.0
                        * (attention.head_dim * attention.heads) as f64
                        * self.visible(attention),
                    bytes: self.rows() * self.arithmetic() * read as f64 + pairs * map,
                }
            })
            .sum()
    }
}

/// Values of queries, keys, values and context of a token.
fn attention_width(attention: &Attention) -> usize {
    (attention.heads + attention.kv_heads) * (attention.head_dim + attention.value_dim)
}

fn in_stream(site: Site) -> bool {
    use Site::{
        AttentionOutput, Embedding, LayerInput, LayerOutput, MixerOutput, MlpOutput, ResidualMid,
    };
    matches!(
        site,
        Embedding
            | LayerInput
            | AttentionOutput
            | MixerOutput
            | ResidualMid
            | MlpOutput
            | LayerOutput
    )
}

fn width(spec: &DecoderSpec, layer: &Layer, site: Site) -> usize {
    let attention = layer.attention.as_ref();
    let of = |width: fn(&Attention) -> usize| attention.map_or(0, width);
    match site {
        Site::Q => of(|own| own.heads * own.head_dim),
        Site::AttentionInput => {
            let side = layer.side.as_ref();
            side.map_or(spec.hidden_size, |side| side.norm.width)
        }
        Site::K => of(|own| own.kv_heads * own.head_dim),
        Site::V => of(|own| own.kv_heads * own.value_dim),
        Site::AttentionGate => {
            let gate = attention.and_then(|own| own.gate.as_ref());
            gate.map_or(0, |gate| gate.out_features)
        }
        Site::RouterLogits => layer.experts().map_or(0, |experts| experts.count),
        Site::ExpertInner => layer.experts().map_or(0, |experts| {
            experts.visits() * experts.expert.up.out_features
        }),
        Site::ExpertOutput => layer.experts().map_or(0, |experts| {
            experts.visits() * experts.expert.down.out_features
        }),
        Site::Gate | Site::MlpInner => match &layer.mlp {
            Some(Mlp::Gated(mlp)) => mlp.up.out_features,
            Some(Mlp::Plain { up, .. } | Mlp::Xielu { up, .. }) => up.out_features,
            _ => 0,
        },
        _ => spec.hidden_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Shape, model::dtype::DType};

    fn load(sequences: usize, tokens: usize) -> Load {
        Load {
            sequences,
            tokens,
            batches: 1,
            precision: DType::Float32.into(),
        }
    }

    /// By hand, for one layer of the tiny shape: hidden 256, inner 688, four heads of 64, two of keys.
    #[test]
    fn counts_a_layer_by_hand() {
        let model = Shape::named("tiny").and_then(|shape| shape.model(Some(1), 8));
        let spec = model.expect("runs").spec;
        let found = load(3, 5).layer(&spec, &spec.layers[0]);
        let weights = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 688;
        let pairs = 3 * (1 + 2 + 3 + 4 + 5);
        assert_eq!(found.flops, (2 * 15 * weights + 4 * 64 * 4 * pairs) as f64);
        let through = 2 * 512 + 2 * 384 + 3 * 944;
        let attention = 2 * 256 + 2 * 128;
        let values = weights + 15 * (through + attention + 2 * 4 * 256);
        assert_eq!(found.bytes, (4 * values) as f64);
        // Two walks' worth of tokens are twice the operations, of attention more where they are longer.
        let more = load(6, 5).layer(&spec, &spec.layers[0]);
        assert_eq!(more.flops, 2.0 * found.flops);
        assert!(load(3, 10).layer(&spec, &spec.layers[0]).flops > 2.0 * found.flops);
    }

    #[test]
    fn counts_what_is_looked_at() {
        let model = Shape::named("mixtral-8x7b").and_then(|shape| shape.model(Some(2), 8));
        let spec = model.expect("runs").spec;
        let bytes = |site| load(1, 2).site(&spec, site).bytes;
        assert_eq!(bytes(Site::LayerOutput), (2 * 2 * 4096 * 4) as f64);
        assert_eq!(bytes(Site::FinalNorm), (2 * 4096 * 4) as f64);
        assert_eq!(bytes(Site::K), (2 * 2 * 1024 * 4) as f64);
        assert_eq!(bytes(Site::RouterLogits), (2 * 2 * 8 * 4) as f64);
        assert_eq!(bytes(Site::Gate), 0.0);
        let captured = load(1, 2).captured(&spec, 8.0);
        assert_eq!(captured.flops, (2 * 2 * 4096 * 3) as f64);
        assert_eq!(captured.bytes, (2 * (2 * 4 * (4096 + 1024) + 4 * 8)) as f64);
    }
}
