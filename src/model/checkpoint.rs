//! A loaded checkpoint: description, weights and tokenizer, checked against each other.
#![forbid(unsafe_code)]

use std::path::Path;

use super::{
    config::Config,
    dtype::DType,
    families,
    names::Names,
    spec::{DecoderSpec, Linear, Mlp, Norm, WeightLayout},
    tokenizer::{Tokenizer, TokenizerFiles},
    weights::{Elements, MatrixView, WeightStore},
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
}

/// The tensors of a norm.
#[derive(Debug, Clone, Copy)]
pub struct NormTensors<'w> {
    /// Factor `[hidden_size]`.
    pub weight: Option<Elements<'w>>,
    /// Offset `[hidden_size]`.
    pub bias: Option<Elements<'w>>,
}

impl Model {
    /// Opens a Hugging Face folder.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::new(folder.display(), "no such folder")
                .remedy("give a folder with a Hugging Face checkpoint, or a hub id"));
        }
        let config = Config::open(folder)?;
        // Before the weights, so that an unsupported model is refused without reading them.
        families::find(&config)?;
        Self::assemble(
            &config,
            WeightStore::open(folder)?,
            TokenizerFiles::open(folder)?,
        )
    }

    /// Puts the parts together and checks that they fit.
    pub fn assemble(
        config: &Config,
        weights: WeightStore,
        tokenizer: Option<TokenizerFiles>,
    ) -> Result<Self> {
        let family = families::find(config)?;
        let names = Names::detect(&weights, family.embedding, family.prefixes)?;
        let spec = (family.describe)(config, &names)?;
        check_heads(&spec)?;
        let tokenizer = tokenizer
            .map(|files| Tokenizer::parse(&files, config))
            .transpose()?;
        let model = Self {
            spec,
            weights,
            tokenizer,
        };
        model.check_tensors()?;
        Ok(model)
    }

    /// Element type of the embedding table, which stands for the checkpoint's.
    pub fn stored_dtype(&self) -> Result<DType> {
        Ok(self
            .weights
            .get(&self.spec.embedding.tokens)?
            .elements
            .dtype)
    }

    /// The embedding table `[vocab_size, hidden_size]`.
    pub fn token_embedding(&self) -> Result<Elements<'_>> {
        let shape = [self.spec.vocab_size, self.spec.hidden_size];
        Ok(self
            .weights
            .get_shaped(&self.spec.embedding.tokens, &shape)?
            .elements)
    }

    /// The learned positions `[max_positions, hidden_size]`, where the model has them.
    pub fn position_embedding(&self) -> Result<Option<Elements<'_>>> {
        let (Some(name), Some(positions)) =
            (&self.spec.embedding.positions, self.spec.max_positions)
        else {
            return Ok(None);
        };
        let shape = [positions, self.spec.hidden_size];
        Ok(Some(self.weights.get_shaped(name, &shape)?.elements))
    }

    /// The weight of a projection.
    pub fn matrix(&self, linear: &Linear) -> Result<MatrixView<'_>> {
        let (stored, inputs) = (linear.stored_outputs, linear.in_features);
        let (shape, out_stride, in_stride) = match linear.layout {
            WeightLayout::OutIn => ([stored, inputs], inputs, 1),
            WeightLayout::InOut => ([inputs, stored], 1, stored),
        };
        let tensor = self.weights.get_shaped(&linear.weight, &shape)?;
        let whole = MatrixView {
            elements: tensor.elements,
            out_features: stored,
            in_features: inputs,
            out_stride,
            in_stride,
        };
        Ok(whole.outputs(
            linear.first_output,
            linear.first_output + linear.out_features,
        ))
    }

    /// The bias of a projection.
    pub fn bias(&self, linear: &Linear) -> Result<Option<Elements<'_>>> {
        let Some(name) = &linear.bias else {
            return Ok(None);
        };
        let tensor = self.weights.get_shaped(name, &[linear.stored_outputs])?;
        Ok(Some(tensor.elements.slice(
            linear.first_output,
            linear.first_output + linear.out_features,
        )))
    }

    /// The tensors of a norm over the residual stream.
    pub fn norm(&self, norm: &Norm) -> Result<NormTensors<'_>> {
        if !(0.0..=f32::MAX).contains(&norm.epsilon) {
            return Err(Error::new(
                "config.json",
                format!(
                    "the epsilon of a norm is {}, expected a number of at least 0",
                    norm.epsilon
                ),
            )
            .remedy("the file is damaged; download it again"));
        }
        let vector = |name: &Option<String>| {
            name.as_deref()
                .map(|name| {
                    let shape = [self.spec.hidden_size];
                    Ok::<_, Error>(self.weights.get_shaped(name, &shape)?.elements)
                })
                .transpose()
        };
        Ok(NormTensors {
            weight: vector(&norm.weight)?,
            bias: vector(&norm.bias)?,
        })
    }

    /// The head's weight `[vocab_size, hidden_size]`.
    pub fn head(&self) -> Result<MatrixView<'_>> {
        self.matrix(&Linear::new(
            self.spec.head.weight.clone(),
            self.spec.hidden_size,
            self.spec.vocab_size,
        ))
    }

    /// Looks every tensor of the layers up once, so that a missing or misshapen one is reported
    /// before any work is done. The head is looked up by the work that needs it.
    fn check_tensors(&self) -> Result<()> {
        self.token_embedding()?;
        self.position_embedding()?;
        for layer in &self.spec.layers {
            let attention = &layer.attention;
            let mut linears = vec![&attention.q, &attention.k, &attention.v, &attention.o];
            match &layer.mlp {
                Mlp::Gated { gate, up, down, .. } => linears.extend([gate, up, down]),
                Mlp::Plain { up, down, .. } => linears.extend([up, down]),
            }
            for linear in linears {
                self.matrix(linear)?;
                self.bias(linear)?;
            }
            for norm in [&layer.attention_norm, &layer.mlp_norm] {
                self.norm(norm)?;
            }
        }
        if let Some(norm) = &self.spec.final_norm {
            self.norm(norm)?;
        }
        Ok(())
    }
}

/// Refuses head counts that do not divide, before anything divides by them.
fn check_heads(spec: &DecoderSpec) -> Result<()> {
    for layer in &spec.layers {
        let attention = &layer.attention;
        let width = attention.heads * attention.head_dim;
        if width == 0
            || attention.heads % attention.kv_heads != 0
            || attention.q.out_features != width
            || attention.o.in_features != width
        {
            return Err(Error::new(
                "config.json",
                format!(
                    "{} query heads, {} key/value heads and a hidden size of {} do not fit together",
                    attention.heads, attention.kv_heads, spec.hidden_size
                ),
            )
            .remedy("the file is damaged; download it again"));
        }
    }
    Ok(())
}
