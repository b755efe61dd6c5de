//! What every layer of a run shares, and what comes before the first and after the last.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::{layer::load_norm, plan::Plan, probe::Probe, schedule::Batch, site::Site};
use crate::{
    backend::Backend,
    error::{Error, Result},
    model::{Model, rope::RopeTable},
};

/// Context of one run.
pub(super) struct Forward<'r, B: Backend> {
    pub(super) backend: &'r B,
    pub(super) model: &'r Model,
    pub(super) plan: &'r Plan,
    /// By rope index and the sequence length it is for.
    tables: HashMap<(usize, usize), RopeTable>,
    longest: usize,
}

/// NLL and logits of the sequences of one micro-batch.
pub(super) struct HeadResult {
    pub(super) token_nll: Vec<Vec<f32>>,
    pub(super) last_logits: Vec<Vec<f32>>,
}

impl<'r, B: Backend> Forward<'r, B> {
    pub(super) fn new(
        backend: &'r B,
        model: &'r Model,
        plan: &'r Plan,
        sequences: &[Vec<u32>],
    ) -> Self {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let mut forward = Self {
            backend,
            model,
            plan,
            tables: HashMap::new(),
            longest,
        };
        for (index, rope) in model.spec.ropes.iter().enumerate() {
            for sequence in sequences {
                let length = forward.table_length(index, sequence.len());
                forward
                    .tables
                    .entry((index, length))
                    .or_insert_with(|| rope.table(length));
            }
        }
        forward
    }

    /// One table serves every sequence, unless the frequencies depend on the length.
    fn table_length(&self, rope: usize, length: usize) -> usize {
        if self.model.spec.ropes[rope].depends_on_length() {
            length
        } else {
            self.longest
        }
    }

    /// The rotations for each sequence of a micro-batch.
    pub(super) fn rope_tables(&self, rope: usize, batch: &Batch) -> Vec<&RopeTable> {
        batch
            .rows
            .iter()
            .map(|rows| &self.tables[&(rope, self.table_length(rope, rows.len()))])
            .collect()
    }

    /// The residual stream before the first layer.
    pub(super) fn embed(&self, sequences: &[Vec<u32>]) -> Result<B::Tensor> {
        let width = self.model.spec.hidden_size;
        let table = self.model.token_embedding()?;
        let rows: usize = sequences.iter().map(Vec::len).sum();
        let mut values = vec![0.0; rows * width];
        for (token, out) in sequences
            .iter()
            .flatten()
            .zip(values.chunks_exact_mut(width))
        {
            let start = *token as usize * width;
            table.slice(start, start + width).write_f32(out);
        }
        if let Some(table) = self.model.position_embedding()? {
            let positions = sequences.iter().flat_map(|sequence| 0..sequence.len());
            let mut learned = vec![0.0; width];
            for (position, out) in positions.zip(values.chunks_exact_mut(width)) {
                let start = position * width;
                table.slice(start, start + width).write_f32(&mut learned);
                for (out, learned) in out.iter_mut().zip(&learned) {
                    *out += learned;
                }
            }
        }
        self.backend.upload(rows, width, values)
    }

    /// Final norm and head, as far as the plan asks for them.
    pub(super) fn head(
        &self,
        batch: &Batch,
        sequences: &[Vec<u32>],
        hidden: B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<HeadResult> {
        let normed = match &self.model.spec.final_norm {
            Some(norm) => self
                .backend
                .norm(&hidden, &load_norm(self.backend, self.model, norm)?)?,
            None => hidden,
        };
        probe.observe(Site::FinalNorm, 0, batch, &normed)?;
        let mut result = HeadResult {
            token_nll: Vec::new(),
            last_logits: Vec::new(),
        };
        if self.plan.nll {
            let targets: Vec<Option<u32>> = sequences
                .iter()
                .flat_map(|tokens| {
                    let next = tokens.iter().skip(1).copied().map(Some);
                    next.chain([None]).take(tokens.len())
                })
                .collect();
            let nll = self
                .backend
                .token_nll(&normed, self.model.head()?, &targets)?;
            for (index, rows) in batch.rows.iter().enumerate() {
                let nll = nll[rows.start..rows.end - 1].to_vec();
                check_head("likelihoods", batch.first_sequence + index, &nll)?;
                result.token_nll.push(nll);
            }
        }
        if self.plan.last_logits > 0 {
            result.last_logits = self.last_logits(batch, &normed)?;
        }
        Ok(result)
    }

    /// The first `last_logits` logits of each sequence's last position.
    fn last_logits(&self, batch: &Batch, normed: &B::Tensor) -> Result<Vec<Vec<f32>>> {
        let width = self.model.spec.hidden_size;
        let values = self.backend.download(normed)?;
        let last: Vec<f32> = batch
            .rows
            .iter()
            .flat_map(|rows| &values[(rows.end - 1) * width..rows.end * width])
            .copied()
            .collect();
        let last = self.backend.upload(batch.rows.len(), width, last)?;
        let count = self.plan.last_logits.min(self.model.spec.vocab_size);
        let head = self.backend.matrix(self.model.head()?.outputs(0, count))?;
        let logits = self
            .backend
            .download(&self.backend.linear(&last, &head, None)?)?;
        let logits: Vec<Vec<f32>> = logits.chunks_exact(count).map(<[f32]>::to_vec).collect();
        for (index, logits) in logits.iter().enumerate() {
            check_head("logits", batch.first_sequence + index, logits)?;
        }
        Ok(logits)
    }
}

fn check_head(what: &str, sequence: usize, values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(Error::new(
        "language-model head",
        format!("{what} of sequence {sequence} are infinite or not numbers in float32"),
    )
    .remedy("the checkpoint's weights are damaged or overflowed when they were saved; get it in another dtype or revision"))
}
