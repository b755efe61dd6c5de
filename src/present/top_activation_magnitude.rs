//! What top-activation-magnitude shows.

use serde_json::json;

use super::{
    Artifacts, Context,
    magnitudes::{self, Magnitudes},
    sites,
};
use crate::{
    engine::Site,
    error::Result,
    experiments::top_activation_magnitude::{SCHEMA, TopActivationMagnitude},
    report::{
        number::significant,
        plot::{ScaleChoice, palette},
        records::Records,
        table::{Align, Row, Table},
    },
};

/// Files and table.
pub(crate) fn artifacts(
    result: &TopActivationMagnitude,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("top_activation_magnitude.json", document)?;
    let means: Vec<magnitudes::Means> = result
        .layers
        .iter()
        .map(|layer| (layer.layer, layer.top1_mean, layer.median_mean))
        .collect();
    let verdict = format!("{}: magnitudes of {}", context.name(), result.site.name());
    let table = table(result);
    let layers = result.layers.iter();
    let places = layers
        .map(|layer| magnitudes::place(layer.top.first()))
        .collect();
    let tensors = sites::tensors(result.site);
    let figure = Magnitudes {
        title: match result.site {
            Site::LayerOutput => context.name().to_owned(),
            site => format!("{}: {tensors} ({})", context.name(), site.name()),
        },
        tensors,
        layers: &means,
        massive: &[],
        color: palette::BLUE,
        scale,
    };
    magnitudes::add(&mut artifacts, context, &verdict, &figure, &table, places)?;
    artifacts.sheet("layers", table.clone(), records(result));
    artifacts.table(table);
    Ok(artifacts)
}

fn ranks(result: &TopActivationMagnitude) -> usize {
    let layers = result.layers.iter();
    layers.map(|layer| layer.top_means.len()).max().unwrap_or(0)
}

/// The table in full.
fn records(result: &TopActivationMagnitude) -> Records {
    let ranks = ranks(result);
    let names = (1..=ranks).map(|rank| format!("top{rank}_mean"));
    let mut records = Records::new(
        ["layer".to_owned(), "median_mean".to_owned()]
            .into_iter()
            .chain(names)
            .chain(["token", "position", "dimension", "value"].map(str::to_owned)),
    );
    for layer in &result.layers {
        let top = layer.top.first();
        let mut record = vec![json!(layer.layer), json!(layer.median_mean)];
        record.extend((0..ranks).map(|rank| json!(layer.top_means.get(rank))));
        record.extend([
            json!(top.map(|entry| &entry.token)),
            json!(top.map(|entry| entry.position)),
            json!(top.map(|entry| entry.dimension)),
            json!(top.map(|entry| entry.value)),
        ]);
        records.push(record.into());
    }
    records
}

fn table(result: &TopActivationMagnitude) -> Table {
    let ranks = ranks(result);
    let mut columns = vec![("layer".to_owned(), Align::Right)];
    columns.extend((1..=ranks).map(|rank| (format!("top-{rank} mean"), Align::Right)));
    columns.push(("median mean".to_owned(), Align::Right));
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let mut cells = vec![layer.layer.to_string()];
        cells.extend(layer.top_means.iter().map(|value| significant(*value)));
        cells.push(significant(layer.median_mean));
        table.push(Row::new(cells));
    }
    table
}
