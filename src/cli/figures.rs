//! Pictures and the page that commands leave beside their JSON.

use serde_json::Value;

use super::run::Run;
use crate::{
    error::Result,
    report::{
        RunFolder,
        html::{Body, Page, Section},
        plot::{Highlight, LineChart, Marker, Scale, Series, palette, svg_to_png},
        table::Table,
    },
};

/// Pixels per SVG unit: sharp on a dense screen and in print.
const PNG_SCALE: f64 = 2.0;

/// `top_activation_magnitude.png` and `.svg`. Returns the SVG.
pub(super) fn top_activation_magnitude(
    folder: &RunFolder,
    model: &str,
    layers: &[(f64, f64)],
    massive: &[usize],
) -> Result<String> {
    let svg = magnitudes(model, layers, massive);
    write(folder, "top_activation_magnitude", svg)
}

/// Mean top-1 and mean median by layer, the layers in `massive` marked, as SVG.
pub(super) fn magnitudes(model: &str, layers: &[(f64, f64)], massive: &[usize]) -> String {
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
        highlight: (!massive.is_empty()).then(|| Highlight {
            label: "massive activations".to_owned(),
            xs: massive.iter().map(|layer| *layer as f64).collect(),
        }),
    };
    chart.to_svg()
}

/// A figure as `<name>.svg` and `<name>.png`. Returns the SVG.
pub(super) fn write(folder: &RunFolder, name: &str, svg: String) -> Result<String> {
    folder.write(&format!("{name}.svg"), &svg)?;
    folder.write(&format!("{name}.png"), svg_to_png(&svg, PNG_SCALE)?)?;
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
    let sections = vec![
        Section::new("Magnitudes by layer", Body::Figure(figure)),
        table_section("Layers", table),
        settings_section(settings),
    ];
    let highlight = table.rows.iter().any(|row| row.emphasis);
    page_of(
        folder,
        run,
        (verdict, highlight),
        "float32 on the CPU",
        sections,
    )
}

/// `report.html` of any sections; the verdict with whether it deserves attention.
pub(super) fn page_of(
    folder: &RunFolder,
    run: &Run,
    (verdict, highlight): (&str, bool),
    computed_in: &str,
    sections: Vec<Section>,
) -> Result<()> {
    let record = &run.checkpoint.record;
    let facts = [
        ("Model", record.name.clone()),
        ("Source", record.source.clone()),
        ("Family", record.model_type.clone()),
        ("Layers", record.layers.to_string()),
        ("Hidden size", record.hidden_size.to_string()),
        ("Stored as", record.dtype.clone()),
        ("Computed in", computed_in.to_owned()),
    ];
    let notices = run.checkpoint.model.notices();
    let notices = notices.into_iter().map(|notice| ("Notice", notice));
    let page = Page {
        title: run.model_name(),
        verdict: verdict.to_owned(),
        highlight,
        facts: facts
            .into_iter()
            .chain(notices)
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        sections,
    };
    folder.write("report.html", page.render())?;
    Ok(())
}

/// A table as a section of the page.
pub(super) fn table_section(heading: &str, table: &Table) -> Section {
    let titles = table.columns.iter().map(|(title, _)| title.clone());
    let rows = table.rows.iter();
    Section::new(
        heading,
        Body::Table {
            header: titles.collect(),
            rows: rows.map(|row| (row.cells.clone(), row.emphasis)).collect(),
        },
    )
}

/// The settings as a section of the page.
pub(super) fn settings_section(settings: &Value) -> Section {
    Section::new("Settings", Body::Code(format!("{settings:#}")))
}
