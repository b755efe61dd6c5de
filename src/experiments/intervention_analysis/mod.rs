//! intervention-analysis: what becomes of perplexity when the massive activations are overwritten?
//!
//! Definition (section 4 of arXiv 2503.22329 and its program): the first massive layer F over the
//! corpus and the massive dimensions come from tokens-analysis. In each evaluation window the token
//! positions are those that are massive in that window's own first massive layer; or, where that is
//! asked for, in the layer that is overwritten. An intervention
//! writes values at the output of F, at those positions, in all the dimensions:
//!
//! - `set_to_zero`: 0;
//! - `set_to_mean_L`, for each layer L that is some calibration sequence's first massive layer: the
//!   mean over those sequences of the signed values in the output of L, at their massive positions,
//!   position 0 apart from later ones; a dimension without such a value is left alone;
//! - `set_to_V`: the constant V;
//! - `noise_S`: the value itself, times 1 + S g with g from a standard normal distribution: how
//!   exactly it must be kept.
//!
//! Perplexity is `exp` of the mean over windows of their mean next-token NLL.
#![forbid(unsafe_code)]

mod evaluation;
mod further;
mod interventions;
mod noise;
mod perplexity;
mod place;
mod preparation;
mod tasks;
mod windows;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use clap::ValueEnum;
use serde::Serialize;

use self::{
    evaluation::{Evaluated, Experiment, Window},
    interventions::Intervention,
    noise::Noise,
    preparation::Preparation,
};
pub use self::{
    interventions::Mean,
    perplexity::{Impact, Ratio},
    place::{Anywhere, Control, Dimensions, Draw, Drawn, Place, Positions},
    tasks::{ItemReport, ItemResult, Score, TaskReport, TaskScore},
    windows::{SetReport, WindowReport},
};
use super::{Finding, Thresholds, corpus::CorpusWalk};
use crate::{
    data::items::Task,
    engine::{Scored, Session},
    error::{Error, Result},
    model::spec::DecoderSpec,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/intervention-analysis/1";

/// The windows that perplexity is measured on.
#[derive(Debug, Clone)]
pub struct EvaluationSet {
    /// Its name in the results.
    pub name: String,
    /// Token ids, one list a window; all windows of all sets are of one length.
    pub windows: Vec<Vec<u32>>,
}

/// The layers whose outputs are overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrittenLayers {
    /// The first massive layer of the corpus.
    First,
    /// Every layer that is massive in some corpus sequence.
    All,
    /// These.
    Listed(BTreeSet<usize>),
}

impl WrittenLayers {
    /// Refuses layers that the model does not have.
    pub fn check(&self, spec: &DecoderSpec) -> Result<()> {
        let count = spec.layers.len();
        match self {
            Self::Listed(layers) if layers.iter().any(|layer| *layer >= count) => Err(
                Error::usage("--layers", format!("the model has {count} layers"))
                    .remedy(format!("use numbers from 0 to {}", count - 1)),
            ),
            _ => Ok(()),
        }
    }
}

