//! Self-attention of one layer.
#![forbid(unsafe_code)]

use std::rc::Rc;

use super::{
    compressed::{CompressedWeights, Entries},
    heads::HeadProjections,
    indexer::IndexerWeights,
    parts::{Projection, load_norm},
    pass::Pass,
    probe::Probe,
    read::Read,
    site::Site,
    stream::Carried,
};
use crate::{
    backend::{AttentionRequest, Backend, KvBias, NormWeights, Rotation, Target, Tensors},
    error::Result,
    model::{
        Model,
        spec::{Attention, LowRank, Norm, Projections},
    },
};

/// A layer's attention on the device.
pub(super) struct AttentionWeights<'m, B: Backend> {
    spec: &'m Attention,
    projections: QkvWeights<'m, B>,
    qk_norm: Option<[NormWeights<B::Vector>; 2]>,
    value_norm: Option<NormWeights<B::Vector>>,
    /// Whether later layers read its keys and values again.
    read_again: bool,
    indexer: Option<IndexerWeights<'m, B>>,
    compressed: Option<CompressedWeights<'m, B>>,
    sinks: Option<B::Vector>,
    /// Extra key and value.
    kv_bias: Option<[B::Vector; 2]>,
    gate: Option<Projection<'m, B>>,
    /// Of each group of heads.
    grouped: Option<Vec<Projection<'m, B>>>,
    o: Projection<'m, B>,
}

/// How queries, keys and values are made.
enum QkvWeights<'m, B: Backend> {
    /// Side by side, where nothing but this rotation happens to them before they meet.
    Joined(Projection<'m, B>, usize),
    Direct(DirectWeights<'m, B>),
    Latent(Box<LatentWeights<'m, B>>),
    Shared(SharedWeights<'m, B>),
    KeysAsValues {
        q: LowRankWeights<'m, B>,
        k: Projection<'m, B>,
    },
}

/// A projection each; values without one are what the keys' gives.
struct DirectWeights<'m, B: Backend> {
    q: Projection<'m, B>,
    k: Projection<'m, B>,
    v: Option<Projection<'m, B>>,
}

/// Queries for the keys and values of an earlier layer.
struct SharedWeights<'m, B: Backend> {
    q: Projection<'m, B>,
    norm: Option<NormWeights<B::Vector>>,
    from: usize,
}

/// Multi-head latent attention.
struct LatentWeights<'m, B: Backend> {
    q: LowRankWeights<'m, B>,
    compress: Projection<'m, B>,
    norm: NormWeights<B::Vector>,
    k: Projection<'m, B>,
    v: Projection<'m, B>,
    k_rope: Projection<'m, B>,
}

/// Queries, keys and values, and the entries that stand for several tokens.
type WithEntries<B> = (<B as Tensors>::Tensor, Source<B>, Option<Entries<B>>);

/// Where keys and values come from.
enum Source<B: Backend> {
    Own([B::Tensor; 2]),
    /// An earlier layer left them.
    Layer(usize),
    /// The same, changed for this layer.
    Edited([B::Tensor; 2]),
}

/// A projection, perhaps through a narrow middle.
struct LowRankWeights<'m, B: Backend> {
    narrow: Option<(Projection<'m, B>, NormWeights<B::Vector>)>,
    last: Projection<'m, B>,
}

impl<'m, B: Backend> LowRankWeights<'m, B> {
    fn load(backend: &B, model: &'m Model, spec: &LowRank) -> Result<Self> {
        Ok(match spec {
            LowRank::Full(linear) => Self {
                narrow: None,
                last: Projection::load(backend, model, linear)?,
            },
            LowRank::Factored { down, norm, up } => Self {
                narrow: Some((
                    Projection::load(backend, model, down)?,
                    load_norm(backend, model, norm)?,
                )),
                last: Projection::load(backend, model, up)?,
            },
        })
    }

    /// The narrow middle, where there is one.
    fn narrow(&self, backend: &B, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        let narrow = self.narrow.as_ref().map(|(down, norm)| {
            let narrow = down.apply(backend, x)?;
            backend.norm(&narrow, norm, Target::Part)
        });
        narrow.transpose()
    }
}

