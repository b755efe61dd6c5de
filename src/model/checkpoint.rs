//! A loaded checkpoint: description, weights and tokenizer, checked against each other.
#![forbid(unsafe_code)]

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    adapter::{Adapter, AdapterRecord},
    check,
    config::Config,
    config_keys::ConfigRecord,
    dtype::DType,
    families, gguf,
    ledger::WeightsRecord,
    names::Names,
    place, recognise,
    spec::{DecoderSpec, Experts, Learned, Linear, Norm, RowGroups, Vector, WeightLayout},
    tied,
    tokenizer::{Tokenizer, TokenizerFiles},
    weights::{
        self, AssembledMatrix, MatrixView, Method, PackedMatrix, Values, WeightMatrix, WeightStore,
    },
};
use crate::error::{Error, Result};

/// A decoder ready to run.
#[derive(Debug)]
pub struct Model {
    /// What it computes.
    pub spec: DecoderSpec,
    /// Its tensors.
    pub weights: WeightStore,
    /// Its tokenizer; a checkpoint without one still runs on token ids.
    pub tokenizer: Option<Tokenizer>,
    record: WeightsRecord,
    config: ConfigRecord,
    adapter: Option<AdapterRecord>,
    notices: Vec<String>,
    identity: u64,
}

/// Models that were opened so far.
static MODELS: AtomicU64 = AtomicU64::new(0);

/// The learned vectors of a norm.
#[derive(Debug, Clone)]
pub struct NormVectors {
    /// Factor, what the checkpoint leaves out added.
    pub weight: Option<Vec<f32>>,
    /// Offset.
    pub bias: Option<Vec<f32>>,
    /// Factors inside DyT's tanh, one a module.
    pub alpha: Option<Vec<f32>>,
}

