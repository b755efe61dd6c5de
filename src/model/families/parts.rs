//! What family files are built from: names of a layer's tensors, norms in the family's style,
//! sliding windows by layer.
#![forbid(unsafe_code)]

use serde_json::Value;

use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{Activation, Learned, Linear, Norm, NormKind},
    },
};

/// The norms of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormStyle {
    /// Formula.
    pub(super) kind: NormKind,
    /// Whether there is a learned factor.
    pub(super) weight: bool,
    /// Whether there is a learned offset.
    pub(super) bias: bool,
    /// Added to the stored factor.
    pub(super) offset: f32,
    /// Added to the variance.
    pub(super) epsilon: f32,
}

impl NormStyle {
    /// RMSNorm with a learned factor.
    pub(super) fn rms(epsilon: f64) -> Self {
        Self {
            kind: NormKind::Rms,
            weight: true,
            bias: false,
            offset: 0.0,
            epsilon: epsilon as f32,
        }
    }

    /// LayerNorm with a learned factor and offset.
    pub(super) fn layer(epsilon: f64) -> Self {
        Self {
            kind: NormKind::Layer,
            bias: true,
            ..Self::rms(epsilon)
        }
    }

    /// Without the learned offset.
    pub(super) fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    /// The norm whose tensors are `{module}.weight` and `{module}.bias`.
    pub(super) fn norm(self, module: &str, width: usize) -> Norm {
        let learned = |present: bool, what: &str| {
            present.then(|| Learned::vector(format!("{module}.{what}"), width))
        };
        Norm {
            kind: self.kind,
            modules: vec![module.to_owned()],
            width,
            weight: learned(self.weight, "weight"),
            weight_offset: self.offset,
            bias: learned(self.bias, "bias"),
            alpha: Vec::new(),
            epsilon: self.epsilon,
        }
    }
}

/// Names of one layer's tensors.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerParts<'n> {
    /// Names of the checkpoint.
    pub(super) names: &'n Names<'n>,
    /// Module list of the layers.
    pub(super) list: &'static str,
    /// Which layer.
    pub(super) index: usize,
    /// Style of its norms.
    pub(super) style: NormStyle,
}

impl LayerParts<'_> {
    /// A tensor of this layer.
    pub(super) fn name(&self, tensor: &str) -> String {
        self.names.layer(self.list, self.index, tensor)
    }

    /// The projection with tensors `{module}.weight` and perhaps `{module}.bias`.
    pub(super) fn linear(
        &self,
        module: &str,
        inputs: usize,
        outputs: usize,
        biased: bool,
    ) -> Linear {
        Linear::new(self.name(&format!("{module}.weight")), inputs, outputs)
            .with_bias(biased.then(|| self.name(&format!("{module}.bias"))))
    }

    /// The norm with tensors `{module}.weight` and so on.
    pub(super) fn norm(&self, module: &str, width: usize) -> Norm {
        self.style.norm(&self.name(module), width)
    }
}

/// Query, key and value projections that share one tensor in which each of `groups` holds the
/// rows of its query heads, of its key head and of its value head.
pub(super) fn fused_qkv(
    fused: &Linear,
    heads: usize,
    groups: usize,
    head_dim: usize,
) -> [Linear; 3] {
    let queries = heads / groups.max(1) * head_dim;
    let stride = queries + 2 * head_dim;
    let stored = groups * stride;
    let part = |first: usize, size: usize| {
        let mut part = fused.clone();
        part.out_features = groups * size;
        if groups == 1 {
            part.part_of(first, stored)
        } else {
            part.grouped(first, size, stride, stored)
        }
    };
    [
        part(0, queries),
        part(queries, head_dim),
        part(queries + head_dim, head_dim),
    ]
}

/// Consecutive parts of one tensor, of these sizes.
pub(super) fn consecutive<const N: usize>(fused: &Linear, sizes: [usize; N]) -> [Linear; N] {
    let stored = sizes.iter().sum();
    let mut first = 0;
    sizes.map(|size| {
        let mut part = fused.clone().part_of(first, stored);
        part.out_features = size;
        if let Some([_, up]) = part.low_rank.as_deref_mut() {
            (up.first_output, up.out_features) = (first, size);
        }
        first += size;
        part
    })
}

/// `sliding_window`, where it is set.
pub(super) fn window(config: &Config) -> Result<Option<usize>> {
    const KEY: &str = "sliding_window";
    match config.get(KEY).and_then(Value::as_i64) {
        Some(..=0) => Err(Error::new(
            "config.json",
            format!(
                "`{KEY}` is {}: no token would see even itself, and transformers then averages over all tokens, later ones too",
                config.get(KEY).unwrap_or(&Value::Null)
            ),
        )
        .remedy("set it to null if no window is meant")),
        _ => config.size_opt(KEY),
    }
}

/// `sliding_window` of a family some of whose layers always slide.
pub(super) fn required_window(config: &Config) -> Result<usize> {
    match window(config)? {
        Some(window) => Ok(window),
        None => config.size("sliding_window"),
    }
}

/// The window of each layer: `layer_types` says which slide, or else `slides`.
pub(super) fn windows(
    config: &Config,
    layers: usize,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let sliding = sliding_layers(config, layers, slides)?;
    if window.is_none() && config.get("layer_types").is_some() && sliding.contains(&true) {
        return Err(config.refuse(
            "layer_types",
            "it has layers that slide, and no window is set for them",
        ));
    }
    Ok(sliding
        .into_iter()
        .map(|slides| window.filter(|_| slides))
        .collect())
}

/// Which layers slide: `layer_types` says it, or else `slides`.
pub(super) fn sliding_layers(
    config: &Config,
    layers: usize,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let Some(kinds) = config.texts_opt("layer_types")? else {
        return Ok((0..layers).map(slides).collect());
    };
    config.check_per_layer("layer_types", &kinds, layers)?;
    kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(Error::new(
                "config.json",
                format!("`layer_types` has `{other}`, which massact does not compute"),
            )
            .remedy("run `massact models` for what is supported")),
        })
        .collect()
}

/// The activation that transformers calls `name`.
pub(super) fn activation(name: &str) -> Result<Activation> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" | "gelu_python" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => {
            Ok(Activation::GeluTanh)
        }
        "quick_gelu" => Ok(Activation::ScaledSilu(1.702)),
        "relu" => Ok(Activation::Relu),
        "relu2" => Ok(Activation::ReluSquared),
        _ => Err(Error::new(
            "config.json",
            format!("activation `{name}` is not one that massact computes"),
        )
        .remedy("run `massact models` for what is supported")),
    }
}
