//! Branches of sequences through the engine's public interface.

mod support;

use std::collections::BTreeMap;

use massact::Result;
use massact::backend::{Change, Statistics, StatisticsRequest, cpu::Cpu};
use massact::engine::{
    self, Actions, Branch, BranchOutcome, Observer, Outcome, Overwrite, Plan, Site,
};
use massact::model::Model;
use massact::progress::Progress;
use support::program::checkpoint;

/// Splits branches off at one layer, and reads some values there.
#[derive(Default)]
struct Script {
    layer: usize,
    /// By sequence.
    branches: BTreeMap<usize, Vec<Branch>>,
    read: Vec<(usize, usize)>,
    values: BTreeMap<usize, Vec<f32>>,
    last: Option<usize>,
}

impl Observer for Script {
    fn acts_at(&self, layer: usize, _: &[usize]) -> bool {
        layer == self.layer
    }

    fn actions(&mut self, layer: usize, sequence: usize, found: &Statistics) -> Result<Actions> {
        assert_eq!(layer, self.layer);
        assert!(found.max > 0.0);
        Ok(Actions {
            read: self.read.clone(),
            branches: self.branches.get(&sequence).cloned().unwrap_or_default(),
        })
    }

    fn values(&mut self, layer: usize, sequence: usize, values: &[f32]) {
        assert_eq!(layer, self.layer);
        self.values.insert(sequence, values.to_vec());
    }

    fn last_original_layer(&self) -> Option<usize> {
        self.last
    }
}

fn model() -> Model {
    Model::open(&checkpoint("planted-llama")).expect("opens")
}

/// Three sequences in one micro-batch.
fn sequences() -> Vec<Vec<u32>> {
    let ids = |start: u32, count: u32| (0..count).map(|i| 3 + (start + 7 * i) % 60).collect();
    vec![ids(1, 20), ids(30, 9), ids(11, 33)]
}

fn run(script: &mut Script) -> Outcome {
    run_on(&model(), &sequences(), script)
}

fn run_on(model: &Model, sequences: &[Vec<u32>], script: &mut Script) -> Outcome {
    let statistics = StatisticsRequest {
        top_k: 0,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: false,
    };
    let plan = Plan {
        nll: true,
        ..Plan::magnitudes(Site::LayerOutput, statistics)
    };
    let progress = Progress::silent();
    let outcome = engine::run(&Cpu::new(), model, sequences, &plan, script, progress);
    outcome.expect("runs")
}

/// (position, dimension, value)
type Cell = (usize, usize, f32);

fn branch(variant: usize, overwrites: &[(usize, &[Cell])]) -> Branch {
    let cells = |cells: &[Cell]| {
        cells
            .iter()
            .map(|&(position, dimension, value)| Overwrite {
                position,
                dimension,
                change: Change::Set(value),
            })
            .collect()
    };
    Branch {
        variant,
        overwrites: overwrites
            .iter()
            .map(|(layer, c)| (*layer, cells(c)))
            .collect(),
        ..Branch::default()
    }
}

fn of(outcome: &Outcome, sequence: usize, variant: usize) -> &BranchOutcome {
    let mut found = outcome
        .branches
        .iter()
        .filter(|branch| (branch.sequence, branch.variant) == (sequence, variant));
    let branch = found.next().expect("the branch");
    assert!(found.next().is_none(), "once");
    branch
}

#[test]
fn a_branch_without_changes_is_the_original_bit_for_bit() {
    let plain = run(&mut Script {
        layer: 99,
        ..Script::default()
    });
    assert!(plain.branches.is_empty());
    for layer in 0..4 {
        let outcome = run(&mut Script {
            layer,
            branches: (0..3).map(|s| (s, vec![branch(0, &[])])).collect(),
            ..Script::default()
        });
        assert_eq!(outcome.token_nll, plain.token_nll, "the originals go on");
        assert_eq!(
            outcome.statistics, plain.statistics,
            "only originals are measured"
        );
        assert_eq!(outcome.branches.len(), 3);
        for (sequence, original) in plain.token_nll.iter().enumerate() {
            let found = of(&outcome, sequence, 0);
            assert_eq!(found.token_nll, *original, "layer {layer}");
            assert!(found.originals.is_empty());
        }
    }
}

