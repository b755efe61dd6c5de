//! `massact intervention-analysis`

mod document;
mod files;
mod sets;
mod tables;

pub(super) use self::{
    document::{document, settings},
    tables::ratio_chart,
};

use std::collections::BTreeSet;

use self::sets::SetArg;
use super::{
    args::{Compat, ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    budget::Bytes,
    device::on_device,
    existence_validation::significant,
    figures,
    run::Run,
};
use crate::{
    data::sequences::{self, Sequences},
    error::Result,
    experiments::{
        Subject,
        intervention_analysis::{
            self, EvaluationSet, Impact, InterventionAnalysis, Memory, Setup, WrittenLayers,
        },
        published,
    },
    report::html::{Body, Section},
};
use clap::Args;

/// What becomes of perplexity when the massive activations are overwritten?
#[derive(Debug, Args)]
pub(super) struct InterventionArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Corpus sequences that the first massive layer and the dimensions come from.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    nsamples: usize,
    /// Corpus sequences that the mean values come from.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    calibration_nsamples: usize,
    /// A set to measure perplexity on: a dataset by name, or NAME=FILE, where the file is the joined
    /// text; wikitext, c4 and pg19 bring the reference's windows, other names take all full
    /// windows. Repeatable. Default: the file of --text-file or --dataset, as NAME text; without one
    /// wikitext, c4 and pg19; for the demo and with --dataset builtin, builtin.
    #[arg(long, value_name = "NAME[=FILE]", value_parser = sets::set_arg)]
    eval: Vec<SetArg>,
    /// Which layers' outputs are overwritten: the first massive one, all that are massive, or a
    /// list such as 3,4.
    #[arg(long, value_name = "first|all|L,..", default_value = "first", value_parser = layers)]
    layers: WrittenLayers,
    /// Also write this constant, as intervention set_to_VALUE. Repeatable.
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    set_to: Vec<f32>,
    /// Also multiply each value by 1 + SIGMA g, where g is from a standard normal distribution, as
    /// intervention noise_SIGMA: how exactly must the values be kept? Repeatable.
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true, value_parser = deviation)]
    noise: Vec<f64>,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Whose dimensions are overwritten: `reference` follows the published program, whose list
    /// depends on the order of the corpus. The JSON holds both.
    #[arg(long, value_enum, default_value_t = Compat::None)]
    compat: Compat,
    /// Memory for the residual streams and one layer, such as 8GB; more text than fits runs in parts,
    /// each of which reads the model again. Default: four fifths of what is available.
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<Bytes>,
    #[command(flatten)]
    output: OutputArgs,
}

fn layers(text: &str) -> Result<WrittenLayers, String> {
    match text {
        "first" => Ok(WrittenLayers::First),
        "all" => Ok(WrittenLayers::All),
        list => list
            .split(',')
            .map(|layer| layer.trim().parse())
            .collect::<Result<BTreeSet<usize>, _>>()
            .map(WrittenLayers::Listed)
            .map_err(|_| "expected first, all or layer numbers such as 3,4".into()),
    }
}

fn deviation(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= f64::from(f32::MAX) => Ok(value),
        _ => Err("expected a number above 0 that float32 can hold".into()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number that float32 can hold".into()),
    }
}

