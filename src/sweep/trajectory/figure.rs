//! A model's trajectories as a picture: what was measured, and the curves through it.

use std::path::{Path, PathBuf};

use super::{Quantity, Series, Trajectory};
use crate::{
    error::Result,
    report::{
        atomic::write_into,
        folder::model_folder_name,
        plot::{Curve, CurveChart, svg_to_pdf, svg_to_png},
    },
};

/// More layers than these hide each other; the others are left out.
const MOST_LAYERS: usize = 12;
/// Of a fitted curve.
const SAMPLES: usize = 200;
/// Pixels per SVG unit.
const PNG_SCALE: f64 = 2.0;

/// Writes `trajectories-<model>.svg`, `.png` and `.pdf` of every trajectory into a folder that the argument
/// `flag` names; of a model with several, numbers are added from the second on.
pub fn write_figures(
    folder: &Path,
    trajectories: &[Trajectory],
    flag: &'static str,
) -> Result<Vec<PathBuf>> {
    let mut names: Vec<String> = Vec::new();
    let mut written = Vec::new();
    for trajectory in trajectories {
        let base = format!("trajectories-{}", model_folder_name(&trajectory.model));
        let mut name = base.clone();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{base}-{number}");
            number += 1;
        }
        let svg = svg(trajectory)?;
        let png = svg_to_png(&svg, PNG_SCALE)?;
        written.push(write_into(
            &folder.join(format!("{name}.svg")),
            svg.as_bytes(),
            flag,
        )?);
        written.push(write_into(&folder.join(format!("{name}.png")), &png, flag)?);
        let pdf = svg_to_pdf(&svg, &name)?;
        written.push(write_into(&folder.join(format!("{name}.pdf")), &pdf, flag)?);
        names.push(name);
    }
    Ok(written)
}

/// One chart a quantity, one below the other.
fn svg(trajectory: &Trajectory) -> Result<String> {
    let shown = shown(trajectory);
    let charts = Quantity::ALL.map(|quantity| {
        let label = match quantity {
            Quantity::Top1 => "Mean top-1 |h|",
            Quantity::Median => "Mean median |h|",
            Quantity::Ratio => "Ratio",
        };
        let series = trajectory.series.iter();
        let series = series.filter(|series| series.quantity == quantity);
        let own = series.filter(|series| shown.contains(&series.layer));
        CurveChart {
            x_label: format!("Training step{}", quality(own.clone())),
            y_label: label.to_owned(),
            number_label: "Layer".to_owned(),
            curves: own.map(curve).collect(),
        }
    });
    CurveChart::column(&format!("{} over training", trajectory.model), &charts)
}

/// How well the fits of some series do.
fn quality<'a>(series: impl Iterator<Item = &'a Series>) -> String {
    let fits = series.filter_map(|series| series.fit.as_ref().ok());
    let mut found: Vec<f64> = fits.map(|fit| fit.r2).collect();
    found.sort_by(f64::total_cmp);
    match found[..] {
        [] => String::new(),
        [only] => format!(" (curve: fit with R² {only:.3})"),
        [least, .., best] => format!(" (curves: fits with R² {least:.3} to {best:.3})"),
    }
}

/// Layers at even distances, the first, the last and the largest among them.
fn shown(trajectory: &Trajectory) -> Vec<usize> {
    let mut layers: Vec<usize> = trajectory
        .series
        .iter()
        .map(|series| series.layer)
        .collect();
    layers.dedup();
    let last = layers.len().saturating_sub(1);
    if layers.len() <= MOST_LAYERS {
        return layers;
    }
    let top = trajectory
        .series
        .iter()
        .filter(|series| series.quantity == Quantity::Top1);
    let most = |series: &&Series| series.points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let largest = top.max_by(|a, b| most(a).total_cmp(&most(b)));
    let even = (0..MOST_LAYERS).map(|i| layers[i * last / (MOST_LAYERS - 1)]);
    even.chain(largest.map(|series| series.layer)).collect()
}

fn curve(series: &Series) -> Curve {
    let (from, to) = (series.points.first(), series.points.last());
    let line = match (&series.fit, from, to) {
        (Ok(fit), Some((from, _)), Some((to, _))) => samples(*from, *to)
            .map(|step| (step, fit.curve.at(step)))
            .collect(),
        _ => series.points.clone(),
    };
    Curve {
        number: series.layer,
        points: series.points.clone(),
        line,
    }
}

/// Steps that are dense where the axis is stretched, whether it is linear or logarithmic.
fn samples(from: f64, to: f64) -> impl Iterator<Item = f64> {
    let share = |i: usize| i as f64 / (SAMPLES - 1) as f64;
    let linear = (0..SAMPLES).map(move |i| from + share(i) * (to - from));
    let low = from.max(1.0).min(to);
    let log = (1..SAMPLES - 1).map(move |i| low * (to / low).powf(share(i)));
    let mut all: Vec<f64> = linear.chain(log).collect();
    all.sort_by(f64::total_cmp);
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::trajectory::{examples, of};

    #[test]
    fn a_picture_a_trajectory() {
        let place = tempfile::tempdir().expect("a folder");
        let steps = [0, 1, 8, 64, 512, 1000, 8000, 64000, 143_000];
        let mut found = of(&examples::runs(&place.path().join("runs"), &steps));
        let mut other = found[0].clone();
        other.settings = "{}".into();
        found.push(other);
        let written = write_figures(place.path(), &found, "folder").expect("written");
        let names: Vec<_> = written
            .iter()
            .map(|path| {
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(
            names,
            [
                "trajectories-pythia.svg",
                "trajectories-pythia.png",
                "trajectories-pythia.pdf",
                "trajectories-pythia-2.svg",
                "trajectories-pythia-2.png",
                "trajectories-pythia-2.pdf"
            ]
        );
        let svg = std::fs::read_to_string(&written[0]).expect("there");
        for label in [
            "pythia over training",
            "Training step",
            "Mean top-1 |h|",
            "Ratio",
            "Layer",
        ] {
            assert!(svg.contains(label), "{label}");
        }
        assert!(svg.contains("Training step (curve: fit with R² 1.000)"));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn of_many_layers_some_are_shown() {
        let place = tempfile::tempdir().expect("a folder");
        let mut found = of(&examples::runs(place.path(), &[1, 2]));
        let series = found[0].series[3].clone();
        found[0].series = (0..40)
            .map(|layer| {
                let mut series = series.clone();
                series.layer = layer;
                series.points[0].1 = if layer == 5 { 1e6 } else { 1.0 };
                series
            })
            .collect();
        let shown = shown(&found[0]);
        assert!(shown.len() <= MOST_LAYERS + 1);
        for layer in [0, 5, 39] {
            assert!(shown.contains(&layer), "{shown:?}");
        }
    }
}
