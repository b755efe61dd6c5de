//! Pictures and the page that commands leave beside their JSON.

use serde_json::Value;

use super::run::Run;
use crate::{
    error::Result,
    report::{
        RunFolder,
        html::{Body, Page, Section},
        plot::{LineChart, Marker, Scale, Series, palette, svg_to_png},
        table::Table,
    },
};

/// Pixels per SVG unit: sharp on a dense screen and in print.
const PNG_SCALE: f64 = 2.0;

/// `top_activation_magnitude.png` and `.svg`: mean top-1 and mean median by layer. Returns the SVG.
pub(super) fn top_activation_magnitude(
    folder: &RunFolder,
    model: &str,
    layers: &[(f64, f64)],
) -> Result<String> {
    let points = |part: fn(&(f64, f64)) -> f64| -> Vec<(f64, f64)> {
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
        highlight: None,
    };
    let svg = chart.to_svg();
    folder.write("top_activation_magnitude.svg", &svg)?;
    folder.write("top_activation_magnitude.png", svg_to_png(&svg, PNG_SCALE)?)?;
    Ok(svg)
}

/// `report.html`: verdict, figure, table and settings.
pub(super) fn page(
    folder: &RunFolder,
    run: &Run,
    verdict: &str,
    settings: &Value,
    figure: String,
    table: &Table,
) -> Result<()> {
    let record = &run.checkpoint.record;
    let facts = [
        ("Model", record.name.clone()),
        ("Source", record.source.clone()),
        ("Family", record.model_type.clone()),
        ("Layers", record.layers.to_string()),
        ("Hidden size", record.hidden_size.to_string()),
        ("Stored as", record.dtype.clone()),
        ("Computed in", "float32 on the CPU".to_owned()),
    ];
    let page = Page {
        title: run.model_name(),
        verdict: verdict.to_owned(),
        highlight: table.rows.iter().any(|row| row.emphasis),
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        sections: vec![
            Section::new("Magnitudes by layer", Body::Figure(figure)),
            Section::new(
                "Layers",
                Body::Table {
                    header: table
                        .columns
                        .iter()
                        .map(|(title, _)| title.clone())
                        .collect(),
                    rows: table
                        .rows
                        .iter()
                        .map(|row| (row.cells.clone(), row.emphasis))
                        .collect(),
                },
            ),
            Section::new("Settings", Body::Code(format!("{settings:#}"))),
        ],
    };
    folder.write("report.html", page.render())?;
    Ok(())
}
