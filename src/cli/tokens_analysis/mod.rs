//! `massact tokens-analysis`

mod picture;
mod tables;
mod text;

use clap::Args;
use serde_json::json;

use super::{
    args::{Compat, ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    device::on_device,
    figures,
    run::Run,
};
use crate::{
    data::sequences,
    error::Result,
    experiments::{
        Subject,
        tokens_analysis::{self, DIMENSIONS_SCHEMA, TokensAnalysis, massive_dimensions},
    },
    report::{
        html::{Body, Section},
        text::{TOKENS_FILE, tokens_text},
    },
};

/// On which tokens and in which dimensions are the massive activations?
#[derive(Debug, Args)]
pub(super) struct TokensArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Sequences to look at.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Whose dimensions and magnitudes to report: `reference` follows the published program, whose
    /// summary depends on the order of the sequences. The JSON holds both.
    #[arg(long, value_enum, default_value_t = Compat::None)]
    compat: Compat,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &TokensArgs) -> Result<()> {
    let run = Run::open("tokens-analysis", &args.model, &args.output, args.text.seed)?;
    let model = &run.checkpoint.model;
    let sequences = sequences::load(
        &args.text.spec(run.built_in_model()),
        model,
        args.nsamples,
        run.progress,
    )?;
    let loaded = run.elapsed();
    let finding = on_device!(&run.device, backend => tokens_analysis::run(
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
        "compat": args.compat,
        "seed": args.text.seed,
        "dataset": sequences.provenance.as_ref().map(|source| source.name.clone()),
        "revision": args.model.revision,
    });
    let folder = run.folder(&settings)?;
    let result = &finding.result;
    let document = run.document(tokens_analysis::SCHEMA, &settings, result)?;
    folder.write_json("tokens_analysis.json", &document)?;
    let dimensions = massive_dimensions(&result.sequences);
    let layers = model.spec.layers.len();
    let export = json!({
        "layers": layers,
        "hidden_size": model.spec.hidden_size,
        "first_layer": result.summary.first_layer,
        "nsamples": result.nsamples,
        "massive_dimensions": dimensions,
    });
    folder.write_json(
        "massive_dimensions.json",
        &run.document(DIMENSIONS_SCHEMA, &settings, &export)?,
    )?;
    let (data, summary) = text::of(result, args.compat);
    folder.write(TOKENS_FILE, tokens_text(&data, &summary))?;
    let name = run.model_name();
    let picture = picture::write(&folder, &name, result, &dimensions, layers)?;
    let verdict = verdict(&name, result, args.compat);
    let magnitudes = tables::magnitudes(result, args.compat);
    let by_layer = tables::dimensions(&dimensions);
    figures::page_of(
        &folder,
        &run,
        (&verdict, result.summary.first_layer.is_some()),
        "float32 on the CPU",
        vec![
            Section::new("Dimensions and tokens by layer", Body::Figure(picture)),
            figures::table_section("Magnitudes in the first massive layer", &magnitudes),
            figures::table_section("Massive dimensions by layer", &by_layer),
            figures::settings_section(&settings),
        ],
    )?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || {
        tables::print(magnitudes)?;
        super::print_line(&verdict)
    })
}

/// One line about the answer and, if need be, one about the reference program's.
fn verdict(name: &str, result: &TokensAnalysis, compat: Compat) -> String {
    let Some(first_layer) = result.summary.first_layer else {
        return format!(
            "{name} has no massive activations (no |h| > {} and > {} x median in any of {} sequences)",
            result.abs_threshold, result.rel_threshold, result.nsamples
        );
    };
    let (dimensions, other) = match compat {
        Compat::None => (&result.summary.dimensions, "the reference program"),
        Compat::Reference => (&result.dimensions_reference, "the definition"),
    };
    let mut verdict = format!(
        "{name}: massive activations from layer {first_layer}, dimensions {}, in {} of {} sequences",
        listed(dimensions),
        result.nsamples_massive,
        result.nsamples
    );
    if !result.reference_differs.is_empty() {
        let flag = match compat {
            Compat::None => "reference",
            Compat::Reference => "none",
        };
        verdict.push_str(&format!(
            "; by {other}, the {} differ (--compat {flag})",
            result.reference_differs.join(" and ")
        ));
    }
    verdict
}

fn listed(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}