impl<'m, B: Backend> AttentionWeights<'m, B> {
    /// Puts those of layer `index` on the device.
    pub(super) fn load(
        backend: &B,
        model: &'m Model,
        index: usize,
        spec: &'m Attention,
    ) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let qk_norm = spec.qk_norm.as_ref().map(|norm| {
            Ok([
                load_norm(backend, model, &norm.q)?,
                load_norm(backend, model, &norm.k)?,
            ])
        });
        let norm = |norm: &Option<Norm>| {
            let norm = norm.as_ref();
            norm.map(|norm| load_norm(backend, model, norm)).transpose()
        };
        let sinks = spec.sinks.as_ref();
        let sinks = sinks.map(|sinks| backend.vector(model.vector(sinks)?));
        let kv_bias = model
            .kv_bias(spec)?
            .map(|[k, v]| Ok([backend.vector(k)?, backend.vector(v)?]));
        Ok(Self {
            spec,
            projections: match &spec.projections {
                Projections::Direct { q, k, v } => {
                    let rope = only_rotation(spec).filter(|_| v != k);
                    let joined = rope.map(|_| Projection::joined(backend, model, &[q, k, v]));
                    match joined.transpose()?.flatten().zip(rope) {
                        Some((joined, rope)) => QkvWeights::Joined(joined, rope),
                        None => QkvWeights::Direct(DirectWeights {
                            q: load(q)?,
                            k: load(k)?,
                            v: (v != k).then(|| load(v)).transpose()?,
                        }),
                    }
                }
                Projections::Shared { q, norm: own, from } => QkvWeights::Shared(SharedWeights {
                    q: load(q)?,
                    norm: norm(own)?,
                    from: *from,
                }),
                Projections::KeysAsValues { q, k } => QkvWeights::KeysAsValues {
                    q: LowRankWeights::load(backend, model, q)?,
                    k: load(k)?,
                },
                Projections::Latent(latent) => QkvWeights::Latent(Box::new(LatentWeights {
                    q: LowRankWeights::load(backend, model, &latent.q)?,
                    compress: load(&latent.compress)?,
                    norm: load_norm(backend, model, &latent.norm)?,
                    k: load(&latent.k)?,
                    v: load(&latent.v)?,
                    k_rope: load(&latent.k_rope)?,
                })),
            },
            qk_norm: qk_norm.transpose()?,
            value_norm: norm(&spec.value_norm)?,
            read_again: model.spec.shares_keys_of(index),
            indexer: spec
                .indexer()
                .map(|indexer| IndexerWeights::load(backend, model, indexer))
                .transpose()?,
            compressed: spec
                .compressed
                .as_ref()
                .map(|compressed| CompressedWeights::load(backend, model, compressed))
                .transpose()?,
            sinks: sinks.transpose()?,
            kv_bias: kv_bias.transpose()?,
            gate: spec.gate.as_ref().map(load).transpose()?,
            grouped: spec
                .grouped
                .as_ref()
                .map(|grouped| {
                    let groups = (0..grouped.groups)
                        .map(|group| Projection::load(backend, model, &grouped.of(group)));
                    groups.collect::<Result<_>>()
                })
                .transpose()?,
            o: load(&spec.o)?,
        })
    }

    /// What attention adds to the residual stream. Its input is dropped before queries meet keys, unless a gate reads
    /// it.
    pub(super) fn run(
        &self,
        pass: &Pass<'_, '_, B>,
        read: Read<'_, B::Tensor>,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let spec = self.spec;
        let input = read.get();
        let mut entries = None;
        let (mut q, mut source) = match &self.projections {
            QkvWeights::KeysAsValues { q, k } => {
                let (q, source, own) = self.keys_as_values(pass, q, k, input)?;
                entries = own;
                (q, source)
            }
            QkvWeights::Joined(weights, rope) => self.joined(pass, weights, *rope, input)?,
            QkvWeights::Direct(weights) => self.direct(pass, weights, input)?,
            QkvWeights::Latent(latent) => self.latent(pass, latent, input, carried)?,
            QkvWeights::Shared(weights) => self.shared(pass, weights, input)?,
        };
        // Without a gate this drops it.
        let gated = self.gate.as_ref().map(|gate| (gate, read));
        self.grow(pass, &mut q)?;
        pass.edit(Site::Q, &mut q)?;
        if let Source::Layer(layer) = &source
            && (pass.edits(Site::K) || pass.edits(Site::V))
        {
            // A copy: later layers read them again.
            let [k, v] = carried.of(*layer)?;
            source = Source::Edited([backend.duplicate(k)?, backend.duplicate(v)?]);
        }
        if let Source::Own([k, v]) | Source::Edited([k, v]) = &mut source {
            pass.edit(Site::K, k)?;
            pass.edit(Site::V, v)?;
        }
        let [k, v] = match &source {
            Source::Own(own) | Source::Edited(own) => own,
            Source::Layer(layer) => carried.of(*layer)?,
        };
        for (site, tensor) in [(Site::Q, &q), (Site::K, k), (Site::V, v)] {
            pass.observe(probe, site, tensor)?;
        }
        let request = AttentionRequest {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            scale: spec.scale,
            window: spec.window,
            chunk: spec.chunk,
            chosen: spec.choice.as_ref().and(carried.choice.as_deref()),
            soft_cap: spec.soft_cap,
            alibi: spec.alibi.as_ref(),
            sinks: self.sinks.as_ref(),
            kv_bias: self.kv_bias.as_ref().map(|[k, v]| KvBias { k, v }),
            capture: pass.capture(),
            subset: pass.keys(),
        };
        let rows = &pass.batch.rows;
        let mut found = match self.compressed.as_ref().zip(entries) {
            Some((compressed, entries)) => {
                compressed.attend(backend, &q, k, &entries, rows, request)?
            }
            None => backend.attention(&q, k, v, rows, &request)?,
        };
        // Its memory is the output's.
        drop(q);
        probe.attention(pass.index, pass.batch, std::mem::take(&mut found.maps))?;
        if let Source::Own(own) = source
            && self.read_again
        {
            carried.keep(pass.index, own);
        }
        if let Some((gate, read)) = gated {
            let mut gate = gate.apply(backend, read.get())?;
            drop(read);
            backend.activate(&mut gate, spec.gate_activation)?;
            pass.edit(Site::AttentionGate, &mut gate)?;
            pass.observe(probe, Site::AttentionGate, &gate)?;
            for outputs in found.outputs() {
                if backend.columns(&gate) == backend.columns(outputs) {
                    backend.multiply(outputs, &gate)?;
                } else {
                    backend.multiply_heads(outputs, &gate)?;
                }
            }
        }
        for outputs in found.outputs() {
            pass.switch_off(spec.heads, outputs)?;
            if self.spec.rotates_back {
                self.rotate_back(pass, outputs)?;
            }
        }
        if pass.forward.plan.head_outputs && pass.batch.observed {
            let projections = HeadProjections {
                heads: spec.heads,
                groups: self.grouped.as_deref(),
                o: &self.o,
            };
            projections.tell(pass, probe, &found.context, found.parts.as_ref())?;
        }
        for outputs in found.outputs() {
            if let Some(groups) = &self.grouped {
                *outputs = in_groups(backend, groups, outputs)?;
            }
        }
        if let Some(parts) = found.parts {
            let whole = self.o.product(backend, &found.context)?;
            let parts = parts.map(|part| self.o.product(backend, &part))?;
            probe.attention_parts(pass.index, pass.batch, &whole, &parts)?;
        }
        self.o.to_stream(backend, &found.context)
    }

    /// Of one product.
    fn joined(
        &self,
        pass: &Pass<'_, '_, B>,
        weights: &Projection<'m, B>,
        rope: usize,
        input: &B::Tensor,
    ) -> Result<(B::Tensor, Source<B>)> {
        let (backend, spec) = (pass.forward.backend, self.spec);
        let joined = weights.apply(backend, input)?;
        let widths = [
            spec.heads * spec.head_dim,
            spec.kv_heads * spec.head_dim,
            spec.kv_heads * spec.value_dim,
        ];
        let tables = pass.forward.rope_tables(rope, pass.batch);
        let rows = &pass.batch.rows;
        let [q, k, v] = backend.split_rotated(&joined, widths, rows, self.rotation(), &tables)?;
        Ok((q, Source::Own([k, v])))
    }

    fn direct(
        &self,
        pass: &Pass<'_, '_, B>,
        weights: &DirectWeights<'m, B>,
        input: &B::Tensor,
    ) -> Result<(B::Tensor, Source<B>)> {
        let backend = pass.forward.backend;
        let k = weights.k.apply(backend, input)?;
        let v = weights.v.as_ref().map(|v| v.apply(backend, input));
        let v = match (&self.value_norm, v.transpose()?) {
            (Some(norm), v) => backend.norm(v.as_ref().unwrap_or(&k), norm, Target::Part)?,
            (None, Some(v)) => v,
            (None, None) => backend.duplicate(&k)?,
        };
        let mut qkv = [weights.q.apply(backend, input)?, k, v];
        if self.spec.value_scale != 1.0 {
            backend.affine(&mut qkv[2], self.spec.value_scale, 0.0)?;
        }
        if !self.spec.rotates_first {
            self.normalise(backend, &mut qkv)?;
        }
        if let Some(limit) = self.spec.clip {
            for tensor in &mut qkv {
                backend.clamp(tensor, -limit, limit)?;
            }
        }
        let rotation = self.rotation();
        for tensor in &mut qkv[..2] {
            self.rotate(pass, tensor, rotation)?;
        }
        if self.spec.rotates_first {
            self.normalise(backend, &mut qkv)?;
        }
        let [q, k, v] = qkv;
        Ok((q, Source::Own([k, v])))
    }

    fn shared(
        &self,
        pass: &Pass<'_, '_, B>,
        weights: &SharedWeights<'m, B>,
        input: &B::Tensor,
    ) -> Result<(B::Tensor, Source<B>)> {
        let backend = pass.forward.backend;
        let mut q = weights.q.apply(backend, input)?;
        if let Some(norm) = &weights.norm {
            q = backend.norm(&q, norm, Target::Part)?;
        }
        if let Some(limit) = self.spec.clip {
            backend.clamp(&mut q, -limit, limit)?;
        }
        self.rotate(pass, &mut q, self.rotation())?;
        Ok((q, Source::Layer(weights.from)))
    }

    /// The norms of queries and keys.
    fn normalise(&self, backend: &B, qkv: &mut [B::Tensor; 3]) -> Result<()> {
        for (tensor, norm) in qkv.iter_mut().zip(self.qk_norm.iter().flatten()) {
            *tensor = backend.norm(tensor, norm, Target::Part)?;
        }
        Ok(())
    }

    fn latent(
        &self,
        pass: &Pass<'_, '_, B>,
        weights: &LatentWeights<'m, B>,
        input: &B::Tensor,
        carried: &mut Carried<B>,
    ) -> Result<(B::Tensor, Source<B>)> {
        let backend = pass.forward.backend;
        let spec = self.spec;
        let narrow = weights.q.narrow(backend, input)?;
        let read = narrow.as_ref().unwrap_or(input);
        if let Some(indexer) = &self.indexer {
            carried.choice = indexer.choose(pass, read, input)?.map(Rc::new);
        }
        let mut q = weights.q.last.apply(backend, read)?;
        drop(narrow);
        let rotation = Rotation::new(spec.head_dim, spec.rope_first);
        self.rotate(pass, &mut q, rotation)?;
        let mut shared = weights.k_rope.apply(backend, input)?;
        let rotation = Rotation::new(backend.columns(&shared), 0);
        self.rotate(pass, &mut shared, rotation)?;
        let latent = weights.compress.apply(backend, input)?;
        let latent = backend.norm(&latent, &weights.norm, Target::Part)?;
        let k = weights.k.apply(backend, &latent)?;
        let k = backend.join_heads(&k, &shared, spec.kv_heads)?;
        let v = weights.v.apply(backend, &latent)?;
        Ok((q, Source::Own([k, v])))
    }

    /// Queries, keys that are values, too, and entries beside them.
    fn keys_as_values(
        &self,
        pass: &Pass<'_, '_, B>,
        q: &LowRankWeights<'m, B>,
        k: &Projection<'m, B>,
        input: &B::Tensor,
    ) -> Result<WithEntries<B>> {
        let backend = pass.forward.backend;
        let narrow = q.narrow(backend, input)?;
        let read = narrow.as_ref().unwrap_or(input);
        let entries = match self.compressed.as_ref().zip(self.spec.rope) {
            Some((compressed, rope)) => compressed.entries(pass, read, input, rope)?,
            None => None,
        };
        let mut both = [q.last.apply(backend, read)?, k.apply(backend, input)?];
        let rotation = self.rotation();
        for (tensor, norm) in both.iter_mut().zip(self.qk_norm.iter().flatten()) {
            *tensor = backend.norm(tensor, norm, Target::Part)?;
        }
        for tensor in &mut both {
            self.rotate(pass, tensor, rotation)?;
        }
        let [q, k] = both;
        let v = backend.duplicate(&k)?;
        Ok((q, Source::Own([k, v]), entries))
    }

    fn rotation(&self) -> Rotation {
        Rotation::new(self.spec.head_dim, self.spec.rope_first)
    }

    /// Undoes, by the query's position, the rotation that values have.
    fn rotate_back(&self, pass: &Pass<'_, '_, B>, outputs: &mut B::Tensor) -> Result<()> {
        let Some(rope) = self.spec.rope else {
            return Ok(());
        };
        let tables = pass.forward.rope_tables(rope, pass.batch);
        let rows = &pass.batch.rows;
        let backend = pass.forward.backend;
        backend.rotate(outputs, rows, self.rotation().reversed(), &tables)
    }

    /// Multiplies queries by what their positions say.
    fn grow(&self, pass: &Pass<'_, '_, B>, q: &mut B::Tensor) -> Result<()> {
        let Some(growth) = self.spec.query_growth else {
            return Ok(());
        };
        let positions = pass.batch.rows.iter().flat_map(|rows| 0..rows.len());
        let factors: Vec<f32> = positions.map(|position| growth.factor(position)).collect();
        if factors.iter().all(|factor| *factor == 1.0) {
            return Ok(());
        }
        let backend = pass.forward.backend;
        backend.scale_rows(q, &backend.vector(factors)?)
    }

    fn rotate(&self, pass: &Pass<'_, '_, B>, x: &mut B::Tensor, rotation: Rotation) -> Result<()> {
        let Some(rope) = self.spec.rope else {
            return Ok(());
        };
        let tables = pass.forward.rope_tables(rope, pass.batch);
        let rows = &pass.batch.rows;
        pass.forward.backend.rotate(x, rows, rotation, &tables)
    }
}

/// The rotation of queries and keys, if nothing else happens to them and to values before they meet.
fn only_rotation(spec: &Attention) -> Option<usize> {
    let untouched = spec.qk_norm.is_none()
        && spec.value_norm.is_none()
        && spec.value_scale == 1.0
        && spec.clip.is_none();
    spec.rope.filter(|_| untouched)
}

/// Each group of heads through its own projection, the results side by side.
fn in_groups<B: Backend>(
    backend: &B,
    groups: &[Projection<'_, B>],
    heads: &B::Tensor,
) -> Result<B::Tensor> {
    let width = backend.columns(heads) / groups.len();
    let mut joined: Option<B::Tensor> = None;
    for (index, group) in groups.iter().enumerate() {
        let own = backend.gather_columns(heads, index * width..(index + 1) * width)?;
        let made = group.apply(backend, &own)?;
        joined = Some(match joined {
            None => made,
            Some(before) => backend.join_heads(&before, &made, 1)?,
        });
    }
    joined.map_or_else(|| backend.duplicate(heads), Ok)
}
