//! What each head gives to the output of attention: what the heads' outputs put side by side hold of it, and what
//! the output projection makes of that part alone.
#![forbid(unsafe_code)]

use super::{head_outputs::HeadOutputs, parts::Projection, pass::Pass, probe::Probe};
use crate::{
    backend::{Backend, OutputParts},
    error::Result,
};

/// A layer's way from heads to the output of attention.
pub(super) struct HeadProjections<'a, 'm, B: Backend> {
    pub(super) heads: usize,
    /// Of each group of heads.
    pub(super) groups: Option<&'a [Projection<'m, B>]>,
    pub(super) o: &'a Projection<'m, B>,
}

impl<B: Backend> HeadProjections<'_, '_, B> {
    /// Tells of the heads' outputs, side by side in `context`, and of what the plan's keys give to them.
    pub(super) fn tell(
        &self,
        pass: &Pass<'_, '_, B>,
        probe: &mut Probe<'_, B>,
        context: &B::Tensor,
        parts: Option<&OutputParts<B::Tensor>>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let mut found = HeadOutputs::default();
        let squares = backend.inner_products(context, context, self.heads)?;
        let norm = |squares: Vec<f64>| squares.into_iter().map(f64::sqrt);
        for head in 0..self.heads {
            let own = squares.iter().skip(head).step_by(self.heads);
            found.own.extend(norm(own.copied().collect()));
            let whole = self.of(backend, context, head)?;
            let squares = backend.inner_products(&whole, &whole, 1)?;
            found.projected.extend(norm(squares));
            let Some(parts) = parts else {
                continue;
            };
            let part = self.of(backend, &parts.subset, head)?;
            let rest = self.of(backend, &parts.rest, head)?;
            let products = backend.inner_products(&part, &rest, 1)?;
            let followed = backend.inner_products(&part, &part, 1)?;
            let rest = backend.inner_products(&rest, &rest, 1)?;
            let parts = found.parts.get_or_insert_default();
            let sizes = followed.iter().zip(&rest);
            let cosines = products.iter().zip(sizes);
            let cosine = |(product, (m, r)): (&f64, (&f64, &f64))| product / (m.sqrt() * r.sqrt());
            parts.cosine.extend(cosines.map(cosine));
            parts.followed.extend(norm(followed));
            parts.rest.extend(norm(rest));
        }
        probe.head_outputs(pass.index, pass.batch, &found)
    }

    /// What the projection makes of one head.
    fn of(&self, backend: &B, heads: &B::Tensor, head: usize) -> Result<B::Tensor> {
        let all = backend.columns(heads);
        let width = all / self.heads;
        let columns = head * width..(head + 1) * width;
        let own = backend.gather_columns(heads, columns.clone())?;
        let Some(groups) = self.groups else {
            return self.o.product_of(backend, &own, columns);
        };
        let of_group = all / groups.len();
        let group = columns.start / of_group;
        let first = columns.start - group * of_group;
        let made = groups[group].product_of(backend, &own, first..first + width)?;
        let width = backend.columns(&made);
        self.o
            .product_of(backend, &made, group * width..(group + 1) * width)
    }
}
