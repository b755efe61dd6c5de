//! What sinks shows.

use serde_json::json;

use super::{Artifacts, Context, magnitudes, page, page::Verdict};
use crate::{
    error::Result,
    experiments::sinks::{HeadSinks, LayerSinks, SCHEMA, Sinks},
    report::{
        html::Chart,
        number::significant,
        plot::{LayerMap, LayerMaps, LineChart, Marker, Scale, Series, palette},
        records::Records,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Files and tables.
pub(crate) fn artifacts(result: &Sinks, epsilon: f64, context: &Context<'_>) -> Result<Artifacts> {
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("sinks.json", document)?;
    let layers = layers(result);
    let (rates, norms) = (heads(result, context), norms(result, context));
    let heads = artifacts.figure("sink_rate_by_head", rates.to_svg()?)?;
    let outputs = artifacts.figure("head_output_norms", norms.to_svg()?)?;
    let chart = states(result, context);
    let lines = artifacts.figure("sinks_and_compression", chart.to_svg())?;
    let explored = magnitudes::explored(&chart, Vec::new());
    let mut sections = vec![
        page::figure("Heads", heads).explored(Chart::grids(&rates)),
        page::figure("What heads give", outputs).explored(Chart::grids(&norms)),
        page::figure("Sinks and hidden states", lines).explored([explored]),
        page::table("Layers", &layers),
    ];
    let text = format!(
        "{}: sink rate of the first token {} % at epsilon {}, over {} sequences",
        context.name(),
        significant(100.0 * result.sink_rate),
        significant(epsilon),
        result.nsamples
    );
    let secondary = secondary(result);
    if !result.secondary_sinks.is_empty() {
        sections.push(page::table("Secondary sinks", &secondary));
    }
    let verdict = Verdict {
        text: text.clone(),
        highlight: false,
    };
    artifacts.page(context, verdict, sections);
    artifacts.sheet("layers", layers.clone(), layer_records(result));
    artifacts.sheet("heads", head_table(result), head_records(result));
    artifacts.sheet("secondary_sinks", secondary, secondary_records(result));
    artifacts.table(layers);
    artifacts.line(text);
    artifacts.line(format!("secondary sinks: {}", result.secondary_sinks.len()));
    if let Some(hybrid) = &result.hybrid {
        artifacts.line(format!(
            "sink-spike alignment {}, inter-spike retention {}",
            shown(hybrid.sink_spike_alignment),
            shown(hybrid.inter_spike_retention)
        ));
    }
    Ok(artifacts)
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), significant)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A title, the label of its colours, and the value of a head.
type Measure = (&'static str, &'static str, fn(&HeadSinks) -> f64);

/// The first token's rate.
fn heads(result: &Sinks, context: &Context<'_>) -> LayerMaps {
    let maps: [Measure; 2] = [
        ("Sink rate of the first token, by head", "rate", |head| {
            head.sink_rate
        }),
        ("Attention to the first token, by head", "share", |head| {
            head.mass
        }),
    ];
    by_head(result, context, maps)
}

/// How much each head gives.
fn norms(result: &Sinks, context: &Context<'_>) -> LayerMaps {
    let maps: [Measure; 2] = [
        (
            "Norm of the head's part of the attention output",
            "norm",
            |head| head.projected_norm,
        ),
        (
            "Norm of the head's output over the mean of the layer's heads",
            "ratio",
            |head| head.norm_ratio,
        ),
    ];
    by_head(result, context, maps)
}

/// Heads down, layers across.
fn by_head(result: &Sinks, context: &Context<'_>, maps: [Measure; 2]) -> LayerMaps {
    let most = result.layers.iter().map(|layer| layer.heads.len()).max();
    let maps = maps.map(|(title, label, value)| LayerMap {
        title: title.to_owned(),
        bar_label: label.to_owned(),
        rows: (0..most.unwrap_or(0))
            .map(|head| {
                let heads = result.layers.iter().map(|layer| layer.heads.get(head));
                let values = heads.map(|head| head.map_or(f64::NAN, value));
                (head.to_string(), values.collect())
            })
            .collect(),
        scale: Scale::Linear,
    });
    LayerMaps {
        title: context.name().to_owned(),
        layers: result.layers.len(),
        maps: maps.into(),
    }
}

/// Sinks and compression by layer, all from 0 to 1.
fn states(result: &Sinks, context: &Context<'_>) -> LineChart {
    let series = |label: &str, color, marker, value: fn(&LayerSinks) -> Option<f64>| Series {
        label: label.to_owned(),
        color,
        marker,
        points: result
            .layers
            .iter()
            .filter_map(|layer| Some((layer.layer as f64, value(layer)?)))
            .collect(),
    };
    LineChart {
        title: context.name().to_owned(),
        x_label: "Layer (first is 0)".to_owned(),
        y_label: "Share".to_owned(),
        series: vec![
            series(
                "matrix entropy, normalised",
                palette::GRAY,
                Marker::Square,
                |layer| Some(layer.compression.matrix_entropy_normalised),
            ),
            series("anisotropy", palette::ORANGE, Marker::Circle, |layer| {
                Some(layer.compression.anisotropy)
            }),
            series(
                "sink rate of the first token",
                palette::BLUE,
                Marker::Square,
                |layer| layer.sink_rate,
            ),
        ],
        y_scale: Scale::Linear,
        highlight: None,
    }
}

fn layers(result: &Sinks) -> Table {
    let gated = result.layers.iter().any(|layer| !layer.gates.is_empty());
    let mut columns = vec![
        ("layer", Align::Right),
        ("sink rate", Align::Right),
        ("strongest head", Align::Right),
        ("value drain", Align::Right),
        ("entropy", Align::Right),
        ("anisotropy", Align::Right),
        ("first norm", Align::Right),
    ];
    if gated {
        columns.extend([("gate mean", Align::Right), ("closed", Align::Right)]);
    }
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let strongest = layer
            .heads
            .iter()
            .max_by(|a, b| a.mass.total_cmp(&b.mass).then(b.head.cmp(&a.head)));
        let mut cells = vec![
            layer.layer.to_string(),
            shown(layer.sink_rate),
            strongest.map_or_else(String::new, |head| {
                format!("{} ({})", head.head, significant(head.mass))
            }),
            shown(mean(layer.value_drain.iter().copied())),
            significant(layer.compression.matrix_entropy_normalised),
            significant(layer.compression.anisotropy),
            significant(layer.compression.first_norm_ratio),
        ];
        if gated {
            cells.push(shown(mean(layer.gates.iter().map(|gate| gate.mean))));
            cells.push(shown(mean(layer.gates.iter().map(|gate| gate.closed))));
        }
        table.push(Row::new(cells));
    }
    table
}

