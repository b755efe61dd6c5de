//! Target variance rescaling (TVR): an operation on a checkpoint, not on a running model.
//!
//! Definition (arXiv 2503.17500; used against massive activations in arXiv 2503.22329): a 2-D weight
//! of a decoder layer whose `std(W) / target` is above a threshold becomes
//! `(W - mean) / std * target + mean`, and the bias of its module becomes zero. The target may fall
//! with the depth as `1 / sqrt(layer)`, layers counted from 1.
//!
//! Mean and standard deviation (Bessel-corrected) are those of the whole stored tensor, in float64;
//! the result is rounded once, to nearest even, to the stored dtype.
#![forbid(unsafe_code)]

mod descriptions;
mod plan;
mod write;

use serde::Serialize;

pub use descriptions::Source;

pub use crate::backend::{Moments, Rescaling};

use crate::{
    backend::StoredTensors,
    error::{Error, Result},
    interrupt,
    model::{Model, dtype::DType},
    progress::Progress,
};
use plan::Plan;

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/tvr/1";

/// What is rescaled, and to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Standard deviation that a rescaled weight gets.
    pub target_std: f64,
    /// Whether the target is divided by the square root of the layer's number, counted from 1.
    pub scale_with_depth: bool,
    /// A weight is rescaled when its standard deviation is more than this times the target.
    pub ratio_threshold: f64,
    /// Parts of names, whole between dots (`q_proj`, `self_attn.k_proj`), of weights to leave alone.
    pub exclude: Vec<String>,
}

impl Settings {
    /// The target of a layer, counted from 0.
    fn target(&self, layer: usize) -> f64 {
        if self.scale_with_depth {
            self.target_std / ((layer + 1) as f64).sqrt()
        } else {
            self.target_std
        }
    }
}

/// Every 2-D weight of the decoder layers, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TvrReport {
    /// Weights that were rescaled.
    pub rescaled: usize,
    /// Biases that were set to zero.
    pub biases_zeroed: usize,
    /// One entry a weight, by layer, then name.
    pub weights: Vec<WeightReport>,
    /// Tensors of the layers with two dimensions or more that are no 2-D weights.
    pub skipped: Vec<Skipped>,
}

/// One weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightReport {
    /// Name of the tensor.
    pub name: String,
    /// Layer from 0.
    pub layer: usize,
    /// The module inside the layer; the number of an expert is `*`.
    pub projection: String,
    /// As stored.
    pub shape: [usize; 2],
    /// As stored.
    pub dtype: DType,
    /// Mean before.
    pub mean: f64,
    /// Standard deviation before, Bessel-corrected.
    pub std: f64,
    /// Standard deviation that it would get.
    pub target: f64,
    /// `std / target`
    pub ratio: f64,
    /// Whether the settings exclude it.
    pub excluded: bool,
    /// Whether it is rescaled.
    pub changed: bool,
    /// Standard deviation of the values as stored afterwards.
    pub std_after: f64,
    /// Whether its module has a bias and that is set to zero.
    pub bias_zeroed: bool,
}

/// A tensor that TVR does not apply to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Name of the tensor.
    pub name: String,
    /// Layer from 0.
    pub layer: usize,
    /// As stored.
    pub shape: Vec<usize>,
    /// Why.
    pub reason: &'static str,
}

/// The standard deviation of the layers' 2-D weights: by layer, the mean over its weights.
pub fn std_by_layer(
    model: &Model,
    arithmetic: &dyn StoredTensors,
    progress: Progress,
) -> Result<Vec<f64>> {
    let mut tvr = Tvr::new(
        model,
        Settings {
            target_std: 1.0,
            scale_with_depth: false,
            // Nothing is above it.
            ratio_threshold: f64::INFINITY,
            exclude: Vec::new(),
        },
        arithmetic,
    )?;
    tvr.measure(progress)?;
    let mut layers = vec![(0.0, 0.0); model.spec.layers.len()];
    for weight in tvr.report().weights {
        let (sum, count) = &mut layers[weight.layer];
        (*sum, *count) = (*sum + weight.std, *count + 1.0);
    }
    let means = layers
        .into_iter()
        .map(|(sum, count): (f64, f64)| sum / count.max(1.0));
    Ok(means.collect())
}

