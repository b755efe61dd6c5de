//! What capture shows. Tensors and maps are in files that were written as they came.

use super::{Artifacts, Context};
use crate::{
    error::Result,
    experiments::capture::{Capture, SCHEMA},
    report::{
        number::significant,
        table::{Align, Row, Table},
    },
};

/// The document and a table.
pub(crate) fn artifacts(result: &Capture, context: &Context<'_>) -> Result<Artifacts> {
    let mut artifacts = Artifacts::new("capture.json", context.document(SCHEMA, result)?)?;
    artifacts.table(table(result));
    Ok(artifacts)
}

fn table(capture: &Capture) -> Table {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("site", Align::Left),
        ("layer", Align::Right),
        ("max", Align::Right),
        ("median", Align::Right),
        ("massive", Align::Right),
        ("nll", Align::Right),
    ]);
    for (index, sequence) in capture.sequences.iter().enumerate() {
        let nll = sequence.nll.map_or_else(String::new, significant);
        let layers = sequence.layers.iter().map(|layer| ("layer_output", layer));
        let others = sequence
            .sites
            .iter()
            .flat_map(|(site, layers)| layers.iter().map(move |layer| (*site, layer)));
        for (site, layer) in layers.chain(others) {
            table.push(Row::new([
                index.to_string(),
                site.to_owned(),
                layer.layer.to_string(),
                significant(f64::from(layer.max)),
                significant(f64::from(layer.median)),
                layer.massive.len().to_string(),
                nll.clone(),
            ]));
        }
    }
    table
}
