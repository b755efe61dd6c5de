//! Shapes of known models, by name: what of their config.json decides how long they take.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    model::{Model, random},
};

/// `tools/` reads it, too.
const SHAPES: &str = include_str!("../../assets/shapes.json");

/// Sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The model that has them.
    pub name: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the MLP.
    pub inner: usize,
    config: Map<String, Value>,
}

#[derive(Deserialize)]
struct Entry {
    aliases: Vec<String>,
    config: Map<String, Value>,
}

impl Shape {
    /// The shape of this name.
    pub fn named(name: &str) -> Result<Self> {
        let all = entries()?;
        let unknown = || {
            let names: Vec<&str> = all.keys().map(String::as_str).collect();
            Error::usage(format!("shape `{name}`"), "there is no such shape")
                .remedy(format!("choose from {}", names.join(", ")))
        };
        let fits = |(own, entry): &(&String, &Entry)| {
            *own == name || entry.aliases.iter().any(|alias| alias == name)
        };
        let (_, entry) = all.iter().find(fits).ok_or_else(unknown)?;
        let size = |keys: [&str; 2]| keys.iter().find_map(|key| entry.config.get(*key)?.as_u64());
        let hidden = size(["hidden_size", "n_embd"]).unwrap_or_default() as usize;
        let inner = size(["intermediate_size", "n_inner"]);
        Ok(Self {
            name: name.to_owned(),
            hidden,
            // GPT-2's, where it is not said.
            inner: inner.map_or(4 * hidden, |inner| inner as usize),
            config: entry.config.clone(),
        })
    }

    /// All names.
    pub fn names() -> Vec<String> {
        let all = entries().unwrap_or_default();
        let names = all.into_iter();
        names
            .flat_map(|(own, entry)| [vec![own], entry.aliases].concat())
            .collect()
    }

    /// A model of this shape with weights of noise, of so many layers, or all, and with positions for this
    /// many tokens.
    pub fn model(&self, layers: Option<usize>, tokens: usize) -> Result<Model> {
        let mut config = self.config.clone();
        for key in ["max_position_embeddings", "n_positions"] {
            if let Some(positions) = config.get_mut(key)
                && positions.as_u64().is_some_and(|own| own < tokens as u64)
            {
                *positions = json!(tokens);
            }
        }
        for key in ["num_hidden_layers", "n_layer"] {
            if let (Some(own), Some(layers)) = (config.get_mut(key), layers) {
                *own = json!(layers);
            }
        }
        random::open(Value::Object(config).to_string().as_bytes())
    }
}

fn entries() -> Result<BTreeMap<String, Entry>> {
    serde_json::from_str(SHAPES).map_err(|error| Error::new("assets/shapes.json", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shape is one that massact runs, with the number of parameters that its name says.
    #[test]
    fn shapes_are_what_they_are_called() {
        for (name, billions) in [
            ("gpt2", 0.124),
            ("smollm2-135m", 0.1345),
            ("tinyllama-1.1b", 1.10),
            ("llama-2-7b", 6.74),
            ("llama-3-8b", 8.03),
            ("mistral-7b", 7.24),
            ("qwen2.5-7b", 7.62),
            ("gemma-2-9b", 9.24),
            ("mixtral-8x7b", 46.7),
        ] {
            let shape = Shape::named(name).expect("known");
            let model = shape.model(None, 8).expect("runs");
            let sizes = model
                .weights
                .names()
                .filter_map(|name| model.weights.shape(name));
            let parameters: usize = sizes.map(|shape| shape.iter().product::<usize>()).sum();
            let found = parameters as f64 / 1e9;
            assert!((found / billions - 1.0).abs() < 0.005, "{name}: {found}");
        }
    }

    #[test]
    fn layers_and_positions_as_asked() {
        let shape = Shape::named("llama-7b").expect("an alias");
        assert_eq!((shape.hidden, shape.inner), (4096, 11_008));
        let model = shape.model(Some(3), 5000).expect("runs");
        assert_eq!(model.spec.layers.len(), 3);
        assert_eq!(
            model.spec.longest().map(|(positions, _)| positions),
            Some(5000)
        );
        let error = Shape::named("huge").expect_err("unknown");
        assert!(error.to_string().contains("mixtral-8x7b"), "{error}");
    }
}
