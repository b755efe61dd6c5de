//! One decoder layer: its weights on the device, and what it computes.
#![forbid(unsafe_code)]

use super::{forward::Forward, probe::Probe, schedule::Batch, site::Site};
use crate::{
    backend::{AttentionRequest, Backend, NormWeights},
    error::Result,
    model::{
        Model,
        spec::{Activation, Layer, Linear, Mlp, Norm},
    },
};

/// A projection on the device.
struct Projection<'m, B: Backend> {
    weight: B::Matrix<'m>,
    bias: Option<B::Vector>,
}

/// A layer's MLP on the device.
enum MlpWeights<'m, B: Backend> {
    Gated {
        gate: Projection<'m, B>,
        up: Projection<'m, B>,
        down: Projection<'m, B>,
        activation: Activation,
    },
    Plain {
        up: Projection<'m, B>,
        down: Projection<'m, B>,
        activation: Activation,
    },
}

/// A layer ready to run.
pub(super) struct LayerWeights<'m, B: Backend> {
    spec: &'m Layer,
    attention_norm: NormWeights<B::Vector>,
    q: Projection<'m, B>,
    k: Projection<'m, B>,
    v: Projection<'m, B>,
    o: Projection<'m, B>,
    mlp_norm: NormWeights<B::Vector>,
    mlp: MlpWeights<'m, B>,
}

/// Puts a norm's vectors on the device.
pub(super) fn load_norm<B: Backend>(
    backend: &B,
    model: &Model,
    norm: &Norm,
) -> Result<NormWeights<B::Vector>> {
    let tensors = model.norm(norm)?;
    let vector = |elements: Option<_>| elements.map(|e| backend.vector(e)).transpose();
    Ok(NormWeights {
        kind: norm.kind,
        weight: vector(tensors.weight)?,
        bias: vector(tensors.bias)?,
        epsilon: norm.epsilon,
    })
}

impl<'m, B: Backend> LayerWeights<'m, B> {
    /// Puts layer `index` on the device.
    pub(super) fn load(backend: &B, model: &'m Model, index: usize) -> Result<Self> {
        let spec = &model.spec.layers[index];
        let projection = |linear: &Linear| -> Result<Projection<'m, B>> {
            Ok(Projection {
                weight: backend.matrix(model.matrix(linear)?)?,
                bias: model
                    .bias(linear)?
                    .map(|elements| backend.vector(elements))
                    .transpose()?,
            })
        };
        Ok(Self {
            spec,
            attention_norm: load_norm(backend, model, &spec.attention_norm)?,
            q: projection(&spec.attention.q)?,
            k: projection(&spec.attention.k)?,
            v: projection(&spec.attention.v)?,
            o: projection(&spec.attention.o)?,
            mlp_norm: load_norm(backend, model, &spec.mlp_norm)?,
            mlp: match &spec.mlp {
                Mlp::Gated {
                    gate,
                    up,
                    down,
                    activation,
                } => MlpWeights::Gated {
                    gate: projection(gate)?,
                    up: projection(up)?,
                    down: projection(down)?,
                    activation: *activation,
                },
                Mlp::Plain {
                    up,
                    down,
                    activation,
                } => MlpWeights::Plain {
                    up: projection(up)?,
                    down: projection(down)?,
                    activation: *activation,
                },
            },
        })
    }

    /// Runs the layer over one micro-batch, updating its residual stream `hidden`.
    pub(super) fn run(
        &self,
        forward: &Forward<'_, B>,
        index: usize,
        batch: &Batch,
        hidden: &mut B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = forward.backend;
        probe.observe(Site::LayerInput, index, batch, hidden)?;
        let normed = backend.norm(hidden, &self.attention_norm)?;
        let attention = self.attention(forward, index, batch, normed, probe)?;
        probe.observe(Site::AttentionOutput, index, batch, &attention)?;
        backend.add(hidden, &attention)?;
        drop(attention);

        let normed = backend.norm(hidden, &self.mlp_norm)?;
        let mlp = self.mlp(forward, index, batch, normed, probe)?;
        probe.observe(Site::MlpOutput, index, batch, &mlp)?;
        backend.add(hidden, &mlp)?;
        probe.observe(Site::LayerOutput, index, batch, hidden)
    }

    fn attention(
        &self,
        forward: &Forward<'_, B>,
        index: usize,
        batch: &Batch,
        input: B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = forward.backend;
        let spec = &self.spec.attention;
        let mut q = apply(backend, &input, &self.q)?;
        let mut k = apply(backend, &input, &self.k)?;
        let v = apply(backend, &input, &self.v)?;
        drop(input);
        if let Some(rope) = spec.rope {
            let tables = forward.rope_tables(rope, batch);
            backend.rotate(&mut q, &batch.rows, spec.head_dim, &tables)?;
            backend.rotate(&mut k, &batch.rows, spec.head_dim, &tables)?;
        }
        for (site, tensor) in [(Site::Q, &q), (Site::K, &k), (Site::V, &v)] {
            probe.observe(site, index, batch, tensor)?;
        }
        let request = AttentionRequest {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.scale,
            capture: forward.plan.attention,
        };
        let (context, maps) = backend.attention(&q, &k, &v, &batch.rows, &request)?;
        probe.attention(index, batch, maps)?;
        apply(backend, &context, &self.o)
    }

    fn mlp(
        &self,
        forward: &Forward<'_, B>,
        index: usize,
        batch: &Batch,
        input: B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = forward.backend;
        match &self.mlp {
            MlpWeights::Gated {
                gate,
                up,
                down,
                activation,
            } => {
                let mut inner = apply(backend, &input, gate)?;
                backend.activate(&mut inner, *activation)?;
                probe.observe(Site::Gate, index, batch, &inner)?;
                let up = apply(backend, &input, up)?;
                backend.multiply(&mut inner, &up)?;
                apply(backend, &inner, down)
            }
            MlpWeights::Plain {
                up,
                down,
                activation,
            } => {
                let mut inner = apply(backend, &input, up)?;
                backend.activate(&mut inner, *activation)?;
                probe.observe(Site::Gate, index, batch, &inner)?;
                apply(backend, &inner, down)
            }
        }
    }
}

fn apply<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    projection: &Projection<'_, B>,
) -> Result<B::Tensor> {
    backend.linear(x, &projection.weight, projection.bias.as_ref())
}
