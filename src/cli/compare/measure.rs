//! The chosen experiments on one checkpoint.

use serde_json::{Value, json};

use super::{
    super::{
        device::{Opened, on_device},
        intervention_analysis as interventions,
        run::Run,
    },
    CompareArgs, Experiment, Measured, model_args,
    targets::Target,
    text::{CommonText, Windows},
};
use crate::{
    backend::Backend,
    data::Sequences,
    engine::Timings,
    error::Result,
    experiments::{
        Subject, Thresholds, attention_share,
        compare::{self, ExistenceProfile, InterventionsProfile, Profile, WeightProfile},
        existence_validation,
        intervention_analysis::{self, EvaluationSet, Memory, Setup, WrittenLayers},
        published, tokens_analysis,
    },
    tvr::{self, Arithmetic},
};

/// The name of the text among the evaluation sets of intervention-analysis.
const SET: &str = "text";
/// Zeros and the means of one layer; how many layers have means is not known before the run.
const LEAST_VARIANTS: usize = 2;

/// Runs the chosen experiments on one checkpoint, which is closed again at the end.
pub(super) fn measure(
    args: &CompareArgs,
    opened: &Opened,
    target: &Target,
    text: &CommonText,
) -> Result<Measured> {
    let run = Run::open_on(
        opened,
        "compare",
        &model_args(args, target),
        &args.output,
        args.text.seed,
    )?;
    on_device!(&run.device, backend => measure_on(backend, &run, args, target, text))
}

fn measure_on<B: Backend + Arithmetic>(
    backend: &B,
    run: &Run,
    args: &CompareArgs,
    target: &Target,
    text: &CommonText,
) -> Result<Measured> {
    let windows = text.windows(&run.checkpoint.model, args.nsamples)?;
    windows
        .measured
        .tell_if_fewer_than(args.nsamples, run.progress);
    let sequences = &windows.measured;
    let mut measurement = Measurement {
        args,
        target,
        run,
        backend,
        windows: &windows,
        settings: settings(args, target, sequences),
        profile: Profile::default(),
        documents: Vec::new(),
        timings: Timings::default(),
    };
    let loaded = run.elapsed();
    measurement.experiments()?;
    let Measurement {
        settings,
        profile,
        documents,
        timings,
        ..
    } = measurement;
    Ok(Measured {
        model: run.checkpoint.record.clone(),
        nsamples: sequences.ids.len(),
        tokens: tokens_hash(&sequences.ids),
        profile,
        record: run.record(settings, sequences, loaded, timings)?,
        documents,
    })
}

/// A checkpoint's experiments under way.
struct Measurement<'a, B> {
    args: &'a CompareArgs,
    target: &'a Target,
    run: &'a Run,
    backend: &'a B,
    windows: &'a Windows,
    settings: Value,
    profile: Profile,
    documents: Vec<(&'static str, Value)>,
    timings: Timings,
}

impl<B: Backend + Arithmetic> Measurement<'_, B> {
    fn experiments(&mut self) -> Result<()> {
        let thresholds = Thresholds::from(self.args.thresholds);
        let sequences = &self.windows.measured;
        let wanted = |experiment| self.args.experiments.contains(&experiment);
        let run = self.run;
        let model = &run.checkpoint.model;
        if wanted(Experiment::Existence) {
            let found = existence_validation::run(&self.subject(sequences), thresholds)?;
            self.profile.existence = ExistenceProfile::of(&found.result);
            let document =
                run.document(existence_validation::SCHEMA, &self.settings, &found.result)?;
            self.add("existence_validation.json", document, found.timings);
        }
        if wanted(Experiment::Tokens) {
            let found = tokens_analysis::run(&self.subject(sequences), thresholds)?;
            self.profile.tokens = Some((&found.result).into());
            let document = run.document(tokens_analysis::SCHEMA, &self.settings, &found.result)?;
            self.add("tokens_analysis.json", document, found.timings);
        }
        // A window of one token predicts nothing.
        if wanted(Experiment::Interventions) && sequences.context_length > 1 {
            self.interventions(thresholds)?;
        }
        if wanted(Experiment::Perplexity) {
            self.profile.perplexity = match &self.profile.interventions {
                Some(found) => found.original,
                None => {
                    let found = compare::perplexity(&self.subject(sequences))?;
                    self.timings += found.timings;
                    found.result
                }
            };
        }
        if wanted(Experiment::Attention) {
            let found = attention_share::run(&self.subject(sequences), thresholds)?;
            self.profile.attention = Some(found.result);
            self.timings += found.timings;
        }
        if wanted(Experiment::Weights) {
            let spread = tvr::std_by_layer(model, self.backend, run.progress)?;
            self.profile.weights = Some(WeightProfile::of(spread));
        }
        Ok(())
    }

    /// Perplexity of the measured windows with their massive activations overwritten.
    fn interventions(&mut self, thresholds: Thresholds) -> Result<()> {
        let (run, corpus) = (self.run, &self.windows.calibration);
        if !self.windows.apart {
            run.progress.notice(&format!(
                "interventions: the text has no {} windows behind those that are measured; the means come from these",
                self.args.nsamples
            ));
        }
        let setup = Setup {
            thresholds,
            nsamples: corpus.ids.len(),
            calibration_nsamples: corpus.ids.len(),
            layers: WrittenLayers::First,
            constants: Vec::new(),
            noise: Vec::new(),
            reference: false,
            seed: self.args.text.seed,
            memory: Memory {
                budget: run.device.memory_budget(self.args.memory_budget),
                progress: run.progress,
            },
        };
        let spec = &run.checkpoint.model.spec;
        let tokens = corpus.context_length;
        setup
            .memory
            .check(self.backend, spec, tokens, LEAST_VARIANTS)?;
        let evaluation = [EvaluationSet {
            name: SET.to_owned(),
            windows: self.windows.measured.ids.clone(),
        }];
        let found = intervention_analysis::run(&self.subject(corpus), &evaluation, &setup)?;
        self.profile.interventions = InterventionsProfile::of(&found.result, corpus.ids.len());
        let revision = self.target.revision.as_deref();
        let settings = interventions::settings(&setup, corpus, &evaluation, revision);
        let published = published::find(&run.checkpoint.record.name, corpus.add_bos_token);
        let document = interventions::document(run, &settings, &found.result, published.as_ref())?;
        self.add("intervention_analysis.json", document, found.timings);
        Ok(())
    }

    fn subject<'a>(&'a self, sequences: &'a Sequences) -> Subject<'a, B> {
        Subject {
            backend: self.backend,
            model: &self.run.checkpoint.model,
            sequences: &sequences.ids,
            progress: self.run.progress,
        }
    }

    fn add(&mut self, name: &'static str, document: Value, timings: Timings) {
        self.documents.push((name, document));
        self.timings += timings;
    }
}

/// What the checkpoint's own files say was asked for.
fn settings(args: &CompareArgs, target: &Target, sequences: &Sequences) -> Value {
    json!({
        "context_length": sequences.context_length,
        "add_bos_token": sequences.add_bos_token,
        "nsamples": sequences.ids.len(),
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "seed": args.text.seed,
        "dataset": sequences.provenance.as_ref().map(|source| source.name.clone()),
        "revision": target.revision,
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
