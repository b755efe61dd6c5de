//! Which tensors are weights of the layers, and which biases go with them.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::{Settings, Skipped};
use crate::{
    error::{Error, Result},
    model::{Model, dtype::DType},
};

/// What TVR looks at.
#[derive(Debug)]
pub(super) struct Plan {
    /// The 2-D weights, by layer, then name.
    pub(super) weights: Vec<Weight>,
    /// What has two dimensions or more and is no 2-D weight.
    pub(super) skipped: Vec<Skipped>,
    roles: HashMap<String, Role>,
}

/// A 2-D weight of a layer.
#[derive(Debug)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) layer: usize,
    /// Its module inside the layer, an expert's number replaced by `*`.
    pub(super) projection: String,
    pub(super) shape: [usize; 2],
    pub(super) dtype: DType,
    /// The bias of its module.
    pub(super) bias: Option<String>,
    pub(super) excluded: bool,
}

/// What a tensor is to TVR: a weight of the plan, or the bias of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Weight(usize),
    BiasOf(usize),
}

impl Plan {
    /// Looks through the layers' tensors; reads no values.
    pub(super) fn new(model: &Model, settings: &Settings) -> Result<Self> {
        let mut plan = Self {
            weights: Vec::new(),
            skipped: Vec::new(),
            roles: HashMap::new(),
        };
        let mut seen = HashSet::new();
        for layer in 0..model.spec.layers.len() {
            for name in model.spec.layer_tensors(layer) {
                if seen.insert(name.clone()) {
                    plan.add(model, settings, layer, name)?;
                }
            }
        }
        plan.check_exclusions(settings)?;
        Ok(plan)
    }

    /// What the tensor `name` is; none for tensors that stay as they are.
    pub(super) fn role(&self, name: &str) -> Option<Role> {
        self.roles.get(name).copied()
    }

    fn add(
        &mut self,
        model: &Model,
        settings: &Settings,
        layer: usize,
        name: String,
    ) -> Result<()> {
        // Every tensor of a layer was looked up when the model was opened.
        let shape = model.weights.shape(&name).unwrap_or_default();
        let module = name.strip_suffix(".weight");
        let (&[rows, columns], Some(module)) = (shape, module) else {
            if shape.len() > 1 {
                self.skipped.push(Skipped {
                    reason: reason(shape),
                    shape: shape.to_vec(),
                    layer,
                    name,
                });
            }
            return Ok(());
        };
        let index = self.weights.len();
        let experts = model.spec.layers[layer].experts();
        let correction = experts.and_then(|experts| experts.routing.correction.as_ref());
        // What only the choice of experts sees is no bias, whatever it is called.
        let bias = Some(format!("{module}.bias")).filter(|bias| {
            let corrects = correction.is_some_and(|correction| correction.tensor == *bias);
            model.weights.contains(bias) && !corrects
        });
        if let Some(bias) = &bias {
            self.roles.insert(bias.clone(), Role::BiasOf(index));
        }
        self.roles.insert(name.clone(), Role::Weight(index));
        self.weights.push(Weight {
            projection: projection(module, layer),
            shape: [rows, columns],
            dtype: match model.weights.is_packed(&name) {
                true => DType::Float32,
                false => model.weights.get(&name)?.elements.dtype,
            },
            excluded: settings.exclude.iter().any(|part| has(module, part)),
            bias,
            layer,
            name,
        });
        Ok(())
    }

    /// An exclusion that matches nothing is a slip of the pen.
    fn check_exclusions(&self, settings: &Settings) -> Result<()> {
        for part in &settings.exclude {
            if self.weights.iter().any(|weight| has(&weight.name, part)) {
                continue;
            }
            let mut known: Vec<&str> = Vec::new();
            for weight in &self.weights {
                if !known.contains(&weight.projection.as_str()) {
                    known.push(&weight.projection);
                }
            }
            return Err(Error::usage(
                format!("--exclude {part}"),
                "no weight of the layers has this name or part of a name",
            )
            .remedy(format!("the weights are {}", known.join(", "))));
        }
        Ok(())
    }
}

/// Why a tensor of a layer that is no vector is no 2-D weight either.
fn reason(shape: &[usize]) -> &'static str {
    if shape.len() == 2 {
        "two-dimensional, but not the weight of a module"
    } else {
        "not two-dimensional"
    }
}

/// Whether `part`, whole between dots, is in `name`.
fn has(name: &str, part: &str) -> bool {
    let (name, part): (Vec<&str>, Vec<&str>) =
        (name.split('.').collect(), part.split('.').collect());
    name.windows(part.len()).any(|window| window == part)
}

/// The module's name inside its layer: what follows the layer's number, other numbers as `*`.
fn projection(module: &str, layer: usize) -> String {
    let number = layer.to_string();
    let parts: Vec<&str> = module.split('.').collect();
    let first = parts
        .iter()
        .position(|part| *part == number)
        .map_or(0, |place| place + 1);
    let parts = parts[first..].iter().map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { "*" } else { part }
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projections() {
        for (module, layer, name) in [
            ("model.layers.3.self_attn.q_proj", 3, "self_attn.q_proj"),
            ("transformer.h.11.attn.c_attn", 11, "attn.c_attn"),
            (
                "model.layers.1.mlp.experts.1.down_proj",
                1,
                "mlp.experts.*.down_proj",
            ),
            ("h.0.mlp.c_fc", 0, "mlp.c_fc"),
            ("odd", 7, "odd"),
        ] {
            assert_eq!(projection(module, layer), name);
        }
    }

    #[test]
    fn parts_are_whole() {
        let name = "model.layers.3.self_attn.q_proj.weight";
        for part in [
            "q_proj",
            "self_attn.q_proj",
            "self_attn",
            "3.self_attn",
            name,
        ] {
            assert!(has(name, part), "{part}");
        }
        for part in ["q", "proj", "attn.q_proj", "q_proj.bias", "", "."] {
            assert!(!has(name, part), "{part}");
        }
    }
}
