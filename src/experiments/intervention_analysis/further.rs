//! Evaluation where more is done than to write into the massive activations of layer outputs: the positions
//! are known before the layer, from the tokens or from a first walk, and variants leave the original in front
//! of the first layer in which something is changed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    PositionsFrom, Walks,
    evaluation::{Changed, Evaluated, Experiment, Window, mean},
    interventions::Intervention,
    noise::Noise,
};
use crate::{
    backend::Statistics,
    engine::{
        Actions, Branch, Discard, Edit, Observer, Outcome, Plan, Reading, Session, Site, Timings,
    },
    error::Result,
    experiments::{Thresholds, corpus::FirstMassive},
};

/// Runs the windows.
pub(super) fn run(
    session: &Session,
    windows: &[Vec<u32>],
    thresholds: Thresholds,
    experiment: &Experiment<'_>,
    walks: &mut Walks,
) -> Result<Evaluated> {
    let layers = session.model().spec.layers.len();
    let mut split = Split {
        experiment,
        sequences: windows,
        positions: Vec::new(),
        after: experiment.splits_after(layers),
        again: false,
    };
    let known = windows
        .iter()
        .map(|window| experiment.place.positions.of(session, window));
    let known: Option<Vec<Vec<usize>>> = known.collect();
    let plan = Plan {
        nll: true,
        variants: experiment.interventions.len(),
        edited: Some(experiment.place.site),
        scored: experiment.scored.clone(),
        ..Plan::magnitudes(Site::LayerOutput, thresholds.request(0))
    };
    let mut evaluated = Evaluated {
        windows: Vec::new(),
        timings: Timings::default(),
    };
    let outcome = match known {
        Some(known) => {
            split.positions = known;
            session.run(windows, &plan, &mut split)?
        }
        None => {
            let plan = Plan {
                variants: 0,
                ..plan.clone()
            };
            session.run(windows, &plan, &mut Discard)?
        }
    };
    walks.evaluation += outcome.walks;
    evaluated.timings += outcome.timings;
    originals(experiment, &split, &outcome, &mut evaluated);
    changed(experiment, &outcome, &mut evaluated)?;
    if split.positions.is_empty() {
        let windows = evaluated.windows.iter();
        split.positions = windows.map(|window| window.positions.clone()).collect();
        split.again = true;
        let outcome = session.run(split.sequences, &plan, &mut split)?;
        walks.again += outcome.walks;
        evaluated.timings += outcome.timings;
        changed(experiment, &outcome, &mut evaluated)?;
    }
    Ok(evaluated)
}

fn originals(
    experiment: &Experiment<'_>,
    split: &Split<'_>,
    outcome: &Outcome,
    evaluated: &mut Evaluated,
) {
    let statistics = &outcome.statistics[&Site::LayerOutput];
    for (index, token_nll) in outcome.token_nll.iter().enumerate() {
        let mut layers = statistics.iter().enumerate();
        let first = layers.find_map(|(layer, found)| FirstMassive::of(layer, &found[index]));
        let massive = match experiment.positions_from {
            PositionsFrom::Own => first.clone(),
            PositionsFrom::Written => experiment
                .layers
                .first()
                .and_then(|layer| FirstMassive::of(*layer, &statistics[*layer][index])),
        };
        let positions = match split.positions.get(index) {
            Some(known) => known.clone(),
            None => massive.map(|found| found.positions).unwrap_or_default(),
        };
        evaluated.windows.push(Window {
            first,
            positions,
            original: mean(token_nll),
            ..Window::default()
        });
    }
}

fn changed(
    experiment: &Experiment<'_>,
    outcome: &Outcome,
    evaluated: &mut Evaluated,
) -> Result<()> {
    for branch in &outcome.branches {
        let nll = experiment.nll_of(branch, branch.sequence)?;
        let window = &mut evaluated.windows[branch.sequence];
        // A window in which nothing is written has no branch.
        window.changed.insert(branch.variant, Changed::treated(nll));
    }
    Ok(())
}

/// Splits the variants of each window off.
struct Split<'a> {
    experiment: &'a Experiment<'a>,
    sequences: &'a [Vec<u32>],
    /// By window; empty until they are known.
    positions: Vec<Vec<usize>>,
    /// The layer after which they leave; none for before the first.
    after: Option<usize>,
    /// Whether the originals have walked.
    again: bool,
}

