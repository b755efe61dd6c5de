//! Writes captured tensors to safetensors files while the model runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::{
    backend::AttentionMaps,
    engine::{AttentionParts, Observer, Plan, Site},
    error::Result,
    model::Model,
    report::{RunFolder, tensors::TensorFile},
};

/// capture.safetensors and attention.safetensors, as far as the plan asks for them.
pub(crate) struct FileRecorder {
    raw: Option<TensorFile>,
    attention: Option<TensorFile>,
    /// The layers whose maps are written; none for all of them.
    layers: Option<BTreeSet<usize>>,
    parts: Option<TensorFile>,
    /// What every file says of its sequences, so that it is enough by itself.
    about: BTreeMap<&'static str, String>,
}

impl FileRecorder {
    /// Lays the files out; every shape follows from the model and the sequences. With `only` the maps
    /// of other layers are left out.
    pub(crate) fn create(
        folder: &RunFolder,
        plan: &Plan,
        model: &Model,
        sequences: &[Vec<u32>],
        only: Option<&BTreeSet<usize>>,
    ) -> Result<Self> {
        let layers = model.spec.layers.len();
        let mut raw = Vec::new();
        for site in &plan.raw {
            let places = 0..if site.per_layer() { layers } else { 1 };
            for layer in places.filter(|layer| site.is_in(&model.spec.layers[*layer])) {
                for (sequence, ids) in sequences.iter().enumerate() {
                    let shape = vec![ids.len(), site.width(&model.spec, layer)];
                    raw.push((raw_name(*site, layer, sequence), shape));
                }
            }
        }
        let mut attention = Vec::new();
        for layer in (0..layers).filter(|layer| wanted(only, *layer)) {
            let Some(spec) = &model.spec.layers[layer].attention else {
                continue;
            };
            let heads = spec.heads;
            for (sequence, ids) in sequences.iter().enumerate() {
                let tokens = ids.len();
                // The extra key of attention KV bias is the first column.
                let keys = tokens + usize::from(spec.kv_bias.is_some());
                let mut add = |kind: &str, shape: &[usize]| {
                    attention.push((attention_name(sequence, layer, kind), shape.to_vec()));
                };
                if plan.attention.mean {
                    add("probs_mean", &[tokens, keys]);
                    add("logits_mean", &[tokens, keys]);
                }
                if plan.attention_of(layer).heads {
                    add("probs", &[heads, tokens, keys]);
                    add("logits", &[heads, tokens, keys]);
                }
                if plan.attention.sink {
                    add("sink_mass", &[heads, keys]);
                    add("max_logit", &[heads]);
                }
            }
        }
        let about = about(model, sequences);
        let file = |name, tensors: Vec<_>| {
            (!tensors.is_empty())
                .then(|| TensorFile::create(folder, name, &tensors, &about))
                .transpose()
        };
        Ok(Self {
            raw: file("capture.safetensors", raw)?,
            attention: file("attention.safetensors", attention)?,
            layers: only.cloned(),
            parts: None,
            about,
        })
    }

    /// Writes what attention makes of the sequences, and what the plan's keys give to it, to
    /// attention_output.safetensors.
    pub(crate) fn take_parts(
        &mut self,
        folder: &RunFolder,
        model: &Model,
        sequences: &[Vec<u32>],
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for (layer, spec) in model.spec.layers.iter().enumerate() {
            if spec.attention.is_none() {
                continue;
            }
            for (sequence, ids) in sequences.iter().enumerate() {
                for kind in PARTS {
                    let shape = vec![ids.len(), model.spec.hidden_size];
                    tensors.push((attention_name(sequence, layer, kind), shape));
                }
            }
        }
        self.parts = Some(TensorFile::create(
            folder,
            "attention_output.safetensors",
            &tensors,
            &self.about,
        )?);
        Ok(())
    }

    /// Gives the files their names.
    pub(crate) fn commit(self) -> Result<()> {
        let files = [self.raw, self.attention, self.parts];
        for file in files.into_iter().flatten() {
            file.commit()?;
        }
        Ok(())
    }
}

impl Observer for FileRecorder {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        _columns: usize,
        values: &[f32],
    ) -> Result<()> {
        match &mut self.raw {
            Some(file) => file.write(&raw_name(site, layer, sequence), values),
            None => Ok(()),
        }
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let Some(file) = &mut self.attention else {
            return Ok(());
        };
        if !wanted(self.layers.as_ref(), layer) {
            return Ok(());
        }
        for (kind, map) in [
            ("probs_mean", maps.probs_mean),
            ("logits_mean", maps.logits_mean),
            ("probs", maps.probs),
            ("logits", maps.logits),
            ("sink_mass", maps.sink_mass),
            ("max_logit", maps.max_logit),
        ] {
            if let Some(values) = map {
                file.write(&attention_name(sequence, layer, kind), &values)?;
            }
        }
        Ok(())
    }

    fn attention_parts(
        &mut self,
        layer: usize,
        sequence: usize,
        parts: AttentionParts<'_>,
    ) -> Result<()> {
        if let Some(file) = &mut self.parts {
            for (kind, values) in PARTS.into_iter().zip([parts.whole, parts.followed]) {
                file.write(&attention_name(sequence, layer, kind), values)?;
            }
        }
        Ok(())
    }
}

/// What attention makes, and what the followed tokens give to it.
const PARTS: [&str; 2] = ["output", "followed"];

fn wanted(layers: Option<&BTreeSet<usize>>, layer: usize) -> bool {
    layers.is_none_or(|layers| layers.contains(&layer))
}

/// The sequences, as JSON: ids and texts of their tokens.
fn about(model: &Model, sequences: &[Vec<u32>]) -> BTreeMap<&'static str, String> {
    let texts = |ids: &Vec<u32>| ids.iter().map(|id| model.token(*id)).collect();
    let tokens: Vec<Vec<String>> = sequences.iter().map(texts).collect();
    BTreeMap::from([
        ("massact", env!("CARGO_PKG_VERSION").to_owned()),
        ("token_ids", json!(sequences).to_string()),
        ("tokens", json!(tokens).to_string()),
    ])
}

fn raw_name(site: Site, layer: usize, sequence: usize) -> String {
    format!("{}.{layer}.{sequence}", site.name())
}

/// The first sequence's maps have the plain name; most captures have one sequence.
fn attention_name(sequence: usize, layer: usize, kind: &str) -> String {
    match sequence {
        0 => format!("layer.{layer}.{kind}"),
        _ => format!("sequence.{sequence}.layer.{layer}.{kind}"),
    }
}
