//! `massact compare`

mod measure;
mod output;
mod targets;
mod text;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use self::{measure::measure, targets::Target, text::CommonText};
use super::{
    args::{DeviceArgs, ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    budget::Bytes,
    device,
};
use crate::{
    error::{Error, Kind, Result},
    experiments::compare::Profile,
    progress::Progress,
    report::{
        RunFolder, RunRecord,
        folder::{check_writable, model_folder_name},
        run::ModelRecord,
    },
};

/// The reference's default, used as far as every model has positions.
const CONTEXT_LENGTH: usize = 4096;

/// Several checkpoints side by side: magnitudes, attention and weights on the same text.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Hub ids, `owner/name@revision` for a branch, tag or commit, or folders; a label may come
    /// first: `baseline=runs/a`.
    #[arg(required = true, value_name = "[LABEL=]CHECKPOINT")]
    checkpoints: Vec<String>,
    /// What to compare.
    #[arg(long, value_enum, value_name = "NAMES", value_delimiter = ',',
        default_values_t = [
            Experiment::Existence, Experiment::Tokens, Experiment::Perplexity,
            Experiment::Interventions, Experiment::Attention, Experiment::Weights,
        ])]
    experiments: Vec<Experiment>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Sequences to average over. The interventions' means come from as many behind them.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Memory for the interventions' residual streams and one layer, such as 8GB; what does not fit
    /// runs in parts, each of which reads the model again. Default: four fifths of what is available.
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<Bytes>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Choices of `--experiments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Experiment {
    /// Magnitudes by layer, as existence-validation.
    Existence,
    /// Dimensions and tokens of massive activations in single sequences, as tokens-analysis.
    Tokens,
    /// Perplexity of the text.
    Perplexity,
    /// Perplexity with massive activations overwritten, as intervention-analysis.
    Interventions,
    /// Attention that the first and the massive tokens receive.
    Attention,
    /// Standard deviation of the weights by layer.
    Weights,
}

/// One checkpoint's part.
struct Entry {
    label: String,
    /// As given, without label and revision.
    name: String,
    revision: Option<String>,
    /// Folder of its own files, within the comparison's.
    place: String,
    outcome: Result<Measured>,
}

struct Measured {
    model: ModelRecord,
    nsamples: usize,
    /// Identifies the token ids that were run.
    tokens: String,
    profile: Profile,
    record: RunRecord,
    /// JSON files of the experiments.
    documents: Vec<(&'static str, Value)>,
}

pub(super) fn run(args: &CompareArgs) -> Result<()> {
    let targets = targets::parse(&args.checkpoints)?;
    check_writable(&args.output.save_dir)?;
    let progress = Progress::new(args.output.quiet);
    // Wrong arguments are wrong for all checkpoints, and known before the first is opened.
    let opened = device::open(&args.device, progress)?;
    let (text, openable) = text_arguments(args, &targets, progress)?;
    if let (true, Some(Err(first))) = (openable.iter().all(Result::is_err), openable.first()) {
        // There is nothing to compare, and one reason is enough.
        return Err(first.clone());
    }
    let text = CommonText::load(text, progress)?;
    let settings = json!({
        "checkpoints": args.checkpoints,
        "experiments": args.experiments,
        "context_length": text.args.context_length,
        "add_bos_token": text.args.add_bos_token,
        "nsamples": args.nsamples,
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "seed": text.args.seed,
        "dataset": text.args.dataset,
        "text_file": text.args.text_file,
        "device": args.device.settings(),
    });
    let mut entries = Vec::with_capacity(targets.len());
    for (index, (target, found)) in targets.into_iter().zip(openable).enumerate() {
        let outcome = found.and_then(|()| measure(args, &opened, &target, &text));
        if let Err(error) = &outcome
            && error.kind() == Kind::Interrupted
        {
            return Err(error.clone());
        }
        entries.push(Entry {
            place: format!("{}-{}", index + 1, model_folder_name(&target.label)),
            label: target.label,
            name: target.name,
            revision: target.revision,
            outcome,
        });
    }
    let failed = entries.iter().filter_map(|entry| {
        let error = entry.outcome.as_ref().err()?;
        Some((entry.label.as_str(), error))
    });
    let failed: Vec<(&str, &Error)> = failed.collect();
    if let (true, Some((_, first))) = (failed.len() == entries.len(), failed.first()) {
        return Err((*first).clone());
    }
    for (label, error) in failed {
        progress.notice(&format!("{label}: {error}"));
    }
    let same_tokens = same_tokens(&entries);
    if !same_tokens {
        progress.notice(
            "the checkpoints' tokenizers differ: the text is the same, the tokens and where the windows end are not",
        );
    }
    let folder = RunFolder::create(&args.output.save_dir, "comparison", "compare", &settings)?;
    for entry in &entries {
        if let Ok(measured) = &entry.outcome {
            let place = &entry.place;
            folder.write_json(&format!("{place}/run.json"), &measured.record)?;
            for (name, document) in &measured.documents {
                folder.write_json(&format!("{place}/{name}"), document)?;
            }
        }
    }
    let document = output::document(&settings, &entries, same_tokens)?;
    output::write(&folder, &settings, &entries, same_tokens, &document)?;
    if args.output.json {
        super::print_json(&document)?;
    } else {
        output::table(&entries).print()?;
    }
    progress.notice(&format!("results in {}", folder.path().display()));
    failures(&entries)
}

/// The text arguments with the defaults that suit every checkpoint, and which can be opened at all.
fn text_arguments(
    args: &CompareArgs,
    targets: &[Target],
    progress: Progress,
) -> Result<(TextArgs, Vec<Result<()>>)> {
    let mut text = args.text.clone();
    let mut positions = CONTEXT_LENGTH;
    let mut built_in = true;
    let mut openable = Vec::with_capacity(targets.len());
    for target in targets {
        let (name, revision) = (Some(target.name.as_str()), target.revision.as_deref());
        let opened = super::checkpoint::open(name, revision, progress);
        openable.push(match opened {
            Ok(checkpoint) => {
                built_in &= checkpoint.record.source == "built-in";
                let limit = checkpoint.model.spec.max_positions;
                positions = positions.min(limit.unwrap_or(CONTEXT_LENGTH));
                Ok(())
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => Err(error),
        });
    }
    text.context_length.get_or_insert(positions);
    if text.dataset.is_none() && text.text_file.is_none() {
        text.dataset = Some(if built_in { "builtin" } else { "redpajama" }.to_owned());
    }
    Ok((text, openable))
}

fn model_args(args: &CompareArgs, target: &Target) -> ModelArgs {
    ModelArgs {
        pretrained: Some(target.name.clone()),
        revision: target.revision.clone(),
        device: args.device.clone(),
    }
}

fn same_tokens(entries: &[Entry]) -> bool {
    let mut tokens = entries
        .iter()
        .filter_map(|entry| entry.outcome.as_ref().ok());
    let first = tokens.next().map(|measured| &measured.tokens);
    tokens.all(|measured| Some(&measured.tokens) == first)
}

/// An error if any checkpoint failed, after the others have been reported.
fn failures(entries: &[Entry]) -> Result<()> {
    let failed: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.outcome.is_err())
        .map(|entry| entry.label.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        format!("{} of {} checkpoints", failed.len(), entries.len()),
        format!("failed: {}", failed.join(", ")),
    )
    .remedy("the table says why; the others are complete"))
}
