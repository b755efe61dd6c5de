//! Several residual streams, which a layer predicts and corrects (AltUp).
#![forbid(unsafe_code)]

use super::parts::{Projection, load_norm};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{
        Model,
        spec::{AltUp, Linear, NormKind},
    },
};

/// On the device.
pub(super) struct AltUpWeights<'m, B: Backend> {
    router_norm: NormWeights<B::Vector>,
    router: Projection<'m, B>,
    /// A tanh with the router's factor inside.
    squash: NormWeights<B::Vector>,
    /// For each stream a projection a stream, to one value a token each.
    predict: Vec<Vec<Projection<'m, B>>>,
    correct: Vec<Projection<'m, B>>,
    output_scale: Option<B::Vector>,
}

impl<'m, B: Backend> AltUpWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &AltUp) -> Result<Self> {
        let rows = |linear: &Linear, first: usize, count: usize| {
            let one = |row: usize| {
                let mut one = linear.clone();
                one.out_features = 1;
                let one = one.part_of(row, linear.stored_outputs);
                Projection::load(backend, model, &one)
            };
            (first..first + count).map(one).collect::<Result<Vec<_>>>()
        };
        let streams = spec.router.out_features;
        let output_scale = spec.output_scale.as_ref();
        Ok(Self {
            router_norm: load_norm(backend, model, &spec.router_norm)?,
            router: Projection::load(backend, model, &spec.router)?,
            squash: NormWeights {
                kind: NormKind::Tanh,
                width: streams,
                weight: None,
                bias: None,
                alpha: Some(backend.vector(vec![spec.router_scale])?),
                epsilon: 0.0,
            },
            predict: (0..streams)
                .map(|stream| rows(&spec.predict, stream * streams, streams))
                .collect::<Result<_>>()?,
            correct: rows(&spec.correct, 0, streams)?,
            output_scale: output_scale
                .map(|scale| backend.vector(model.vector(scale)?))
                .transpose()?,
        })
    }

    /// Turns all streams into their predictions.
    pub(super) fn predict(
        &self,
        backend: &B,
        hidden: &mut B::Tensor,
        others: &mut [B::Tensor],
    ) -> Result<()> {
        let modes = self.modes(backend, hidden)?;
        let predicted: Vec<B::Tensor> = self
            .predict
            .iter()
            .enumerate()
            .map(|(stream, projections)| {
                let of = |index: usize| match index {
                    0 => &*hidden,
                    _ => &others[index - 1],
                };
                let mut predicted = backend.duplicate(of(stream))?;
                for (index, projection) in projections.iter().enumerate() {
                    let factors = projection.apply(backend, &modes)?;
                    backend.add_scaled(&mut predicted, of(index), &factors)?;
                }
                Ok(predicted)
            })
            .collect::<Result<_>>()?;
        let streams = std::iter::once(hidden).chain(others);
        for (stream, predicted) in streams.zip(predicted) {
            *stream = predicted;
        }
        Ok(())
    }

    /// Corrects all streams, of which the first was predicted as `predicted` and has become `hidden`.
    pub(super) fn correct(
        &self,
        backend: &B,
        predicted: B::Tensor,
        hidden: &mut B::Tensor,
        others: &mut [B::Tensor],
    ) -> Result<()> {
        let modes = self.modes(backend, hidden)?;
        let mut change = backend.duplicate(&predicted)?;
        backend.affine(&mut change, -1.0, 0.0)?;
        backend.add(&mut change, hidden)?;
        *hidden = predicted;
        let streams = std::iter::once(hidden).chain(others);
        for (stream, projection) in streams.zip(&self.correct) {
            let mut factors = projection.apply(backend, &modes)?;
            backend.affine(&mut factors, 1.0, 1.0)?;
            backend.add_scaled(stream, &change, &factors)?;
        }
        Ok(())
    }

    /// What the layer's own embedding of the tokens is joined with.
    pub(super) fn scaled(&self, backend: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        let mut scaled = backend.duplicate(hidden)?;
        if let Some(scale) = &self.output_scale {
            backend.multiply_columns(&mut scaled, scale)?;
        }
        Ok(scaled)
    }

    /// One value a stream for each token.
    fn modes(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let read = backend.norm(x, &self.router_norm, Target::Part)?;
        let routed = self.router.apply(backend, &read)?;
        backend.norm(&routed, &self.squash, Target::Part)
    }
}
