//! Checks of a description before anything divides by its numbers.
#![forbid(unsafe_code)]

use super::spec::{
    Attention, DecoderSpec, Experts, Grouped, Linear, MOST_STREAMS, Projections, RowGroups,
};
use crate::error::{Error, Result};

/// Refuses numbers that do not fit together.
pub(super) fn spec(spec: &DecoderSpec) -> Result<()> {
    streams(spec)?;
    for (index, layer) in spec.layers.iter().enumerate() {
        if let Some(attention) = &layer.attention {
            heads(spec, attention)?;
            shared(spec, index, attention)?;
            extra_key(attention)?;
            compressed(spec, attention)?;
        }
        if let Some(side) = &layer.side {
            let parts = layer.attention.is_some() && layer.mlp.is_some() && layer.mixer.is_some();
            if !parts || side.norm.width != 2 * spec.hidden_size {
                return Err(damaged(
                    "a block beside the residual stream does not fit the parts of its layer",
                ));
            }
        }
        if layer.mixer.as_ref().is_some_and(|mixer| !mixer.fits()) {
            return Err(damaged(
                "heads, groups and sizes of a token mixer do not fit together",
            ));
        }
        if let Some(mixture) = layer.experts() {
            experts(mixture)?;
        }
        for norm in layer.norms() {
            if norm.width == 0 {
                return Err(damaged("a norm over no values"));
            }
        }
    }
    Ok(())
}

fn heads(spec: &DecoderSpec, attention: &Attention) -> Result<()> {
    let Attention {
        heads,
        kv_heads,
        head_dim,
        value_dim,
        ..
    } = *attention;
    let q_width = match &attention.projections {
        Projections::Direct { q, .. } | Projections::Shared { q, .. } => q.out_features,
        Projections::Latent(latent) => latent.q.out_features(),
        Projections::KeysAsValues { q, .. } => q.out_features(),
    };
    let rotated = attention.rope.map_or(0, |rope| spec.ropes[rope].dims);
    let gates = |gate: &Linear| [heads, heads * value_dim].contains(&gate.out_features);
    let fits = heads * head_dim != 0
        && value_dim != 0
        && heads.is_multiple_of(kv_heads)
        && q_width == heads * head_dim
        && match &attention.grouped {
            None => attention.o.in_features == heads * value_dim,
            Some(Grouped { linear, groups }) => {
                heads.is_multiple_of(*groups)
                    && linear.in_features * groups == heads * value_dim
                    && linear.out_features == attention.o.in_features
                    && linear.out_features.is_multiple_of(*groups)
            }
        }
        && attention.gate.as_ref().is_none_or(gates)
        && attention.rope_first + rotated <= head_dim;
    if fits {
        return Ok(());
    }
    Err(damaged(format!(
        "{heads} query heads, {kv_heads} key/value heads and a hidden size of {} do not fit together",
        spec.hidden_size
    )))
}

/// Refuses keys and values of another layer that does not make its own, earlier and as wide.
fn shared(spec: &DecoderSpec, index: usize, attention: &Attention) -> Result<()> {
    let Some(from) = attention.shares() else {
        return Ok(());
    };
    let widths = |attention: &Attention| {
        let Attention {
            kv_heads,
            head_dim,
            value_dim,
            ..
        } = *attention;
        (kv_heads, head_dim, value_dim)
    };
    let source = spec.layers[..index].get(from);
    let source = source.and_then(|layer| layer.attention.as_ref());
    match source {
        Some(source) if source.shares().is_none() && widths(source) == widths(attention) => Ok(()),
        _ => Err(damaged(format!(
            "layer {index} cannot read the keys and values of layer {from}"
        ))),
    }
}

/// Refuses an extra key beside biases that count from the last key: how much of the attention it
/// gets would depend on tokens that come later.
fn extra_key(attention: &Attention) -> Result<()> {
    match (&attention.kv_bias, &attention.alibi) {
        (Some(bias), Some(alibi)) if alibi.from_last => Err(Error::new(
            format!("tensor `{}`", bias.k),
            "an extra key has no place among ALiBi biases that count from the last token",
        )
        .remedy("massact computes attention KV bias with every other kind of positions")),
        _ => Ok(()),
    }
}

/// Refuses compressed tokens beside what is not computed with them.
fn compressed(spec: &DecoderSpec, attention: &Attention) -> Result<()> {
    let Some(compressed) = &attention.compressed else {
        return Ok(());
    };
    if let Some(bias) = &attention.kv_bias {
        return Err(Error::new(
            format!("tensor `{}`", bias.k),
            "massact does not compute an extra key beside compressed tokens",
        )
        .remedy("use the model without it"));
    }
    let rotated = attention.rope.map_or(0, |rope| spec.ropes[rope].dims);
    let choice = compressed.choice.as_ref();
    let fits = choice.is_none_or(|choice| choice.head_dim >= rotated)
        && compressed.rate > 0
        // Rows of entries see nothing but a sink.
        && attention.sinks.is_some();
    if fits {
        return Ok(());
    }
    Err(damaged(
        "compressed tokens, rotated dimensions and an indexer's heads do not fit together",
    ))
}

/// Refuses more residual streams than are computed.
fn streams(spec: &DecoderSpec) -> Result<()> {
    if (1..=MOST_STREAMS).contains(&spec.streams()) {
        return Ok(());
    }
    Err(damaged(format!(
        "{} residual streams; massact computes up to {MOST_STREAMS}",
        spec.streams()
    )))
}

fn experts(experts: &Experts) -> Result<()> {
    let routing = &experts.routing;
    if routing.top_k > experts.count {
        return Err(damaged(format!(
            "{} experts per token of {} experts",
            routing.top_k, experts.count
        )));
    }
    let Some(groups) = routing.groups else {
        return Ok(());
    };
    let size = experts.count / groups.count;
    if !experts.count.is_multiple_of(groups.count)
        || groups.kept > groups.count
        || groups.best > size
        || routing.top_k > groups.kept * size
    {
        return Err(damaged(format!(
            "{} experts in {} groups, of which {} take part, do not fit together",
            experts.count, groups.count, groups.kept
        )));
    }
    Ok(())
}

/// Refuses a projection whose outputs lie outside its tensor.
pub(super) fn outputs(linear: &Linear) -> Result<()> {
    let grouped =
        matches!(linear.groups, Some(RowGroups { size, stride }) if size == 0 || stride < size);
    if grouped || linear.out_features == 0 {
        return Err(damaged(format!(
            "tensor `{}` has no outputs",
            linear.weight
        )));
    }
    if linear.stored_output(linear.out_features - 1) >= linear.stored_outputs {
        return Err(damaged(format!(
            "tensor `{}` has fewer outputs than its parts need",
            linear.weight
        )));
    }
    Ok(())
}

pub(super) fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::new("config.json", reason)
        .remedy("correct it in config.json, or take the file of the original model")
}
