//! Compressed tokens that a layer's queries see beside those of their window.
//!
//! Entries become keys in front of a sequence's tokens, and a mask says which keys a query sees: so the same
//! attention runs as everywhere. Rows of entries are queries that see nothing, and are dropped.
#![forbid(unsafe_code)]

use super::{
    parts::{Projection, load_norm},
    pass::Pass,
};
use crate::{
    backend::{
        AttentionMaps, AttentionOutput, AttentionRequest, Backend, NormWeights, Rotation, Rows,
        Target, entries_of, with_entries,
    },
    error::Result,
    model::{
        Model,
        rope::RopeTable,
        spec::{Compressed, Compressor, EntryChoice},
    },
};

/// What makes a layer's entries and chooses among them, on the device.
pub(super) struct CompressedWeights<'m, B: Backend> {
    spec: &'m Compressed,
    entries: CompressorWeights<'m, B>,
    choice: Option<ChoiceWeights<'m, B>>,
}

struct CompressorWeights<'m, B: Backend> {
    spec: &'m Compressor,
    values: Projection<'m, B>,
    gate: Projection<'m, B>,
    bias: B::Vector,
    norm: NormWeights<B::Vector>,
}

struct ChoiceWeights<'m, B: Backend> {
    spec: &'m EntryChoice,
    q: Projection<'m, B>,
    weights: Projection<'m, B>,
    entries: CompressorWeights<'m, B>,
}

/// The entries of a micro-batch.
pub(super) struct Entries<B: Backend> {
    keys: B::Tensor,
    /// Those that each token sees; none for all that are finished.
    choice: Option<B::KeyMask>,
}

impl<'m, B: Backend> CompressorWeights<'m, B> {
    fn load(backend: &B, model: &'m Model, spec: &'m Compressor) -> Result<Self> {
        Ok(Self {
            spec,
            values: Projection::load(backend, model, &spec.values)?,
            gate: Projection::load(backend, model, &spec.gate)?,
            bias: backend.vector(model.vector(&spec.bias)?)?,
            norm: load_norm(backend, model, &spec.norm)?,
        })
    }

    /// The entries, rotated from dimension `first` on by their first tokens' positions.
    fn run(
        &self,
        pass: &Pass<'_, '_, B>,
        input: &B::Tensor,
        rate: usize,
        tables: &[&RopeTable],
    ) -> Result<B::Tensor> {
        let (backend, rows) = (pass.forward.backend, &pass.batch.rows);
        let values = self.values.apply(backend, input)?;
        let gate = self.gate.apply(backend, input)?;
        let overlaps = self.spec.overlaps;
        let made = backend.compress(&values, &gate, &self.bias, rows, rate, overlaps)?;
        let mut made = backend.norm(&made, &self.norm, Target::Part)?;
        let rotation = last(backend.columns(&made), tables).every(rate);
        let entries = entries_of(rows, rate).into_iter().zip(tables);
        let (entries, tables): (Vec<Rows>, Vec<&RopeTable>) =
            entries.filter(|(entries, _)| !entries.is_empty()).unzip();
        backend.rotate(&mut made, &entries, rotation, &tables)?;
        Ok(made)
    }
}

/// The last dimensions of heads of this width.
fn last(head_dim: usize, tables: &[&RopeTable]) -> Rotation {
    let rotated = tables.first().map_or(0, |table| 2 * table.pairs());
    Rotation::new(head_dim, head_dim - rotated)
}

