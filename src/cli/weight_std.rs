//! The figure of the weights' spread.

use super::figures;
use crate::{
    error::Result,
    report::{
        RunFolder,
        plot::{LineChart, Marker, Scale, Series, palette},
    },
    tvr::TvrReport,
};

/// The standard deviation of every projection's weight by layer, with the target. Experts share a
/// line, their mean.
pub(super) fn figure(folder: &RunFolder, model: &str, report: &TvrReport) -> Result<String> {
    const COLORS: [&str; 5] = [
        palette::BLUE,
        palette::VERMILION,
        palette::GREEN,
        palette::PURPLE,
        palette::SKY,
    ];
    const MARKERS: [Marker; 4] = [
        Marker::Circle,
        Marker::Square,
        Marker::Diamond,
        Marker::Triangle,
    ];
    let layers = report
        .weights
        .iter()
        .map(|weight| weight.layer + 1)
        .max()
        .unwrap_or(0);
    // Sum and count by layer.
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    let mut targets = vec![f64::NAN; layers];
    for weight in &report.weights {
        let place = lines
            .iter()
            .position(|(name, _)| *name == weight.projection);
        let place = place.unwrap_or_else(|| {
            lines.push((&weight.projection, vec![(0.0, 0.0); layers]));
            lines.len() - 1
        });
        let (sum, count) = &mut lines[place].1[weight.layer];
        (*sum, *count) = (*sum + weight.std, *count + 1.0);
        targets[weight.layer] = weight.target;
    }
    let points = |values: Vec<f64>| {
        let numbered = values.into_iter().enumerate();
        numbered.map(|(layer, y)| (layer as f64, y)).collect()
    };
    let mut series = vec![Series {
        label: "target".to_owned(),
        color: palette::GRAY,
        marker: Marker::Square,
        points: points(targets),
    }];
    for (index, (name, sums)) in lines.into_iter().enumerate() {
        series.push(Series {
            label: name.to_owned(),
            color: COLORS[index % COLORS.len()],
            marker: MARKERS[index % MARKERS.len()],
            // Layers without this projection are 0 / 0, which interrupts the line.
            points: points(sums.into_iter().map(|(sum, count)| sum / count).collect()),
        });
    }
    let chart = LineChart {
        title: model.to_owned(),
        x_label: "Layer (first is 0)".to_owned(),
        y_label: "Standard deviation of the weight".to_owned(),
        series,
        // Ratios are what counts, and one layer may stand out by orders of magnitude.
        y_scale: Scale::Log,
        highlight: None,
    };
    figures::write(folder, "weight_std", chart.to_svg())
}