/// Which layer of a window shows the token positions that are overwritten in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PositionsFrom {
    /// The window's own first massive layer, as in the published program. Where that is not the layer
    /// that is overwritten, ordinary values may be, and the massive ones stay.
    #[default]
    Own,
    /// The first layer that is overwritten: the positions that are massive there in this window.
    Written,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What counts as massive.
    pub thresholds: Thresholds,
    /// Corpus sequences that the first layer and the dimensions come from.
    pub nsamples: usize,
    /// Corpus sequences that the means come from.
    pub calibration_nsamples: usize,
    /// Where values are overwritten.
    pub layers: WrittenLayers,
    /// At which token positions.
    pub positions_from: PositionsFrom,
    /// Constants to write, beside zero and the means.
    pub constants: Vec<f32>,
    /// Standard deviations of noise, relative to the values.
    pub noise: Vec<f64>,
    /// Follow the published program where it departs from the definition: its dimensions depend on
    /// the order of the corpus, its means come in order of appearance, and it reports `set_to_zero`
    /// also where there is nothing to overwrite.
    pub reference: bool,
    /// Seed of the bootstrap, the noise and the controls.
    pub seed: u64,
    /// What departs from the published experiment in place and kind.
    pub anywhere: Anywhere,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InterventionAnalysis {
    /// First massive layer over the corpus; null if there is none.
    pub first_layer: Option<usize>,
    /// The dimensions that are overwritten.
    pub dimensions: Vec<usize>,
    /// The dimensions by the definition: massive in any layer of any corpus sequence.
    pub dimensions_union: Vec<usize>,
    /// The dimensions as the published program reports them for this order of the corpus.
    pub dimensions_reference: Vec<usize>,
    /// What of this result the published program has differently.
    pub reference_differs: Vec<&'static str>,
    /// The layers whose outputs are overwritten.
    pub layers_written: Vec<usize>,
    /// What was evaluated, in order; `original` comes first.
    pub interventions: Vec<String>,
    /// By intervention and evaluation set; null beyond the range of double precision.
    pub perplexity: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// By intervention and evaluation set: mean over windows of the mean NLL, in nats.
    pub nll: BTreeMap<String, BTreeMap<String, f64>>,
    /// `set_to_zero`'s perplexity over the original's, by evaluation set.
    pub impact: BTreeMap<String, Option<f64>>,
    /// The same of every intervention, with its 95 % interval and class.
    pub ratios: BTreeMap<String, BTreeMap<String, Ratio>>,
    /// The same over the windows that the intervention treats; without a set in which it treats none.
    pub ratios_treated: BTreeMap<String, BTreeMap<String, Ratio>>,
    /// By intervention and evaluation set: the windows in which it overwrites a massive activation.
    pub windows_treated: BTreeMap<String, BTreeMap<String, usize>>,
    /// By evaluation set: every window.
    pub nll_by_window: BTreeMap<String, Vec<WindowReport>>,
    /// Dimensions that no calibration sequence has a mean for.
    pub missing_dimensions: Vec<usize>,
    /// The means that were written.
    pub means: Vec<Mean>,
    /// What was evaluated.
    pub evaluation: Vec<SetReport>,
    /// Downstream accuracy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskReport>,
    /// By intervention: the mean over the tasks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks_mean: BTreeMap<String, Score>,
    /// How often the model was read.
    pub walks: Walks,
    /// Where it was done, where that is not the published place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The matched controls of `set_to_zero`, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controls: Option<Vec<Control>>,
    /// Every overwritten value.
    #[serde(skip)]
    pub log: Vec<LogEntry>,
}

/// Walks through the model, each of which reads its weights once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Walks {
    /// Over the corpus: summary and means.
    pub corpus: usize,
    /// Over the evaluation windows: originals and variants.
    pub evaluation: usize,
    /// Over windows whose first massive layer lies above the layer that is overwritten.
    pub again: usize,
}

/// A dimension that was overwritten at some positions of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// The intervention.
    pub intervention: String,
    /// The evaluation set.
    pub set: String,
    /// Whether at position 0.
    pub starting: bool,
    /// The layer.
    pub layer: usize,
    /// The dimension.
    pub dimension: usize,
    /// The positions.
    pub positions: Vec<usize>,
    /// What was written.
    pub value: f64,
    /// What was there, one value a position.
    pub originals: Vec<f32>,
}

/// Runs the experiment. The first `nsamples` sequences of the corpus give the summary, the first
/// `calibration_nsamples` the means; it was walked with its values. The answers of the tasks walk with
/// the windows of the sets.
pub fn run(
    session: &Session,
    corpus: &CorpusWalk,
    sets: &[EvaluationSet],
    tasks: &[Task],
    setup: &Setup,
) -> Result<Finding<InterventionAnalysis>> {
    setup.layers.check(&session.model().spec)?;
    setup.anywhere.check(&session.model().spec)?;
    let mut walks = Walks {
        corpus: corpus.walks,
        ..Walks::default()
    };
    let plan = Preparation::of(session, corpus, setup, &mut walks)?;
    let mut windows: Vec<Vec<u32>> = sets.iter().flat_map(|set| set.windows.clone()).collect();
    let of_sets = windows.len();
    windows.extend(tasks::requests(tasks).map(|request| request.ids.clone()));
    let scored = (!tasks.is_empty()).then(|| {
        let whole = std::iter::repeat_n(Scored::default(), of_sets);
        whole
            .chain(tasks::requests(tasks).map(tasks::scored))
            .collect()
    });
    let evaluated = evaluation::run(
        session,
        &windows,
        setup.thresholds,
        &Experiment {
            interventions: &plan.interventions,
            layers: &plan.layers,
            positions_from: setup.positions_from,
            seed: setup.seed,
            place: &setup.anywhere,
            scored,
        },
        &mut walks,
    )?;
    let mut result = plan.result(setup, walks);
    report(&mut result, &plan.interventions, sets, &evaluated, setup)?;
    result.tasks = tasks::reports(tasks, &evaluated.windows[of_sets..], &result.interventions);
    result.tasks_mean = tasks::means(&result.tasks, &result.interventions);
    Ok(Finding {
        result,
        timings: evaluated.timings,
    })
}