impl Split<'_> {
    fn branches(&self, sequence: usize) -> Vec<Branch> {
        let Some(positions) = self.positions.get(sequence) else {
            return Vec::new();
        };
        let noise = Noise::of(self.experiment.seed, &self.sequences[sequence]);
        let interventions = self.experiment.interventions.iter().enumerate();
        let branches = interventions.map(|(variant, intervention)| Branch {
            variant,
            overwrites: BTreeMap::new(),
            edits: self.edits(intervention, positions, &noise),
            heads_off: intervention.heads.clone(),
        });
        // A variant in which nothing changes is the original and is not run.
        let changing = |branch: &Branch| !branch.edits.is_empty() || !branch.heads_off.is_empty();
        branches.filter(changing).collect()
    }

    fn edits(&self, intervention: &Intervention, positions: &[usize], noise: &Noise) -> Vec<Edit> {
        let layers = self.experiment.layers.iter();
        let edits = layers.map(|&layer| {
            let written = intervention.written(positions, layer, noise);
            Edit {
                site: self.experiment.place.site,
                layer,
                cells: written.iter().flat_map(|written| written.rules()).collect(),
            }
        });
        edits.filter(|edit| !edit.cells.is_empty()).collect()
    }
}

impl Observer for Split<'_> {
    fn acts_at(&self, layer: usize, _: &[usize]) -> bool {
        !self.positions.is_empty() && self.after == Some(layer)
    }

    fn actions(&mut self, _: usize, sequence: usize, _: &Statistics) -> Result<Actions> {
        Ok(Actions {
            read: Vec::new(),
            branches: self.branches(sequence),
        })
    }

    fn first_branches(&mut self, sequence: usize) -> Result<Vec<Branch>> {
        Ok(match self.after {
            None => self.branches(sequence),
            Some(_) => Vec::new(),
        })
    }

    fn only_branches(&self) -> bool {
        self.again && self.after.is_none()
    }

    fn last_original_layer(&self) -> Option<usize> {
        self.after.filter(|_| self.again)
    }
}

/// The means of a place, by layer, whether at position 0, and dimension: over the positions of all calibration
/// sequences, `positions[sequence]`.
pub(super) fn means(
    session: &Session,
    sequences: &[Vec<u32>],
    positions: &[Vec<usize>],
    (site, layers, dimensions): (Site, &[usize], &[usize]),
) -> Result<Vec<super::Mean>> {
    let cells: Vec<Vec<(usize, usize)>> = positions
        .iter()
        .map(|positions| {
            let all = positions.iter();
            all.flat_map(|position| dimensions.iter().map(|d| (*position, *d)))
                .collect()
        })
        .collect();
    if cells.iter().all(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let mut reader = Reader {
        cells: &cells,
        values: BTreeMap::new(),
    };
    let plan = Plan {
        reading: Some(Reading {
            site,
            layers: layers.to_vec(),
            cells: cells.clone(),
        }),
        ..Plan::default()
    };
    session.run(sequences, &plan, &mut reader)?;
    let mut groups: BTreeMap<(usize, bool, usize), Vec<f64>> = BTreeMap::new();
    for ((layer, sequence), values) in &reader.values {
        for ((position, dimension), value) in cells[*sequence].iter().zip(values) {
            let group = groups
                .entry((*layer, *position != 0, *dimension))
                .or_default();
            group.push(f64::from(*value));
        }
    }
    let means = groups
        .into_iter()
        .map(|((layer, later, dimension), values)| super::Mean {
            layer,
            starting: !later,
            dimension,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            count: values.len(),
        });
    Ok(means.collect())
}

/// Takes the values of a place.
struct Reader<'a> {
    cells: &'a [Vec<(usize, usize)>],
    /// By layer and sequence.
    values: BTreeMap<(usize, usize), Vec<f32>>,
}

impl Observer for Reader<'_> {
    fn reading(&mut self, layer: usize, sequence: usize, values: &[f32]) {
        if !self.cells[sequence].is_empty() {
            self.values.insert((layer, sequence), values.to_vec());
        }
    }
}
