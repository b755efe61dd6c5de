//! A decoder layer as data: its parts, and how they meet the residual stream.
#![forbid(unsafe_code)]

use super::{
    AltUp, Attention, Experts, HyperConnections, Laurel, Linear, Mixer, Mlp, Norm, PerLayerInput,
    SideBlock, Vector,
};

/// One decoder layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// How its two parts meet the residual stream.
    pub wiring: Wiring,
    /// Norms around what mixes tokens: attention, and the mixer.
    pub mixer_norms: Norms,
    /// Self-attention.
    pub attention: Option<Attention>,
    /// Another token mixer: in the place of attention, or beside it, where the two outputs are added.
    pub mixer: Option<Mixer>,
    /// Norms around the MLP.
    pub mlp_norms: Norms,
    /// Feed-forward part.
    pub mlp: Option<Mlp>,
    /// What makes attention and MLP a block beside the residual stream, whose result the mixer reads.
    pub side: Option<SideBlock>,
    /// Factor on what each part adds to the residual stream.
    pub residual_scale: f32,
    /// A low-rank part beside attention.
    pub laurel: Option<Laurel>,
    /// How it updates the other residual streams, where there are any.
    pub altup: Option<AltUp>,
    /// How its parts meet several residual streams that it hands on, where it does.
    pub connections: Option<HyperConnections>,
    /// What its own embedding of the token adds at its end.
    pub per_layer: Option<PerLayerInput>,
    /// One value: a factor on the residual stream as it leaves the layer.
    pub output_scale: Option<Vector>,
}

impl Layer {
    /// A layer without parts, which a family gives it.
    pub fn empty() -> Self {
        Self {
            wiring: Wiring::Sequential,
            mixer_norms: Norms::default(),
            attention: None,
            mixer: None,
            mlp_norms: Norms::default(),
            mlp: None,
            side: None,
            residual_scale: 1.0,
            per_layer: None,
            output_scale: None,
            altup: None,
            connections: None,
            laurel: None,
        }
    }

