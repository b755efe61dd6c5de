//! The figure of largest and median magnitudes by layer.

use super::{Artifacts, Context, page, page::Verdict};
use crate::{
    error::Result,
    report::{
        plot::{Highlight, LineChart, Marker, Scale, Series, palette},
        table::Table,
    },
};

/// Mean top-1 and mean median of a layer.
pub(super) type Means = (f64, f64);

/// Files and page of a result that is magnitudes by layer: the figure, and the table whose emphasised
/// rows are the layers in `massive`.
pub(super) fn add(
    artifacts: &mut Artifacts,
    context: &Context<'_>,
    verdict: &str,
    layers: &[Means],
    massive: &[usize],
    table: &Table,
) -> Result<()> {
    let svg = chart(context.name(), layers, massive);
    let svg = artifacts.figure("top_activation_magnitude", svg)?;
    let verdict = Verdict {
        text: verdict.to_owned(),
        highlight: !massive.is_empty(),
    };
    let sections = vec![
        page::figure("Magnitudes by layer", svg),
        page::table("Layers", table),
    ];
    artifacts.page(context, verdict, sections);
    Ok(())
}

/// Mean top-1 and mean median by layer, the layers in `massive` marked, as SVG.
pub(super) fn chart(model: &str, layers: &[Means], massive: &[usize]) -> String {
    let points = |part: fn(&Means) -> f64| -> Vec<(f64, f64)> {
        layers
            .iter()
            .enumerate()
            .map(|(layer, means)| (layer as f64, part(means)))
            .collect()
    };
    let chart = LineChart {
        title: model.to_owned(),
        x_label: "Layer (first is 0)".to_owned(),
        y_label: "Activation magnitude".to_owned(),
        series: vec![
            Series {
                label: "median hidden states".to_owned(),
                color: palette::GRAY,
                marker: Marker::Square,
                points: points(|means| means.1),
            },
            Series {
                label: "top-1 hidden states".to_owned(),
                color: palette::BLUE,
                marker: Marker::Circle,
                points: points(|means| means.0),
            },
        ],
        y_scale: Scale::Linear,
        highlight: (!massive.is_empty()).then(|| Highlight {
            label: "massive activations".to_owned(),
            xs: massive.iter().map(|layer| *layer as f64).collect(),
        }),
    };
    chart.to_svg()
}
