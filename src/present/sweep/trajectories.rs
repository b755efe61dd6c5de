//! Values over training steps, as the page draws them.

use crate::{
    report::{
        html::overview::{self, Fits, TrajectoryLayer},
        number::significant,
    },
    sweep::trajectory::{Fit, Quantity, Series, Trajectory},
};

/// Points of a drawn curve.
const SAMPLES: usize = 120;

pub(super) fn of(trajectories: &[Trajectory]) -> Vec<overview::Trajectory> {
    // Of one model with several settings each is a trajectory of its own.
    let several = |trajectory: &Trajectory| {
        let same = trajectories
            .iter()
            .filter(|other| other.model == trajectory.model);
        same.count() > 1
    };
    trajectories
        .iter()
        .map(|trajectory| overview::Trajectory {
            label: match several(trajectory) {
                true => format!("{} {}", trajectory.model, trajectory.settings),
                false => trajectory.model.to_string(),
            },
            steps: steps(trajectory),
            layers: layers(trajectory),
        })
        .collect()
}

fn steps(trajectory: &Trajectory) -> Vec<f64> {
    let points = trajectory.points.iter();
    points.map(|point| point.step as f64).collect()
}

fn layers(trajectory: &Trajectory) -> Vec<TrajectoryLayer> {
    let steps = steps(trajectory);
    let mut layers: Vec<TrajectoryLayer> = Vec::new();
    for series in &trajectory.series {
        if layers.last().is_none_or(|last| last.layer != series.layer) {
            layers.push(TrajectoryLayer {
                layer: series.layer,
                fits: Fits::default(),
                ..TrajectoryLayer::default()
            });
        }
        let Some(layer) = layers.last_mut() else {
            continue;
        };
        let values: Vec<f64> = steps
            .iter()
            .map(|step| {
                let found = series.points.iter().find(|(other, _)| other == step);
                found.map_or(f64::NAN, |(_, value)| *value)
            })
            .collect();
        let fit = fit(series, &steps);
        match series.quantity {
            Quantity::Top1 => (layer.max, layer.fits.max) = (values, fit),
            Quantity::Median => (layer.median, layer.fits.median) = (values, fit),
            Quantity::Ratio => (layer.ratio, layer.fits.ratio) = (values, fit),
        }
    }
    layers
}

fn fit(series: &Series, steps: &[f64]) -> Option<overview::Fit> {
    let Fit { curve, r2, .. } = series.fit.as_ref().ok()?;
    let (first, last) = (*steps.first()?, *steps.last()?);
    // Dense where the steps are: they often double from one to the next.
    let (low, high) = ((1.0 + first).ln(), (1.0 + last).ln());
    let samples = (0..=SAMPLES).map(|sample| {
        let share = sample as f64 / SAMPLES as f64;
        let step = (low + share * (high - low)).exp() - 1.0;
        (step, curve.at(step))
    });
    let says = format!(
        "{} exp(-{} x) ln x + {}, x = {} t + {}",
        significant(curve.a),
        significant(curve.lambda),
        significant(curve.k),
        significant(curve.gamma),
        significant(curve.t0)
    );
    Some(overview::Fit {
        says,
        r2: *r2,
        curve: samples.collect(),
    })
}
