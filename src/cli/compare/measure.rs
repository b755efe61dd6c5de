//! The chosen experiments on one checkpoint.

use std::rc::Rc;

use serde_json::Value;

use super::{
    super::{
        intervention_analysis::PlaceSettings,
        run::Run,
        settings::{self, CorpusSettings, InterventionSettings, TextSettings, TokensSettings},
        shared::Shared,
    },
    CompareArgs, Experiment, model_args,
    targets::Target,
    text::{CommonText, Windows},
};
use crate::{
    data::Sequences,
    engine::{Timings, without_attention},
    error::Result,
    experiments::{
        CorpusWalk, Thresholds, attention_share,
        changes::Massive,
        compare::{self, ExistenceProfile, InterventionsProfile, Profile, WeightProfile},
        existence_validation,
        intervention_analysis::{
            self, Anywhere, EvaluationSet, PositionsFrom, Setup, WrittenLayers,
        },
        places::{Place, Values},
        published, tokens_analysis,
    },
    present::{
        self, Compat,
        compare::Measured,
        intervention_analysis::{document, notices},
    },
    progress::Progress,
    tvr,
};

/// The name of the text among the evaluation sets of intervention-analysis.
const SET: &str = "text";
/// Zeros and the means of one layer; how many layers have means is not known before the run.
const LEAST_VARIANTS: usize = 2;

/// Runs the chosen experiments on one checkpoint, which is closed again at the end. Where the first one
/// is massive its values are read, too, if they are the same values.
pub(super) fn measure(
    args: &CompareArgs,
    shared: &Shared,
    target: &Target,
    text: &CommonText,
    first: Option<&Measured>,
    progress: Progress,
) -> Result<Measured> {
    shared.show_in(progress);
    let run = Run::open(
        shared,
        "compare",
        &model_args(args, target),
        &args.output,
        args.text.seed,
    )?;
    let windows = text.windows(run.model(), args.nsamples)?;
    windows
        .measured
        .tell_if_fewer_than(args.nsamples, run.progress);
    let sequences = &windows.measured;
    let tokens = tokens_hash(&sequences.ids);
    let model = run.checkpoint().record.clone();
    let first = first.filter(|first| first.unmatched(&tokens, &model).is_none());
    let watched = first.and_then(|first| first.massive.as_ref());
    let mut measurement = Measurement {
        args,
        target,
        run: &run,
        windows: &windows,
        settings: settings::value(&corpus_settings(args, target, sequences))?,
        profile: Profile::default(),
        documents: Vec::new(),
        timings: Timings::default(),
        walk: None,
        watched: watched.map_or_else(Vec::new, |found| found.values.keys().copied().collect()),
        massive: None,
    };
    let loaded = run.elapsed();
    run.session().expect_walks(walks(&args.experiments));
    measurement.experiments()?;
    let Measurement {
        settings,
        profile,
        documents,
        timings,
        walk,
        massive,
        ..
    } = measurement;
    let texts = sequences.into();
    let identity = run.identity(&settings, &texts)?;
    Ok(Measured {
        model,
        nsamples: sequences.ids.len(),
        tokens,
        profile,
        massive,
        elsewhere: walk.map_or_else(Values::new, |walk| walk.watched.clone()),
        record: run.record(identity, settings, texts, loaded, timings)?,
        documents,
    })
}

/// Reads a checkpoint's values in these places, which became massive in others after it was closed.
pub(super) fn values_at(
    args: &CompareArgs,
    shared: &Shared,
    target: &Target,
    text: &CommonText,
    places: impl IntoIterator<Item = Place>,
    progress: Progress,
) -> Result<Values> {
    shared.show_in(progress);
    let model = model_args(args, target);
    let run = Run::open(shared, "compare", &model, &args.output, args.text.seed)?;
    let ids = text.windows(run.model(), args.nsamples)?.measured.ids;
    let thresholds = args.thresholds.into();
    let walk = CorpusWalk::watching(run.session(), &ids, thresholds, false, places)?;
    Ok(walk.watched)
}

/// A checkpoint's experiments under way.
struct Measurement<'a> {
    args: &'a CompareArgs,
    target: &'a Target,
    run: &'a Run<'a>,
    windows: &'a Windows,
    settings: Value,
    profile: Profile,
    documents: Vec<(&'static str, Value)>,
    timings: Timings,
    walk: Option<Rc<CorpusWalk>>,
    /// Where the first checkpoint is massive.
    watched: Vec<Place>,
    massive: Option<Massive>,
}

