//! A model at several steps of its training: how its massive activations come about.

mod figure;
pub mod fit;
mod step;
mod tables;

use std::{collections::BTreeMap, sync::Arc};

use rayon::prelude::*;

use self::fit::fit;
pub use self::{
    figure::write_figures,
    fit::{Fit, NoFit},
    step::of_name,
    tables::tables,
};
use super::runs::{Found, Layer, MeasuredRun};

/// What is followed over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Mean over sequences of max |h|.
    Top1,
    /// Mean over sequences of the median of |h|.
    Median,
    /// The first over the second.
    Ratio,
}

impl Quantity {
    /// All, in the order of tables and figures.
    pub const ALL: [Self; 3] = [Self::Top1, Self::Median, Self::Ratio];

    /// The column it has in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top1_mean",
            Self::Median => "median_mean",
            Self::Ratio => "ratio",
        }
    }

    fn of(self, layer: &Layer) -> Option<f64> {
        match self {
            Self::Top1 => Some(layer.top1_mean),
            Self::Median => Some(layer.median_mean),
            Self::Ratio => layer.ratio,
        }
    }
}

/// A model's runs of existence-validation with the same settings, at two steps and more.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// What tables call the model.
    pub model: Arc<str>,
    /// What decides the numbers, beside the step.
    pub settings: Arc<str>,
    /// By step, ascending.
    pub points: Vec<Point>,
    /// By layer, then quantity.
    pub series: Vec<Series>,
}

/// The model at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The training step.
    pub step: u64,
    /// Its revision.
    pub revision: Option<Arc<str>>,
    /// What was found.
    pub layers: Vec<Layer>,
}

/// One quantity of one layer over the steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// 0-based.
    pub layer: usize,
    /// The quantity.
    pub quantity: Quantity,
    /// (step, value), ascending by step.
    pub points: Vec<(f64, f64)>,
    /// The curve through them.
    pub fit: Result<Fit, NoFit>,
}

/// The trajectories that runs make up, in the order in which their models appear.
pub fn of(runs: &[MeasuredRun]) -> Vec<Trajectory> {
    let mut found: Vec<Trajectory> = Vec::new();
    for run in runs {
        let (Found::Existence(existence), Some(step)) = (&run.found, step_of(run)) else {
            continue;
        };
        let same = |known: &Trajectory| known.model == run.model && known.settings == run.settings;
        let index = found.iter().position(same).unwrap_or_else(|| {
            found.push(Trajectory {
                model: Arc::clone(&run.model),
                settings: Arc::clone(&run.settings),
                points: Vec::new(),
                series: Vec::new(),
            });
            found.len() - 1
        });
        found[index].points.push(Point {
            step,
            revision: run.revision.clone(),
            layers: existence.layers.clone(),
        });
    }
    for trajectory in &mut found {
        trajectory.points.sort_by_key(|point| point.step);
        trajectory.points.dedup_by_key(|point| point.step);
    }
    found.retain(|trajectory| trajectory.points.len() > 1);
    for trajectory in &mut found {
        trajectory.series = series(&trajectory.points);
    }
    found
}

/// The step that was given, or that the revision's or the checkpoint's name tells.
fn step_of(run: &MeasuredRun) -> Option<u64> {
    let revision = run.revision.as_deref();
    run.step
        .or_else(|| revision.and_then(of_name))
        .or_else(|| of_name(&run.name))
}

fn series(points: &[Point]) -> Vec<Series> {
    let mut values: BTreeMap<usize, [Vec<(f64, f64)>; 3]> = BTreeMap::new();
    for point in points {
        for layer in &point.layers {
            let lists = values.entry(layer.layer).or_default();
            for (list, quantity) in lists.iter_mut().zip(Quantity::ALL) {
                list.extend(quantity.of(layer).map(|value| (point.step as f64, value)));
            }
        }
    }
    let lists = values.into_iter().flat_map(|(layer, lists)| {
        let named = lists.into_iter().zip(Quantity::ALL);
        named.map(move |(points, quantity)| (layer, quantity, points))
    });
    let lists: Vec<_> = lists.collect();
    let fitted = lists
        .into_par_iter()
        .map(|(layer, quantity, points)| Series {
            layer,
            quantity,
            fit: fit(&points),
            points,
        });
    fitted.collect()
}

#[cfg(test)]
pub(super) mod examples {
    use std::path::Path;

    use serde_json::json;

    use super::{
        super::runs::{self, MeasuredRun, examples::existence},
        *,
    };

    /// Runs of `steps` of a model of two layers, the first of which never changes.
    pub(in crate::sweep) fn runs(folder: &Path, steps: &[u64]) -> Vec<MeasuredRun> {
        let curve = fit::Curve {
            a: 800.0,
            lambda: 0.1,
            gamma: 1e-4,
            t0: 0.9,
            k: 300.0,
        };
        let finished: Vec<_> = steps
            .iter()
            .map(|step| {
                let means = [(20.0, 0.5), (curve.at(*step as f64), 0.25)];
                let folder = folder.join(step.to_string());
                let mut run = existence(&folder, "pythia", &json!({ "seed": 1 }), &means);
                run.task.revision = Some(format!("step{step}"));
                run
            })
            .collect();
        runs::read(&finished).expect("read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_several_steps_are_one_trajectory() {
        let place = tempfile::tempdir().expect("a folder");
        let mut runs = examples::runs(place.path(), &[4000, 0, 1000, 2000, 3000, 5000, 6000]);
        // Without a step, and of another model at one step only.
        let mut main = runs[0].clone();
        main.revision = Some("main".into());
        let mut other = runs[0].clone();
        other.model = "other".into();
        runs.extend([main, other]);
        let found = of(&runs);
        assert_eq!(found.len(), 1);
        let steps: Vec<u64> = found[0].points.iter().map(|point| point.step).collect();
        assert_eq!(steps, [0, 1000, 2000, 3000, 4000, 5000, 6000]);
        assert_eq!(found[0].series.len(), 6);
        for series in &found[0].series {
            let varies = series.layer == 1 && series.quantity != Quantity::Median;
            match &series.fit {
                Ok(fit) => assert!(varies && fit.r2 > 0.999_999, "{series:?}"),
                Err(reason) => assert!(!varies && *reason == NoFit::Constant, "{series:?}"),
            }
        }
    }

    #[test]
    fn a_given_step_counts_more_than_a_name() {
        let place = tempfile::tempdir().expect("a folder");
        let mut runs = examples::runs(place.path(), &[1, 2]);
        runs[0].step = Some(7);
        runs[1].revision = None;
        runs[1].name = "out/checkpoint-3".to_owned();
        let found = of(&runs);
        let steps: Vec<u64> = found[0].points.iter().map(|point| point.step).collect();
        assert_eq!(steps, [3, 7]);
    }
}
