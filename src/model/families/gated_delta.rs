//! What families with gated delta nets in the place of attention have in common.
#![forbid(unsafe_code)]

use super::parts::{LayerParts, NormStyle, activation};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{Activation, Convolution, DecoderSpec, GatedDelta, Linear, Mixer, Narrowed, Vector},
    },
};

/// Sizes of the nets.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeltaSizes {
    pub(super) hidden: usize,
    pub(super) key_heads: usize,
    pub(super) heads: usize,
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    /// Taps of the convolutions.
    pub(super) width: usize,
    /// Behind the convolutions.
    pub(super) activation: Activation,
}

impl DeltaSizes {
    /// Reads the usual keys.
    pub(super) fn read(config: &Config, hidden: usize) -> Result<Self> {
        Ok(Self {
            hidden,
            key_heads: config.heads("linear_num_key_heads")?,
            heads: config.heads("linear_num_value_heads")?,
            key_dim: config.size("linear_key_head_dim")?,
            value_dim: config.size("linear_value_head_dim")?,
            width: config.size("linear_conv_kernel_dim")?,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
        })
    }

    /// Width of all query or key heads.
    pub(super) fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of all value heads.
    pub(super) fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// The net in this module, one decay a head and gated by SiLU, from its projections `q`, `k` and
    /// `v`, its `decay` and `beta`, and its `gate`.
    pub(super) fn net(
        &self,
        parts: &LayerParts<'_>,
        module: &str,
        [q, k, v]: [Linear; 3],
        [decay, beta]: [Linear; 2],
        gate: impl Into<Narrowed>,
    ) -> GatedDelta {
        let name = |tensor: &str| parts.name(&format!("{module}.{tensor}"));
        let linear = |name: &str, inputs, outputs| {
            parts.linear(&format!("{module}.{name}"), inputs, outputs, false)
        };
        GatedDelta {
            key_heads: self.key_heads,
            heads: self.heads,
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            convolutions: self.convolutions(parts, module),
            q,
            k,
            v,
            decay: decay.into(),
            per_channel: false,
            beta,
            beta_scale: 1.0,
            a_log: Vector::new(name("A_log"), self.heads),
            dt_bias: Vector::new(name("dt_bias"), self.heads),
            norm: NormStyle {
                offset: 0.0,
                ..parts.style
            }
            .norm(&name("norm"), self.value_dim),
            gate: gate.into(),
            gate_activation: Activation::Silu,
            out: linear("out_proj", self.values(), self.hidden),
        }
    }

    /// Of queries, keys and values: one tensor for all, or three that are it end to end. Published files
    /// have one for each; transformers saves thirds, so that those of the values may begin anywhere.
    fn convolutions(&self, parts: &LayerParts<'_>, module: &str) -> [Convolution; 3] {
        let sizes = [self.keys(), self.keys(), self.values()];
        let total: usize = sizes.iter().sum();
        let of = |what: &str, channels| {
            let module = parts.name(&format!("{module}.{what}"));
            Convolution::new(&module, channels, self.width, false).activated(self.activation)
        };
        let stored = |what: &str| {
            let name = parts.name(&format!("{module}.{what}.weight"));
            parts.names.shape(&name)?.first().copied()
        };
        let names = ["q_conv1d", "k_conv1d", "v_conv1d"];
        let whole = match names.map(stored) {
            [Some(q), Some(k), Some(v)] => {
                let channels = if q + k + v == total { [q, k, v] } else { sizes };
                let [q, k, v] = [0, 1, 2].map(|index| of(names[index], channels[index]));
                q.followed_by(k).followed_by(v)
            }
            _ => of("conv1d", total),
        };
        let mut first = 0;
        sizes.map(|channels| {
            let part = whole.clone().part(first, channels);
            first += channels;
            part
        })
    }
}

/// Which layers have no attention: `layer_types` says it, or else `linear`.
pub(super) fn linear_layers(
    config: &Config,
    layers: usize,
    linear: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let Some(kinds) = config.texts_opt(KEY)? else {
        return Ok((0..layers).map(linear).collect());
    };
    config.check_per_layer(KEY, &kinds, layers)?;
    let linear = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(false),
        "linear_attention" => Ok(true),
        other => Err(Error::new(
            "config.json",
            format!("`{KEY}` has `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    };
    kinds.iter().map(linear).collect()
}

/// Puts a net in the place of attention in these layers.
pub(super) fn replace(
    spec: &mut DecoderSpec,
    names: &Names,
    style: NormStyle,
    linear: &[bool],
    net: impl Fn(&LayerParts<'_>) -> GatedDelta,
) {
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if linear[index] {
            let parts = LayerParts {
                names,
                list: "layers",
                index,
                style,
            };
            layer.attention = None;
            layer.mixer = Some(Mixer::GatedDelta(Box::new(net(&parts))));
        }
    }
}
