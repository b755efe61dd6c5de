//! Experts beside a shared MLP, chosen by scores that a stored correction shifts, perhaps group by
//! group (DeepSeek-V3, 2024), under the names that its relatives have for that.
#![forbid(unsafe_code)]

use super::{
    moe::{Mixture, USUAL, gated},
    parts::{LayerParts, activation},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        spec::{ExpertGroups, Mlp, Score, Shared, Vector},
    },
};

/// What a family calls its settings and tensors, and what absent ones mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Key of the number of experts.
    pub(super) count: &'static str,
    /// Key of the number of experts that a token visits.
    pub(super) top_k: &'static str,
    /// Key of the shared MLP's width, in experts, and its default.
    pub(super) shared: (&'static str, usize),
    /// Key of the factor on the weights, and its default.
    pub(super) scale: (&'static str, f64),
    /// Defaults of `n_group` and `topk_group`, where there are groups.
    pub(super) groups: Option<[usize; 2]>,
    /// Default of `norm_topk_prob`; none where the weights always have the sum 1.
    pub(super) renormalise: Option<bool>,
    /// From logits to scores.
    pub(super) score: Score,
    /// Module of the experts.
    pub(super) module: &'static str,
    /// Names of an expert's projections: gate, up, down.
    pub(super) names: [&'static str; 3],
    /// Module of the router.
    pub(super) router: &'static str,
    /// Tensor that is added to the scores for the choice.
    pub(super) correction: Option<&'static str>,
    /// Module of the shared MLP.
    pub(super) shared_module: &'static str,
}

/// DeepSeek-V3's own.
pub(super) const DEEPSEEK_V3: Style = Style {
    count: "n_routed_experts",
    top_k: "num_experts_per_tok",
    shared: ("n_shared_experts", 1),
    scale: ("routed_scaling_factor", 2.5),
    groups: Some([8, 4]),
    renormalise: Some(true),
    score: Score::Sigmoid,
    module: "mlp",
    names: USUAL,
    router: "mlp.gate",
    correction: Some("mlp.gate.e_score_correction_bias"),
    shared_module: "mlp.shared_experts",
};

/// The experts of a model.
pub(super) struct Routed {
    style: Style,
    mixture: Mixture,
    hidden: usize,
    inner: usize,
    shared: Option<usize>,
    scale: f32,
    /// Groups of experts, of which some take part.
    pub(super) groups: Option<ExpertGroups>,
    /// Whether the shared MLP has biases.
    pub(super) shared_bias: bool,
}

impl Style {
    /// Reads the settings, for a residual stream of this width.
    pub(super) fn read(self, config: &Config, hidden: usize) -> Result<Routed> {
        let inner = config.size("moe_intermediate_size")?;
        let (key, default) = self.shared;
        let shared = match config.number_or(key, default as f64)? {
            0.0 => None,
            _ => Some(inner * config.size_or(key, default)?),
        };
        let groups = |[count, kept]: [usize; 2]| -> Result<ExpertGroups> {
            Ok(ExpertGroups {
                count: config.size_opt("n_group")?.unwrap_or(count),
                kept: config.size_opt("topk_group")?.unwrap_or(kept),
                best: 2,
            })
        };
        Ok(Routed {
            style: self,
            mixture: Mixture {
                count: config.experts(self.count)?,
                top_k: config.size(self.top_k)?,
                renormalise: match self.renormalise {
                    Some(default) => config.flag_or("norm_topk_prob", default)?,
                    None => true,
                },
                activation: activation(config.text_or("hidden_act", "silu")?)?,
            },
            hidden,
            inner,
            shared,
            scale: config.number_or(self.scale.0, self.scale.1)? as f32,
            groups: self.groups.map(groups).transpose()?,
            shared_bias: false,
        })
    }
}

impl Routed {
    /// The MLP of a layer.
    pub(super) fn mlp(&self, parts: &LayerParts<'_>) -> Mlp {
        let (style, mixture) = (self.style, &self.mixture);
        let mut experts =
            mixture.experts(parts, style.module, style.names, (self.hidden, self.inner));
        let routing = &mut experts.routing;
        routing.router = parts.linear(style.router, self.hidden, mixture.count, false);
        routing.score = style.score;
        routing.correction = style
            .correction
            .map(|tensor| Vector::new(parts.name(tensor), mixture.count));
        routing.groups = self.groups;
        routing.scale = self.scale;
        experts.shared = self.shared.map(|width| Shared {
            mlp: gated(
                parts,
                style.shared_module,
                USUAL,
                (self.hidden, width),
                mixture.activation,
                self.shared_bias,
            ),
            gate: None,
        });
        Mlp::Experts(Box::new(experts))
    }
}

/// Which layers have experts: `mlp_layer_types` says it, or else all from layer `first` on.
pub(super) fn sparse_by_type(config: &Config, layers: usize, first: f64) -> Result<Vec<bool>> {
    const KEY: &str = "mlp_layer_types";
    let Some(kinds) = config.texts_opt(KEY)? else {
        return Ok((0..layers).map(|index| index as f64 >= first).collect());
    };
    config.check_per_layer(KEY, &kinds, layers)?;
    let sparse = |kind: &String| match kind.as_str() {
        "dense" => Ok(false),
        "sparse" => Ok(true),
        other => Err(Error::new(
            "config.json",
            format!("`{KEY}` has `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    };
    kinds.iter().map(sparse).collect()
}