/// TVR of one checkpoint. Weights are measured when their turn comes, once.
#[derive(Debug)]
pub struct Tvr<'m> {
    model: &'m Model,
    settings: Settings,
    arithmetic: &'m dyn StoredTensors,
    plan: Plan,
    /// By weight of the plan.
    findings: Vec<Option<Finding>>,
}

/// What is known of a weight once it is measured.
#[derive(Debug, Clone, Copy)]
struct Finding {
    before: Moments,
    change: Option<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    rescaling: Rescaling,
    std_after: f64,
}

impl<'m> Tvr<'m> {
    /// Finds the weights; reads none. The arithmetic computes the same bits wherever it runs.
    pub fn new(
        model: &'m Model,
        settings: Settings,
        arithmetic: &'m dyn StoredTensors,
    ) -> Result<Self> {
        let plan = Plan::new(model, &settings)?;
        Ok(Self {
            findings: vec![None; plan.weights.len()],
            model,
            settings,
            arithmetic,
            plan,
        })
    }

    /// Refuses weights that are packed: they can be measured, but not rewritten.
    pub fn refuse_packed(&self) -> Result<()> {
        for weight in &self.plan.weights {
            self.model.weights.get(&weight.name)?;
        }
        Ok(())
    }

    /// Measures every weight and writes nothing.
    pub fn measure(&mut self, progress: Progress) -> Result<()> {
        let bar = progress.steps("measuring weights", self.plan.weights.len() as u64);
        for index in 0..self.plan.weights.len() {
            self.finding(index)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What was found, after [`Tvr::measure`] or [`Tvr::write`].
    pub fn report(&self) -> TvrReport {
        let weights: Vec<WeightReport> = self
            .plan
            .weights
            .iter()
            .zip(&self.findings)
            .filter_map(|(weight, finding)| {
                let finding = finding.as_ref()?;
                let (std, target) = (finding.before.std(), self.settings.target(weight.layer));
                Some(WeightReport {
                    name: weight.name.clone(),
                    layer: weight.layer,
                    projection: weight.projection.clone(),
                    shape: weight.shape,
                    dtype: weight.dtype,
                    mean: finding.before.mean,
                    std,
                    target,
                    ratio: std / target,
                    excluded: weight.excluded,
                    changed: finding.change.is_some(),
                    std_after: finding.change.map_or(std, |change| change.std_after),
                    bias_zeroed: finding.change.is_some() && weight.bias.is_some(),
                })
            })
            .collect();
        TvrReport {
            rescaled: weights.iter().filter(|weight| weight.changed).count(),
            biases_zeroed: weights.iter().filter(|weight| weight.bias_zeroed).count(),
            weights,
            skipped: self.plan.skipped.clone(),
        }
    }

    /// What there is to know of a weight, measured on the first question: its bias may come long
    /// before it in the files.
    fn finding(&mut self, index: usize) -> Result<Finding> {
        if let Some(finding) = self.findings[index] {
            return Ok(finding);
        }
        let weight = &self.plan.weights[index];
        let packed = self.model.weights.is_packed(&weight.name);
        let decoded = match packed {
            true => self.model.decoded(&weight.name)?,
            false => None,
        };
        interrupt::check()?;
        let elements = match &decoded {
            Some(decoded) => decoded.view().elements,
            None => self.model.weights.get(&weight.name)?.elements,
        };
        let moments = |change| {
            let chunks = self.arithmetic.moments(elements, change)?;
            Ok::<_, Error>(Moments::join_all(&chunks))
        };
        let before = moments(None)?;
        let target = self.settings.target(weight.layer);
        if !before.is_finite() {
            return Err(Error::new(
                format!("tensor `{}`", weight.name),
                "it holds NaN or infinite values",
            )
            .remedy("the checkpoint is damaged or diverged in training; use another one"));
        }
        let wanted = !weight.excluded && before.std() / target > self.settings.ratio_threshold;
        let change = wanted
            .then(|| {
                let rescaling = Rescaling::new(&before, target);
                let after = moments(Some(rescaling))?;
                if !after.is_finite() {
                    return Err(Error::new(
                        format!("tensor `{}`", weight.name),
                        format!("its rescaled values overflow {}", weight.dtype),
                    )
                    .remedy("use a smaller --target-std"));
                }
                Ok(Change {
                    rescaling,
                    std_after: after.std(),
                })
            })
            .transpose()?;
        self.model
            .weights
            .release(std::slice::from_ref(&weight.name));
        let finding = Finding { before, change };
        self.findings[index] = Some(finding);
        Ok(finding)
    }
}
