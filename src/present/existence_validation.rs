//! What existence-validation shows.

use serde_json::{Value, json};

use super::{
    Artifacts, Context,
    magnitudes::{self, Magnitudes},
    sites,
};
use crate::{
    engine::Site,
    error::Result,
    experiments::{
        existence_validation::{ExistenceValidation, LayerReport, SCHEMA},
        published::PublishedRun,
    },
    report::{
        number::significant,
        plot::{ScaleChoice, palette},
        records::Records,
        table::{Align, Row, Table},
        text::{EXISTENCE_FILE, TextDtype, existence_text},
        visible::token_label,
    },
};

/// Files, table and verdict, with what was published for the same model.
pub(crate) fn artifacts(
    result: &ExistenceValidation,
    published: Option<&PublishedRun>,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let document = document(result, published, context)?;
    let mut artifacts = Artifacts::new("existence_validation.json", document)?;
    let layers = || result.layers.iter();
    let massive: Vec<(usize, f64)> = layers()
        .filter(|layer| layer.massive)
        .map(|layer| (layer.layer, layer.top1_mean))
        .collect();
    artifacts.file(
        EXISTENCE_FILE,
        existence_text(context.name(), &massive, TextDtype::Float32),
    );
    let massive: Vec<usize> = massive.iter().map(|(layer, _)| *layer).collect();
    let means: Vec<magnitudes::Means> = layers()
        .map(|layer| (layer.layer, layer.top1_mean, layer.median_mean))
        .collect();
    let verdict = verdict(context.name(), result);
    let table = table(result, published);
    let places = layers()
        .map(|layer| magnitudes::place(layer.top.first()))
        .collect();
    let figure = Magnitudes {
        title: context.name().to_owned(),
        tensors: sites::tensors(Site::LayerOutput),
        layers: &means,
        massive: &massive,
        color: palette::BLUE,
        scale,
    };
    magnitudes::add(&mut artifacts, context, &verdict, &figure, &table, places)?;
    artifacts.sheet("layers", table.clone(), records(result, published));
    artifacts.table(table);
    artifacts.line(format!("\n{verdict}"));
    Ok(artifacts)
}

/// The document, with what was published for the same model.
pub(crate) fn document(
    result: &ExistenceValidation,
    published: Option<&PublishedRun>,
    context: &Context<'_>,
) -> Result<Value> {
    let mut document = context.document(SCHEMA, result)?;
    document["published"] = json!(published);
    Ok(document)
}

fn verdict(name: &str, result: &ExistenceValidation) -> String {
    let massive: Vec<&LayerReport> = result.layers.iter().filter(|layer| layer.massive).collect();
    let (Some(first), Some(last)) = (massive.first(), massive.last()) else {
        return format!(
            "{name} has no massive activations (mean top-1 > {} and >= {} x mean median in no layer)",
            result.abs_threshold, result.rel_threshold
        );
    };
    let count = massive.len();
    let layers = if count == 1 {
        format!("layer {}", first.layer)
    } else if last.layer - first.layer + 1 == count {
        format!("layers {} to {}", first.layer, last.layer)
    } else {
        format!("{count} layers from {} to {}", first.layer, last.layer)
    };
    format!("{name} has massive activations: {layers}")
}

fn table(result: &ExistenceValidation, published: Option<&PublishedRun>) -> Table {
    let mut columns = vec![
        ("layer", Align::Right),
        ("top-1 mean", Align::Right),
        ("median mean", Align::Right),
        ("ratio", Align::Right),
        ("massive", Align::Left),
    ];
    let streams = result.layers.iter().any(|layer| layer.stream_sum.is_some());
    if streams {
        columns.push(("sum's top-1", Align::Right));
        columns.push(("sum's median", Align::Right));
    }
    if published.is_some() {
        columns.push(("published top-1", Align::Right));
    }
    columns.push(("largest value at", Align::Left));
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let place = layer.top.first().map_or_else(String::new, |entry| {
            format!(
                "{} at {}, dimension {}",
                token_label(&entry.token),
                entry.position,
                entry.dimension
            )
        });
        let mut cells = vec![
            layer.layer.to_string(),
            significant(layer.top1_mean),
            significant(layer.median_mean),
            layer.ratio.map_or_else(|| "-".into(), significant),
            if layer.massive { "yes" } else { "" }.to_owned(),
        ];
        if streams {
            let sum = layer.stream_sum;
            let cell = |value: Option<f64>| value.map_or_else(String::new, significant);
            cells.push(cell(sum.map(|sum| sum.top1_mean)));
            cells.push(cell(sum.map(|sum| sum.median_mean)));
        }
        if let Some(published) = published {
            // Only massive layers were published.
            let value = published.existence_top1_mean_by_layer.get(&layer.layer);
            cells.push(value.map_or_else(String::new, |value| significant(*value)));
        }
        cells.push(place);
        table.push(Row::new(cells).emphasised(layer.massive));
    }
    table
}

/// The table in full.
fn records(result: &ExistenceValidation, published: Option<&PublishedRun>) -> Records {
    let mut records = Records::new([
        "layer",
        "top1_mean",
        "median_mean",
        "ratio",
        "massive",
        "published_top1_mean",
        "token",
        "position",
        "dimension",
        "value",
    ]);
    for layer in &result.layers {
        let known = published.map(|run| &run.existence_top1_mean_by_layer);
        let top = layer.top.first();
        records.push(json!([
            layer.layer,
            layer.top1_mean,
            layer.median_mean,
            layer.ratio,
            layer.massive,
            known.and_then(|known| known.get(&layer.layer)),
            top.map(|entry| &entry.token),
            top.map(|entry| entry.position),
            top.map(|entry| entry.dimension),
            top.map(|entry| entry.value),
        ]));
    }
    records
}
