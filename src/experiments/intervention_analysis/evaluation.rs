//! The evaluation windows, as they are and under every intervention.
//!
//! One walk finds each window's first massive layer, splits its variants off at the first layer
//! that is overwritten, and takes originals and variants to the head. A window whose first massive
//! layer lies above the layer that is overwritten shows its positions too late for that; such
//! windows walk again, from the embedding, with the positions known: the original up to the split,
//! the variants to the end.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PositionsFrom, Walks, further, interventions::Intervention, noise::Noise, place::Anywhere,
};
use crate::{
    backend::Statistics,
    engine::{
        Actions, Branch, BranchOutcome, Observer, Outcome, Overwrite, Plan, Scored, Session, Site,
        Timings,
    },
    error::{Error, Result},
    experiments::{Thresholds, corpus::FirstMassive},
};

/// What is done at which layers' outputs.
pub(super) struct Experiment<'a> {
    pub(super) interventions: &'a [Intervention],
    /// Ascending; empty when there is nothing to overwrite.
    pub(super) layers: &'a [usize],
    /// Which layer shows the positions.
    pub(super) positions_from: PositionsFrom,
    /// Of the noise.
    pub(super) seed: u64,
    /// By window: the predictions that count; none for all.
    pub(super) scored: Option<Vec<Scored>>,
    /// Where, and what more than to write values.
    pub(super) place: &'a Anywhere,
}

impl Experiment<'_> {
    /// The mean NLL of a window under an intervention.
    pub(super) fn nll_of(&self, branch: &BranchOutcome, window: usize) -> Result<f64> {
        let nll = mean(&branch.token_nll);
        if nll.is_finite() {
            return Ok(nll);
        }
        let name = &self.interventions[branch.variant].name;
        Err(Error::new(
            format!("{name}, {}", self.described(window)),
            "its likelihoods are infinite or not numbers in float32",
        )
        .remedy("write smaller values with --set-to or --noise, or choose other --layers"))
    }

    /// What a window is, in messages.
    fn described(&self, window: usize) -> String {
        let scored = self.scored.as_deref().unwrap_or(&[]);
        let is_answer = |scored: &Scored| scored.next.is_some();
        let of_sets = scored
            .iter()
            .take_while(|scored| !is_answer(scored))
            .count();
        match scored.get(window) {
            Some(scored) if is_answer(scored) => {
                format!("answer {} of the tasks", window - of_sets)
            }
            _ => format!("evaluation window {window}"),
        }
    }

    /// The layer after which variants leave the original; none if something is changed before the first
    /// layer's output can be.
    pub(super) fn splits_after(&self, layers: usize) -> Option<usize> {
        let heads = self.interventions.iter().flat_map(|one| &one.heads);
        let heads = heads.map(|(layer, _)| *layer);
        let written = match self.place.site {
            Site::FinalNorm => vec![layers],
            Site::Embedding => vec![0],
            _ => self.layers.to_vec(),
        };
        let first = written.into_iter().chain(heads).min()?;
        first.checked_sub(1)
    }
}

/// One window's results.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// Its first massive layer, without the values.
    pub(super) first: Option<FirstMassive>,
    /// The positions that are overwritten.
    pub(super) positions: Vec<usize>,
    /// (position, dimension) of the massive activations in the layers that are overwritten.
    pub(super) massive: BTreeMap<usize, BTreeSet<(usize, usize)>>,
    /// Whether it had to walk again.
    pub(super) again: bool,
    /// Mean NLL of its predictions, in nats.
    pub(super) original: f64,
    /// The interventions that change it.
    pub(super) changed: BTreeMap<usize, Changed>,
}

/// A window under an intervention.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    /// Mean NLL of its predictions, in nats.
    pub(super) nll: f64,
    /// Whether a massive activation was among what was overwritten.
    treated: bool,
    /// The values that were overwritten, by layer, in the order of [`Intervention::written`].
    pub(super) originals: BTreeMap<usize, Vec<f32>>,
}

impl Changed {
    /// Of a window in which something is overwritten, without a record of what.
    pub(super) fn treated(nll: f64) -> Self {
        Self {
            nll,
            treated: true,
            originals: BTreeMap::new(),
        }
    }
}

impl Window {
    /// Mean NLL under an intervention; one that changes nothing leaves the original.
    pub(super) fn nll(&self, intervention: usize) -> f64 {
        let changed = self.changed.get(&intervention);
        changed.map_or(self.original, |changed| changed.nll)
    }

    /// Whether an intervention overwrites a massive activation in it.
    pub(super) fn treated(&self, intervention: usize) -> bool {
        let changed = self.changed.get(&intervention);
        changed.is_some_and(|changed| changed.treated)
    }
}

/// All windows.
pub(super) struct Evaluated {
    pub(super) windows: Vec<Window>,
    pub(super) timings: Timings,
}

/// Runs the windows.
pub(super) fn run(
    session: &Session,
    windows: &[Vec<u32>],
    thresholds: Thresholds,
    experiment: &Experiment<'_>,
    walks: &mut Walks,
) -> Result<Evaluated> {
    if experiment.place.reaches_further() {
        return further::run(session, windows, thresholds, experiment, walks);
    }
    let mut evaluation = Evaluation {
        session,
        windows,
        experiment,
        plan: Plan {
            nll: true,
            variants: experiment.interventions.len(),
            ..Plan::magnitudes(Site::LayerOutput, thresholds.request(0))
        },
        evaluated: Evaluated {
            windows: vec![Window::default(); windows.len()],
            timings: Timings::default(),
        },
    };
    let all: Vec<usize> = (0..windows.len()).collect();
    walks.evaluation += evaluation.walk(&all, false)?;
    let again: Vec<usize> = all
        .into_iter()
        .filter(|window| evaluation.evaluated.windows[*window].again)
        .collect();
    if !again.is_empty() {
        walks.again += evaluation.walk(&again, true)?;
    }
    Ok(evaluation.evaluated)
}

