//! What capture shows. Tensors and maps are in files that were written as they came.

use serde_json::json;

use super::{Artifacts, Context};
use crate::{
    error::Result,
    experiments::capture::{Capture, LayerCapture, SCHEMA, SequenceCapture},
    report::{
        number::significant,
        records::Records,
        table::{Align, Row, Table},
    },
};

/// The document and a table.
pub(crate) fn artifacts(result: &Capture, context: &Context<'_>) -> Result<Artifacts> {
    let mut artifacts = Artifacts::new("capture.json", context.document(SCHEMA, result)?)?;
    let table = table(result);
    artifacts.sheet("layers", table.clone(), records(result));
    artifacts.table(table);
    if let Some(next) = next_tokens(result) {
        artifacts.line("");
        artifacts.table(next);
    }
    Ok(artifacts)
}

/// Every layer of every site.
fn sites(sequence: &SequenceCapture) -> impl Iterator<Item = (&'static str, &LayerCapture)> {
    let layers = sequence.layers.iter().map(|layer| ("layer_output", layer));
    let others = sequence.sites.iter();
    layers.chain(others.flat_map(|(site, layers)| layers.iter().map(move |layer| (*site, layer))))
}

/// The table in full.
fn records(capture: &Capture) -> Records {
    let mut records = Records::new([
        "sequence",
        "site",
        "layer",
        "max",
        "median",
        "mean",
        "std",
        "massive",
        "nll",
        "perplexity",
    ]);
    for (index, sequence) in capture.sequences.iter().enumerate() {
        for (site, layer) in sites(sequence) {
            records.push(json!([
                index,
                site,
                layer.layer,
                layer.max,
                layer.median,
                layer.mean,
                layer.std,
                layer.massive.len(),
                sequence.nll,
                sequence.perplexity,
            ]));
        }
    }
    records
}

/// The most likely next tokens, where they were asked for.
fn next_tokens(capture: &Capture) -> Option<Table> {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("next token", Align::Left),
        ("id", Align::Right),
        ("logit", Align::Right),
        ("probability", Align::Right),
    ]);
    for (index, sequence) in capture.sequences.iter().enumerate() {
        for next in sequence.top_tokens.iter().flatten() {
            table.push(Row::new([
                index.to_string(),
                next.token.clone(),
                next.token_id.to_string(),
                significant(f64::from(next.logit)),
                significant(next.probability),
            ]));
        }
    }
    (!table.rows.is_empty()).then_some(table)
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
        for (site, layer) in sites(sequence) {
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