/// Adds what was evaluated.
fn report(
    result: &mut InterventionAnalysis,
    interventions: &[Intervention],
    sets: &[EvaluationSet],
    evaluated: &Evaluated,
    setup: &Setup,
) -> Result<()> {
    let mut start = 0;
    let mut parts: Vec<(&str, Range<usize>)> = Vec::new();
    for set in sets {
        parts.push((&set.name, start..start + set.windows.len()));
        start += set.windows.len();
    }
    let mut names = vec!["original".to_owned()];
    names.extend(
        interventions
            .iter()
            .map(|intervention| intervention.name.clone()),
    );
    if interventions.is_empty() && setup.reference {
        // The published program writes nothing and measures once more.
        names.push("set_to_zero".to_owned());
    }
    for (set, part) in &parts {
        let windows = &evaluated.windows[part.clone()];
        result.evaluation.push(SetReport::of(set, windows));
        let reports = windows
            .iter()
            .map(|window| WindowReport::of(window, interventions));
        let reports = reports.collect();
        result.nll_by_window.insert((*set).to_owned(), reports);
        let original: Vec<f64> = windows.iter().map(|window| window.original).collect();
        for (index, name) in names.iter().enumerate() {
            let nll: Vec<f64> = match index.checked_sub(1) {
                Some(intervention) => windows.iter().map(|w| w.nll(intervention)).collect(),
                None => original.clone(),
            };
            let set = (*set).to_owned();
            let perplexity = result.perplexity.entry(name.clone()).or_default();
            perplexity.insert(set.clone(), perplexity::perplexity(&nll));
            let means = result.nll.entry(name.clone()).or_default();
            means.insert(set.clone(), perplexity::mean(&nll));
            if let Some(intervention) = index.checked_sub(1) {
                let ratio = perplexity::ratio(&original, &nll, setup.seed)?;
                if name == "set_to_zero" {
                    result.impact.insert(set.clone(), ratio.ratio);
                }
                let ratios = result.ratios.entry(name.clone()).or_default();
                ratios.insert(set.clone(), ratio);
                let (before, after): (Vec<f64>, Vec<f64>) = windows
                    .iter()
                    .filter(|window| window.treated(intervention))
                    .map(|window| (window.original, window.nll(intervention)))
                    .unzip();
                let treated = result.windows_treated.entry(name.clone()).or_default();
                treated.insert(set.clone(), before.len());
                if !before.is_empty() {
                    let ratio = perplexity::ratio(&before, &after, setup.seed)?;
                    let ratios = result.ratios_treated.entry(name.clone()).or_default();
                    ratios.insert(set, ratio);
                }
            }
        }
    }
    let ids = sets.iter().flat_map(|set| &set.windows);
    let noise: Vec<Noise> = ids.map(|ids| Noise::of(setup.seed, ids)).collect();
    for (variant, intervention) in interventions.iter().enumerate() {
        for (set, part) in &parts {
            for (window, noise) in evaluated.windows[part.clone()]
                .iter()
                .zip(&noise[part.clone()])
            {
                log(result, (variant, intervention), set, window, noise);
            }
        }
    }
    result.interventions = names;
    Ok(())
}

/// What an intervention overwrote in a window.
fn log(
    result: &mut InterventionAnalysis,
    (variant, intervention): (usize, &Intervention),
    set: &str,
    window: &Window,
    noise: &Noise,
) {
    let Some(changed) = window.changed.get(&variant) else {
        return;
    };
    for (layer, originals) in &changed.originals {
        let mut rest = originals.iter().copied();
        for written in intervention.written(&window.positions, *layer, noise) {
            let originals: Vec<f32> = rest.by_ref().take(written.positions.len()).collect();
            result.log.push(LogEntry {
                intervention: intervention.name.clone(),
                set: set.to_owned(),
                starting: written.starting,
                layer: *layer,
                dimension: written.dimension,
                value: written.value(originals[0]),
                originals,
                positions: written.positions,
            });
        }
    }
}