/// Layers that have no indexer go by the choice of one before the branch split off.
#[test]
fn a_branch_carries_the_keys_that_were_chosen() {
    let model = Model::open(&checkpoint("glm-moe-dsa")).expect("opens");
    let mut sequences = sequences();
    sequences[2].truncate(32);
    let plain = run_on(
        &model,
        &sequences,
        &mut Script {
            layer: 99,
            ..Script::default()
        },
    );
    for layer in 0..4 {
        // Not all, so that rows of the choice are others in the branch.
        let outcome = run_on(
            &model,
            &sequences,
            &mut Script {
                layer,
                branches: [0, 2].map(|s| (s, vec![branch(0, &[])])).into(),
                ..Script::default()
            },
        );
        for sequence in [0, 2] {
            let found = &of(&outcome, sequence, 0).token_nll;
            let original = &plain.token_nll[sequence];
            assert_eq!(found.len(), original.len());
            for (found, original) in found.iter().zip(original) {
                assert!((found - original).abs() < 1e-5, "{layer} {sequence}");
            }
        }
    }
}

/// Late layers of this model read keys and values of layers 2 and 3, and every layer an embedding of
/// the tokens: a branch has both wherever it is split off, also one of some of a micro-batch's sequences.
#[test]
fn branches_carry_what_layers_left_for_later_ones() {
    let model = Model::open(&checkpoint("gemma4")).expect("opens");
    let mut sequences = sequences();
    sequences[2].truncate(32);
    let plain = run_on(&model, &sequences, &mut Script::default());
    let layers = model.spec.layers.len();
    for (layer, whole) in (0..layers).flat_map(|layer| [(layer, true), (layer, false)]) {
        let split = (0..3).filter(|sequence| whole || *sequence != 1);
        let outcome = run_on(
            &model,
            &sequences,
            &mut Script {
                layer,
                branches: split.map(|s| (s, vec![branch(0, &[])])).collect(),
                ..Script::default()
            },
        );
        assert_eq!(outcome.token_nll, plain.token_nll);
        for found in &outcome.branches {
            let original = &plain.token_nll[found.sequence];
            for (ours, theirs) in found.token_nll.iter().zip(original) {
                // Products of another shape round differently.
                let bound = if whole { 0.0 } else { 1e-4 };
                assert!(
                    (ours - theirs).abs() <= bound,
                    "layer {layer}, {ours} for {theirs}"
                );
            }
        }
    }
}

#[test]
fn what_is_read_and_written_back_changes_nothing() {
    let cells = [(0, 7), (4, 21), (8, 2)];
    let mut script = Script {
        layer: 1,
        read: cells.to_vec(),
        ..Script::default()
    };
    let plain = run(&mut script);
    assert_eq!(script.values.len(), 3);
    let branches = script.values.iter().map(|(sequence, values)| {
        let same: Vec<_> = cells
            .iter()
            .zip(values)
            .map(|(&(position, dimension), value)| (position, dimension, *value))
            .collect();
        (*sequence, vec![branch(5, &[(1, &same)])])
    });
    let outcome = run(&mut Script {
        layer: 1,
        branches: branches.collect(),
        ..Script::default()
    });
    for (sequence, values) in &script.values {
        let found = of(&outcome, *sequence, 5);
        assert_eq!(found.originals[&1], *values);
        assert_eq!(found.token_nll, plain.token_nll[*sequence]);
    }
}