/// A run under way.
struct Evaluation<'a> {
    session: &'a Session,
    windows: &'a [Vec<u32>],
    experiment: &'a Experiment<'a>,
    plan: Plan,
    evaluated: Evaluated,
}

impl Evaluation<'_> {
    /// Walks some windows; `again` if what is massive in them is known. Returns how often the model
    /// was read.
    fn walk(&mut self, windows: &[usize], again: bool) -> Result<usize> {
        let sequences: Vec<Vec<u32>> = windows
            .iter()
            .map(|window| self.windows[*window].clone())
            .collect();
        let positions = windows.iter().map(|window| {
            let window = &self.evaluated.windows[*window];
            again.then(|| window.positions.clone())
        });
        let mut splitter = Splitter {
            experiment: self.experiment,
            sequences: &sequences,
            positions: positions.collect(),
            again,
        };
        let scored = self.experiment.scored.as_ref();
        self.plan.scored =
            scored.map(|scored| windows.iter().map(|window| scored[*window]).collect());
        let outcome = self.session.run(&sequences, &self.plan, &mut splitter)?;
        self.evaluated.timings += outcome.timings;
        if !again {
            self.originals(windows, splitter.positions, &outcome);
        }
        for branch in outcome.branches {
            self.changed(windows[branch.sequence], branch)?;
        }
        Ok(outcome.walks)
    }

    /// Takes up what a first walk shows of the windows themselves, and at which positions it has
    /// overwritten them.
    fn originals(
        &mut self,
        windows: &[usize],
        positions: Vec<Option<Vec<usize>>>,
        outcome: &Outcome,
    ) {
        let statistics = &outcome.statistics[&Site::LayerOutput];
        for (index, (window, positions)) in windows.iter().zip(positions).enumerate() {
            let mut layers = statistics.iter().enumerate();
            let first = layers.find_map(|(layer, found)| FirstMassive::of(layer, &found[index]));
            let own = self.experiment.positions_from == PositionsFrom::Own;
            let report = &mut self.evaluated.windows[*window];
            report.again =
                own && first.is_some() && positions.is_none() && !self.experiment.layers.is_empty();
            report.positions = match (positions, &first) {
                (Some(positions), _) => positions,
                (None, Some(first)) if own => first.positions.clone(),
                _ => Vec::new(),
            };
            report.massive = self
                .experiment
                .layers
                .iter()
                .map(|layer| {
                    let massive = statistics[*layer][index].massive.iter();
                    let cells = massive.map(|entry| (entry.position, entry.dimension));
                    (*layer, cells.collect())
                })
                .collect();
            report.first = first;
            report.original = mean(&outcome.token_nll[index]);
        }
    }

    fn changed(&mut self, window: usize, branch: BranchOutcome) -> Result<()> {
        let written = &self.experiment.interventions[branch.variant];
        let nll = self.experiment.nll_of(&branch, window)?;
        let report = &mut self.evaluated.windows[window];
        let changed = Changed {
            nll,
            treated: report
                .massive
                .values()
                .flatten()
                .any(|cell| written.reaches(&report.positions, *cell)),
            originals: branch.originals,
        };
        report.changed.insert(branch.variant, changed);
        Ok(())
    }
}

/// Splits the variants of each window off at the first layer that is overwritten.
struct Splitter<'a> {
    experiment: &'a Experiment<'a>,
    /// The walk's.
    sequences: &'a [Vec<u32>],
    /// By sequence of the walk: the positions to overwrite; found on the way unless known.
    positions: Vec<Option<Vec<usize>>>,
    again: bool,
}

impl Observer for Splitter<'_> {
    fn acts_at(&self, layer: usize, _: &[usize]) -> bool {
        let own = self.experiment.positions_from == PositionsFrom::Own;
        match self.experiment.layers.first() {
            Some(split) if own && !self.again => layer <= *split,
            Some(split) => layer == *split,
            None => false,
        }
    }

    fn actions(&mut self, layer: usize, sequence: usize, found: &Statistics) -> Result<Actions> {
        let positions = &mut self.positions[sequence];
        if positions.is_none() {
            *positions = FirstMassive::of(layer, found).map(|found| found.positions);
        }
        let mut actions = Actions::default();
        let Some(positions) = positions else {
            return Ok(actions);
        };
        if self.experiment.layers.first() != Some(&layer) {
            return Ok(actions);
        }
        let noise = Noise::of(self.experiment.seed, &self.sequences[sequence]);
        for (variant, intervention) in self.experiment.interventions.iter().enumerate() {
            let overwrites: BTreeMap<usize, Vec<Overwrite>> = (self.experiment.layers.iter())
                .map(|&layer| {
                    let written = intervention.written(positions, layer, &noise);
                    let cells = written.iter().flat_map(|written| written.cells());
                    (layer, cells.collect())
                })
                .collect();
            // A variant in which nothing changes is the original and is not run.
            if overwrites.values().any(|cells| !cells.is_empty()) {
                actions.branches.push(Branch {
                    variant,
                    overwrites,
                    ..Branch::default()
                });
            }
        }
        Ok(actions)
    }

    fn last_original_layer(&self) -> Option<usize> {
        self.experiment
            .layers
            .first()
            .copied()
            .filter(|_| self.again)
    }
}

pub(super) fn mean(token_nll: &[f32]) -> f64 {
    let sum: f64 = token_nll.iter().copied().map(f64::from).sum();
    sum / token_nll.len().max(1) as f64
}
