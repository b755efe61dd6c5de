//! The further published figures, drawn.

use clap::ValueEnum;

use super::figures;
use crate::{
    engine::{Observer, Site},
    error::Result,
    experiments::activation_figures::{ActivationFigures, SiteMagnitudes},
    report::{
        RunFolder,
        plot::{LineChart, Marker, RidgeGrid, RidgePlot, RidgeShape, Scale, Series, palette},
        text::{LayerFeatures, TextDtype, features_text},
        visible::token_label,
    },
};

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Figure {
    /// |hidden state| over tokens and dimensions, a 3-D plot a layer.
    OutputFeatureTokenwise,
    /// Magnitudes of queries, keys and values.
    Qkv,
    /// Magnitudes in the MLP.
    Mlp,
    /// Magnitudes before and after the norms.
    Layernorm,
}

/// One panel of a figure of magnitudes: its y label, and the sites with what they are called.
pub(super) type Panel = (&'static str, &'static [(Site, &'static str)]);

impl Figure {
    /// Name of its files.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::OutputFeatureTokenwise => "output_feature_tokenwise",
            Self::Qkv => "qkv",
            Self::Mlp => "mlp",
            Self::Layernorm => "layernorm",
        }
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::OutputFeatureTokenwise => "Output features by token and dimension",
            Self::Qkv => "Queries, keys and values",
            Self::Mlp => "MLP",
            Self::Layernorm => "Norms",
        }
    }

    pub(super) fn panels(self) -> &'static [Panel] {
        match self {
            Self::OutputFeatureTokenwise => &[],
            Self::Qkv => &[(
                "Magnitude",
                &[(Site::Q, "queries"), (Site::K, "keys"), (Site::V, "values")],
            )],
            Self::Mlp => &[(
                "Magnitude",
                &[
                    (Site::Gate, "activation function"),
                    (Site::MlpInner, "down projection's input"),
                    (Site::MlpOutput, "output"),
                ],
            )],
            Self::Layernorm => &[
                (
                    "Attention's norm",
                    &[
                        (Site::LayerInput, "input"),
                        (Site::AttentionInput, "output"),
                    ],
                ),
                (
                    "MLP's norm",
                    &[(Site::ResidualMid, "input"), (Site::MlpInput, "output")],
                ),
            ],
        }
    }
}

/// Keeps the 3-D plots, at their resolution, of the tensors that pass by.
pub(super) struct Ridges {
    pub(super) shape: RidgeShape,
    pub(super) plots: Vec<RidgePlot>,
}

impl Observer for Ridges {
    fn tensor(&mut self, _: Site, layer: usize, _: usize, _: usize, values: &[f32]) -> Result<()> {
        let title = format!("Layer {layer}");
        self.plots.push(RidgePlot::new(title, self.shape, values));
        Ok(())
    }
}

/// `output_feature_tokenwise.png` and `.svg`.
pub(super) fn tokenwise(
    folder: &RunFolder,
    model: &str,
    result: &ActivationFigures,
    ridges: &Ridges,
) -> Result<String> {
    let plots = ridges
        .plots
        .iter()
        .zip(&result.layers)
        .map(|(plot, layer)| plot.clone().marked(layer.dimensions(), layer.positions()));
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
    };
    figures::write(folder, Figure::OutputFeatureTokenwise.file(), grid.to_svg())
}

/// The reference's text about the output features.
pub(super) fn features(result: &ActivationFigures) -> String {
    let layers: Vec<LayerFeatures> = result
        .layers
        .iter()
        .map(|layer| LayerFeatures {
            layer: layer.layer,
            max: f64::from(layer.max),
            positions: layer.positions().into_iter().collect(),
            dimensions: layer.dimensions(),
        })
        .collect();
    features_text(&layers, TextDtype::Float32)
}

/// `<figure>.png` and `.svg`: largest and median magnitude at its sites.
pub(super) fn magnitudes(
    folder: &RunFolder,
    figure: Figure,
    model: &str,
    result: &ActivationFigures,
) -> Result<String> {
    let charts: Vec<LineChart> = figure
        .panels()
        .iter()
        .map(|(y_label, sites)| LineChart {
            title: String::new(),
            x_label: "Layer (first is 0)".to_owned(),
            y_label: (*y_label).to_owned(),
            series: series(result, sites),
            y_scale: Scale::Log,
            highlight: None,
        })
        .collect();
    let inner = figure.panels().iter().flat_map(|panel| panel.1);
    let absent = inner
        .clone()
        .any(|(site, _)| result.absent_sites.contains(site));
    // Experts have no inner tensor that all tokens share.
    let what = match absent {
        true => "MLP output",
        false => figure.heading(),
    };
    let title = format!("{what} of {model}: largest and median magnitude");
    figures::write(folder, figure.file(), LineChart::column(&title, &charts))
}

fn series(result: &ActivationFigures, sites: &[(Site, &str)]) -> Vec<Series> {
    let styles = [
        (palette::BLUE, palette::BLUE_TINT, Marker::Circle),
        (
            palette::VERMILION,
            palette::VERMILION_TINT,
            Marker::Triangle,
        ),
        (palette::GREEN, palette::GREEN_TINT, Marker::Diamond),
    ];
    let points = |layers: &[SiteMagnitudes], value: fn(&SiteMagnitudes) -> f32| {
        let point = |layer: &SiteMagnitudes| (layer.layer as f64, f64::from(value(layer)));
        layers.iter().map(point).collect()
    };
    let (mut medians, mut largest) = (Vec::new(), Vec::new());
    for ((site, label), (color, tint, marker)) in sites.iter().zip(styles) {
        let Some(layers) = result.sites.get(site.name()) else {
            continue;
        };
        medians.push(Series {
            label: format!("median, {label}"),
            color: tint,
            marker,
            points: points(layers, |layer| layer.median),
        });
        largest.push(Series {
            label: format!("top-1, {label}"),
            color,
            marker,
            points: points(layers, |layer| layer.max),
        });
    }
    medians.extend(largest);
    medians
}