/// And every entry of the list tells what was there before any was written.
#[test]
fn of_values_listed_twice_the_last_counts() {
    let written = |cells: &[Cell]| {
        let outcome = run(&mut Script {
            layer: 1,
            branches: BTreeMap::from([(2, vec![branch(0, &[(1, cells)])])]),
            ..Script::default()
        });
        of(&outcome, 2, 0).clone()
    };
    let (first, last) = (written(&[(6, 2, 40.0)]), written(&[(6, 2, -30.0)]));
    let both = written(&[(6, 2, 40.0), (6, 2, -30.0)]);
    assert_ne!(first.token_nll, last.token_nll);
    assert_eq!(both.token_nll, last.token_nll);
    let original = last.originals[&1][0];
    assert_eq!(both.originals[&1], [original, original]);
}

/// Positions before the first overwritten one are untouched, later ones are not; branches do not
/// disturb each other, nor the sequences without one.
#[test]
fn a_change_reaches_later_positions_only() {
    let lone = branch(3, &[(1, &[(6, 2, 40.0), (6, 5, -30.0)])]);
    let mut branches: BTreeMap<usize, Vec<Branch>> = BTreeMap::new();
    branches.insert(2, vec![lone.clone()]);
    let alone = run(&mut Script {
        layer: 1,
        branches: branches.clone(),
        ..Script::default()
    });
    let (changed, original) = (&of(&alone, 2, 3).token_nll, &alone.token_nll[2]);
    assert_eq!(changed.len(), original.len());
    for position in 0..6 {
        // Products of another shape round differently.
        assert!(
            (changed[position] - original[position]).abs() < 1e-4,
            "{position}"
        );
    }
    assert!((changed[6] - original[6]).abs() > 1e-3);

    branches.insert(0, vec![branch(1, &[(1, &[(0, 7, 0.0)])])]);
    let others = branches.get_mut(&2).expect("there");
    others.push(branch(1, &[(1, &[(3, 7, 0.0)])]));
    let together = run(&mut Script {
        layer: 1,
        branches,
        ..Script::default()
    });
    assert_eq!(together.branches.len(), 3);
    assert_eq!(of(&together, 2, 3), of(&alone, 2, 3));
    assert_eq!(together.token_nll, alone.token_nll);
}

#[test]
fn later_layers_are_overwritten_in_the_branch_itself() {
    let cells = [(2, 4, 50.0)];
    let once = branch(0, &[(1, &cells)]);
    let twice = branch(
        1,
        &[(0, &cells), (1, &cells), (2, &[(2, 4, -7.0), (9, 9, 1.0)])],
    );
    let outcome = run(&mut Script {
        layer: 1,
        branches: [(2, vec![once, twice])].into(),
        ..Script::default()
    });
    let (once, twice) = (of(&outcome, 2, 0), of(&outcome, 2, 1));
    let layers: Vec<_> = twice.originals.keys().copied().collect();
    assert_eq!(layers, [1, 2], "layer 0 is past");
    assert_eq!(once.originals[&1], twice.originals[&1]);
    // The residual stream carries what was written.
    assert!(
        (twice.originals[&2][0] - 50.0).abs() < 10.0,
        "{:?}",
        twice.originals
    );
    assert_ne!(once.token_nll, twice.token_nll);
}

#[test]
fn originals_may_end_early() {
    let script = |last| Script {
        layer: 1,
        branches: [(1, vec![branch(0, &[(1, &[(0, 0, 1.0)])])])].into(),
        last,
        ..Script::default()
    };
    let whole = run(&mut script(None));
    let ended = run(&mut script(Some(1)));
    assert!(ended.token_nll.is_empty());
    assert_eq!(ended.statistics[&Site::LayerOutput].len(), 2);
    assert_eq!(ended.branches, whole.branches);
    let nothing = run(&mut Script {
        layer: 0,
        last: Some(0),
        ..Script::default()
    });
    assert!(nothing.branches.is_empty() && nothing.token_nll.is_empty());
    assert_eq!(nothing.statistics[&Site::LayerOutput].len(), 1);
}
