//! The visits of tokens to the experts that they chose: what an expert reads of its visitors, and what it gives.
#![forbid(unsafe_code)]

use super::{gated::GatedWeights, pass::Pass};
use crate::{
    backend::Backend,
    error::Result,
    model::spec::{Experts, GatedMlp},
};

/// The visits of a micro-batch's tokens to a layer's experts.
pub(super) struct Visiting<'v, 'p, 'r, B: Backend> {
    pub(super) pass: &'v Pass<'p, 'r, B>,
    pub(super) spec: &'v Experts,
    pub(super) visitors: &'v B::Visitors,
    /// What they bring.
    pub(super) read: &'v B::Tensor,
    pub(super) factors: Option<&'v [f32]>,
    /// Of each expert.
    pub(super) counts: Vec<usize>,
}

impl<'r, B: Backend> Visiting<'_, '_, 'r, B> {
    /// The experts that somebody visits, ascending.
    pub(super) fn visited(&self) -> impl Iterator<Item = usize> {
        (0..self.counts.len()).filter(|expert| self.counts[*expert] > 0)
    }

    /// Puts an expert on the device.
    pub(super) fn load(&self, expert: usize) -> Result<GatedWeights<'r, B>> {
        let forward = self.pass.forward;
        let own = &self.spec.expert;
        let mlp = GatedMlp {
            gate: own.gate.as_ref().map(|gate| gate.of_expert(expert)),
            up: own.up.of_expert(expert),
            down: own.down.of_expert(expert),
            ..*own
        };
        GatedWeights::load(forward.backend, forward.model, &mlp)
    }

    /// What the expert's down projection reads of its visitors.
    pub(super) fn inner(&self, expert: usize, mlp: &GatedWeights<'_, B>) -> Result<B::Tensor> {
        let backend = self.pass.forward.backend;
        let mut x = backend.gather_visitors(self.read, self.visitors, expert)?;
        if self.spec.weighted_inputs {
            backend.weigh_visitors(&mut x, self.visitors, expert)?;
        }
        mlp.inner(backend, &x)
    }

    /// What the expert gives them.
    pub(super) fn output(
        &self,
        expert: usize,
        mlp: &GatedWeights<'_, B>,
        inner: &B::Tensor,
    ) -> Result<B::Tensor> {
        let backend = self.pass.forward.backend;
        let mut y = mlp.down(backend, inner)?;
        if let Some(factors) = self.factors {
            backend.affine(&mut y, factors[expert], 0.0)?;
        }
        Ok(y)
    }
}
