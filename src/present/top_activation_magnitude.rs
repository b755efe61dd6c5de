//! What top-activation-magnitude shows.

use super::{Artifacts, Context, magnitudes};
use crate::{
    error::Result,
    experiments::top_activation_magnitude::{SCHEMA, TopActivationMagnitude},
    report::{
        number::significant,
        table::{Align, Row, Table},
    },
};

/// Files and table.
pub(crate) fn artifacts(
    result: &TopActivationMagnitude,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("top_activation_magnitude.json", document)?;
    let means: Vec<magnitudes::Means> = result
        .layers
        .iter()
        .map(|layer| (layer.top1_mean, layer.median_mean))
        .collect();
    let verdict = format!("{}: magnitudes of {}", context.name(), result.site.name());
    let table = table(result);
    let layers = result.layers.iter();
    let places = layers
        .map(|layer| magnitudes::place(layer.top.first()))
        .collect();
    magnitudes::add(
        &mut artifacts,
        context,
        &verdict,
        &means,
        &[],
        &table,
        places,
    )?;
    artifacts.table(table);
    Ok(artifacts)
}

fn table(result: &TopActivationMagnitude) -> Table {
    let ranks = result
        .layers
        .iter()
        .map(|layer| layer.top_means.len())
        .max()
        .unwrap_or(0);
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