fn layer_records(result: &Sinks) -> Records {
    let mut records = Records::new([
        "layer",
        "sink_rate",
        "kv_bias_sink_rate",
        "value_drain",
        "matrix_entropy",
        "matrix_entropy_normalised",
        "anisotropy",
        "first_norm_ratio",
    ]);
    for layer in &result.layers {
        let states = &layer.compression;
        records.push(json!([
            layer.layer,
            layer.sink_rate,
            layer.kv_bias_sink_rate,
            layer.value_drain,
            states.matrix_entropy,
            states.matrix_entropy_normalised,
            states.anisotropy,
            states.first_norm_ratio,
        ]));
    }
    records
}

fn head_table(result: &Sinks) -> Table {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("head", Align::Right),
        ("sink rate", Align::Right),
        ("attention to the first", Align::Right),
        ("|output|", Align::Right),
        ("|projected|", Align::Right),
        ("of the mean", Align::Right),
    ]);
    for layer in &result.layers {
        for head in &layer.heads {
            table.push(Row::new(vec![
                layer.layer.to_string(),
                head.head.to_string(),
                significant(head.sink_rate),
                significant(head.mass),
                significant(head.output_norm),
                significant(head.projected_norm),
                significant(head.norm_ratio),
            ]));
        }
    }
    table
}

fn head_records(result: &Sinks) -> Records {
    let mut records = Records::new([
        "layer",
        "head",
        "sink_rate",
        "mass",
        "output_norm",
        "projected_norm",
        "norm_ratio",
    ]);
    for layer in &result.layers {
        for head in &layer.heads {
            records.push(json!([
                layer.layer,
                head.head,
                head.sink_rate,
                head.mass,
                head.output_norm,
                head.projected_norm,
                head.norm_ratio,
            ]));
        }
    }
    records
}

fn secondary(result: &Sinks) -> Table {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("position", Align::Right),
        ("token", Align::Left),
        ("layers", Align::Right),
        ("first", Align::Right),
        ("last", Align::Right),
        ("norm", Align::Right),
        ("attention", Align::Right),
    ]);
    for sink in &result.secondary_sinks {
        table.push(Row::new(vec![
            sink.sequence.to_string(),
            sink.position.to_string(),
            token_label(&sink.token),
            sink.layers.to_string(),
            sink.first_layer.to_string(),
            sink.last_layer.to_string(),
            significant(sink.norm_ratio),
            shown(sink.mass),
        ]));
    }
    table
}

fn secondary_records(result: &Sinks) -> Records {
    let mut records = Records::new([
        "sequence",
        "position",
        "token",
        "layers",
        "first_layer",
        "last_layer",
        "norm_ratio",
        "mass",
    ]);
    for sink in &result.secondary_sinks {
        records.push(json!([
            sink.sequence,
            sink.position,
            sink.token,
            sink.layers,
            sink.first_layer,
            sink.last_layer,
            sink.norm_ratio,
            sink.mass,
        ]));
    }
    records
}