pub(super) fn run(args: &InterventionArgs) -> Result<()> {
    let run = Run::open(
        "intervention-analysis",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let model = &run.checkpoint.model;
    args.layers.check(&model.spec)?;
    let wanted = sets::wanted(&args.eval, &args.text, run.built_in_model(), run.progress)?;
    let memory = Memory {
        budget: run.device.memory_budget(args.memory_budget),
        progress: run.progress,
    };
    // Before gigabytes of text are read. How many means there will be is not known yet.
    let context_length = sequences::context_length(args.text.context_length, model)?;
    let variants = 2 + args.set_to.len() + args.noise.len();
    on_device!(&run.device, backend => memory.check(backend, &model.spec, context_length, variants))?;
    let corpus = sequences::load(
        &args.text.spec(run.built_in_model()),
        model,
        args.nsamples.max(args.calibration_nsamples),
        run.progress,
    )?;
    let mut evaluation = Vec::new();
    let mut sources = Vec::new();
    for set in &wanted {
        let (set, source) = sets::load(set, model, &corpus, args.text.seed, run.progress)?;
        evaluation.push(set);
        sources.push(source);
    }
    let loaded = run.elapsed();
    let setup = Setup {
        thresholds: args.thresholds.into(),
        nsamples: args.nsamples,
        calibration_nsamples: args.calibration_nsamples,
        layers: args.layers.clone(),
        constants: args.set_to.clone(),
        noise: args.noise.clone(),
        reference: args.compat == Compat::Reference,
        seed: args.text.seed,
        memory,
    };
    let finding = on_device!(&run.device, backend => intervention_analysis::run(
        &Subject {
            backend,
            model,
            sequences: &corpus.ids,
            progress: run.progress,
        },
        &evaluation,
        &setup,
    ))?;
    let settings = settings(&setup, &corpus, &evaluation, args.model.revision.as_deref());
    let folder = run.folder(&settings)?;
    let result = &finding.result;
    let published = published::find(&run.checkpoint.record.name, corpus.add_bos_token);
    let document = document(&run, &settings, result, published.as_ref())?;
    folder.write_json("intervention_analysis.json", &document)?;
    files::write(&folder, result)?;
    let name = run.model_name();
    let table = tables::perplexities(result, published.as_ref());
    let mut sections = Vec::new();
    if !result.ratios.is_empty() {
        let svg = tables::chart(&name, result).to_svg();
        let figure = figures::write(&folder, "perplexity_ratio", svg)?;
        sections.push(Section::new("Change of perplexity", Body::Figure(figure)));
    }
    sections.push(figures::table_section("Perplexity", &table));
    sections.push(figures::table_section(
        "Massive activations in the evaluation windows",
        &tables::evaluation(result),
    ));
    if !result.means.is_empty() {
        let means = tables::means(result);
        sections.push(figures::table_section("Mean values", &means));
    }
    sections.push(figures::settings_section(&settings));
    let verdict = verdict(&name, result, args.compat);
    let highlight = table.rows.iter().any(|row| row.emphasis);
    figures::page_of(
        &folder,
        &run,
        (&verdict, highlight),
        "float32 on the CPU",
        sections,
    )?;
    let everything = everything(corpus, evaluation);
    run.finish_with(
        &folder,
        settings,
        &everything,
        &sources,
        loaded,
        finding.timings,
    )?;
    run.present(&folder, &document, || {
        table.print()?;
        super::print_line(&format!("\n{verdict}"))
    })
}

/// Corpus and windows as what went through the model.
fn everything(corpus: Sequences, evaluation: Vec<EvaluationSet>) -> Sequences {
    let windows = evaluation.into_iter().flat_map(|set| set.windows);
    Sequences {
        ids: corpus.ids.into_iter().chain(windows).collect(),
        ..corpus
    }
}

/// The answer in a sentence, and what the reader should know about it.
fn verdict(name: &str, result: &InterventionAnalysis, compat: Compat) -> String {
    let Some(first_layer) = result.first_layer else {
        return format!(
            "{name} has no massive activations in the corpus: there is nothing to overwrite, and \
             only the original perplexity is measured"
        );
    };
    let worst = result.ratios["set_to_zero"]
        .iter()
        .max_by(|a, b| order(a.1.ratio).total_cmp(&order(b.1.ratio)));
    let mut verdict = match worst {
        Some((set, ratio)) => format!(
            "{name}: setting the massive activations of layer {} to zero multiplies perplexity by up \
             to {} ({set}), {}",
            listed(&result.layers_written),
            ratio.ratio.map_or_else(|| "inf".to_owned(), significant),
            match ratio.class {
                Impact::None => "no impact",
                Impact::Medium => "a medium impact",
                Impact::High => "a high impact",
            }
        ),
        None => format!("{name}: massive activations from layer {first_layer}"),
    };
    if !result.missing_dimensions.is_empty() {
        verdict.push_str(&format!(
            "; no calibration sequence has a mean for dimension {}, which set_to_mean leaves alone",
            listed(&result.missing_dimensions)
        ));
    }
    if result.dimensions_union != result.dimensions_reference {
        let (other, flag) = match compat {
            Compat::None => ("the reference program", "reference"),
            Compat::Reference => ("the definition", "none"),
        };
        verdict.push_str(&format!(
            "; by {other}, the dimensions differ (--compat {flag})"
        ));
    }
    verdict
}

fn order(ratio: Option<f64>) -> f64 {
    ratio.unwrap_or(f64::INFINITY)
}

fn listed(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}
