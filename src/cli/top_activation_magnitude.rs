//! `massact top-activation-magnitude`

use clap::Args;
use serde_json::json;

use super::{
    args::{ModelArgs, OutputArgs, TextArgs, positive},
    device::on_device,
    existence_validation::significant,
    figures,
    run::Run,
    sequences,
};
use crate::{
    engine::Site,
    error::{Error, Result},
    experiments::{
        Subject,
        top_activation_magnitude::{self, TopActivationMagnitude},
    },
    report::table::{Align, Row, Table},
};

/// Largest and median magnitude by layer, as a picture.
#[derive(Debug, Args)]
pub(super) struct MagnitudeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Measure this sentence instead of a dataset.
    #[arg(long, value_name = "S", conflicts_with_all = ["dataset", "text_file", "context_length", "nsamples"])]
    sentence: Option<String>,
    /// Sequences to average over.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    /// Magnitudes listed per layer.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = positive)]
    top_k: usize,
    /// Which tensor of every layer.
    #[arg(long, value_name = "SITE", default_value = "layer_output")]
    module_name: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &MagnitudeArgs) -> Result<()> {
    let site = Site::parse(&args.module_name)?;
    if !site.per_layer() {
        return Err(Error::usage(
            format!("--module-name {}", site.name()),
            "it is not a tensor of every layer",
        )
        .remedy("choose one that is, such as layer_output"));
    }
    let run = Run::open(
        "top-activation-magnitude",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let model = &run.checkpoint.model;
    let sequences = match &args.sentence {
        Some(sentence) => sequences::of_text(&args.text, model, sentence, run.progress)?,
        None => sequences::load(
            &args.text,
            model,
            run.built_in_model(),
            args.nsamples,
            run.progress,
        )?,
    };
    let loaded = run.elapsed();
    let finding = on_device!(&run.device, backend => top_activation_magnitude::run(
        &Subject {
            backend,
            model,
            sequences: &sequences.ids,
            progress: run.progress,
        },
        site,
        args.top_k,
    ))?;
    let settings = json!({
        "context_length": sequences.context_length,
        "add_bos_token": sequences.add_bos_token,
        "nsamples": sequences.ids.len(),
        "site": site,
        "top_k": args.top_k,
        "sentence": args.sentence,
        "seed": args.text.seed,
        "dataset": sequences.provenance.as_ref().map(|source| source.name.clone()),
        "revision": args.model.revision,
    });
    let folder = run.folder(&settings)?;
    let result = &finding.result;
    let document = run.document(top_activation_magnitude::SCHEMA, &settings, result)?;
    folder.write_json("top_activation_magnitude.json", &document)?;
    let magnitudes: Vec<(f64, f64)> = result
        .layers
        .iter()
        .map(|layer| (layer.top1_mean, layer.median_mean))
        .collect();
    let name = run.model_name();
    let figure = figures::top_activation_magnitude(&folder, &name, &magnitudes, &[])?;
    let table = table(result);
    let verdict = format!("{name}: magnitudes of {}", site.name());
    figures::page(&folder, &run, &verdict, &settings, figure, &table)?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || table.print())
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
