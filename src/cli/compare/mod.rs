//! `massact compare`

mod measure;
mod targets;
mod text;

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use self::{
    measure::{measure, values_at},
    targets::Target,
    text::CommonText,
};
use super::{
    args::{
        DeviceArgs, ModelArgs, OutputArgs, ScaleArgs, SourceArgs, TextArgs, ThresholdArgs, positive,
    },
    run::{Done, origin},
    settings,
    shared::Shared,
};
use crate::{
    checkpoint,
    data::sequences::{self, CONTEXT_LENGTH, DefaultText},
    error::{Error, Kind, Result},
    experiments::places::Place,
    present::compare::{self, Entry, Measured},
    progress::Progress,
    report::{
        Identity, RunFolder,
        folder::{check_writable, model_folder_name},
        run::now_rfc3339,
    },
};

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
    pub(super) text: TextArgs,
    /// Sequences to average over. The interventions' means come from as many behind them.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    draw: ScaleArgs,
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

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    checkpoints: &'a [String],
    experiments: &'a [Experiment],
    #[serde(flatten)]
    text: &'a TextArgs,
    nsamples: usize,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
    device: &'a DeviceArgs,
}

impl CompareArgs {
    /// With the text arguments that suit every checkpoint.
    pub(super) fn settings<'a>(&'a self, text: &'a TextArgs) -> Settings<'a> {
        Settings {
            checkpoints: &self.checkpoints,
            experiments: &self.experiments,
            text,
            nsamples: self.nsamples,
            thresholds: self.thresholds,
            device: &self.device,
        }
    }
}

pub(super) fn run(args: &CompareArgs, shared: &Shared) -> Result<()> {
    let started_at = now_rfc3339();
    let targets = targets::parse(&args.checkpoints)?;
    check_writable(&args.output.save_dir)?;
    let progress = Progress::new(args.output.quiet);
    // Wrong arguments are wrong for all checkpoints, and known before the first is opened.
    shared.device(&args.device, progress)?;
    let (text, default, openable) = text_arguments(args, &targets, progress)?;
    if let (true, Some(Err(first))) = (openable.iter().all(Result::is_err), openable.first()) {
        // There is nothing to compare, and one reason is enough.
        return Err(first.clone());
    }
    let text = CommonText::load(text, default, progress)?;
    let settings = settings::value(&args.settings(&text.args))?;
    let count = targets.len();
    let mut entries = Vec::with_capacity(count);
    let mut first: Option<(usize, Target)> = None;
    for (index, (target, found)) in targets.into_iter().zip(openable).enumerate() {
        let progress = progress.within(&format!("[{}/{count}] {}", index + 1, target.label));
        let known = first.as_ref().and_then(|(at, _)| of(&entries, *at));
        let outcome = found.and_then(|()| measure(args, shared, &target, &text, known, progress));
        if outcome.is_ok() && first.is_none() {
            first = Some((index, target.clone()));
        }
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
    if let Some((at, target)) = &first {
        let progress = progress.within(&target.label);
        let places = new_places(&entries, *at);
        if !places.is_empty() {
            let found = values_at(args, shared, target, &text, places, progress)?;
            if let Ok(measured) = &mut entries[*at].outcome {
                measured.elsewhere = found;
            }
        }
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
        progress.notice(&error.clone().within(label).to_string());
    }
    let origin = origin(
        "compare",
        shared.arguments(),
        &started_at,
        Some(text.source()),
        &[],
    );
    let artifacts = compare::artifacts(&entries, args.draw.scale, &settings, &origin)?;
    if !compare::same_tokens(&entries) {
        progress.notice(compare::OTHER_TOKENS);
    }
    let digest = identity(&entries, &settings).digest();
    let folder = RunFolder::create(&args.output.save_dir, "comparison", "compare", &digest)?;
    artifacts.write(&folder, &args.output.formats)?;
    Done::commit(folder, artifacts, progress)?.show(&args.output)?;
    failures(&entries)
}

fn of(entries: &[Entry], index: usize) -> Option<&Measured> {
    entries.get(index)?.outcome.as_ref().ok()
}

/// Where others are massive and this one, with the same values, is not.
fn new_places(entries: &[Entry], first: usize) -> BTreeSet<Place> {
    let Some((first, was)) = of(entries, first).and_then(|it| Some((it, it.massive.as_ref()?)))
    else {
        return BTreeSet::new();
    };
    let others = entries.iter().filter_map(|entry| {
        let other = entry.outcome.as_ref().ok()?;
        let matched = first.unmatched(&other.tokens, &other.model).is_none();
        other.massive.as_ref().filter(|_| matched)
    });
    others.flat_map(|other| other.without(was)).collect()
}

/// Who the comparison is: all of its runs.
fn identity(entries: &[Entry], settings: &Value) -> Identity {
    let runs = entries.iter().map(|entry| match &entry.outcome {
        Ok(measured) => Some(&measured.record.identity),
        Err(_) => None,
    });
    let of = |part: fn(&Identity) -> &str| {
        let parts = runs.clone().map(|run| run.map_or("", part));
        parts.collect::<Vec<_>>().join(" ")
    };
    let texts = [of(|run| &run.texts)];
    Identity::new(
        of(|run| &run.model),
        of(|run| &run.weights),
        &texts,
        settings,
    )
}

/// The text arguments with the defaults that suit every checkpoint, the text if it is massact's choice,
/// and which checkpoints can be opened at all.
fn text_arguments(
    args: &CompareArgs,
    targets: &[Target],
    progress: Progress,
) -> Result<(TextArgs, Option<DefaultText>, Vec<Result<()>>)> {
    let mut text = args.text.clone();
    let unsaid = text.dataset.is_none() && text.text_file.is_none();
    // As far as every model has positions, and by the tokenizer that makes the fewest tokens.
    let mut positions = CONTEXT_LENGTH;
    let mut tokens = usize::MAX;
    let mut built_in = true;
    let mut openable = Vec::with_capacity(targets.len());
    for target in targets {
        let (name, revision) = (Some(target.name.as_str()), target.revision.as_deref());
        let opened = checkpoint::open(name, revision, None, progress);
        openable.push(match opened {
            Ok((model, checkpoint)) => {
                built_in &= checkpoint.record.source == "built-in";
                let longest = model.spec.longest();
                positions = positions.min(longest.map_or(CONTEXT_LENGTH, |(limit, _)| limit));
                // One that cannot make any says so when its turn comes.
                if unsaid && let Ok(count) = sequences::built_in_tokens(&model) {
                    tokens = tokens.min(count);
                }
                Ok(())
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => Err(error),
        });
    }
    let length = *text.context_length.get_or_insert(positions);
    let windows = args.nsamples.saturating_mul(2);
    let default = (unsaid && !built_in).then(|| DefaultText::of(tokens, length, windows));
    if unsaid {
        let name = default.map_or("builtin", |default| default.name());
        text.dataset = Some(name.to_owned());
    }
    Ok((text, default, openable))
}

fn model_args(args: &CompareArgs, target: &Target) -> ModelArgs {
    ModelArgs {
        source: SourceArgs {
            checkpoint: None,
            pretrained: Some(target.name.clone()),
            revision: target.revision.clone(),
            adapter: None,
            label: Some(target.label.clone()),
        },
        device: args.device.clone(),
    }
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
