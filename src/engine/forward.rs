//! What every layer of a run shares, and what comes before the first and after the last.
#![forbid(unsafe_code)]

use std::{collections::HashMap, ops::Range, rc::Rc};

use super::{
    batch::Batch,
    connections::ConnectionWeights,
    likelihood::Predictions,
    parts::{Projection, load_norm},
    plan::Plan,
    probe::Probe,
    site::Site,
};
use crate::{
    backend::{Backend, HeadRequest, Target},
    error::{Error, Result},
    model::{
        Model,
        rope::RopeTable,
        spec::{LEAST_MEAN_SQUARE, Linear},
    },
};

/// Context of one run, on one card.
pub(super) struct Forward<'r, B: Backend> {
    pub(super) backend: &'r B,
    pub(super) model: &'r Model,
    pub(super) plan: &'r Plan,
    /// All sequences of the run.
    sequences: &'r [Vec<u32>],
    /// By rope index and the sequence length it is for.
    tables: Rc<HashMap<(usize, usize), RopeTable>>,
    longest: usize,
    /// Rows that an MLP computes at once.
    pub(super) mlp_rows: usize,
}

/// The head of one micro-batch, which may still be computed.
pub(super) struct HeadStarted<B: Backend> {
    /// With what the likelihoods are read of; none where no row predicts.
    nll: Option<(Predictions, Option<B::Vector>)>,
    logits: Option<B::Tensor>,
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
        all: &'r [Vec<u32>],
        part: Range<usize>,
        mlp_rows: usize,
    ) -> Self {
        let sequences = &all[part];
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let mut forward = Self {
            backend,
            model,
            plan,
            sequences: all,
            tables: Rc::default(),
            longest,
            mlp_rows,
        };
        let mut tables = HashMap::new();
        for (index, rope) in model.spec.ropes.iter().enumerate() {
            for sequence in sequences {
                let length = forward.table_length(index, sequence.len());
                tables
                    .entry((index, length))
                    .or_insert_with(|| rope.table(length));
            }
        }
        forward.tables = Rc::new(tables);
        forward
    }

    /// The same on another card.
    pub(super) fn on(&self, backend: &'r B) -> Self {
        Self {
            backend,
            tables: Rc::clone(&self.tables),
            ..*self
        }
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

    /// The tokens of a micro-batch, one after the other.
    pub(super) fn tokens(&self, batch: &Batch) -> Vec<usize> {
        let tokens = batch.tokens(self.sequences).flatten();
        tokens.map(|id| *id as usize).collect()
    }

    /// The residual stream before the first layer.
    pub(super) fn embed(&self, batch: &Batch) -> Result<B::Tensor> {
        let spec = &self.model.spec.embedding;
        let tokens = self.tokens(batch);
        let (table, scale) = (self.model.token_embedding()?, self.model.embedding_scale()?);
        let mut x = self.backend.embed(&table, spec.width, &tokens, scale)?;
        if let Some(projection) = &spec.projection {
            x = Projection::load(self.backend, self.model, projection)?
                .to_stream(self.backend, &x)?;
        }
        if let Some(table) = self.model.position_embedding()? {
            let width = self.model.spec.hidden_size;
            let positions = batch.rows.iter().flat_map(|rows| 0..rows.len());
            let positions: Vec<usize> = positions.collect();
            let positions = self.backend.embed(&table, width, &positions, 1.0)?;
            self.backend.add(&mut x, &positions)?;
        }
        if let Some(norm) = &spec.norm {
            let norm = load_norm(self.backend, self.model, norm)?;
            x = self.backend.norm(&x, &norm, Target::Stream)?;
        }
        Ok(x)
    }

    /// What the first layer reads of the embedding: as many copies of it as there are streams to hand on.
    pub(super) fn spread(&self, embedding: B::Tensor) -> Result<B::Tensor> {
        match self.model.spec.streams() {
            1 => Ok(embedding),
            count => self.backend.spread(&embedding, count),
        }
    }

    /// The other residual streams before the first layer, given the first.
    pub(super) fn other_streams(&self, hidden: &B::Tensor) -> Result<Vec<B::Tensor>> {
        let others = self.model.spec.embedding.others.as_ref();
        let begin = others.into_iter().flat_map(|others| &others.begin);
        begin
            .map(|linear| self.projected(linear, hidden, hidden))
            .collect()
    }

    /// What the final norm reads: the mean of all streams, or a sum with weights of their own, as far as
    /// there is more than one.
    pub(super) fn joined(
        &self,
        mut hidden: B::Tensor,
        others: Vec<B::Tensor>,
    ) -> Result<B::Tensor> {
        if let Some(streams) = &self.model.spec.embedding.streams {
            let collapse = &streams.collapse;
            let collapse = ConnectionWeights::load(self.backend, self.model, collapse)?;
            return Ok(collapse.read(self.backend, &hidden)?.1);
        }
        let Some(spec) = &self.model.spec.embedding.others else {
            return Ok(hidden);
        };
        let share = 1.0 / (1 + others.len()) as f32;
        let ends = spec.end.iter().zip(&others);
        let ends: Vec<B::Tensor> = ends
            .map(|(linear, other)| self.projected(linear, other, &hidden))
            .collect::<Result<_>>()?;
        for end in &ends {
            self.backend.add(&mut hidden, end)?;
        }
        self.backend.affine(&mut hidden, share, 0.0)?;
        Ok(hidden)
    }

    /// A projection between streams, in the magnitude of the first one.
    fn projected(&self, linear: &Linear, x: &B::Tensor, first: &B::Tensor) -> Result<B::Tensor> {
        let projection = Projection::load(self.backend, self.model, linear)?;
        let mut projected = projection.to_stream(self.backend, x)?;
        self.backend
            .match_magnitude(&mut projected, first, LEAST_MEAN_SQUARE)?;
        Ok(projected)
    }

    /// Starts final norm and head, as far as the plan asks for them.
    pub(super) fn start_head(
        &self,
        batch: &Batch,
        hidden: B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<HeadStarted<B>> {
        let mut normed = match &self.model.spec.final_norm {
            Some(norm) => {
                let norm = load_norm(self.backend, self.model, norm)?;
                self.backend.norm(&hidden, &norm, Target::Part)?
            }
            None => hidden,
        };
        batch.edit(self.backend, (Site::FinalNorm, 0), &mut normed)?;
        probe.observe(Site::FinalNorm, 0, batch, &normed)?;
        let normed = match &self.model.spec.head.projection {
            Some(projection) if self.plan.needs_head() => {
                Projection::load(self.backend, self.model, projection)?
                    .apply(self.backend, &normed)?
            }
            _ => normed,
        };
        let nll = self.plan.nll.then(|| self.start_nll(batch, &normed));
        let looks = self.plan.last_logits > 0 && batch.observed;
        let logits = looks.then(|| self.start_last_logits(batch, &normed));
        Ok(HeadStarted {
            nll: nll.transpose()?,
            logits: logits.transpose()?,
        })
    }

    fn start_nll(
        &self,
        batch: &Batch,
        normed: &B::Tensor,
    ) -> Result<(Predictions, Option<B::Vector>)> {
        let predictions = Predictions::of(self.plan, batch, self.sequences);
        let (head, targets) = (self.head_request()?, &predictions.targets);
        let backend = self.backend;
        let started = match &predictions.rows {
            Some(rows) if rows.is_empty() => None,
            Some(rows) => {
                let predicting = backend.gather_rows(normed, rows)?;
                Some(backend.start_token_nll(&predicting, &head, targets)?)
            }
            None => Some(backend.start_token_nll(normed, &head, targets)?),
        };
        Ok((predictions, started))
    }

    /// Waits for the head of a micro-batch.
    pub(super) fn read_head(&self, batch: &Batch, started: HeadStarted<B>) -> Result<HeadResult> {
        let mut result = HeadResult {
            token_nll: Vec::new(),
            last_logits: Vec::new(),
        };
        if let Some((predictions, started)) = started.nll {
            let targets = &predictions.targets;
            let nll = started.map(|started| self.backend.read_token_nll(&started, targets));
            result.token_nll = predictions.by_sequence(&nll.transpose()?.unwrap_or_default());
            if batch.observed {
                for (sequence, nll) in batch.sequences.iter().zip(&result.token_nll) {
                    self.check_head("likelihoods", *sequence, nll)?;
                }
            }
        }
        if let Some(logits) = started.logits {
            result.last_logits = self.last_logits(batch, &logits)?;
        }
        Ok(result)
    }

    fn head_request(&self) -> Result<HeadRequest<'r, B::Vector>> {
        let head = &self.model.spec.head;
        let bias = self.model.bias(&head.linear)?;
        Ok(HeadRequest {
            weight: self.model.head()?,
            bias: bias.map(|bias| self.backend.vector(bias)).transpose()?,
            scale: head.scale,
            soft_cap: head.soft_cap,
        })
    }

    /// Products for the first `last_logits` logits of each sequence's last position.
    fn start_last_logits(&self, batch: &Batch, normed: &B::Tensor) -> Result<B::Tensor> {
        let last: Vec<usize> = batch.rows.iter().map(|rows| rows.end - 1).collect();
        let last = self.backend.gather_rows(normed, &last)?;
        let head = self.model.head()?;
        let weight = self.backend.matrix(head.outputs(0, self.logits()))?;
        self.backend.linear(&last, &weight, None, Target::Part)
    }

    /// How many logits of a position are reported.
    fn logits(&self) -> usize {
        self.plan.last_logits.min(self.model.spec.vocab_size)
    }

    /// The logits that the products become.
    fn last_logits(&self, batch: &Batch, products: &B::Tensor) -> Result<Vec<Vec<f32>>> {
        let (spec, count) = (&self.model.spec, self.logits());
        let mut logits = self.backend.download(products)?;
        let bias = self.model.bias(&spec.head.linear)?;
        let bias = bias.unwrap_or_else(|| vec![0.0; count]);
        for row in logits.chunks_exact_mut(count) {
            for (logit, bias) in row.iter_mut().zip(&bias) {
                *logit = (*logit + bias) * spec.head.scale;
                if let Some(cap) = spec.head.soft_cap {
                    *logit = cap * (*logit / cap).tanh();
                }
            }
        }
        let logits: Vec<Vec<f32>> = logits.chunks_exact(count).map(<[f32]>::to_vec).collect();
        for (sequence, logits) in batch.sequences.iter().zip(&logits) {
            self.check_head("logits", *sequence, logits)?;
        }
        Ok(logits)
    }

    fn check_head(&self, what: &str, sequence: usize, values: &[f32]) -> Result<()> {
        if values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let precision = self.backend.precision();
        Err(Error::new(
            "language-model head",
            format!("{what} of sequence {sequence} are infinite or not numbers in {precision}"),
        )
        .remedy(precision.overflow_remedy()))
    }
}
