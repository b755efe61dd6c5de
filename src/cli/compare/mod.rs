//! `massact compare`

mod output;
mod targets;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use self::targets::Target;
use super::{
    args::{DeviceArgs, ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    device::{self, on_device},
    run::Run,
    sequences,
};
use crate::{
    backend::Backend,
    engine::Timings,
    error::{Error, Kind, Result},
    experiments::{
        Subject, Thresholds, attention_share,
        compare::{self, ExistenceProfile, Profile, WeightProfile},
        existence_validation, tokens_analysis,
    },
    progress::Progress,
    report::{
        RunFolder, RunRecord,
        folder::{check_writable, model_folder_name},
        run::ModelRecord,
    },
    tvr,
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
            Experiment::Existence, Experiment::Tokens, Experiment::Perplexity, Experiment::Attention,
            Experiment::Weights,
        ])]
    experiments: Vec<Experiment>,
    #[command(flatten)]
    device: DeviceArgs,
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
    device::open(&args.device, progress)?;
    let (text, openable) = common_text(args, &targets, progress)?;
    let settings = json!({
        "checkpoints": args.checkpoints,
        "experiments": args.experiments,
        "context_length": text.context_length,
        "add_bos_token": text.add_bos_token,
        "nsamples": args.nsamples,
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "seed": text.seed,
        "dataset": text.dataset,
        "text_file": text.text_file,
        "device": args.device.settings(),
    });
    let mut entries = Vec::with_capacity(targets.len());
    for (target, opened) in targets.into_iter().zip(openable) {
        let outcome = opened.and_then(|()| measure(args, &target, &text));
        if let Err(error) = &outcome
            && error.kind() == Kind::Interrupted
        {
            return Err(error.clone());
        }
        entries.push(Entry {
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
        // There is nothing to compare, and one reason is enough.
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
    for (index, entry) in entries.iter().enumerate() {
        if let Ok(measured) = &entry.outcome {
            let place = format!("{}-{}", index + 1, model_folder_name(&entry.label));
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
fn common_text(
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
        let opened = super::checkpoint::find(name, revision, progress);
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

/// Runs the chosen experiments on one checkpoint, which is closed again at the end.
fn measure(args: &CompareArgs, target: &Target, text: &TextArgs) -> Result<Measured> {
    let model = model_args(args, target);
    let run = Run::open("compare", &model, &args.output, text.seed)?;
    on_device!(&run.device, backend => measure_on(backend, &run, args, target, text))
}

fn measure_on<B: Backend>(
    backend: &B,
    run: &Run,
    args: &CompareArgs,
    target: &Target,
    text: &TextArgs,
) -> Result<Measured> {
    let model = &run.checkpoint.model;
    let built_in = run.built_in_model();
    let sequences = sequences::load(text, model, built_in, args.nsamples, run.progress)?;
    let loaded = run.elapsed();
    let subject = Subject {
        backend,
        model,
        sequences: &sequences.ids,
        progress: run.progress,
    };
    let settings = json!({
        "context_length": sequences.context_length,
        "add_bos_token": sequences.add_bos_token,
        "nsamples": sequences.ids.len(),
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "seed": text.seed,
        "dataset": sequences.provenance.as_ref().map(|source| source.name.clone()),
        "revision": target.revision,
    });
    let thresholds = Thresholds::from(args.thresholds);
    let mut profile = Profile::default();
    let mut documents = Vec::new();
    let mut timings = Timings::default();
    let mut add = |more: Timings| {
        timings.forward += more.forward;
        timings.statistics += more.statistics;
    };
    let wanted = |experiment| args.experiments.contains(&experiment);
    if wanted(Experiment::Existence) {
        let found = existence_validation::run(&subject, thresholds)?;
        profile.existence = ExistenceProfile::of(&found.result);
        let document = run.document(existence_validation::SCHEMA, &settings, &found.result)?;
        documents.push(("existence_validation.json", document));
        add(found.timings);
    }
    if wanted(Experiment::Tokens) {
        let found = tokens_analysis::run(&subject, thresholds)?;
        profile.tokens = Some((&found.result).into());
        let document = run.document(tokens_analysis::SCHEMA, &settings, &found.result)?;
        documents.push(("tokens_analysis.json", document));
        add(found.timings);
    }
    if wanted(Experiment::Perplexity) {
        let found = compare::perplexity(&subject)?;
        profile.perplexity = found.result;
        add(found.timings);
    }
    if wanted(Experiment::Attention) {
        let found = attention_share::run(&subject, thresholds)?;
        profile.attention = Some(found.result);
        add(found.timings);
    }
    if wanted(Experiment::Weights) {
        profile.weights = Some(WeightProfile::of(tvr::std_by_layer(model, run.progress)?));
    }
    Ok(Measured {
        model: run.checkpoint.record.clone(),
        nsamples: sequences.ids.len(),
        tokens: tokens_hash(&sequences.ids),
        profile,
        record: run.record(settings, &sequences, loaded, timings)?,
        documents,
    })
}

fn tokens_hash(sequences: &[Vec<u32>]) -> String {
    let mut hasher = blake3::Hasher::new();
    for ids in sequences {
        hasher.update(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            hasher.update(&id.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
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
