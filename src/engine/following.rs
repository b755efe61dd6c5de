//! What every step of a layer does to single values of the residual stream, and what inside its MLP
//! makes them: the plan names the values, the observer is told.
//!
//! A part that is added is read as it is added; what turns the stream into something else (a norm on the
//! stream, a factor, another stream's share) counts as the difference that it makes. So what is told of a
//! layer adds up, from its input to its output, to the rounding of the stream's type. Nothing is read, and
//! nothing waits for a device, where the plan names no values.
#![forbid(unsafe_code)]

use super::{
    ledger::Ledger,
    pass::Pass,
    probe::Probe,
    trace::{Source, Step},
};
use crate::{backend::Backend, error::Result};

impl<B: Backend> Probe<'_, B> {
    /// Whether values of this micro-batch are followed through the layer.
    pub(super) fn follows(&self) -> bool {
        !self.ledger.cells.is_empty()
    }

    /// What has the micro-batch.
    fn on_card(&self) -> &B {
        &self.cards.all()[self.ledger.card]
    }

    /// The rows of the micro-batch in which values are followed.
    pub(super) fn rows_followed(&self) -> impl Iterator<Item = usize> {
        self.ledger.rows.iter().map(|(_, _, row)| *row)
    }

    /// The layer's input.
    pub(super) fn begin(&mut self, pass: &Pass<'_, '_, B>, hidden: &B::Tensor) -> Result<()> {
        self.ledger = Ledger::default();
        let Some(cells) = pass.forward.plan.trace.as_ref() else {
            return Ok(());
        };
        if !pass.batch.observed {
            return Ok(());
        }
        self.ledger = Ledger::of(
            cells,
            pass.index,
            (self.cards.place(pass.batch), pass.batch),
        );
        if !self.follows() {
            return Ok(());
        }
        self.ledger.known = self.on_card().values_at(hidden, &self.ledger.cells)?;
        let known = self.ledger.known.clone();
        self.tell(Step::Input, &known);
        if pass.index == 0 {
            self.rows(Step::Input, hidden)?;
        }
        Ok(())
    }

    /// A part as it is added to the stream.
    pub(super) fn added(&mut self, step: Step, part: &B::Tensor) -> Result<()> {
        if !self.follows() {
            return Ok(());
        }
        let values = self.on_card().values_at(part, &self.ledger.cells)?;
        for (known, value) in self.ledger.known.iter_mut().zip(&values) {
            *known += value;
        }
        self.tell(step, &values);
        Ok(())
    }

    /// What attention and the mixer beside it make, before their sum is added.
    pub(super) fn beside(&mut self, attention: &B::Tensor, mixer: &B::Tensor) -> Result<()> {
        if self.follows() {
            let cells = &self.ledger.cells;
            let both = [attention, mixer].map(|part| self.on_card().values_at(part, cells));
            let [attention, mixer] = both;
            self.ledger.beside = Some([attention?, mixer?]);
        }
        Ok(())
    }

    /// The sum of the two as it is added, with the factor on it; none where a norm came between, and the
    /// sum stands as the mixer's.
    pub(super) fn added_beside(&mut self, sum: &B::Tensor, factor: Option<f32>) -> Result<()> {
        let (Some(both), Some(factor)) = (self.ledger.beside.take(), factor) else {
            return self.added(Step::Mixer, sum);
        };
        let [attention, mixer] =
            both.map(|part| part.iter().map(|v| v * factor).collect::<Vec<_>>());
        let sum = self.on_card().values_at(sum, &self.ledger.cells)?;
        for (known, value) in self.ledger.known.iter_mut().zip(sum) {
            *known += value;
        }
        self.tell(Step::Attention, &attention);
        self.tell(Step::Mixer, &mixer);
        Ok(())
    }

    /// The stream after something that was not an addition.
    pub(super) fn changed(&mut self, step: Step, hidden: &B::Tensor) -> Result<()> {
        if !self.follows() {
            return Ok(());
        }
        let now = self.on_card().values_at(hidden, &self.ledger.cells)?;
        let known = std::mem::replace(&mut self.ledger.known, now.clone());
        let change: Vec<f32> = now.iter().zip(known).map(|(now, was)| now - was).collect();
        self.tell(step, &change);
        Ok(())
    }

    /// The layer's output.
    pub(super) fn end(&mut self, hidden: &B::Tensor) -> Result<()> {
        if !self.follows() {
            return Ok(());
        }
        let values = self.on_card().values_at(hidden, &self.ledger.cells)?;
        self.tell(Step::Output, &values);
        self.rows(Step::Output, hidden)
    }

    /// What a down projection of all rows reads and makes.
    pub(super) fn source(
        &mut self,
        source: Source,
        inner: &B::Tensor,
        output: &B::Tensor,
    ) -> Result<()> {
        if !self.follows() {
            return Ok(());
        }
        let (inner, output) = (self.followed(inner)?, self.followed(output)?);
        for index in 0..self.ledger.rows.len() {
            self.source_of(index, source, &inner[index], &output[index])?;
        }
        Ok(())
    }

    /// The same of one followed row, by its index among them.
    pub(super) fn source_of(
        &mut self,
        index: usize,
        source: Source,
        inner: &[f32],
        output: &[f32],
    ) -> Result<()> {
        let (sequence, position, _) = self.ledger.rows[index];
        let place = (self.ledger.layer, sequence, position);
        self.observer.source(place, source, inner, output)
    }

    /// The followed rows of a tensor, each a tensor.
    pub(super) fn row_tensors(&self, tensor: &B::Tensor) -> Result<Vec<B::Tensor>> {
        let rows = self.ledger.rows.iter();
        rows.map(|(_, _, row)| self.on_card().gather_rows(tensor, &[*row]))
            .collect()
    }

    /// The followed rows of a tensor.
    fn followed(&self, tensor: &B::Tensor) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<usize> = self.ledger.rows.iter().map(|(_, _, row)| *row).collect();
        let rows = self.on_card().gather_rows(tensor, &rows)?;
        let values = self.on_card().download(&rows)?;
        let columns = self.on_card().columns(&rows);
        Ok(values.chunks_exact(columns).map(<[f32]>::to_vec).collect())
    }

    fn rows(&mut self, step: Step, hidden: &B::Tensor) -> Result<()> {
        let rows = self.followed(hidden)?;
        for ((sequence, position, _), row) in self.ledger.rows.iter().zip(rows) {
            let place = (self.ledger.layer, *sequence, *position);
            self.observer.row(place, step, &row);
        }
        Ok(())
    }

    fn tell(&mut self, step: Step, values: &[f32]) {
        for (sequence, cells) in &self.ledger.sequences {
            let place = (self.ledger.layer, *sequence);
            self.observer.step(place, step, &values[cells.clone()]);
        }
    }
}