impl Model {
    /// Opens a Hugging Face folder, or a GGUF file.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, None)
    }

    /// The same, with an adapter on its weights.
    pub fn open_with(folder: &Path, adapter: Option<Adapter>) -> Result<Self> {
        if let Some(file) = gguf::file_at(folder)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let opened = gguf::open(&file).and_then(|(config, weights, tokenizer)| {
                Self::assemble_with(&config, weights, tokenizer, adapter)
            });
            return opened.map_err(|error| {
                // Settings have the names of config.json, which the file has not.
                error
                    .instead_of(
                        "config.json",
                        "its metadata, as transformers calls them",
                        gguf::REMEDY,
                    )
                    .within(name)
            });
        }
        place::check(folder, adapter.is_some())?;
        let config = weights::beside(Config::open(folder)?, folder)?;
        // Before the weights, so that an unsupported model is refused without reading them.
        families::find(&config)?;
        Method::of(&config)?;
        place::check_named_weights(&config, folder)?;
        Self::assemble_with(
            &config,
            weights::open(folder)?,
            TokenizerFiles::open(folder)?,
            adapter,
        )
    }

    /// Puts the parts together and checks that they fit.
    pub fn assemble(
        config: &Config,
        weights: WeightStore,
        tokenizer: Option<TokenizerFiles>,
    ) -> Result<Self> {
        Self::assemble_with(config, weights, tokenizer, None)
    }

    /// The same, with an adapter on the weights.
    pub fn assemble_with(
        config: &Config,
        weights: WeightStore,
        tokenizer: Option<TokenizerFiles>,
        adapter: Option<Adapter>,
    ) -> Result<Self> {
        let family = families::find(config)?;
        let mut weights = weights;
        weights::recognise(&mut weights, config)?;
        let names = family.names(&weights)?;
        let mut spec = family.spec(config, &names)?;
        let prefix = names.prefix();
        let adapter = adapter
            .map(|adapter| adapter.apply(&spec, prefix, family.prefixes, &mut weights))
            .transpose()?;
        let unties = adapter.as_ref().is_some_and(|adapter| adapter.unties);
        let names = Names::with_prefix(&weights, prefix);
        let head = tied::settle(&mut spec, &names, &weights)?;
        let recognised = recognise::variants(&mut spec, config, &names, &weights)?;
        check::spec(&spec)?;
        let unread = match &tokenizer {
            Some(files) => Tokenizer::unread(files, config)?,
            None => None,
        };
        let tokenizer = tokenizer
            .filter(|_| unread.is_none())
            .map(|files| Tokenizer::parse(&files, config))
            .transpose()?;
        let record = WeightsRecord::new(&spec, family.prefixes, &weights, &head, recognised)?;
        let mut notices: Vec<String> = weights.notice().map(str::to_owned).into_iter().collect();
        if let tied::Head::Distinct(name) = &head
            && !unties
        {
            notices.push(format!(
                "`{name}` has other values than the embedding, so it is the head, though config.json ties the two"
            ));
        }
        if unties {
            notices.push(
                "with the adapter embedding and head, which config.json ties, are two, as in the library's forward pass"
                    .to_owned(),
            );
        }
        notices.extend(adapter.iter().filter_map(|adapter| adapter.notice.clone()));
        let config_record = ConfigRecord::of(config);
        notices.extend(config.notices());
        notices.extend(config_record.notice());
        notices.extend(record.notices(&spec.model_type));
        notices.extend(tokenizer.iter().flat_map(Tokenizer::notices).cloned());
        notices.extend(unread.map(|why| {
            format!("{why}, so that no text can be read; ids of tokens can (`capture --token-ids`)")
        }));
        let model = Self {
            spec,
            weights,
            tokenizer,
            record,
            config: config_record,
            adapter: adapter.map(|adapter| adapter.record),
            notices,
            identity: MODELS.fetch_add(1, Ordering::Relaxed),
        };
        model.check_tensors()?;
        Ok(model)
    }

    /// What a user should know of how the checkpoint was read, one line each.
    pub fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    /// What became of the keys of config.json.
    pub fn config_record(&self) -> &ConfigRecord {
        &self.config
    }

    /// The adapter on its weights, if there is one.
    pub fn adapter(&self) -> Option<&AdapterRecord> {
        self.adapter.as_ref()
    }

    /// What became of every stored tensor.
    pub fn weights_record(&self) -> &WeightsRecord {
        &self.record
    }

    /// Type that the weights are meant to be computed in, of those that the checkpoint has: the embedding
    /// table's, or float32 if that is packed.
    pub fn stored_dtype(&self) -> Result<DType> {
        Ok(self.token_embedding()?.dtype())
    }

    /// The text of a token; without a tokenizer, its id.
    pub fn token(&self, id: u32) -> String {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.token(id),
            None => format!("<{id}>"),
        }
    }

    /// The embedding table `[vocab_size, width]`.
    pub fn token_embedding(&self) -> Result<WeightMatrix<'_>> {
        let embedding = &self.spec.embedding;
        self.table(&embedding.tokens, self.spec.vocab_size, embedding.width)
    }

    /// The learned positions `[max_positions, hidden_size]`, where the model has them.
    pub fn position_embedding(&self) -> Result<Option<WeightMatrix<'_>>> {
        let (Some(learned), Some(positions)) =
            (&self.spec.embedding.positions, self.spec.max_positions)
        else {
            return Ok(None);
        };
        let (rows, width) = (positions + learned.offset, self.spec.hidden_size);
        let linear =
            Linear::new(learned.table.clone(), width, positions).part_of(learned.offset, rows);
        self.matrix(&linear).map(Some)
    }

    /// A stored matrix `[rows, width]`.
    pub(super) fn table(&self, name: &str, rows: usize, width: usize) -> Result<WeightMatrix<'_>> {
        self.stored_matrix(&Linear::new(name.to_owned(), width, rows))
    }

    /// The whole of a matrix that is stored packed; none of one that is stored as it is.
    pub fn decoded(&self, name: &str) -> Result<Option<AssembledMatrix>> {
        let shape = self.weights.shape(name).unwrap_or_default();
        let &[rows, columns] = shape else {
            return Ok(None);
        };
        Ok(match self.table(name, rows, columns)? {
            WeightMatrix::Packed(matrix) => Some(matrix.assemble()),
            _ => None,
        })
    }

    /// What no other model of this process has.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The weight of a projection.
    pub fn matrix(&self, linear: &Linear) -> Result<WeightMatrix<'_>> {
        check::outputs(linear)?;
        let outputs = linear.out_features;
        Ok(match (self.stored_matrix(linear)?, linear.groups) {
            (WeightMatrix::Stored(whole), None) => {
                let first = linear.first_output;
                whole.outputs(first, first + outputs).into()
            }
            // Evenly spaced outputs need no copy.
            (WeightMatrix::Stored(whole), Some(RowGroups { size: 1, stride })) => {
                let end = linear.stored_output(outputs - 1) + 1;
                MatrixView {
                    out_features: outputs,
                    out_stride: whole.out_stride * stride,
                    ..whole.outputs(linear.first_output, end)
                }
                .into()
            }
            (WeightMatrix::Stored(whole), Some(_)) => {
                let rows = (0..outputs).map(|index| linear.stored_output(index));
                AssembledMatrix::gather(whole, rows).into()
            }
            (WeightMatrix::Packed(whole), groups) => {
                let stored = linear.stored_outputs;
                let RowGroups { size, stride } = groups.unwrap_or(RowGroups {
                    size: stored,
                    stride: stored,
                });
                whole
                    .grouped(linear.first_output, size, stride, outputs)
                    .into()
            }
            (assembled @ WeightMatrix::Assembled(_), _) => assembled,
        })
    }

    /// The weight of a projection, if it lies in its file as numbers in one strided block.
    pub fn matrix_in_place(&self, linear: &Linear) -> Result<Option<MatrixView<'_>>> {
        if linear.groups.is_some_and(|groups| groups.size != 1) {
            return Ok(None);
        }
        Ok(match self.matrix(linear)? {
            WeightMatrix::Stored(view) => Some(view),
            WeightMatrix::Packed(_) | WeightMatrix::Assembled(_) => None,
        })
    }

    /// The whole tensor that a projection is part of.
    pub(super) fn stored_matrix(&self, linear: &Linear) -> Result<WeightMatrix<'_>> {
        let (stored, inputs) = (linear.stored_outputs, linear.in_features);
        let name = &linear.weight;
        let (index, count) = linear.stacked.unwrap_or((0, 1));
        let check = |axes: [usize; 2]| {
            let whole = [count, axes[0], axes[1]];
            let from = usize::from(linear.stacked.is_none());
            self.weights.check_shape(name, &whole[from..])
        };
        match self.weights.values(name)? {
            Values::Packed(tensor) => {
                check([stored, inputs])?;
                Ok(PackedMatrix::new(tensor, index, inputs).into())
            }
            Values::Plain(tensor, elements) => {
                let (axes, out_stride, in_stride) = match linear.layout {
                    WeightLayout::InOut => ([inputs, stored], 1, stored),
                    WeightLayout::OutIn => ([stored, inputs], inputs, 1),
                };
                check(axes)?;
                let size = stored * inputs;
                Ok(MatrixView {
                    elements: elements.slice(index * size, (index + 1) * size),
                    out_features: stored,
                    in_features: inputs,
                    out_stride,
                    in_stride,
                    file: tensor.file(),
                }
                .into())
            }
        }
    }

    /// Refuses a projection with values that are infinite or not a number, where what it makes only takes
    /// part in comparisons, and they would vanish without a trace.
    pub fn check_finite(&self, linear: &Linear) -> Result<()> {
        let matrix = self.matrix(linear)?;
        let mut row = vec![0.0; linear.in_features];
        for index in 0..linear.out_features {
            matrix.write_output(index, &mut row);
            if row.iter().any(|value| !value.is_finite()) {
                return Err(not_finite(&linear.weight));
            }
        }
        Ok(())
    }

    /// The same of a norm.
    pub fn check_finite_norm(&self, norm: &Norm) -> Result<()> {
        let NormVectors {
            weight,
            bias,
            alpha,
        } = self.norm(norm)?;
        let mut values = [weight, bias, alpha].into_iter().flatten().flatten();
        match norm.tensors().next() {
            Some(tensor) if values.any(|value| !value.is_finite()) => Err(not_finite(tensor)),
            _ => Ok(()),
        }
    }

    /// The bias of a projection.
    pub fn bias(&self, linear: &Linear) -> Result<Option<Vec<f32>>> {
        let Some(name) = &linear.bias else {
            return Ok(None);
        };
        check::outputs(linear)?;
        let stored = linear.stored_outputs;
        let all = match linear.stacked {
            None => self.weights.get_shaped(name, &[stored])?.elements,
            Some((index, count)) => {
                let all = self.weights.get_shaped(name, &[count, stored])?.elements;
                all.slice(index * stored, (index + 1) * stored)
            }
        };
        let all = all.to_f32();
        let outputs = (0..linear.out_features).map(|index| all[linear.stored_output(index)]);
        Ok(Some(outputs.collect()))
    }

    /// The learned vectors of a norm.
    pub fn norm(&self, norm: &Norm) -> Result<NormVectors> {
        if !(0.0..=f32::MAX).contains(&norm.epsilon) {
            return Err(Error::new(
                "config.json",
                format!(
                    "the epsilon of a norm is {}, expected a number of at least 0",
                    norm.epsilon
                ),
            )
            .remedy("correct it in config.json, or take the file of the original model"));
        }
        let vector = |learned: &Option<Learned>| {
            let learned = learned.as_ref();
            learned.map(|learned| self.learned(learned)).transpose()
        };
        let mut weight = vector(&norm.weight)?;
        if norm.weight_offset != 0.0 {
            for value in weight.iter_mut().flatten() {
                *value += norm.weight_offset;
            }
        }
        Ok(NormVectors {
            weight,
            bias: vector(&norm.bias)?,
            alpha: match norm.alpha.as_slice() {
                [] => None,
                names => Some(
                    names
                        .iter()
                        .map(|name| self.number(name))
                        .collect::<Result<_>>()?,
                ),
            },
        })
    }

    /// A stored tensor of one finite element.
    fn number(&self, name: &str) -> Result<f32> {
        let tensor = self.weights.get(name)?;
        match *tensor.elements.to_f32() {
            [value] if value.is_finite() => Ok(value),
            [value] => Err(
                Error::new(format!("tensor `{name}`"), format!("its value is {value}"))
                    .remedy("the checkpoint is damaged or diverged in training; use another one"),
            ),
            _ => Err(Error::new(
                format!("tensor `{name}`"),
                format!("it has shape {:?}, expected one element", tensor.shape),
            )
            .remedy("the checkpoint is damaged, or not of a layout that massact knows")),
        }
    }

    /// Factor on the embedding table's rows.
    pub fn embedding_scale(&self) -> Result<f32> {
        let embedding = &self.spec.embedding;
        Ok(match &embedding.learned_scale {
            None => embedding.scale,
            Some(name) => embedding.scale * self.number(name)?,
        })
    }

    fn learned(&self, learned: &Learned) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for name in &learned.tensors {
            let tensor = self.weights.get_shaped(name, &learned.shape)?;
            values.extend_from_slice(&tensor.elements.to_f32());
        }
        Ok(values)
    }

    /// A learned vector. Values that are infinite or not a number are refused: they would vanish without
    /// a trace where they only take part in comparisons, or beside larger ones.
    pub fn vector(&self, vector: &Vector) -> Result<Vec<f32>> {
        let (name, shape) = (&vector.tensor, &vector.shape);
        // One axis of length 1 more, in front: the one row of a matrix.
        let row: Vec<usize> = [1].iter().chain(shape).copied().collect();
        let stored: &[usize] = match self.weights.shape(name) {
            Some(found) if found == row => &row,
            // One value without an axis.
            Some([]) if *shape == [1] => &[],
            _ => shape,
        };
        let tensor = self.weights.get_shaped(name, stored)?;
        let width: usize = shape.iter().skip(1).product();
        let part = vector.first * width..(vector.first + vector.rows) * width;
        if shape
            .first()
            .is_none_or(|rows| vector.first + vector.rows > *rows)
        {
            return Err(check::damaged(format!(
                "tensor `{name}` has fewer rows than its parts need"
            )));
        }
        let values = tensor
            .elements
            .slice(part.start, part.end)
            .to_f32()
            .into_owned();
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(not_finite(name))
    }

    /// The experts of every token id, `[vocab_size, top_k]`, where a table says them.
    pub fn token_table(&self, experts: &Experts) -> Result<Option<Vec<u32>>> {
        let Some(table) = &experts.routing.table else {
            return Ok(None);
        };
        let (name, count) = (&table.tensor, experts.routing.top_k);
        self.weights.check_shape(name, &[table.tokens, count])?;
        let ids = self.weights.integers(name)?;
        let expert = |id: &i64| {
            u32::try_from(*id)
                .ok()
                .filter(|id| (*id as usize) < experts.count)
        };
        let known: Option<Vec<u32>> = ids.iter().map(expert).collect();
        let distinct = |own: &[u32]| (1..own.len()).all(|last| !own[..last].contains(&own[last]));
        match known {
            Some(known) if known.chunks(count.max(1)).all(distinct) => Ok(Some(known)),
            _ => Err(Error::new(
                format!("tensor `{name}`"),
                format!(
                    "its rows are not {count} different ones of {} experts",
                    experts.count
                ),
            )
            .remedy("the checkpoint is damaged; use another one")),
        }
    }

    /// The head's weight `[vocab_size, width]`.
    pub fn head(&self) -> Result<WeightMatrix<'_>> {
        let head = &self.spec.head;
        let name = &head.linear.weight;
        if !self.weights.contains(name) {
            return Err(Error::new(
                "weights",
                format!("tensor `{name}` is missing, and config.json does not say that the embedding serves as the head"),
            )
            .remedy("set `tie_word_embeddings` to true if the model was made so, or add the tensor"));
        }
        if let Some(projection) = &head.projection {
            self.matrix(projection)?;
        }
        self.bias(&head.linear)?;
        self.stored_matrix(&head.linear)
    }

    /// Looks every tensor of the layers up once, so that a missing or misshapen one is reported
    /// before any work is done. The head is looked up by the work that needs it.
    fn check_tensors(&self) -> Result<()> {
        let spec = &self.spec;
        self.token_embedding()?;
        self.embedding_scale()?;
        self.position_embedding()?;
        if let Some(projection) = &spec.embedding.projection {
            self.check_linear(projection)?;
        }
        if let Some(others) = &spec.embedding.others {
            for linear in others.begin.iter().chain(&others.end) {
                self.check_linear(linear)?;
            }
        }
        if let Some(per_layer) = &spec.embedding.per_layer {
            self.check_per_layer(per_layer)?;
        }
        if let Some(streams) = &spec.embedding.streams {
            let collapse = &streams.collapse;
            self.check_linear(&collapse.weights)?;
            for vector in collapse.vectors() {
                self.vector(vector)?;
            }
        }
        for layer in &spec.layers {
            for linear in layer.linears() {
                self.check_linear(linear)?;
            }
            for norm in layer.norms() {
                self.norm(norm)?;
            }
            for vector in layer.vectors() {
                self.vector(vector)?;
            }
            if let Some(attention) = &layer.attention {
                self.kv_bias(attention)?;
            }
            if let Some(experts) = layer.experts() {
                self.token_table(experts)?;
                for expert in 0..experts.count {
                    for linear in experts.expert.linears() {
                        self.check_linear(&linear.of_expert(expert))?;
                    }
                }
            }
        }
        for norm in spec.embedding.norm.iter().chain(&spec.final_norm) {
            self.norm(norm)?;
        }
        Ok(())
    }

    /// Looks a projection's tensors up without unpacking them.
    pub(super) fn check_linear(&self, linear: &Linear) -> Result<()> {
        check::outputs(linear)?;
        self.stored_matrix(linear)?;
        self.bias(linear)?;
        Ok(())
    }
}

fn not_finite(tensor: &str) -> Error {
    Error::new(
        format!("tensor `{tensor}`"),
        "it has values that are infinite or not a number",
    )
    .remedy("the checkpoint is damaged or diverged in training; use another one")
}
