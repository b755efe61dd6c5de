//! What Gemma 3n and Gemma 4 share: late layers that read the keys and values of earlier ones, a norm
//! on the values, and embeddings for each layer.
#![forbid(unsafe_code)]

use super::{
    llama_like::Sizes,
    parts::{LayerParts, NormStyle},
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Attention, Linear, PerLayerEmbedding, PerLayerInput, Projections, QkNorm,
        },
    },
};

/// For each layer the one whose keys and values it reads, if they are not its own: the last `shared`
/// layers read those of the last layer of their kind before all of them.
pub(super) fn key_sources(
    config: &Config,
    slides: &[bool],
    shared: f64,
) -> Result<Vec<Option<usize>>> {
    const KEY: &str = "num_kv_shared_layers";
    let layers = slides.len();
    if shared < 0.0 || shared.fract() != 0.0 || shared >= layers as f64 {
        return Err(config.refuse(KEY, "it is no number of layers that others come before"));
    }
    let own = layers - shared as usize;
    let source = |(index, kind): (usize, &bool)| {
        if index < own {
            return Ok(None);
        }
        let last = slides[..own].iter().rposition(|slides| slides == kind);
        match last {
            Some(last) => Ok(Some(last)),
            None => Err(config.refuse(KEY, "no layer of their kind comes before these layers")),
        }
    };
    slides.iter().enumerate().map(source).collect()
}

/// Norms on queries, keys and values, or on the queries alone where the others are those of `source`.
pub(super) fn share_or_norm(
    parts: &LayerParts<'_>,
    attention: &mut Attention,
    source: Option<usize>,
) {
    let QkNorm { q: norm, k } = head_norms(parts, attention.head_dim);
    match (source, &attention.projections) {
        (Some(from), Projections::Direct { q, .. }) => {
            attention.projections = Projections::Shared {
                q: q.clone(),
                norm: Some(norm),
                from,
            };
        }
        _ => {
            attention.qk_norm = Some(QkNorm { q: norm, k });
            let unweighted = NormStyle {
                weight: false,
                offset: 0.0,
                ..parts.style
            };
            let module = parts.name("self_attn.v_norm");
            attention.value_norm = Some(unweighted.norm(&module, attention.value_dim));
        }
    }
}

/// Embeddings for each layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embeddings {
    /// Rows of the table.
    pub(super) rows: usize,
    width: usize,
    sizes: Sizes,
    activation: Activation,
}

impl Embeddings {
    /// Reads the settings; a width of 0 means none.
    pub(super) fn read(
        config: &Config,
        sizes: Sizes,
        activation: Activation,
    ) -> Result<Option<Self>> {
        const WIDTH: &str = "hidden_size_per_layer_input";
        if config
            .raw(WIDTH)
            .is_some_and(|width| width.as_f64() == Some(0.0))
        {
            config.without_effect(&["vocab_size_per_layer_input"]);
            return Ok(None);
        }
        Ok(Some(Self {
            rows: config.size("vocab_size_per_layer_input")?,
            width: config.size(WIDTH)?,
            sizes,
            activation,
        }))
    }

    /// What all layers share.
    pub(super) fn embedding(&self, names: &Names, style: NormStyle) -> PerLayerEmbedding {
        let Sizes { hidden, layers, .. } = self.sizes;
        let projection = names.base("per_layer_model_projection.weight");
        PerLayerEmbedding {
            table: names.base("embed_tokens_per_layer.weight"),
            rows: self.rows,
            width: self.width,
            scale: (self.width as f64).sqrt() as f32,
            projection: Linear::new(projection, hidden, layers * self.width),
            projection_scale: (hidden as f64).sqrt().recip() as f32,
            norm: style.norm(&names.base("per_layer_projection_norm"), self.width),
            sum_scale: std::f32::consts::FRAC_1_SQRT_2,
        }
    }

    /// What a layer makes of its own.
    pub(super) fn input(&self, parts: &LayerParts<'_>) -> PerLayerInput {
        let (hidden, width) = (self.sizes.hidden, self.width);
        PerLayerInput {
            gate: parts.linear("per_layer_input_gate", hidden, width, false),
            activation: self.activation,
            projection: parts.linear("per_layer_projection", width, hidden, false),
            norm: parts.norm("post_per_layer_input_norm", hidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_layers_read_the_last_of_their_kind() {
        let config = Config::default();
        let sources = |slides: &[bool], shared| key_sources(&config, slides, shared);
        let slides = [true, false, true, true, false, true];
        assert_eq!(sources(&slides, 0.0), Ok(vec![None; 6]));
        let read = [None, None, None, Some(2), Some(1), Some(2)];
        assert_eq!(sources(&slides, 3.0), Ok(read.to_vec()));
        // No global layer before them, none at all, and no number of layers.
        for shared in [5.0, 6.0, 7.0, 1.5, -1.0] {
            let message = sources(&slides, shared).expect_err("refused").to_string();
            assert!(message.contains("num_kv_shared_layers"), "{message}");
        }
    }
}
