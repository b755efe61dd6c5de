//! What experts read and make inside, token by token: every token visits as many, and what it has of them stands
//! side by side in its row, that of the earlier experts first.
#![forbid(unsafe_code)]

use super::{pass::Pass, probe::Probe, site::Site};
use crate::{backend::Backend, error::Result};

/// Collects the visits' values where somebody looks at them.
pub(super) struct Visits<B: Backend> {
    order: Vec<usize>,
    /// Visits of a token.
    each: usize,
    collected: [(Site, Option<Collected<B>>); 2],
}

/// One row a visit, expert by expert.
pub(super) struct Collected<B: Backend> {
    rows: Option<B::Tensor>,
    filled: usize,
}

impl<B: Backend> Default for Collected<B> {
    fn default() -> Self {
        Self {
            rows: None,
            filled: 0,
        }
    }
}

impl<B: Backend> Collected<B> {
    /// What the next expert has of its visitors, of whom all experts together have `all`.
    pub(super) fn add(
        &mut self,
        backend: &B,
        values: &B::Tensor,
        (visitors, all): (usize, usize),
    ) -> Result<()> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            // Of the values' own type; all of it is written over.
            none => none.insert(backend.gather_rows(values, &vec![0; all])?),
        };
        backend.put_rows(rows, self.filled, values)?;
        self.filled += visitors;
        Ok(())
    }

    /// A row a token, of `each` visits side by side; none if there were no visits.
    pub(super) fn by_token(
        self,
        backend: &B,
        order: &[usize],
        each: usize,
    ) -> Result<Option<B::Tensor>> {
        let Some(rows) = self.rows else {
            return Ok(None);
        };
        let columns = each * backend.columns(&rows);
        let by_token = backend.gather_rows(&rows, order)?;
        Ok(Some(backend.in_rows_of(by_token, columns)))
    }
}

/// For each token of the micro-batch, then for each of its visits, the place among all visits, which are made
/// expert by expert.
pub(super) fn order<B: Backend>(
    pass: &Pass<'_, '_, B>,
    visitors: &B::Visitors,
) -> Result<Vec<usize>> {
    let tokens = pass.batch.rows.last().map_or(0, |rows| rows.end);
    let mut places = vec![Vec::new(); tokens];
    let visiting = pass.forward.backend.visiting_rows(visitors)?;
    for (place, token) in visiting.into_iter().flatten().enumerate() {
        places[token].push(place);
    }
    Ok(places.concat())
}

impl<B: Backend> Visits<B> {
    /// Of a micro-batch whose tokens make `each` visits; none if nobody looks at them.
    pub(super) fn of(
        pass: &Pass<'_, '_, B>,
        visitors: &B::Visitors,
        each: usize,
    ) -> Result<Option<Self>> {
        let sites = [Site::ExpertInner, Site::ExpertOutput];
        let looked_at = sites.map(|site| pass.observes(site));
        if looked_at == [false, false] {
            return Ok(None);
        }
        let empty = |looked_at: bool| looked_at.then(Collected::default);
        Ok(Some(Self {
            order: order(pass, visitors)?,
            each,
            collected: [
                (sites[0], empty(looked_at[0])),
                (sites[1], empty(looked_at[1])),
            ],
        }))
    }

    /// What the next expert has of all its visitors.
    pub(super) fn add(
        &mut self,
        backend: &B,
        inner: &B::Tensor,
        output: &B::Tensor,
        visitors: usize,
    ) -> Result<()> {
        for ((_, collected), values) in self.collected.iter_mut().zip([inner, output]) {
            let Some(collected) = collected else {
                continue;
            };
            collected.add(backend, values, (visitors, self.order.len()))?;
        }
        Ok(())
    }

    /// Shows them.
    pub(super) fn tell(self, pass: &Pass<'_, '_, B>, probe: &mut Probe<'_, B>) -> Result<()> {
        let backend = pass.forward.backend;
        for (site, collected) in self.collected {
            let Some(collected) = collected else {
                continue;
            };
            if let Some(by_token) = collected.by_token(backend, &self.order, self.each)? {
                pass.observe(probe, site, &by_token)?;
            }
        }
        Ok(())
    }
}