impl Measurement<'_> {
    fn experiments(&mut self) -> Result<()> {
        let thresholds = Thresholds::from(self.args.thresholds);
        let sequences = &self.windows.measured;
        let wanted = |experiment| self.args.experiments.contains(&experiment);
        let run = self.run;
        if wanted(Experiment::Existence) {
            let walk = self.walk(thresholds)?;
            let ids = &sequences.ids;
            let found = existence_validation::summarise(run.session(), ids, &walk, thresholds);
            self.profile.existence = ExistenceProfile::of(&found);
            let published = published::find(
                run.checkpoint().record.published_name(),
                sequences.add_bos_token,
            );
            let context = run.context(&self.settings);
            let document =
                present::existence_validation::document(&found, published.as_ref(), &context)?;
            self.add("existence_validation.json", document);
        }
        if wanted(Experiment::Tokens) {
            let walk = self.walk(thresholds)?;
            let ids = &sequences.ids;
            let found = tokens_analysis::summarise(run.session(), ids, &walk, thresholds);
            self.profile.tokens = Some((&found).into());
            self.massive = Some((&found).into());
            let settings = settings::value(&TokensSettings {
                corpus: corpus_settings(self.args, self.target, sequences),
                compat: Compat::None,
            })?;
            let context = run.context(&settings);
            let document = context.document(tokens_analysis::SCHEMA, &found)?;
            self.add("tokens_analysis.json", document);
        }
        // A window of one token predicts nothing.
        if wanted(Experiment::Interventions) && sequences.context_length > 1 {
            self.interventions(thresholds)?;
        }
        if wanted(Experiment::Perplexity) {
            self.profile.perplexity = match &self.profile.interventions {
                Some(found) => found.original,
                None => {
                    let found = compare::perplexity(run.session(), &sequences.ids)?;
                    self.timings += found.timings;
                    found.result
                }
            };
        }
        if wanted(Experiment::Attention) && self.has_attention() {
            let found = attention_share::run(run.session(), &sequences.ids, thresholds)?;
            self.profile.attention = Some(found.result);
            self.timings += found.timings;
        }
        if wanted(Experiment::Weights) {
            let spread = tvr::std_by_layer(run.model(), run.session().weights(), run.progress)?;
            self.profile.weights = Some(WeightProfile::of(spread));
        }
        Ok(())
    }

    /// Whether any layer has it, else with a word to the user.
    fn has_attention(&self) -> bool {
        let spec = &self.run.model().spec;
        let has = without_attention(spec).len() < spec.layers.len();
        if !has {
            let label = &self.target.label;
            self.run.progress.notice(&format!(
                "{label}: no layer has attention, so there are no shares of it"
            ));
        }
        has
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
            anywhere: Anywhere::default(),
            thresholds,
            nsamples: corpus.ids.len(),
            calibration_nsamples: corpus.ids.len(),
            layers: WrittenLayers::First,
            positions_from: PositionsFrom::Own,
            constants: Vec::new(),
            noise: Vec::new(),
            reference: false,
            seed: self.args.text.seed,
        };
        let tokens = corpus.context_length;
        run.session().check_memory(tokens, LEAST_VARIANTS)?;
        let evaluation = [EvaluationSet {
            name: SET.to_owned(),
            windows: self.windows.measured.ids.clone(),
        }];
        let walk = if self.windows.apart {
            let walk = CorpusWalk::run(run.session(), &corpus.ids, thresholds, true)?;
            self.timings += walk.timings;
            Rc::new(walk)
        } else {
            self.walk(thresholds)?
        };
        let found = intervention_analysis::run(run.session(), &walk, &evaluation, &[], &setup)?;
        self.timings += found.timings;
        self.profile.interventions = InterventionsProfile::of(&found.result, corpus.ids.len());
        for notice in notices(&found.result) {
            run.progress
                .notice(&format!("{}: {notice}", self.target.label));
        }
        let settings = settings::value(&InterventionSettings {
            corpus: corpus_settings(self.args, self.target, corpus),
            calibration_nsamples: setup.calibration_nsamples,
            layers: setup.layers,
            positions_from: setup.positions_from,
            set_to: setup.constants,
            noise: setup.noise,
            place: PlaceSettings::default(),
            compat: Compat::None,
            evaluation_sets: evaluation.iter().map(Into::into).collect(),
            tasks: None,
        })?;
        let published = published::find(
            run.checkpoint().record.published_name(),
            corpus.add_bos_token,
        );
        let context = run.context(&settings);
        let document = document(&found.result, published.as_ref(), &context)?;
        self.add("intervention_analysis.json", document);
        Ok(())
    }

    /// The walk over the measured windows that several experiments summarise.
    fn walk(&mut self, thresholds: Thresholds) -> Result<Rc<CorpusWalk>> {
        if let Some(walk) = &self.walk {
            return Ok(Rc::clone(walk));
        }
        // Where no windows lie behind these, the means come from these.
        let values = !self.windows.apart;
        let ids = &self.windows.measured.ids;
        let places = self.watched.iter().copied();
        let walk = CorpusWalk::watching(self.run.session(), ids, thresholds, values, places)?;
        self.timings += walk.timings;
        Ok(Rc::clone(self.walk.insert(Rc::new(walk))))
    }

    fn add(&mut self, name: &'static str, document: Value) {
        self.documents.push((name, document));
    }
}

/// How often the model will be walked through, unless its windows ask for more.
fn walks(experiments: &[Experiment]) -> usize {
    let wanted = |experiment| usize::from(experiments.contains(&experiment));
    let interventions = wanted(Experiment::Interventions);
    wanted(Experiment::Existence)
        + wanted(Experiment::Tokens)
        + 2 * interventions
        // The interventions measure the original, too.
        + wanted(Experiment::Perplexity) * (1 - interventions)
        + wanted(Experiment::Attention)
}

/// What the checkpoint's own files say was asked for.
fn corpus_settings(args: &CompareArgs, target: &Target, sequences: &Sequences) -> CorpusSettings {
    CorpusSettings {
        text: TextSettings::of(sequences, args.text.seed, target.revision.as_deref()),
        nsamples: sequences.ids.len(),
        thresholds: args.thresholds,
    }
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
