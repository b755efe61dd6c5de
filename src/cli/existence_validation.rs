//! `massact existence-validation`

use clap::Args;
use serde_json::json;

use super::{
    args::{ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    device::on_device,
    figures,
    run::Run,
};
use crate::{
    data::sequences,
    error::Result,
    experiments::{
        Subject,
        existence_validation::{self, ExistenceValidation, LayerReport},
        published::{self, PublishedRun},
    },
    report::{
        table::{Align, Row, Table},
        text::{EXISTENCE_FILE, TextDtype, existence_text},
        visible::token_label,
    },
};

/// Are there massive activations, in which layers, how large?
#[derive(Debug, Args)]
pub(super) struct ExistenceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Sequences to average over.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ExistenceArgs) -> Result<()> {
    let run = Run::open(
        "existence-validation",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let model = &run.checkpoint.model;
    let sequences = sequences::load(
        &args.text.spec(run.built_in_model()),
        model,
        args.nsamples,
        run.progress,
    )?;
    let loaded = run.elapsed();
    let finding = on_device!(&run.device, backend => existence_validation::run(
        &Subject {
            backend,
            model,
            sequences: &sequences.ids,
            progress: run.progress,
        },
        args.thresholds.into(),
    ))?;
    let settings = json!({
        "context_length": sequences.context_length,
        "add_bos_token": sequences.add_bos_token,
        "nsamples": args.nsamples,
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "seed": args.text.seed,
        "dataset": sequences.provenance.as_ref().map(|source| source.name.clone()),
        "revision": args.model.revision,
    });
    let folder = run.folder(&settings)?;
    let result = &finding.result;
    let published = published::find(&run.checkpoint.record.name, sequences.add_bos_token);
    let mut document = run.document(existence_validation::SCHEMA, &settings, result)?;
    document["published"] = json!(published);
    folder.write_json("existence_validation.json", &document)?;
    let name = run.model_name();
    let massive: Vec<(usize, f64)> = result
        .layers
        .iter()
        .filter(|layer| layer.massive)
        .map(|layer| (layer.layer, layer.top1_mean))
        .collect();
    folder.write(
        EXISTENCE_FILE,
        existence_text(&name, &massive, TextDtype::Float32),
    )?;
    let massive_layers: Vec<usize> = massive.iter().map(|(layer, _)| *layer).collect();
    let magnitudes: Vec<(f64, f64)> = result
        .layers
        .iter()
        .map(|layer| (layer.top1_mean, layer.median_mean))
        .collect();
    let figure = figures::top_activation_magnitude(&folder, &name, &magnitudes, &massive_layers)?;
    let table = table(result, published.as_ref());
    figures::page(
        &folder,
        &run,
        &verdict(&name, result),
        &settings,
        figure,
        &table,
    )?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || {
        table.print()?;
        super::print_line(&format!("\n{}", verdict(&name, result)))
    })
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
    if published.is_some() {
        columns.push(("published top-1", Align::Right));
    }
    columns.push(("largest value at", Align::Left));
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let place = layer.top.first().map_or_else(String::new, |entry| {
            format!(
                "{} position {}, dimension {}",
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

/// Four significant digits, no exponent in the usual range.
pub(super) fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.3e}");
    if !(1e-4..1e7).contains(&magnitude) {
        return scientific;
    }
    // The exponent after rounding: 0.0099999 shows as 0.01000.
    let exponent = scientific
        .rsplit_once('e')
        .and_then(|(_, power)| power.parse::<i32>().ok());
    let digits = (3 - exponent.unwrap_or(0)).max(0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (2412.7, "2413"),
            (123_456.0, "123456"),
            (0.012_345, "0.01235"),
            (1.0, "1.000"),
            (0.009_999_97, "0.01000"),
            (-999.96, "-1000"),
            (1e-7, "1.000e-7"),
        ] {
            assert_eq!(significant(value), text);
        }
    }
}
