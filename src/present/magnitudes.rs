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
        plot::{Highlight, LineChart, Marker, ScaleChoice, Series, palette},
        table::Table,
        visible::token_label,
    },
};

/// A layer, its mean top-1 and its mean median.
pub(super) type Means = (usize, f64, f64);

/// The figure.
pub(super) struct Magnitudes<'a> {
    pub(super) title: String,
    /// Whose magnitudes: "hidden states".
    pub(super) tensors: &'a str,
    pub(super) layers: &'a [Means],
    /// Layers that are marked.
    pub(super) massive: &'a [usize],
    /// Of the largest magnitudes.
    pub(super) color: &'static str,
    pub(super) scale: ScaleChoice,
}

/// Files and page of a result that is magnitudes by layer: the figure, and the table whose emphasised
/// rows are the marked layers. `places` says of each layer where its largest value is.
pub(super) fn add(
    artifacts: &mut Artifacts,
    context: &Context<'_>,
    verdict: &str,
    magnitudes: &Magnitudes<'_>,
    table: &Table,
    places: Vec<Notes>,
) -> Result<()> {
    let chart = magnitudes.chart();
    let svg = artifacts.figure("top_activation_magnitude", chart.to_svg())?;
    let explored = explored(&chart, places);
    let verdict = Verdict {
        text: verdict.to_owned(),
        highlight: !magnitudes.massive.is_empty(),
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
    let label = chart.series.get(TOP1).map_or("", |series| &series.label);
    Chart::Lines(Lines::from(chart).noted(label, places))
}

/// The place of the largest magnitudes among the chart's lines.
const TOP1: usize = 1;

impl Magnitudes<'_> {
    /// Mean top-1 and mean median by layer, the layers in `massive` marked.
    pub(super) fn chart(&self) -> LineChart {
        let points = |part: fn(&Means) -> f64| -> Vec<(f64, f64)> {
            let layers = self.layers.iter();
            layers.map(|means| (means.0 as f64, part(means))).collect()
        };
        let values = self.layers.iter();
        let values = values.flat_map(|(_, top, median)| [*top, *median]);
        LineChart {
            title: self.title.clone(),
            x_label: "Layer (first is 0)".to_owned(),
            y_label: "Activation magnitude".to_owned(),
            series: vec![
                Series {
                    label: format!("median {}", self.tensors),
                    color: palette::GRAY,
                    marker: Marker::Square,
                    points: points(|means| means.2),
                },
                Series {
                    label: format!("top-1 {}", self.tensors),
                    color: self.color,
                    marker: Marker::Circle,
                    points: points(|means| means.1),
                },
            ],
            y_scale: self.scale.of(values),
            highlight: (!self.massive.is_empty()).then(|| Highlight {
                label: "massive activations".to_owned(),
                xs: self.massive.iter().map(|layer| *layer as f64).collect(),
            }),
        }
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
