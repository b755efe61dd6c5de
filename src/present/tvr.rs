//! What tvr shows.

use std::path::Path;

use serde_json::json;

use super::{
    Artifacts, Context,
    lines::Lines,
    page::{self, Verdict},
};
use crate::{
    error::Result,
    report::{
        html::Chart,
        number::significant,
        plot::{LineChart, ScaleChoice},
        records::Records,
        table::{Align, Row, Table},
    },
    tvr::{SCHEMA, TvrReport},
};

/// Files, tables and verdict; `new` is the folder of the new checkpoint, if one was written.
pub(crate) fn artifacts(
    report: &TvrReport,
    new: Option<&Path>,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let name = context.name();
    let mut artifacts = Artifacts::new("tvr.json", context.document(SCHEMA, report)?)?;
    let chart = figure(name, report, scale);
    let figure = artifacts.figure("weight_std", chart.to_svg())?;
    let table = table(report);
    let mut sections = vec![
        page::figure("Weights by layer", figure).explored([Chart::from(&chart)]),
        page::table("Weights", &table),
    ];
    artifacts.sheet("weights", table.clone(), records(report));
    artifacts.table(table);
    if !report.skipped.is_empty() {
        let skipped = skipped(report);
        sections.push(page::table("Left alone", &skipped));
        artifacts.sheet("skipped", skipped.clone(), skipped_records(report));
        artifacts.line("\nleft alone:");
        artifacts.table(skipped);
    }
    let verdict = Verdict {
        text: verdict(name, report, new),
        highlight: false,
    };
    artifacts.line(format!("\n{}", verdict.text));
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

fn verdict(name: &str, report: &TvrReport, new: Option<&Path>) -> String {
    let biases = match report.biases_zeroed {
        0 => String::new(),
        1 => ", 1 bias set to zero".to_owned(),
        count => format!(", {count} biases set to zero"),
    };
    let (rescaled, all) = (report.rescaled, report.weights.len());
    match new {
        Some(new) => format!(
            "{name}: {rescaled} of {all} weights rescaled{biases}; written to {}",
            new.display()
        ),
        None => format!("{name}: {rescaled} of {all} weights would be rescaled{biases}"),
    }
}

fn table(report: &TvrReport) -> Table {
    let mut table = Table::new([
        ("weight", Align::Left),
        ("mean", Align::Right),
        ("std", Align::Right),
        ("ratio", Align::Right),
        ("rescaled", Align::Left),
        ("std after", Align::Right),
        ("bias", Align::Left),
    ]);
    for weight in &report.weights {
        let rescaled = match (weight.changed, weight.excluded) {
            (true, _) => "yes",
            (false, true) => "excluded",
            (false, false) => "",
        };
        let row = Row::new([
            weight.name.clone(),
            significant(weight.mean),
            significant(weight.std),
            significant(weight.ratio),
            rescaled.to_owned(),
            significant(weight.std_after),
            if weight.bias_zeroed { "zeroed" } else { "" }.to_owned(),
        ]);
        table.push(row.emphasised(weight.changed));
    }
    table
}

/// The table of weights in full.
fn records(report: &TvrReport) -> Records {
    let mut records = Records::new([
        "name",
        "layer",
        "projection",
        "mean",
        "std",
        "target",
        "ratio",
        "excluded",
        "changed",
        "std_after",
        "bias_zeroed",
    ]);
    for weight in &report.weights {
        records.push(json!([
            weight.name,
            weight.layer,
            weight.projection,
            weight.mean,
            weight.std,
            weight.target,
            weight.ratio,
            weight.excluded,
            weight.changed,
            weight.std_after,
            weight.bias_zeroed,
        ]));
    }
    records
}

fn skipped_records(report: &TvrReport) -> Records {
    let mut records = Records::new(["name", "layer", "shape", "reason"]);
    for tensor in &report.skipped {
        records.push(json!([
            tensor.name,
            tensor.layer,
            tensor.shape,
            tensor.reason
        ]));
    }
    records
}

fn skipped(report: &TvrReport) -> Table {
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Left),
        ("reason", Align::Left),
    ]);
    for tensor in &report.skipped {
        table.push(Row::new([
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            tensor.reason.to_owned(),
        ]));
    }
    table
}

/// The standard deviation of every projection's weight by layer, with the target. Experts share a
/// line, their mean.
fn figure(model: &str, report: &TvrReport, scale: ScaleChoice) -> LineChart {
    let layers = report.weights.iter().map(|weight| weight.layer + 1);
    let layers = layers.max().unwrap_or(0);
    // Sum and count by layer.
    let mut projections: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    let mut targets = vec![f64::NAN; layers];
    for weight in &report.weights {
        let place = projections
            .iter()
            .position(|(name, _)| *name == weight.projection);
        let place = place.unwrap_or_else(|| {
            projections.push((&weight.projection, vec![(0.0, 0.0); layers]));
            projections.len() - 1
        });
        let (sum, count) = &mut projections[place].1[weight.layer];
        (*sum, *count) = (*sum + weight.std, *count + 1.0);
        targets[weight.layer] = weight.target;
    }
    let mut lines = Lines::default();
    lines.push_gray("target", targets);
    for (index, (name, sums)) in projections.into_iter().enumerate() {
        // Layers without this projection are 0 / 0.
        lines.push(
            index,
            name,
            sums.into_iter().map(|(sum, count)| sum / count),
        );
    }
    lines.chart(model, "Std of the weight", scale)
}
