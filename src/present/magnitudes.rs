//! The figure of largest and median magnitudes by layer.

use super::{Artifacts, Context, page, page::Verdict};
use crate::{
    error::Result,
    experiments::TokenEntry,
    report::{
        html::{
            Chart,
            chart::{Lines, Notes},
        },
        number::significant,
        plot::{Highlight, LineChart, Marker, Scale, Series, palette},
        table::Table,
        visible::token_label,
    },
};

/// Mean top-1 and mean median of a layer.
pub(super) type Means = (f64, f64);

/// Files and page of a result that is magnitudes by layer: the figure, and the table whose emphasised
/// rows are the layers in `massive`. `places` says of each layer where its largest value is.
pub(super) fn add(
    artifacts: &mut Artifacts,
    context: &Context<'_>,
    verdict: &str,
    layers: &[Means],
    massive: &[usize],
    table: &Table,
    places: Vec<Notes>,
) -> Result<()> {
    let chart = chart(context.name(), layers, massive);
    let svg = artifacts.figure("top_activation_magnitude", chart.to_svg())?;
    let explored = explored(&chart, places);
    let verdict = Verdict {
        text: verdict.to_owned(),
        highlight: !massive.is_empty(),
    };
    let sections = vec![
        page::figure("Magnitudes by layer", svg).explored([explored]),
        page::table("Layers", table),
    ];
    artifacts.page(context, verdict, sections);
    Ok(())
}

/// The chart for the page; `places` says of each layer where its largest value is.
pub(super) fn explored(chart: &LineChart, places: Vec<Notes>) -> Chart {
    Chart::Lines(Lines::from(chart).noted(TOP1, places))
}

/// The line of the largest magnitudes.
const TOP1: &str = "top-1 hidden states";

/// Mean top-1 and mean median by layer, the layers in `massive` marked.
pub(super) fn chart(model: &str, layers: &[Means], massive: &[usize]) -> LineChart {
    let points = |part: fn(&Means) -> f64| -> Vec<(f64, f64)> {
        layers
            .iter()
            .enumerate()
            .map(|(layer, means)| (layer as f64, part(means)))
            .collect()
    };
    LineChart {
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
                label: TOP1.to_owned(),
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
    }
}

/// Where the largest value of a layer is, for the page.
pub(super) fn place(top: Option<&TokenEntry>) -> Notes {
    let Some(top) = top else {
        return Notes::new();
    };
    let note = |name: &str, value: String| (name.to_owned(), value);
    vec![
        note("largest", significant(f64::from(top.value))),
        note("token", token_label(&top.token)),
        note("position", top.position.to_string()),
        note("dimension", top.dimension.to_string()),
        note("sequence", top.sequence.to_string()),
    ]
}
