//! Projections and norms on the device.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{
        Model,
        spec::{Learned, Linear, Norm},
    },
};

/// A projection on the device.
pub(super) struct Projection<'m, B: Backend> {
    weight: B::Matrix<'m>,
    /// Divided by the factor on the input.
    bias: Option<B::Vector>,
    /// Of input and output together.
    scale: f32,
    /// What is added to the weight, as two thin ones.
    low_rank: Option<[B::Matrix<'m>; 2]>,
}

impl<'m, B: Backend> Projection<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, linear: &Linear) -> Result<Self> {
        let bias = bias(model, linear)?;
        let low_rank = linear.low_rank.as_ref();
        let thin = |linear| backend.matrix(model.matrix(linear)?);
        Ok(Self {
            weight: thin(linear)?,
            low_rank: low_rank
                .map(|both| Ok([thin(&both[0])?, thin(&both[1])?]))
                .transpose()?,
            bias: bias
                .map(|bias| put_bias(backend, model, &[linear], bias))
                .transpose()?,
            scale: linear.input_scale * linear.output_scale,
        })
    }

    /// Several of them as one, whose outputs follow each other; none where they are not alike, or where the
    /// backend gains nothing.
    pub(super) fn joined(
        backend: &B,
        model: &'m Model,
        linears: &[&Linear],
    ) -> Result<Option<Self>> {
        let Some(first) = linears.first() else {
            return Ok(None);
        };
        let alike = |linear: &&Linear| {
            linear.low_rank.is_none()
                && linear.bias.is_some() == first.bias.is_some()
                && linear.input_scale == first.input_scale
                && linear.output_scale == first.output_scale
        };
        if !linears.iter().all(alike) {
            return Ok(None);
        }
        let views = linears.iter().map(|linear| model.matrix_in_place(linear));
        let Some(views) = views.collect::<Result<Option<Vec<_>>>>()? else {
            return Ok(None);
        };
        let Some(weight) = backend.joined(&views)? else {
            return Ok(None);
        };
        let biases = linears.iter().map(|linear| bias(model, linear));
        let biases: Option<Vec<_>> = biases.collect::<Result<_>>()?;
        let bias = biases.map(|biases| put_bias(backend, model, linears, biases.concat()));
        Ok(Some(Self {
            weight,
            low_rank: None,
            bias: bias.transpose()?,
            scale: first.input_scale * first.output_scale,
        }))
    }

    /// `x W^T + b`, for another operation of the same part of a layer.
    pub(super) fn apply(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        self.linear(backend, x, self.bias.as_ref(), Target::Part)
    }

    /// `x W^T + b`, for the residual stream.
    pub(super) fn to_stream(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        self.linear(backend, x, self.bias.as_ref(), Target::Stream)
    }

    /// `x W^T`: what of [`Projection::to_stream`] is linear.
    pub(super) fn product(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        self.linear(backend, x, None, Target::Stream)
    }

    /// What of [`Projection::product`] these neighbouring inputs give.
    pub(super) fn product_of(
        &self,
        backend: &B,
        x: &B::Tensor,
        inputs: Range<usize>,
    ) -> Result<B::Tensor> {
        let mut y = backend.linear_of(x, &self.weight, inputs, Target::Stream)?;
        if self.scale != 1.0 {
            backend.affine(&mut y, self.scale, 0.0)?;
        }
        Ok(y)
    }

    fn linear(
        &self,
        backend: &B,
        x: &B::Tensor,
        bias: Option<&B::Vector>,
        target: Target,
    ) -> Result<B::Tensor> {
        let mut y = backend.linear(x, &self.weight, bias, target)?;
        if let Some([down, up]) = &self.low_rank {
            let narrow = backend.linear(x, down, None, Target::Part)?;
            backend.add(&mut y, &backend.linear(&narrow, up, None, target)?)?;
        }
        if self.scale != 1.0 {
            backend.affine(&mut y, self.scale, 0.0)?;
        }
        Ok(y)
    }
}

/// The bias of a projection, divided by the factor on its input.
fn bias(model: &Model, linear: &Linear) -> Result<Option<Vec<f32>>> {
    let mut bias = model.bias(linear)?;
    if linear.input_scale != 1.0 {
        for value in bias.iter_mut().flatten() {
            *value /= linear.input_scale;
        }
    }
    Ok(bias)
}

/// Puts the biases of projections that are one on the device. Those of experts are as many as the experts, and come
/// with their weights at each visit.
fn put_bias<B: Backend>(
    backend: &B,
    model: &Model,
    linears: &[&Linear],
    values: Vec<f32>,
) -> Result<B::Vector> {
    if linears.iter().any(|linear| linear.stacked.is_some()) {
        return backend.vector(values);
    }
    let names = linears.iter().map(|linear| bias_name(model, linear));
    let names: Vec<String> = names.collect();
    backend.learned(names.join(" and "), values)
}

/// What tells that bias from all others.
fn bias_name(model: &Model, linear: &Linear) -> String {
    let name = linear.bias.as_deref().unwrap_or_default();
    let Linear {
        first_output,
        out_features,
        groups,
        input_scale,
        ..
    } = linear;
    let model = model.identity();
    format!("{model} {name} {first_output} {out_features} {groups:?} / {input_scale}")
}

/// Puts a norm's vectors on the device.
pub(super) fn load_norm<B: Backend>(
    backend: &B,
    model: &Model,
    norm: &Norm,
) -> Result<NormWeights<B::Vector>> {
    let vectors = model.norm(norm)?;
    let vector = |values: Option<_>, name: String| {
        let learned = values.map(|values| backend.learned(name, values));
        learned.transpose()
    };
    let names = |learned: &Option<Learned>| {
        let tensors = learned.iter().flat_map(|learned| &learned.tensors);
        let tensors = tensors.cloned().collect::<Vec<_>>().join(" and ");
        format!("{} {tensors}", model.identity())
    };
    Ok(NormWeights {
        kind: norm.kind,
        width: norm.width,
        weight: vector(
            vectors.weight,
            format!("{} + {}", names(&norm.weight), norm.weight_offset),
        )?,
        bias: vector(vectors.bias, names(&norm.bias))?,
        alpha: vector(
            vectors.alpha,
            format!("{} {}", model.identity(), norm.alpha.join(" and ")),
        )?,
        epsilon: norm.epsilon,
    })
}

/// Norms around one part of a layer, on the device.
pub(super) struct Norms<V> {
    pub(super) input: Option<NormWeights<V>>,
    pub(super) output: Option<NormWeights<V>>,
    pub(super) sum: Option<NormWeights<V>>,
}

impl<V> Norms<V> {
    /// Puts them there.
    pub(super) fn load<B: Backend<Vector = V>>(
        backend: &B,
        model: &Model,
        norms: &crate::model::spec::Norms,
    ) -> Result<Self> {
        let load = |norm: &Option<Norm>| {
            let norm = norm.as_ref();
            norm.map(|norm| load_norm(backend, model, norm)).transpose()
        };
        Ok(Self {
            input: load(&norms.input)?,
            output: load(&norms.output)?,
            sum: load(&norms.sum)?,
        })
    }
}
