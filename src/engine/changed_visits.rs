//! Changes of what experts read and make inside.
//!
//! A value may become another token's, which another expert makes: all visits are made before one of them goes
//! on. The layer's experts are loaded once more for each of the two sites at which something is changed.
#![forbid(unsafe_code)]

use super::{
    gated::GatedWeights,
    site::Site,
    visiting::Visiting,
    visits::{Collected, order},
};
use crate::{backend::Backend, error::Result, interrupt};

/// What all visitors have at the sites where something is changed, a row a visit, expert by expert.
pub(super) struct ChangedVisits<B: Backend> {
    /// Where the rows of each expert begin, and where they end.
    bounds: Vec<usize>,
    inner: Option<B::Tensor>,
    output: Option<B::Tensor>,
}

impl<B: Backend> ChangedVisits<B> {
    /// With the changes made.
    pub(super) fn of(visiting: &Visiting<'_, '_, '_, B>) -> Result<Self> {
        let mut bounds = vec![0];
        let mut end = 0;
        bounds.extend(visiting.counts.iter().map(|count| {
            end += count;
            end
        }));
        let mut changed = Self {
            bounds,
            inner: None,
            output: None,
        };
        let backend = visiting.pass.forward.backend;
        changed.inner = changed_at(visiting, Site::ExpertInner, |expert, mlp| {
            visiting.inner(expert, mlp)
        })?;
        changed.output = changed_at(visiting, Site::ExpertOutput, |expert, mlp| {
            let inner = match changed.inner(backend, expert)? {
                Some(inner) => inner,
                None => visiting.inner(expert, mlp)?,
            };
            visiting.output(expert, mlp, &inner)
        })?;
        Ok(changed)
    }

    /// What the expert's down projection reads, where that is changed.
    pub(super) fn inner(&self, backend: &B, expert: usize) -> Result<Option<B::Tensor>> {
        self.rows(backend, self.inner.as_ref(), expert)
    }

    /// What the expert gives, where that is changed.
    pub(super) fn output(&self, backend: &B, expert: usize) -> Result<Option<B::Tensor>> {
        self.rows(backend, self.output.as_ref(), expert)
    }

    fn rows(
        &self,
        backend: &B,
        all: Option<&B::Tensor>,
        expert: usize,
    ) -> Result<Option<B::Tensor>> {
        let rows: Vec<usize> = (self.bounds[expert]..self.bounds[expert + 1]).collect();
        all.map(|all| backend.gather_rows(all, &rows)).transpose()
    }
}

/// What `make` gives of all visits, changed token by token; none where nothing is changed at the site.
fn changed_at<'r, B: Backend>(
    visiting: &Visiting<'_, '_, 'r, B>,
    site: Site,
    mut make: impl FnMut(usize, &GatedWeights<'r, B>) -> Result<B::Tensor>,
) -> Result<Option<B::Tensor>> {
    let pass = visiting.pass;
    if !pass.edits(site) {
        return Ok(None);
    }
    let backend = pass.forward.backend;
    let order = order(pass, visiting.visitors)?;
    let mut collected = Collected::default();
    for expert in visiting.visited() {
        interrupt::check()?;
        let values = make(expert, &visiting.load(expert)?)?;
        collected.add(backend, &values, (visiting.counts[expert], order.len()))?;
    }
    let each = visiting.spec.visits();
    let Some(mut by_token) = collected.by_token(backend, &order, each)? else {
        return Ok(None);
    };
    pass.edit(site, &mut by_token)?;
    let width = backend.columns(&by_token) / each;
    let visits = backend.in_rows_of(by_token, width);
    let mut back = vec![0; order.len()];
    for (index, place) in order.into_iter().enumerate() {
        back[place] = index;
    }
    backend.gather_rows(&visits, &back).map(Some)
}
