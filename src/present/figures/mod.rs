//! What figures shows: the further published figures.

mod charts;
mod choice;

pub(crate) use charts::Ridges;
pub(crate) use choice::Figure;

use serde_json::json;

use super::{
    Artifacts, Context,
    page::{self, Verdict},
};
use crate::{
    engine::Site,
    error::Result,
    experiments::activation_figures::{ActivationFigures, SCHEMA, SiteMagnitudes},
    report::{
        html::{Body, Section},
        number::{listed, significant},
        plot::ScaleChoice,
        records::Records,
        table::{Align, Row, Table},
        text::{FEATURES_FILE, LayerFeatures, TextDtype, features_text},
        visible::token_label,
    },
};

/// How the figures look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Of the magnitudes by layer.
    pub(crate) scale: ScaleChoice,
    /// Whether all 3-D plots have one height for one value.
    pub(crate) shared_scale: bool,
}

/// Files, table and verdict of the chosen figures.
pub(crate) fn artifacts(
    result: &ActivationFigures,
    ridges: &Ridges,
    which: &[Figure],
    look: Look,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let name = context.name();
    let mut artifacts = Artifacts::new("figures.json", context.document(SCHEMA, result)?)?;
    let mut sections = Vec::new();
    for figure in which {
        if figure.is_absent(&result.absent_sites) {
            let text = "no layer of this model has any of these tensors";
            artifacts.line(format!("\n{}: {text}", figure.file()));
            sections.push(Section::new(figure.heading(), Body::Text(text.to_owned())));
            continue;
        }
        let panels = charts::panels(*figure, result, look.scale);
        let svg = match figure {
            Figure::OutputFeatureTokenwise => {
                artifacts.file(FEATURES_FILE, features(result));
                charts::tokenwise(name, result, ridges, look.shared_scale)
            }
            _ => charts::magnitudes(*figure, name, result, &panels),
        };
        let svg = artifacts.figure(figure.file(), svg)?;
        let explored = charts::explored(*figure, &panels, result);
        sections.push(page::figure(figure.heading(), svg).explored(explored));
    }
    let table = table(result);
    sections.push(page::table("Layers", &table));
    sections.push(page::sequence(&result.tokens));
    let verdict = Verdict {
        text: verdict(name, result),
        highlight: !result.massive_positions.is_empty(),
    };
    artifacts.sheet("layers", table.clone(), records(result));
    artifacts.table(table);
    artifacts.line(format!("\n{}", verdict.text));
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

/// The reference's text about the output features.
fn features(result: &ActivationFigures) -> String {
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

/// The measured sites, in the order of the forward pass.
fn sites(result: &ActivationFigures) -> Vec<(&'static str, &[SiteMagnitudes])> {
    let sites = Site::ALL.iter().map(|site| site.name());
    sites
        .filter_map(|name| Some((name, result.sites.get(name)?.as_slice())))
        .collect()
}

/// What a site has in a layer; nothing where the layer lacks it.
fn in_layer(layers: &[SiteMagnitudes], layer: usize) -> Option<&SiteMagnitudes> {
    layers.iter().find(|found| found.layer == layer)
}

/// The table in full, with the medians.
fn records(result: &ActivationFigures) -> Records {
    let sites = sites(result);
    let names = sites
        .iter()
        .flat_map(|(site, _)| [format!("{site}_max"), format!("{site}_median")]);
    let own = ["layer", "max", "median", "massive"].map(str::to_owned);
    let mut records = Records::new(own.into_iter().chain(names));
    for layer in &result.layers {
        let mut record = vec![
            json!(layer.layer),
            json!(layer.max),
            json!(layer.median),
            json!(!layer.massive.is_empty()),
        ];
        for (_, layers) in &sites {
            let found = in_layer(layers, layer.layer);
            record.push(json!(found.map(|found| found.max)));
            record.push(json!(found.map(|found| found.median)));
        }
        records.push(record.into());
    }
    records
}

fn table(result: &ActivationFigures) -> Table {
    let mut columns = vec![
        ("layer".to_owned(), Align::Right),
        ("output".to_owned(), Align::Right),
        ("median".to_owned(), Align::Right),
        ("massive".to_owned(), Align::Left),
    ];
    let sites = sites(result);
    columns.extend(
        sites
            .iter()
            .map(|(site, _)| ((*site).to_owned(), Align::Right)),
    );
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let massive = !layer.massive.is_empty();
        let mut cells = vec![
            layer.layer.to_string(),
            significant(f64::from(layer.max)),
            significant(f64::from(layer.median)),
            if massive { "yes" } else { "" }.to_owned(),
        ];
        cells.extend(sites.iter().map(|(_, layers)| {
            let found = in_layer(layers, layer.layer);
            found.map_or_else(|| "-".to_owned(), |found| significant(f64::from(found.max)))
        }));
        table.push(Row::new(cells).emphasised(massive));
    }
    table
}

fn verdict(name: &str, result: &ActivationFigures) -> String {
    if result.massive_positions.is_empty() {
        return format!("{name} has no massive activations in this sequence");
    }
    let places: Vec<String> = result
        .massive_positions
        .iter()
        .take(5)
        .map(|position| format!("{} at {position}", token_label(&result.tokens[*position])))
        .collect();
    format!(
        "{name} has massive activations on {}, in dimension {}",
        places.join(", "),
        listed(&result.massive_dimensions)
    )
}
