//! The figures, drawn.

use std::collections::BTreeMap;

use super::{Figure, choice::Panel};
use crate::{
    backend::Entry,
    engine::{Observer, Site},
    error::Result,
    experiments::activation_figures::{ActivationFigures, SiteMagnitudes},
    report::{
        html::{
            Chart,
            chart::{Lines, Notes},
        },
        number::significant,
        plot::{LineChart, Marker, RidgeGrid, RidgePlot, RidgeShape, ScaleChoice, Series, palette},
        visible::token_label,
    },
};

/// Keeps the 3-D plots, at their resolution, of the tensors that pass by.
#[derive(Debug)]
pub(crate) struct Ridges {
    shape: RidgeShape,
    /// By layer.
    plots: BTreeMap<usize, RidgePlot>,
}

impl Ridges {
    /// For a sequence of `tokens` through `layers` layers of `width` dimensions.
    pub(crate) fn new(layers: usize, tokens: usize, width: usize) -> Self {
        Self {
            shape: RidgeShape::new(layers, tokens, width),
            plots: BTreeMap::new(),
        }
    }
}

impl Observer for Ridges {
    fn tensor(&mut self, _: Site, layer: usize, _: usize, _: usize, values: &[f32]) -> Result<()> {
        let title = format!("Layer {layer}");
        let plot = RidgePlot::new(title, self.shape, values);
        self.plots.insert(layer, plot);
        Ok(())
    }
}

/// The 3-D plots of all layers, as SVG.
pub(super) fn tokenwise(
    model: &str,
    result: &ActivationFigures,
    ridges: &Ridges,
    shared: bool,
) -> String {
    let plots = ridges.plots.iter().map(|(layer, plot)| {
        let layer = &result.layers[*layer];
        plot.clone().marked(layer.dimensions(), layer.positions())
    });
    let grid = RidgeGrid {
        title: format!("Output features of {model}"),
        note:
            "|hidden state|; tokens to the right, dimensions to the back; red: tokens with massive \
               activations; bold: their dimensions"
                .to_owned(),
        shape: ridges.shape,
        plots: plots.collect(),
        row_labels: result
            .tokens
            .iter()
            .map(|token| token_label(token))
            .collect(),
        shared,
    };
    grid.to_svg()
}

/// The panels of which any layer has something.
fn shown(figure: Figure, result: &ActivationFigures) -> impl Iterator<Item = &'static Panel> {
    let panels = figure.panels().iter();
    panels.filter(move |(_, sites)| {
        let mut shown = sites.iter();
        shown.any(|(site, _)| !layers_of(figure, result, sites, *site).is_empty())
    })
}

/// What a panel shows of a site. Before and after a norm are two sites, and only layers that have both
/// have the norm.
fn layers_of<'r>(
    figure: Figure,
    result: &'r ActivationFigures,
    sites: &[(Site, &str)],
    site: Site,
) -> Vec<&'r SiteMagnitudes> {
    let of = |site: Site| result.sites.get(site.name()).into_iter().flatten();
    let whole = |layer: &&SiteMagnitudes| {
        let mut sites = sites.iter();
        figure != Figure::Layernorm
            || sites.all(|(other, _)| of(*other).any(|found| found.layer == layer.layer))
    };
    of(site).filter(whole).collect()
}

/// Largest and median magnitude at a figure's sites, a chart a panel.
pub(super) fn panels(
    figure: Figure,
    result: &ActivationFigures,
    scale: ScaleChoice,
) -> Vec<LineChart> {
    shown(figure, result)
        .map(|(y_label, sites)| {
            let series = series(figure, result, sites);
            let values = series.iter().flat_map(|series| &series.points);
            LineChart {
                title: String::new(),
                x_label: "Layer (first is 0)".to_owned(),
                y_label: (*y_label).to_owned(),
                y_scale: scale.of(values.map(|point| point.1)),
                series,
                highlight: None,
            }
        })
        .collect()
}

/// The panels for the page, with the places of the largest magnitudes.
pub(super) fn explored(
    figure: Figure,
    charts: &[LineChart],
    result: &ActivationFigures,
) -> Vec<Chart> {
    let panels = charts.iter().zip(shown(figure, result));
    let noted = panels.map(|(chart, (_, sites))| {
        sites
            .iter()
            .fold(Lines::from(chart), |lines, (site, label)| {
                let layers = layers_of(figure, result, sites, *site).into_iter();
                let places = layers.map(|layer| place(result, layer.top.first()));
                lines.noted(&top1(label), places.collect())
            })
    });
    noted.map(Chart::Lines).collect()
}

fn place(result: &ActivationFigures, top: Option<&Entry>) -> Notes {
    let Some(top) = top else {
        return Notes::new();
    };
    let token = result.tokens.get(top.position);
    let note = |name: &str, value: String| (name.to_owned(), value);
    vec![
        note("largest", significant(f64::from(top.value))),
        note(
            "token",
            token.map_or_else(String::new, |token| token_label(token)),
        ),
        note("position", top.position.to_string()),
        note("dimension", top.dimension.to_string()),
    ]
}

fn top1(label: &str) -> String {
    format!("top-1, {label}")
}

/// The panels as SVG.
pub(super) fn magnitudes(
    figure: Figure,
    model: &str,
    result: &ActivationFigures,
    charts: &[LineChart],
) -> String {
    let mut inner = figure.panels().iter().flat_map(|panel| panel.1);
    let absent = inner.any(|(site, _)| result.absent_sites.contains(site));
    // Experts have no inner tensor that all tokens share.
    let what = match figure {
        Figure::Mlp if absent => "MLP output",
        _ => figure.heading(),
    };
    let title = format!("{what} of {model}");
    LineChart::column(&title, charts)
}

fn series(figure: Figure, result: &ActivationFigures, sites: &[(Site, &str)]) -> Vec<Series> {
    let styles = [
        (palette::BLUE, palette::BLUE_TINT, Marker::Circle),
        (
            palette::VERMILION,
            palette::VERMILION_TINT,
            Marker::Triangle,
        ),
        (palette::GREEN, palette::GREEN_TINT, Marker::Diamond),
    ];
    let points = |layers: &[&SiteMagnitudes], value: fn(&SiteMagnitudes) -> f32| {
        let point = |layer: &&SiteMagnitudes| (layer.layer as f64, f64::from(value(layer)));
        layers.iter().map(point).collect()
    };
    let (mut medians, mut largest) = (Vec::new(), Vec::new());
    for ((site, label), (color, tint, marker)) in sites.iter().zip(styles) {
        let layers = layers_of(figure, result, sites, *site);
        if layers.is_empty() {
            continue;
        }
        medians.push(Series {
            label: format!("median, {label}"),
            color: tint,
            marker,
            points: points(&layers, |layer| layer.median),
        });
        largest.push(Series {
            label: top1(label),
            color,
            marker,
            points: points(&layers, |layer| layer.max),
        });
    }
    medians.extend(largest);
    medians
}
