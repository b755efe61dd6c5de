//! The figure of the weights' spread.

use super::{figures, overlay::Lines};
use crate::{
    error::Result,
    report::{RunFolder, plot::Scale},
    tvr::TvrReport,
};

/// The standard deviation of every projection's weight by layer, with the target. Experts share a
/// line, their mean.
pub(super) fn figure(folder: &RunFolder, model: &str, report: &TvrReport) -> Result<String> {
    let layers = report.weights.iter().map(|weight| weight.layer + 1);
    let layers = layers.max().unwrap_or(0);
    // Sum and count by layer.
    let mut projections: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    let mut targets = vec![f64::NAN; layers];
    for weight in &report.weights {
        let place = projections
            .iter()
            .position(|(name, _)| *name == weight.projection);
        let place = place.unwrap_or_else(|| {
            projections.push((&weight.projection, vec![(0.0, 0.0); layers]));
            projections.len() - 1
        });
        let (sum, count) = &mut projections[place].1[weight.layer];
        (*sum, *count) = (*sum + weight.std, *count + 1.0);
        targets[weight.layer] = weight.target;
    }
    let mut lines = Lines::default();
    lines.push_gray("target", targets);
    for (name, sums) in projections {
        // Layers without this projection are 0 / 0.
        lines.push(name, sums.into_iter().map(|(sum, count)| sum / count));
    }
    // Ratios are what counts, and one layer may stand out by orders of magnitude.
    let svg = lines.chart(model, "Standard deviation of the weight", Scale::Log);
    figures::write(folder, "weight_std", svg)
}