    /// Every projection except those of experts.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut linears = Vec::new();
        linears.extend(self.attention.iter().flat_map(Attention::linears));
        linears.extend(self.mixer.iter().flat_map(Mixer::linears));
        linears.extend(self.mlp.iter().flat_map(Mlp::linears));
        linears.extend(self.per_layer.iter().flat_map(PerLayerInput::linears));
        linears.extend(self.altup.iter().flat_map(AltUp::linears));
        let connections = self.connections.iter().flat_map(HyperConnections::all);
        linears.extend(connections.map(|own| &own.weights));
        let laurel = self.laurel.iter();
        linears.extend(laurel.flat_map(|laurel| [&laurel.left, &laurel.right]));
        linears.extend(self.side.iter().map(|side| &side.out));
        let low_rank: Vec<&Linear> = linears
            .iter()
            .filter_map(|linear| linear.low_rank.as_deref())
            .flatten()
            .collect();
        linears.extend(low_rank);
        linears
    }

    /// Every norm.
    pub fn norms(&self) -> Vec<&Norm> {
        let mut norms: Vec<&Norm> = Vec::new();
        for around in [&self.mixer_norms, &self.mlp_norms] {
            norms.extend(around.all());
        }
        norms.extend(self.attention.iter().flat_map(Attention::norms));
        norms.extend(self.mixer.iter().flat_map(Mixer::norms));
        norms.extend(self.mlp.iter().flat_map(Mlp::norms));
        norms.extend(self.per_layer.iter().map(|input| &input.norm));
        norms.extend(self.altup.iter().map(|altup| &altup.router_norm));
        let connections = self.connections.iter().flat_map(HyperConnections::all);
        norms.extend(connections.map(|own| &own.norm));
        norms.extend(self.laurel.iter().map(|laurel| &laurel.norm));
        norms.extend(self.side.iter().map(|side| &side.norm));
        norms
    }

    /// Every norm, to be changed.
    pub fn norms_mut(&mut self) -> Vec<&mut Norm> {
        let mut norms: Vec<&mut Norm> = Vec::new();
        for around in [&mut self.mixer_norms, &mut self.mlp_norms] {
            norms.extend(around.all_mut());
        }
        norms.extend(self.attention.iter_mut().flat_map(Attention::norms_mut));
        norms.extend(self.mixer.iter_mut().flat_map(Mixer::norms_mut));
        norms.extend(self.mlp.iter_mut().flat_map(Mlp::norms_mut));
        norms.extend(self.per_layer.iter_mut().map(|input| &mut input.norm));
        let altup = self.altup.iter_mut();
        norms.extend(altup.map(|altup| &mut altup.router_norm));
        let connections = self.connections.iter_mut();
        let connections = connections.flat_map(HyperConnections::all_mut);
        norms.extend(connections.map(|own| &mut own.norm));
        norms.extend(self.laurel.iter_mut().map(|laurel| &mut laurel.norm));
        norms.extend(self.side.iter_mut().map(|side| &mut side.norm));
        norms
    }

    /// Every learned vector that is no norm's and no bias of a projection's.
    pub fn vectors(&self) -> Vec<&Vector> {
        let mut vectors: Vec<&Vector> = Vec::new();
        vectors.extend(self.attention.iter().flat_map(Attention::vectors));
        let connections = self.connections.iter().flat_map(HyperConnections::all);
        vectors.extend(connections.flat_map(|own| own.vectors()));
        vectors.extend(self.mixer.iter().flat_map(Mixer::vectors));
        if let Some(Mlp::Xielu { scalars, .. }) = &self.mlp {
            vectors.extend(scalars.vectors());
        }
        vectors.extend(
            self.experts()
                .and_then(|experts| experts.routing.correction.as_ref()),
        );
        vectors.extend(self.mlp.iter().flat_map(Mlp::vectors));
        vectors.extend(&self.output_scale);
        vectors.extend(self.altup.iter().flat_map(|altup| &altup.output_scale));
        vectors
    }

    /// Its mixture of experts, if it has one.
    pub fn experts(&self) -> Option<&Experts> {
        match &self.mlp {
            Some(Mlp::Experts(experts)) => Some(experts),
            Some(Mlp::SideBySide(both)) => Some(&both.experts),
            _ => None,
        }
    }

    /// Names of the tensors that it reads.
    pub(super) fn tensors(&self) -> Vec<String> {
        let mut names = Vec::new();
        for linear in self.linears() {
            names.extend(linear.tensors());
        }
        if let Some(experts) = self.experts() {
            for expert in 0..experts.count {
                for linear in experts.expert.linears() {
                    names.extend(linear.of_expert(expert).tensors());
                }
            }
        }
        for norm in self.norms() {
            names.extend(norm.tensors().map(str::to_owned));
        }
        names.extend(
            self.vectors()
                .into_iter()
                .map(|vector| vector.tensor.clone()),
        );
        let table = self
            .experts()
            .and_then(|experts| experts.routing.table.as_ref());
        names.extend(table.map(|table| table.tensor.clone()));
        let attention = self.attention.as_ref();
        if let Some(bias) = attention.and_then(|attention| attention.kv_bias.as_ref()) {
            names.extend([bias.k.clone(), bias.v.clone()]);
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The usual layer, attention and an MLP: what families start from and change before it becomes a
/// [`Layer`].
#[derive(Debug, Clone)]
pub struct TransformerLayer {
    /// How its two parts meet the residual stream.
    pub wiring: Wiring,
    /// Norms around attention.
    pub attention_norms: Norms,
    /// Self-attention.
    pub attention: Attention,
    /// Norms around the MLP.
    pub mlp_norms: Norms,
    /// Feed-forward part.
    pub mlp: Mlp,
    /// Factor on what each part adds to the residual stream.
    pub residual_scale: f32,
}

impl From<TransformerLayer> for Layer {
    fn from(layer: TransformerLayer) -> Self {
        Self {
            wiring: layer.wiring,
            mixer_norms: layer.attention_norms,
            attention: Some(layer.attention),
            mixer: None,
            mlp_norms: layer.mlp_norms,
            mlp: Some(layer.mlp),
            side: None,
            residual_scale: layer.residual_scale,
            laurel: None,
            altup: None,
            connections: None,
            per_layer: None,
            output_scale: None,
        }
    }
}

impl TransformerLayer {
    /// `h = x + attention(norm(x)); out = h + mlp(norm(h))`.
    pub fn new(attention_norm: Norm, attention: Attention, mlp_norm: Norm, mlp: Mlp) -> Self {
        Self {
            wiring: Wiring::Sequential,
            attention_norms: Norms::before(attention_norm),
            attention,
            mlp_norms: Norms::before(mlp_norm),
            mlp,
            residual_scale: 1.0,
        }
    }

    /// `out = x + attention(norm(x)) + mlp(norm(x))`, one norm for both.
    pub fn parallel(norm: Norm, attention: Attention, mlp: Mlp) -> Self {
        Self {
            wiring: Wiring::ParallelSharedNorm,
            attention_norms: Norms::before(norm),
            attention,
            mlp_norms: Norms::default(),
            mlp,
            residual_scale: 1.0,
        }
    }
}

/// Norms around one part of a layer.
#[derive(Debug, Clone, Default)]
pub struct Norms {
    /// Before the part.
    pub input: Option<Norm>,
    /// On the part's output, before it is added.
    pub output: Option<Norm>,
    /// On the residual stream after the addition.
    pub sum: Option<Norm>,
}

impl Norms {
    /// Before the part only.
    pub fn before(norm: Norm) -> Self {
        Self {
            input: Some(norm),
            ..Self::default()
        }
    }

    /// Those that are there.
    pub(super) fn all(&self) -> impl Iterator<Item = &Norm> {
        [&self.input, &self.output, &self.sum].into_iter().flatten()
    }

    /// Those that are there, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        [&mut self.input, &mut self.output, &mut self.sum]
            .into_iter()
            .flatten()
    }

    /// On the part's output only.
    pub fn after(norm: Norm) -> Self {
        Self {
            output: Some(norm),
            ..Self::default()
        }
    }
}

/// How a layer's parts meet the residual stream; `n` are the norms before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// `h = x + attention(n(x)); out = h + mlp(n'(h))`.
    Sequential,
    /// `h = n(x) + attention(n(x)); out = n'(h) + mlp(n'(h))`.
    SequentialFromNorm,
    /// `out = x + attention(n(x)) + mlp(n'(x))`.
    Parallel,
    /// `out = x + attention(n(x)) + mlp(n(x))`.
    ParallelSharedNorm,
}