impl<'m, B: Backend> CompressedWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Compressed) -> Result<Self> {
        let choice = spec.choice.as_ref().map(|choice| {
            // Scores are only compared with each other.
            let load = |linear| {
                model.check_finite(linear)?;
                Projection::load(backend, model, linear)
            };
            model.check_finite(&choice.entries.values)?;
            model.check_finite(&choice.entries.gate)?;
            model.check_finite_norm(&choice.entries.norm)?;
            Ok(ChoiceWeights {
                spec: choice,
                q: load(&choice.q)?,
                weights: load(&choice.weights)?,
                entries: CompressorWeights::load(backend, model, &choice.entries)?,
            })
        });
        Ok(Self {
            spec,
            entries: CompressorWeights::load(backend, model, &spec.entries)?,
            choice: choice.transpose()?,
        })
    }

    /// The entries of a micro-batch, given the middle of the query projection and the layer's input; none
    /// where no sequence is long enough for one. `rope` is the layer's.
    pub(super) fn entries(
        &self,
        pass: &Pass<'_, '_, B>,
        middle: &B::Tensor,
        input: &B::Tensor,
        rope: usize,
    ) -> Result<Option<Entries<B>>> {
        let (backend, rows) = (pass.forward.backend, &pass.batch.rows);
        let rate = self.spec.rate;
        let entries = entries_of(rows, rate);
        let most = entries.iter().map(Rows::len).max().unwrap_or(0);
        if most == 0 {
            return Ok(None);
        }
        let tables = pass.forward.rope_tables(rope, pass.batch);
        let keys = self.entries.run(pass, input, rate, &tables)?;
        let choice = match &self.choice {
            Some(choice) if choice.spec.most < most => {
                let mut q = choice.q.apply(backend, middle)?;
                let rotation = last(choice.spec.head_dim, &tables);
                backend.rotate(&mut q, rows, rotation, &tables)?;
                let k = choice.entries.run(pass, input, rate, &tables)?;
                let weights = choice.weights.apply(backend, input)?;
                let keys = (&entries[..], rate);
                // Its factors on products and weights change no order.
                let chosen = backend.choose_keys(&q, &k, &weights, rows, keys, choice.spec.most)?;
                Some(chosen)
            }
            _ => None,
        };
        Ok(Some(Entries { keys, choice }))
    }

    /// Attention to entries and tokens: as `request` asks, whose window is of tokens alone. Keys are values.
    pub(super) fn attend(
        &self,
        backend: &B,
        q: &B::Tensor,
        k: &B::Tensor,
        entries: &Entries<B>,
        sequences: &[Rows],
        request: AttentionRequest<'_, B::Vector, B::KeyMask>,
    ) -> Result<AttentionOutput<B::Tensor>> {
        let rate = self.spec.rate;
        let (own, both) = (entries_of(sequences, rate), with_entries(sequences, rate));
        let total = own.last().map_or(0, |rows| rows.end);
        let (mut keys, mut queries, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for ((rows, own), both) in sequences.iter().zip(&own).zip(&both) {
            keys.extend(own.clone().chain(total + rows.start..total + rows.end));
            // Which queries rows of entries have does not matter.
            queries.extend(std::iter::repeat_n(rows.start, own.len()).chain(rows.clone()));
            tokens.extend(both.start + own.len()..both.end);
        }
        let k = backend.gather_both(&entries.keys, k, &keys)?;
        let q = backend.gather_rows(q, &queries)?;
        let mask = backend.see_entries(sequences, rate, request.window, entries.choice.as_ref())?;
        let subset: Option<Vec<Vec<usize>>> = request.subset.map(|subset| {
            let shifted = subset.iter().zip(&own);
            shifted
                .map(|(keys, own)| keys.iter().map(|key| own.len() + key).collect())
                .collect()
        });
        let request = AttentionRequest {
            window: None,
            chosen: Some(&mask),
            subset: subset.as_deref(),
            ..request
        };
        let found = backend.attention(&q, &k, &k, &both, &request)?;
        Ok(AttentionOutput {
            context: backend.gather_rows(&found.context, &tokens)?,
            parts: found
                .parts
                .map(|parts| parts.map(|part| backend.gather_rows(&part, &tokens)))
                .transpose()?,
            maps: found
                .maps
                .into_iter()
                .zip(&own)
                .map(|(maps, own)| of_tokens(maps, own.len(), request.heads))
                .collect(),
        })
    }
}

/// Maps without the rows and columns of the `entries` in front. The largest logit is of all keys.
fn of_tokens(maps: AttentionMaps, entries: usize, heads: usize) -> AttentionMaps {
    let square = |map: Option<Vec<f32>>, count: usize| {
        map.map(|map| {
            let side = (map.len() / count).isqrt();
            let maps = map.chunks_exact((side * side).max(1));
            let rows = maps.flat_map(|map| map.chunks_exact(side).skip(entries));
            rows.flat_map(|row| &row[entries..]).copied().collect()
        })
    };
    AttentionMaps {
        probs_mean: square(maps.probs_mean, 1),
        logits_mean: square(maps.logits_mean, 1),
        probs: square(maps.probs, heads),
        logits: square(maps.logits, heads),
        sink_mass: maps.sink_mass.map(|mass| {
            let rows = mass.chunks_exact(mass.len() / heads);
            rows.flat_map(|row| &row[entries..]).copied().collect()
        }),
        viewers: maps.viewers.map(|viewers| viewers[entries..].to_vec()),
        max_logit: maps.max_logit,
    }
}
